# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# herd7, which runs litmus tests in the kernel's memory model.

# Debian suites with the package, which stable releases up to trixie do not have.
HERD_SUITES=(forky sid)

# unpack_herd SUITE DIRECTORY: herd7 with the libc that it was built for
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

# find_herd: sets HERD, the command; an installed herd7, or one in the cache
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
		) || die "herd7 is missing: mend the network, or install it (Debian package herdtools7, or opam install herdtools7)"
	fi
	loader=$(find "$dir/usr/lib" -name 'ld-linux-*.so.*' -type f -print -quit)
	# shellcheck disable=SC2034 # for the caller
	HERD=("$loader" --library-path "$(dirname "$loader")" "$dir/usr/bin/herd7"
		-set-libdir "$dir/usr/share/herdtools7/herd")
}
