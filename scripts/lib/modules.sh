# SPDX-License-Identifier: GPL-2.0
#
# Builds of the modules, out of source, one directory for each scenario.

# check_clean: fails after an in-place build, whose products kbuild would use
check_clean()
{
	local found

	found=$(find "$ROOT/rust" -name '.*.cmd' -print -quit)
	[ -z "$found" ] ||
		die "a build of the modules in place is in the way (${found#"$ROOT/"}): run 'make clean' first"
}

# build_changed_core LABEL KDIR OUT MAKE-ARGUMENT...: builds OUT/rcu_ptr_changed.ko, a core whose interface has a
# structure of another layout. Modules that were built for this tree's core must not be loaded with it.
build_changed_core()
{
	local label=$1 kdir=$2 out=$3 dir

	shift 3
	dir=$ROOT/build/changed-$(basename "$out")
	rm -rf "$dir/tree"
	mkdir -p "$dir/tree"
	cp -a "$ROOT/include" "$ROOT/rust" "$dir/tree/"
	printf 'obj-m := rust/rcu_ptr/\n' >"$dir/tree/Kbuild"
	sed -i 's/^struct rcu_ptr_cache_args {$/&\n\tunsigned long added;/' "$dir/tree/include/linux/rcu_ptr.h"
	! cmp -s "$ROOT/include/linux/rcu_ptr.h" "$dir/tree/include/linux/rcu_ptr.h" ||
		die "include/linux/rcu_ptr.h has no struct rcu_ptr_cache_args to change"
	TAIL=50 progress "building a core with another layout for $label" "$dir/build.log" 0 \
		make -C "$kdir" M="$dir/tree" MO="$dir/out" ARCH="$(kdir_arch "$kdir")" "$@" -j"$(nproc)" modules || return
	cp "$dir/out/rust/rcu_ptr/rcu_ptr.ko" "$out/rcu_ptr_changed.ko"
}

# module_args [CONFIG]: prints the arguments of make for modules, with source lines even if the kernel has none
module_args()
{
	make_args
	# Versions of symbols are computed from the debug information of their types.
	[ "$(config_value "${1:-/dev/null}" CONFIG_GENDWARFKSYMS)" = y ] ||
		printf '%s\n' "KRUSTFLAGS=${KRUSTFLAGS:-} -Cdebuginfo=1" "KCFLAGS=${KCFLAGS:-} -g1"
}

# build_modules LABEL KDIR OUT [MAKE-ARGUMENT...]
build_modules()
{
	local label=$1 kdir=$2 out=$3

	shift 3
	check_clean
	(
		lock "$ROOT/build/$(basename "$out").lock" "the modules of $label"
		make=(make)
		if [ -e "$kdir/build-root" ]; then
			make=(in_root "$(cat "$kdir/build-root")" make)
			args=(-f GNUmakefile)
		else
			toolchain_of "$kdir"
			mapfile -t args < <(module_args "$kdir/.config")
		fi
		# Dependencies that kbuild does not check.
		identity=$(cd "$kdir" && pwd && stat -c '%Y %n' Module.symvers rust/libkernel.rmeta include/config/auto.conf
			printf '%s\n' "${args[@]}")
		if [ "$(cat "$out/kdir" 2>/dev/null)" != "$identity" ]; then
			rm -rf "$out"
			mkdir -p "$out"
			printf '%s\n' "$identity" >"$out/kdir"
		fi
		log=$out/build.log
		if ! TAIL=300 progress "building the modules for $label" "$log" 0 \
				"${make[@]}" -C "$kdir" M="$ROOT" MO="$out" ARCH="$(kdir_arch "$kdir")" "${args[@]}" \
				-j"$(nproc)" "$@" modules; then
			exit 1
		fi
		grep -E '^warning|warning:' "$log" >&2 || true
		if [ "$(config_value "$kdir/.config" CONFIG_MODVERSIONS)" = y ] && [ ! -e "$kdir/build-root" ]; then
			build_changed_core "$label" "$kdir" "$out" "${args[@]}" || exit 1
		fi
		# The kernel's own tests that packages lack, or that take too long unchanged.
		[ -e "$kdir/build-root" ] || [ "$(config_value "$kdir/.config" CONFIG_SLUB_KUNIT_TEST)" = m ] || exit 0
		TAIL=50 progress "building the kernel's tests for $label" "$out/upstream.log" 0 \
			"${make[@]}" -C "$kdir" M="$ROOT/qemu/upstream" MO="$out/upstream" ARCH="$(kdir_arch "$kdir")" \
			"${args[@]}" -j"$(nproc)" modules
	)
}
