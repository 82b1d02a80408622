#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run.sh [KSRC]: runs the litmus tests here in the memory model of this kernel source
#
# Each test states its outcome in its head. A claim is a test that is 'Never' satisfied, and has
# twins NAME-FLAW.litmus: the same with a flaw in it, 'Sometimes' satisfied, so that the claim
# can fail. herd7 is fetched into the cache if it is not installed.

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/all.sh"

# expected TEST: what its head says
expected()
{
	sed -n 's/^ \* Result: //p' "$1"
}

# observed TEST: what herd7 says
observed()
{
	(cd "$MODEL" && "${HERD[@]}" -conf linux-kernel.cfg "$1") |
		sed -n 's/^Observation [^ ]* \([A-Za-z]*\) .*/\1/p'
}

here=$ROOT/host/litmus
if [ $# -eq 0 ]; then
	kernel_source
	set -- "$KERNEL_SOURCE"
fi
MODEL=$1/tools/memory-model
[ -e "$MODEL/linux-kernel.cfg" ] || die "there is no $MODEL/linux-kernel.cfg"
find_herd

bad=0
for test in "$here"/C-*.litmus; do
	want=$(expected "$test")
	got=$(observed "$test") || got=
	echo "$(basename "$test"): ${got:-no result} (expected ${want:-nothing})"
	[ -n "$want" ] && [ "$got" = "$want" ] || bad=1
	[ "$want" = Never ] || continue
	twins=0
	for twin in "${test%.litmus}"-*.litmus; do
		[ ! -e "$twin" ] || [ "$(expected "$twin")" != Sometimes ] || twins=$((twins + 1))
	done
	[ "$twins" -gt 0 ] || { echo "$(basename "$test"): has no twin with a flaw"; bad=1; }
done
exit $bad
