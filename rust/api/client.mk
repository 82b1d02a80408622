# SPDX-License-Identifier: GPL-2.0
#
# For the Kbuild of a Rust client: set RCU_PTR to the top of rcu_ptr's source,
# obj-m to the module, then include this file. The crate includes rust/api/:
#
#	#[path = "<RCU_PTR>/rust/api/mod.rs"]
#	pub mod rcu_ptr;
#
# Outside rcu_ptr's own tree also set KBUILD_EXTRA_SYMBOLS to its Module.symvers.

ccflags-y += -I$(RCU_PTR)/include
RCU_PTR_BINDGEN_HEADER ?= $(RCU_PTR)/include/linux/rcu_ptr.h

include $(RCU_PTR)/rust/sys/bindgen.mk
