# SPDX-License-Identifier: GPL-2.0
# A CPU that is to be left alone: no tick, offloaded callbacks, no unbound work.
isolcpus=1
nohz_full=1
# RCU works on beside tasks that never leave their CPU, as such systems have to be set up.
rcutree.kthread_prio=60
