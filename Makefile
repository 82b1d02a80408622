# SPDX-License-Identifier: GPL-2.0
#
# For people: 'make help'. Kbuild reads Kbuild, not this file.

.DEFAULT_GOAL := modules
.PHONY: all modules install run test test-all sweep mutants sim replay bench check clean distclean kernel rust-analyzer rustfmt env help

# The scripts run in parallel what they can.
.NOTPARALLEL:

export ARCH KERNEL FLAVOUR KSRC KDIR LLVM RUSTC BINDGEN SCENARIOS SMP MEM PLAN VARS TIMEOUT QUICK MUTANT \
	SEED COUNT FROM MINUTES ENGINE SCENARIO RCU_PTR_TEST

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

#: rcu_ptr: free objects after an RCU grace period, from any context
#:
#:   make run             boot a kernel with the modules, run the self-tests and a
#:                        short demonstration; installs and builds what is missing
#:   make test            every suite on BASE, selections on DEBUG, PERF and DEBIAN, in a
#:                        short form: some twelve minutes
#:   make test-all        every scenario, BASE and DEBUG at full length, and the mutants
#:   make sweep FUNC=NAME[,NAME] [MODULE=NAME] [CMD='COMMAND'] [SCENARIO=BASE]
#:                        an NMI at every instruction of these functions of a module or
#:                        of vmlinux; for other code see docs/sweep.md
#:   make mutants         check that the tests detect modules that are broken by each
#:                        patch of qemu/mutants/; MUTANT="A B*" for some of them
#:   make sim SEED=N      a boot that is determined by a seed, with rcu_ptr_torture.ko;
#:                        COUNT=K [FROM=N] or MINUTES=M searches; LONG=1 for millions of
#:                        objects a seed, JOBS=2 seeds at a time: docs/simulation.md
#:   make replay SEED=N   repeat a seed in gdb, until the first sign of failure
#:   make bench           costs compared with the kernel's own functions, as tables and
#:                        plots in out/bench-*; QUICK=1 for a first impression
#:   make check           formatting, lints, documentation, tests on the host, and one boot
#:                        of a module that is built outside the tree
#:
#:   make [modules]       build the modules only, into build/; 'make KDIR=DIR' for
#:                        any prepared build of Linux 7.3 or later
#:   make -C $KDIR M=$PWD the same in place
#:   make install         build and install them for the running kernel (as root); names
#:                        what is missing
#:   make kernel          build the kernels only, print their directories
#:   make env             check the set-up, install what is missing (as root)
#:   make rustfmt         format the Rust code
#:   make rust-analyzer   write rust-project.json
#:   make clean           remove what was built in this directory
#:   make distclean       the results of runs and the cache as well
#:
#: Variables:
#:   ARCH=x86_64|arm64    architecture; with arm64 'make run' uses scenario ARM64
#:   SCENARIOS="A B"      scenarios under qemu/configs, instead of the default ones
#:   KERNEL=debian|base   the kernel of 'make run': Debian's own, as packaged (default
#:                        on Debian), FLAVOUR=cloud-amd64, amd64 or rt-amd64; or that
#:                        of scenario BASE, which is built first
#:   SMP=N MEM=MB         CPUs and memory of the guest
#:   PLAN=NAME|./FILE     the steps in the guest: qemu/guest/plan.NAME, or a file, in the
#:                        syntax of qemu/lib/plan.py
#:   VARS="A=1 B=2"       the variables {A} and {B} in the plan
#:   TIMEOUT=SECONDS      for the whole boot, instead of the scenario's
#:   KSRC=DIR             kernel source, instead of the newest packaged one
#:   KDIR=DIR             kernel build, instead of one that is built here
#:   LLVM=-22 RUSTC=PATH BINDGEN=PATH
#:                        toolchain, instead of the first complete one
#:   RCU_PTR_TEST=n       a core without the hooks of rcu_ptr_test.h, and no modules that
#:                        need them: the self-tests and the torture
#:   RCU_PTR_CACHE=DIR    kernels and their source; ~/.cache/rcu_ptr
#:
#: Exit codes of scripts: 0 success, 1 a failure, 2 wrong set-up or usage, 4
#: everything was skipped. make itself turns all but 0 into 2: call scripts/qemu.sh
#: run|test if the difference matters.

all: modules

modules kernel env rustfmt rust-analyzer:
	@scripts/build.sh $@

install bench check clean:
	@scripts/$@.sh

run:
	@scripts/qemu.sh $@

test test-all:
	@scripts/test.sh $@

sweep:
	@FUNC='$(FUNC)' MODULE='$(MODULE)' CMD='$(CMD)' ENGINE='$(ENGINE)' SCENARIO='$(SCENARIO)' \
		scripts/sweep.sh

mutants:
	@set -f; scripts/mutants.sh $$MUTANT

sim:
	@scripts/sim.sh run

replay:
	@scripts/sim.sh $@

distclean:
	@scripts/clean.sh all
