# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Adds up the closing lines 'N passed, N failed, N skipped' of several commands.

PASSED=0 FAILED=0 SKIPPED=0
TOTALS='^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$'

# sum_of WHAT COMMAND...: shows all but the closing line. What ends without one, or
# badly for a reason that no line tells of, has failed; with 4 all was skipped.
sum_of()
{
	local what=$1 log rc=0 line p=0 f=0 s=0

	shift
	log=$(mktemp)
	"$@" 2>&1 | tee "$log" | { grep --line-buffered -vE "$TOTALS" || true; } || rc=$?
	line=$(grep -E "$TOTALS" "$log" | tail -n 1) || true
	rm -f "$log"
	if [ -n "$line" ]; then
		read -r p _ f _ s _ <<<"$line"
	else
		echo "$what did not come to its end"
		f=1
	fi
	if [ "$rc" -ne 0 ] && [ "$f" -eq 0 ] && { [ "$rc" -ne 4 ] || [ "$s" -eq 0 ]; }; then
		echo "$what ended with $rc"
		f=1
	fi
	PASSED=$((PASSED + p)) FAILED=$((FAILED + f)) SKIPPED=$((SKIPPED + s))
}

# closing: the line for all of them; fails if one did, or nothing passed
closing()
{
	echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
	[ "$FAILED" -eq 0 ] && [ "$PASSED" -gt 0 ]
}
