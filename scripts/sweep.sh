#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# sweep.sh: an NMI at every instruction of some functions, for 'make sweep'
#
# FUNC=name[,name]  parts of their names, or Rust paths a::b; full names of functions of vmlinux
# MODULE=name       rcu_ptr (the default), a module of this tree, or vmlinux
# CMD='...'         a shell command that runs them, instead of the loads for rcu_ptr
# ENGINE=name       lockless by default
# SCENARIO=name     BASE by default

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

[ -n "${FUNC:-}" ] || die "name the functions: make sweep FUNC=name[,name] [MODULE=name] [CMD='command']"
module=${MODULE:-rcu_ptr}
[[ ${CMD:-} != *[\"#]* ]] || die "CMD can't have \" or # in it: put it into a script in qemu/guest/tests, CMD='sh /tests/NAME'"

# mangled PATH: prints a path in v0 mangling, each name after its length
mangled()
{
	local name rest=$1 out=

	[[ $rest == *::* ]] || { echo "$rest"; return; }
	while [ -n "$rest" ]; do
		name=${rest%%::*}
		out+=${#name}$name
		[[ $rest == *::* ]] || break
		rest=${rest#*::}
	done
	echo "$out"
}

IFS=, read -ra names <<<"$FUNC"
parts=()
for name in "${names[@]}"; do
	parts+=("$(mangled "$name")")
done

plan=$(mktemp -d)
trap 'rm -rf "$plan"' EXIT
{
	# The addresses of the others are relative to irq_work_queue.
	[ "$module" != vmlinux ] || echo "insns vmlinux irq_work_queue ${names[*]}"
	echo "insmod rcu_ptr.ko engine=${ENGINE:-lockless}"
	case $module in
	rcu_ptr | vmlinux) ;;
	*) echo "insmod $module.ko" ;;
	esac
	echo "tests rcu_ptr_sweep.chosen_functions"
	echo "insmod nmi_sweep.ko module=$module func=$(IFS=,; echo "${parts[*]}")" \
		"${CMD:+cmd=\"$CMD\"}"
} >"$plan/sweep.plan"

export PLAN=$plan/sweep.plan SCENARIOS=${SCENARIO:-${SCENARIOS:-BASE}}
unset MODULE FUNC CMD ENGINE
code=0
"$ROOT/scripts/qemu.sh" test "$@" || code=$?
log=$ROOT/out/latest/dmesg
[ ! -e "$log" ] || sed -n 's/^.*\(nmi_sweep: sweep.*\)$/\1/p' "$log"
exit "$code"
