# SPDX-License-Identifier: GPL-2.0
#
# Generates the suites for runner.rs, for kernels without KUnit: concatenates all files, each as a
# module with a table of its cases, in the place of #[kunit_tests], and a table of the files.

FNR == 1 {
	end_file()
	file = FILENAME
	sub(/.*\//, "", file)
	name = file
	sub(/\.rs$/, "", name)
	cases = suite = ""
	emit("pub(super) mod " name " {")
	sources = sources "(" lines ", \"" file "\"), "
}

/^#\[kunit_tests\(/ {
	suite = $0
	gsub(/.*\(|\).*/, "", suite)
	emit("")
	next
}

/^mod tests \{/ {
	emit("pub(crate) mod tests { use crate::runner::{Case, Suite};")
	next
}

/^ *#\[test\]/ {
	emit("")
	test = 1
	next
}

test && / fn / {
	test = 0
	match($0, /fn [a-z0-9_]+/)
	called = substr($0, RSTART + 3, RLENGTH - 3)
	cases = cases "Case { name: c\"" called "\", run: " called " }, "
}

suite != "" && /^}/ {
	emit("pub(crate) const SUITE: Suite = Suite { name: c\"" suite "\", cases: &[" cases "] }; }")
	suites = suites name "::tests::SUITE, "
	next
}

{
	emit($0)
}

END {
	end_file()
	emit("pub(super) static SUITES: &[crate::runner::Suite] = &[" suites "];")
	emit("pub(super) static SOURCES: &[(u32, &str)] = &[" sources "];")
}

function emit(line)
{
	print line
	lines++
}

function end_file()
{
	if (name != "")
		emit("}")
}
