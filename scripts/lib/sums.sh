# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Adds up the closing lines 'N passed, N failed, N skipped' of several commands, and
# repeats what failed in front of the sum: the lines '# FAILED WHAT' of each, with those
# behind them that are indented.

PASSED=0 FAILED=0 SKIPPED=0
# For each command of which something failed, its lines.
FAILURES=()
# Lines of all of them.
MOST=40
TOTALS='^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$'

# sum_of WHAT COMMAND...: shows all but the closing line. What ends without one, or
# badly for a reason that no line tells of, has failed; with 4 all was skipped.
sum_of()
{
	local what=$1 log rc=0 line p=0 f=0 s=0 list

	shift
	log=$(mktemp)
	"$@" 2>&1 | tee "$log" | { grep --line-buffered -vE "$TOTALS" || true; } || rc=$?
	line=$(grep -E "$TOTALS" "$log" | tail -n 1) || true
	list=$(awk '/^# FAILED / { on = 1 } !/^#( FAILED|  ) / { on = 0 } on' "$log")
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
	if [ "$f" -gt 0 ]; then
		FAILURES+=("${list:-# FAILED $what$'\n'$(tail -n 3 "$log" | cut -c 1-200 | sed 's/^/#     /')}")
	fi
	rm -f "$log"
	PASSED=$((PASSED + p)) FAILED=$((FAILED + f)) SKIPPED=$((SKIPPED + s))
}

# closing: the line for all of them; fails if one did, or nothing passed
closing()
{
	local list lines most

	if [ ${#FAILURES[@]} -gt 0 ]; then
		most=$((MOST / ${#FAILURES[@]}))
		for list in "${FAILURES[@]}"; do
			lines=$(wc -l <<<"$list")
			head -n "$most" <<<"$list"
			[ "$lines" -le "$most" ] || echo "#   and $((lines - most)) lines more above"
		done
	fi
	echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
	[ "$FAILED" -eq 0 ] && [ "$PASSED" -gt 0 ]
}
