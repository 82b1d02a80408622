# SPDX-License-Identifier: GPL-2.0
#
# The kernel source, and the guest's busybox.

KERNEL_MIN=7.3
KERNEL_SUITE=trixie-backports
DEBIAN_SUITE=${KERNEL_SUITE%-backports}

# kernel_version DIR: prints the version of a source tree
kernel_version()
{
	awk '$2 == "=" && $1 ~ /^(VERSION|PATCHLEVEL|SUBLEVEL)$/ { v = v sep $3; sep = "." }
		$1 == "EXTRAVERSION" { print v $3; exit }' "$1/Makefile"
}

unpack_source()
{
	local deb=$1 dir=$2 member

	rm -rf "$dir.part"
	mkdir -p "$dir.part"
	member=$(dpkg-deb --fsys-tarfile "$deb" | tar -t | grep '/linux-source-.*\.tar\.xz$')
	# shellcheck disable=SC2016 # for the shell that is started
	progress "unpacking $(basename "$member")" "$CACHE/log/unpack.log" 0 \
		bash -c 'set -eo pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" |
			tar -xJ -C "$3" --strip-components=1' - "$deb" "$member" "$dir.part" ||
		die "$deb can't be unpacked: is there room under $CACHE?"
	mv "$dir.part" "$dir"
}

# fetch_source: fetches the newest packaged kernel source of at least KERNEL_MIN
fetch_source()
{
	local hint="Name a kernel source with KSRC=" package version deb dir

	private_apt "$KERNEL_SUITE" "$(dpkg --print-architecture)" ||
		die "no archive that apt uses has $KERNEL_SUITE. $hint"
	package=$("${PRIVATE_APT_CACHE[@]}" pkgnames linux-source-7. | grep -x 'linux-source-[0-9.]*' |
		sort -V | tail -n1) || true
	if [ -z "$package" ] || ! at_least "${package#linux-source-}" "$KERNEL_MIN"; then
		die "$KERNEL_SUITE has no linux-source of at least $KERNEL_MIN. $hint"
	fi
	version=$("${PRIVATE_APT_CACHE[@]}" policy "$package" | awk '$1 == "Candidate:" { print $2 }')
	dir=$CACHE/source/linux-${version//[^0-9A-Za-z.+-]/_}
	if [ ! -d "$dir" ]; then
		deb=$(private_download "$package" "$CACHE/download") ||
			die "$package can't be downloaded: check the network and try again. $hint"
		unpack_source "$deb" "$dir"
		rm -f "$deb"
	fi
	ln -sfn "$(basename "$dir")" "$CACHE/source/current"
}

# kernel_source: sets KERNEL_SOURCE
kernel_source()
{
	local version

	if [ -n "${KSRC:-}" ]; then
		[ -e "$KSRC/rust/kernel/lib.rs" ] || die "KSRC=$KSRC is no kernel source"
		KERNEL_SOURCE=$(cd "$KSRC" && pwd)
		version=$(kernel_version "$KERNEL_SOURCE")
		at_least "$version" "$KERNEL_MIN" || die "KSRC=$KSRC is Linux $version, needed is $KERNEL_MIN or newer"
		[ ! -e "$KERNEL_SOURCE/.config" ] ||
			die "KSRC=$KSRC has been built in place: run 'make mrproper' there, or give the build with KDIR="
		return
	fi
	if [ ! -d "$CACHE/source/current" ]; then
		lock "$CACHE/source.lock" "the kernel source"
		[ -d "$CACHE/source/current" ] || fetch_source
	fi
	KERNEL_SOURCE=$(cd -P "$CACHE/source/current" && pwd)
}

# guest_busybox ARCH: sets BUSYBOX, to a static one
guest_busybox()
{
	local arch=$1 debian=${1/x86_64/amd64} path

	if [ "$arch" = "$(host_arch)" ] && [ -x /bin/busybox ] && ! grep -qa 'ld-linux' /bin/busybox; then
		BUSYBOX=/bin/busybox
		return
	fi
	path=$CACHE/busybox/$arch
	# shellcheck disable=SC2034 # for the caller
	BUSYBOX=$path
	[ ! -x "$path" ] || return 0
	(
		lock "$CACHE/busybox-$arch.lock" "busybox for $arch"
		[ ! -x "$path" ] || exit 0
		private_apt "$DEBIAN_SUITE" "$debian" &&
			deb=$(private_download busybox-static "$CACHE/download") || exit 1
		mkdir -p "$CACHE/busybox"
		dpkg-deb --fsys-tarfile "$deb" | tar -xO --wildcards './*bin/busybox' >"$path.part"
		chmod +x "$path.part"
		mv "$path.part" "$path"
		rm -f "$deb"
	) || die "busybox-static for $arch can't be downloaded: check the network, or put a static one at $path"
}
