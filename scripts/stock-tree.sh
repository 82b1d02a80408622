#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# stock-tree.sh SOURCE HEADERS DIRECTORY: prepares a build tree for a packaged kernel
#
# SOURCE   the kernel's source, of exactly this version (Debian: linux-source-*)
# HEADERS  its headers, with .config and Module.symvers (linux-headers-*)
#
# Packaged headers lack Rust's crates. They are compiled here, with the compilers that
# the kernel was built with. Then the tree's Rust symbols are compared with those of
# the kernel, so that modules built in it can be loaded.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"
# Those of the kernel are used.
unset ARCH LLVM RUSTC BINDGEN RUST_LIB_SRC KRUSTFLAGS KCFLAGS

[ $# -eq 3 ] || die "usage: scripts/stock-tree.sh SOURCE HEADERS DIRECTORY"
source=$1 headers=$2 dir=$3
for file in .config Module.symvers; do
	[ -e "$headers/$file" ] || die "$headers has no $file: these are no kernel headers"
done
[ -e "$source/rust/kernel/lib.rs" ] || die "$source is no kernel source"

release=$(basename "$headers")
release=${release#linux-headers-}
check_compilers "$headers/.config" "$release"

mkdir -p "$dir"
cp "$headers/.config" "$dir/.config"
args=(-C "$source" "O=$dir" "CC=$CC" "HOSTCC=$CC" "KERNELRELEASE=$release" "-j$(nproc)")
make "${args[@]}" olddefconfig || die "the source can't be configured: the first error above says why"
if ! diff <(grep '^CONFIG' "$headers/.config") <(grep '^CONFIG' "$dir/.config"); then
	die "the configuration above differs from that of $release: other tools, or another source"
fi
make "${args[@]}" modules_prepare || die "modules_prepare failed: the first error above says why"
cp "$headers/Module.symvers" "$dir/Module.symvers"
# Types for the modules' BTF.
[ ! -e "$headers/vmlinux" ] || cp "$headers/vmlinux" "$dir/vmlinux"

[ "$(cat "$dir/include/config/kernel.release")" = "$release" ] ||
	die "the tree says $(cat "$dir/include/config/kernel.release"), the kernel is $release: name the source of that version"
names=$(mktemp)
trap 'rm -f "$names"' EXIT
sed -n 's/.*EXPORT_SYMBOL_RUST_GPL(\([A-Za-z0-9_]*\)).*/\1/p' "$dir"/rust/exports_*_generated.h | sort -u >"$names"
missing=$(comm -23 "$names" <(awk '{ print $2 }' "$dir/Module.symvers" | sort -u) | wc -l)
[ -s "$names" ] || die "no Rust symbol was found under $dir/rust: the crates were not built"
[ "$missing" -eq 0 ] ||
	die "$missing of $(wc -l <"$names") Rust symbols of this tree are not $release's: another rustc, or another source, than it was built with"
echo "$(wc -l <"$names") Rust symbols, all of them in $release"

# So that a plain 'make -C DIRECTORY M=...' uses the same compiler.
cat >"$dir/GNUmakefile" <<END
# Uses what this kernel was built with, unless the command line says otherwise.
CC ?= $CC
ifeq (\$(origin CC),default)
CC := $CC
endif
\$(filter-out __build,\$(MAKECMDGOALS)) _all: __build
	@:
__build:
	@\$(MAKE) --no-print-directory -f Makefile CC=\$(CC) HOSTCC=$CC KERNELRELEASE=$release \$(MAKECMDGOALS)
.PHONY: __build
END
