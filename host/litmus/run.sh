#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run.sh KSRC: runs the litmus tests here under herd7 with the kernel's memory
# model, and compares each with the 'Result:' in its head
#
# Exit code 0: all as expected, 1: one is not, 4: there is no herd7.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
ksrc=${1:?usage: run.sh KSRC}
command -v herd7 >/dev/null || { echo "skipped: there is no herd7 (opam install herdtools7)"; exit 4; }
model=$ksrc/tools/memory-model
[ -e "$model/linux-kernel.cfg" ] || { echo "there is no $model/linux-kernel.cfg"; exit 1; }

bad=0
for test in "$here"/C-*.litmus; do
	want=$(sed -n 's/^ \* Result: //p' "$test")
	got=$(cd "$model" && herd7 -conf linux-kernel.cfg "$test" |
		sed -n 's/^Observation [^ ]* \([A-Za-z]*\) .*/\1/p')
	echo "$(basename "$test"): ${got:-no result} (expected $want)"
	[ "$got" = "$want" ] || bad=1
done
exit $bad
