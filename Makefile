# SPDX-License-Identifier: GPL-2.0
#
# For people: 'make help'. Kbuild reads Kbuild, not this file.

.DEFAULT_GOAL := modules
.PHONY: all modules install run test test-all sweep mutants sim replay bench check clean distclean kernel rust-analyzer rustfmt env help

# Every script parallelises by itself.
.NOTPARALLEL:

export ARCH KERNEL FLAVOUR KSRC KDIR LLVM RUSTC BINDGEN SCENARIOS SMP MEM PLAN VARS TIMEOUT QUICK MUTANT \
	SEED COUNT FROM MINUTES ENGINE SCENARIO RCU_PTR_TEST

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

#: rcu_ptr: free objects after an RCU grace period, from any context
#:
#:   make run             boot a kernel with the modules, run the self-tests and a
#:                        short demonstration; sets up everything that is missing
#:   make test            every suite on BASE and the most telling on DEBUG, sweeps and
#:                        storms in a short form: some twelve minutes
#:   make test-all        everything at full length, on every scenario, and the mutants
#:   make sweep FUNC=NAME[,NAME] [MODULE=NAME] [CMD='COMMAND'] [SCENARIO=BASE]
#:                        an NMI at every instruction of these functions of a module or
#:                        of vmlinux; docs/sweep.md says how to use it for other code
#:   make mutants         break the modules on purpose, one way of qemu/mutants/ after
#:                        the other: do the tests notice? MUTANT="A B*" for some of them
#:   make sim SEED=N      a boot that is a function of its seed, with rcu_ptr_torture.ko;
#:                        COUNT=K [FROM=N] or MINUTES=M searches; LONG=1 for millions of
#:                        objects a seed, JOBS=2 side by side: docs/simulation.md
#:   make replay SEED=N   a seed that failed again, until its first bad sign, in gdb
#:   make bench           the costs beside those of the kernel's own functions, as tables
#:                        and plots in out/bench-*; QUICK=1 for a first look
#:   make check           formatting, lints, documentation, tests on the host
#:
#:   make [modules]       build the modules only, into build/; 'make KDIR=DIR' for
#:                        any prepared build of Linux 7.3 or later
#:   make -C $KDIR M=$PWD the same in place, as kernel people do
#:   make install         build and install them for the running kernel (as root); a
#:                        sentence says what is missing
#:   make kernel          build the kernels only, print where they are
#:   make env             check the environment, install what is missing (as root)
#:   make rustfmt         format the Rust code
#:   make rust-analyzer   write rust-project.json
#:   make clean           remove what was built in this directory
#:   make distclean       the results of runs and the cache as well
#:
#: Variables:
#:   ARCH=x86_64|arm64    architecture; arm64 makes 'make run' take scenario ARM64
#:   SCENARIOS="A B"      scenarios under qemu/configs, instead of the usual ones
#:   KERNEL=debian|base   what 'make run' boots: Debian's own kernel, as it is packaged
#:                        (the usual one on Debian), FLAVOUR=cloud-amd64, amd64 or
#:                        rt-amd64; or scenario BASE, which is built first
#:   SMP=N MEM=MB         CPUs and memory of the guest
#:   PLAN=NAME|./FILE     the steps in the guest: qemu/guest/plan.NAME, or a file;
#:                        qemu/lib/plan.py says how they are written
#:   VARS="A=1 B=2"       the variables {A} and {B} in the plan
#:   TIMEOUT=SECONDS      for the whole boot, instead of the scenario's
#:   KSRC=DIR             kernel source, instead of the newest packaged one
#:   KDIR=DIR             kernel build, instead of one that is made here
#:   LLVM=-22 RUSTC=PATH BINDGEN=PATH
#:                        toolchain, instead of the first complete one
#:   RCU_PTR_TEST=n       a core without the hooks of rcu_ptr_test.h, and no modules that
#:                        need them: the self-tests and the torture
#:   RCU_PTR_CACHE=DIR    kernels and their source; ~/.cache/rcu_ptr
#:
#: Scripts end with 0 when all is good, 1 when something failed, 2 when the set-up
#: or the usage is wrong, 4 when everything was skipped. make itself turns all but
#: 0 into 2: call scripts/qemu.sh run|test where the difference matters.

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
