# SPDX-License-Identifier: GPL-2.0
#
# Rust declarations of what `kernel::bindings` lacks: one bindgen run per module
# over its shim.c, with the flags that this is compiled with, so that no
# signature and no layout can drift. As the kernel's rust/helpers does it:
# shim.c includes the C of the parts of rust/sys that the module takes, and none
# of these functions has a prototype elsewhere.
#
# RCU_PTR_BINDGEN_HEADER is what bindgen reads, if it is another file.
#
# Types come from `kernel::bindings` where it has them (no recursive allowlist).

RCU_PTR_BINDGEN_HEADER ?= $(src)/shim.c

CFLAGS_shim.o := -Wno-missing-prototypes -Wno-missing-declarations

# rust/sys/generated.rs includes the result by this path.
export RCU_PTR_GENERATED := $(abspath $(obj))/bindings_generated.rs

rcu_ptr_bindgen_target_x86   := x86_64-linux-gnu
rcu_ptr_bindgen_target_arm64 := aarch64-linux-gnu

ifdef CONFIG_CC_IS_CLANG
rcu_ptr_bindgen_c_flags = $(c_flags)
else
# Flags of gcc that libclang does not know.
rcu_ptr_bindgen_c_flags = $(filter-out -mno-fp-ret-in-387 \
	-mpreferred-stack-boundary=% -mskip-rax-setup -mindirect-branch=% \
	-mindirect-branch-register -mindirect-branch-cs-prefix \
	-mfunction-return=% -mrecord-mcount -mstack-protector-guard% \
	-fconserve-stack -falign-% -fno-ipa-% -fno-partial-inlining \
	-fplugin% -fno-reorder-blocks -fno-allow-store-data-races \
	-fasan-shadow-offset=% -fzero-call-used-regs=% \
	-fno-stack-clash-protection -fno-inline-functions-called-once \
	-fsanitize=% -fstrict-flex-arrays=% -fmin-function-alignment=% \
	-fzero-init-padding-bits=% -fdiagnostics-show-context% --param=% \
	--param asan-% -fno-isolate-erroneous-paths-dereference \
	-mdirect-extern-access -femit-struct-debug-baseonly, $(c_flags)) \
	--target=$(rcu_ptr_bindgen_target_$(SRCARCH))
endif

quiet_cmd_rcu_ptr_bindgen = BINDGEN $@
      cmd_rcu_ptr_bindgen = \
	$(BINDGEN) $< --rust-target 1.85 --use-core --with-derive-default \
		--ctypes-prefix ffi --no-layout-tests --no-doc-comments \
		--no-debug '.*' --enable-function-attribute-detection \
		--no-recursive-allowlist --no-prepend-enum-name \
		--allowlist-function '(__)?rcu_ptr_.*|$(RCU_PTR_BINDGEN_FUNCTIONS)' \
		--allowlist-var '__tracepoint_rcu_ptr_.*|rcu_ptr_.*_key|rcu_ptr_texts|RCU_PTR_.*' \
		--allowlist-type 'rcu_ptr|rcu_ptr_.*' \
		-o $@ -- $(filter-out $(CC_FLAGS_LTO),$(rcu_ptr_bindgen_c_flags)) \
		-fno-builtin -w -D__BINDGEN__ -DMODULE

$(obj)/bindings_generated.rs: $(RCU_PTR_BINDGEN_HEADER) FORCE
	$(call if_changed_dep,rcu_ptr_bindgen)

targets += bindings_generated.rs

# A module of several files has its Rust in one of them.
$(addprefix $(obj)/,$(obj-m) $(foreach m,$(obj-m:.o=),$($(m)-y))): \
	$(obj)/bindings_generated.rs
