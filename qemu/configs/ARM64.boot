# SPDX-License-Identifier: GPL-2.0
# NMIs from the PMU.
irqchip.gicv3_pseudo_nmi=1
