// SPDX-License-Identifier: GPL-2.0
/* NMIs that CPUs send to each other (x86). */
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/smp.h>
#ifdef CONFIG_X86_LOCAL_APIC
#include <asm/apic.h>
#include <asm/nmi.h>
#endif

#include "rs.h"

#ifdef CONFIG_X86_LOCAL_APIC
static int rcu_ptr_nmi(unsigned int cmd, struct pt_regs *regs)
{
	rcu_ptr_rs_nmi();
	return NMI_HANDLED;
}

int rcu_ptr_shim_nmi_register(void)
{
	return register_nmi_handler(NMI_LOCAL, rcu_ptr_nmi, 0, KBUILD_MODNAME);
}

void rcu_ptr_shim_nmi_unregister(void)
{
	/* Each CPU handles the NMIs sent so far before the IPI of this. */
	kick_all_cpus_sync();
	unregister_nmi_handler(NMI_LOCAL, KBUILD_MODNAME);
}

void rcu_ptr_shim_nmi_send(int cpu)
{
	__apic_send_IPI_mask(cpumask_of(cpu), NMI_VECTOR);
}
#else
int rcu_ptr_shim_nmi_register(void)
{
	return -EOPNOTSUPP;
}

void rcu_ptr_shim_nmi_unregister(void)
{
}

void rcu_ptr_shim_nmi_send(int cpu)
{
}
#endif
