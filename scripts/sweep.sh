#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# sweep.sh: an NMI at every instruction of some functions, for 'make sweep'
#
# FUNC=name[,name]  parts of their names; a path of Rust as a::b; of the kernel the whole names
# MODULE=name       where they are: rcu_ptr (unless given), a module of this tree, or vmlinux
# CMD='...'         a shell command that makes them run; otherwise all that rcu_ptr does
# ENGINE=name       of rcu_ptr; lockless
# SCENARIO=name     BASE

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

[ -n "${FUNC:-}" ] || die "name the functions: make sweep FUNC=name[,name] [MODULE=name] [CMD='command']"
module=${MODULE:-rcu_ptr}
[[ ${CMD:-} != *[\"#]* ]] || die "CMD can't have \" or # in it: put it into a script in qemu/guest/tests, CMD='sh /tests/NAME'"

# The v0 mangling of a path: each name with its length in front.
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
	# From irq_work_queue the addresses of the others follow.
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
