# SPDX-License-Identifier: GPL-2.0
#
# Adds up the closing lines 'N passed, N failed, N skipped' of several commands, and
# repeats their failures before the total: the lines '# FAILED WHAT' of each, with the
# indented ones after them.

PASSED=0 FAILED=0 SKIPPED=0
# The lines of each command with failures.
FAILURES=()
# The maximum of lines of all of them.
MOST=40
TOTALS='^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$'

# sum_of WHAT COMMAND...: runs a command, and shows all but its closing line. A command
# without a closing line has failed, and one that ends with an error without counting a
# failure; exit code 4 means that everything was skipped.
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
		echo "$what ended without a total"
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

# closing: prints the total; fails if a command did, or nothing passed
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
