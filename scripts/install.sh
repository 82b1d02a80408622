#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# install.sh [install]: builds the modules for the running kernel and installs them
# install.sh probe: checks whether that is possible, and names what is missing
# install.sh build|files: only builds, or only installs
#
# KERNELRELEASE= another installed kernel, KDIR= its headers; DESTDIR= another root.
# DKMS calls it with 'build' (dkms.conf).
#
# Headers as packaged by distributions lack Rust's crates. A tree with them is then
# prepared once, under /var/lib/rcu_ptr, from the package of the kernel's source;
# this takes minutes, and 1 GB.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

RELEASE=${KERNELRELEASE:-$(uname -r)}
# The kernel's make would use KERNELRELEASE, and even an empty ARCH.
unset KERNELRELEASE ARCH
TREES=/var/lib/rcu_ptr
MODULES="rcu_ptr rcu_ptr_takeover rcu_ptr_kunit"
[ "${RCU_PTR_TEST:-}" != n ] || MODULES=${MODULES% rcu_ptr_kunit}

# headers_of RELEASE: prints the path of its headers, or of the tree that it was built in
headers_of()
{
	local dir

	for dir in ${KDIR:+"$KDIR"} "/lib/modules/$1/build" "/usr/src/linux-headers-$1"; do
		if [ -e "$dir/.config" ]; then
			(cd -P "$dir" && pwd)
			return
		fi
	done
	die "the headers of $1 are missing: apt-get install linux-headers-$1"
}

# source_of RELEASE: prints the path of the archive of the kernel's source
source_of()
{
	local version=${1%%[-+]*} path

	for path in "/usr/src/linux-source-${version%.*}.tar.xz" "/usr/src/linux-source-$version.tar.xz"; do
		if [ -e "$path" ]; then
			echo "$path"
			return
		fi
	done
	die "the headers of $1 have no Rust crates (rust/*.rmeta), and the source to make them from is missing:" \
		"apt-get install linux-source-${version%.*}"
}

# check_release HEADERS: checks that the headers are those of this kernel
check_release()
{
	local found

	found=$(cat "$1/include/config/kernel.release" 2>/dev/null) || found=$RELEASE
	[ "$found" = "$RELEASE" ] ||
		die "$1 has the headers of $found: the vermagic of modules would not be that of $RELEASE"
}

# check_tools HEADERS: checks that the modules can be built, with the compilers of the kernel
check_tools()
{
	local config=$1/.config

	[ "$(config_value "$config" CONFIG_SMP)" = y ] || die "$RELEASE was built without CONFIG_SMP=y, which the modules need"
	at_least "${RELEASE%%[-+]*}" "$KERNEL_MIN" || die "$RELEASE is older than Linux $KERNEL_MIN, which the modules need"
	check_compilers "$config" "$RELEASE"
	if [ "$(config_value "$config" CONFIG_DEBUG_INFO_BTF_MODULES)" = y ]; then
		have program pahole || die "pahole is missing, which $RELEASE needs for its modules' BTF: apt-get install pahole"
	fi
}

# check_signing HEADERS: notes whether modules have to be signed
check_signing()
{
	local config=$1/.config state

	if [ "$(config_value "$config" CONFIG_MODULE_SIG_FORCE)" = y ]; then
		say "note: $RELEASE loads signed modules only: sign them with a key that it trusts"
	fi
	state=$(mokutil --sb-state 2>/dev/null) || state=
	[[ $state != *enabled* ]] ||
		say "note: Secure Boot is on: sign the modules with a key that is enrolled (mokutil --import)"
}

# tree_of RELEASE: sets KDIR, a tree in which Rust modules can be built
tree_of()
{
	local headers=$1 source dir=$TREES/$RELEASE

	if [ -e "$headers/rust/libkernel.rmeta" ]; then
		KDIR=$headers
		return
	fi
	KDIR=$dir
	[ ! -e "$dir/complete" ] || return 0
	source=$(source_of "$RELEASE")
	missing tree
	[ ${#MISSING[@]} -eq 0 ] ||
		die "the headers of $RELEASE have no Rust crates, and what they are made with is missing:" \
			"apt-get install ${MISSING[*]}"
	[ "$PROBE" = n ] || return 0
	[ "$(id -u)" -eq 0 ] || die "the tree for Rust modules is made under $TREES: run this as root"
	say "preparing a tree for Rust modules of $RELEASE: this takes minutes, once"
	rm -rf "$dir" "$dir.source"
	mkdir -p "$dir.source"
	tar -xJf "$source" -C "$dir.source" --strip-components=1
	"$ROOT/scripts/stock-tree.sh" "$dir.source" "$headers" "$dir"
	touch "$dir/complete"
}

do_build()
{
	check_clean
	make -C "$KDIR" M="$ROOT" MO="$ROOT/build/install-$RELEASE" RCU_PTR_ONLY="$MODULES" \
		-j"$(nproc)" modules
}

do_files()
{
	local name found dest=${DESTDIR:-}/lib/modules/$RELEASE/updates/rcu_ptr

	mkdir -p "$dest"
	for name in $MODULES; do
		found=$(find "$ROOT/build/install-$RELEASE" -name "$name.ko" -print -quit)
		[ -n "$found" ] || die "$name.ko was not built"
		install -m 644 "$found" "$dest/"
	done
	depmod ${DESTDIR:+-b "$DESTDIR"} "$RELEASE"
	say "installed in $dest: modprobe rcu_ptr, and modprobe rcu_ptr_takeover for the kernel's own kfree_rcu()"
}

verb=${1:-install}
[[ $verb =~ ^(install|probe|build|files)$ ]] || die "usage: scripts/install.sh [install|probe|build|files]"
PROBE=n
[ "$verb" != probe ] || PROBE=y
HEADERS=$(headers_of "$RELEASE")
check_release "$HEADERS"
check_tools "$HEADERS"
[ "$verb" = files ] || tree_of "$HEADERS"
case $verb in
probe)
	check_signing "$HEADERS"
	say "the modules can be built for $RELEASE"
	;;
build)
	do_build
	;;
files)
	do_files
	;;
install)
	[ "$(id -u)" -eq 0 ] || [ -n "${DESTDIR:-}" ] || die "modules are installed by root: sudo make install"
	do_build
	do_files
	check_signing "$HEADERS"
	;;
esac
