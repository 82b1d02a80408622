#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run.sh [KSRC]: runs the litmus tests here in the memory model of this kernel source
#
# Each test is a claim whose outcome must be 'Never' satisfied. Its header lists flaws, each with a sed
# script that adds it to the body: then the outcome must be 'Sometimes' satisfied, as proof that the test
# can fail. herd7 is downloaded into the cache if it is not installed.

source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/all.sh"

# flaws TEST: prints name and script of each flaw, a line each
flaws()
{
	awk '/^ \* Flaw / { name = $3; sub(":", "", name) } sub(/^ \*\t/, "") { print name, $0 }' "$1"
}

# observed TEST: prints the observation of herd7
observed()
{
	(cd "$MODEL" && "${HERD[@]}" -conf linux-kernel.cfg "$1") </dev/null |
		sed -n 's/^Observation [^ ]* \([A-Za-z]*\) .*/\1/p'
}

# Debian suites with the package; stable releases up to trixie don't have it.
HERD_SUITES=(forky sid)

# unpack_herd SUITE DIRECTORY: unpacks herd7 and the libc that it was built for
unpack_herd()
{
	local suite=$1 dir=$2 package parts deb

	private_apt "$suite" "$(dpkg --print-architecture)" || return 1
	rm -rf "$dir.part"
	mkdir -p "$dir.part"
	while read -r package parts; do
		deb=$(private_download "$package" "$CACHE/download") || return 1
		# shellcheck disable=SC2086 # several words
		dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir.part" $parts || return 1
		rm -f "$deb"
	done <<-END
		herdtools7 ./usr/bin/herd7 ./usr/share/herdtools7/herd
		libc6 ./usr/lib
		libgmp10 ./usr/lib
	END
	mv "$dir.part" "$dir"
}

# find_herd: sets HERD to the command: an installed herd7, or the one in the cache
find_herd()
{
	local dir=$CACHE/herd suite loader

	if command -v herd7 >/dev/null; then
		HERD=(herd7)
		return
	fi
	if [ ! -d "$dir" ]; then
		(
			lock "$CACHE/herd.lock" "herd7"
			[ ! -d "$dir" ] || exit 0
			for suite in "${HERD_SUITES[@]}"; do
				! unpack_herd "$suite" "$dir" || exit 0
			done
			exit 1
		) || die "herd7 is missing: check the network, or install it (Debian package herdtools7, or opam install herdtools7)"
	fi
	loader=$(find "$dir/usr/lib" -name 'ld-linux-*.so.*' -type f -print -quit)
	HERD=("$loader" --library-path "$(dirname "$loader")" "$dir/usr/bin/herd7"
		-set-libdir "$dir/usr/share/herdtools7/herd")
}

here=$ROOT/host/litmus
if [ $# -eq 0 ]; then
	kernel_source
	set -- "$KERNEL_SOURCE"
fi
MODEL=$1/tools/memory-model
[ -e "$MODEL/linux-kernel.cfg" ] || die "there is no $MODEL/linux-kernel.cfg"
find_herd

FLAWED=$(mktemp -d)
trap 'rm -rf "$FLAWED"' EXIT
bad=0

# check TEST RESULT: compares the observation with the expected result
check()
{
	local got

	got=$(observed "$1") || got=
	echo "$(basename "$1"): ${got:-no result} (expected $2)"
	[ "$got" = "$2" ] || bad=1
}

for test in "$here"/C-*.litmus; do
	check "$test" Never
	flaws=0
	while read -r flaw script; do
		flaws=$((flaws + 1))
		flawed=$FLAWED/$(basename "$test" .litmus)-$flaw.litmus
		sed -e '/^{/,$ {' -e "$script" -e '}' "$test" >"$flawed"
		check "$flawed" Sometimes
	done < <(flaws "$test")
	[ "$flaws" -gt 0 ] || { echo "$(basename "$test"): no flaw makes it fail"; bad=1; }
done
exit $bad
