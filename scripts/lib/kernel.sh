# SPDX-License-Identifier: GPL-2.0
#
# Kernel builds, cached by all their inputs.

# Increment it when kernels are built in another way.
KERNEL_RECIPE=1
# An estimate of the lines that a build prints.
KERNEL_STEPS=1600
# The number of builds of a scenario that are kept.
KERNEL_KEEP=3
# The banner, which is an input of the kernel's random numbers: the same for all builds.
KERNEL_BANNER=(KBUILD_BUILD_USER=rcu_ptr KBUILD_BUILD_HOST=rcu_ptr KBUILD_BUILD_VERSION=1
	"KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 2026")

# fragment_of NAME: prints the options of a scenario, which override the common ones
fragment_of()
{
	tac "$CONFIGS/$1" "$CONFIGS/CFcommon.$(scenario_arch "$1")" "$CONFIGS/CFcommon" |
		grep -v '^#' | grep . | awk -F= '!seen[$1]++' | tac
}

# check_config CONFIG FRAGMENT: checks that every line of the fragment is in the configuration
#
# scripts/kconfig/merge_config.sh only warns of a line that was dropped; its strict mode forbids overriding a common
# option, and does not accept CONFIG_X=n.
check_config()
{
	local line bad=

	while read -r line; do
		case $line in
		CONFIG_*=n)
			! grep -q "^${line%=n}=" "$1" || { say "$line: the option is set"; bad=y; }
			;;
		CONFIG_*=*)
			grep -qxF "$line" "$1" || { say "$line: not in the final .config"; bad=y; }
			;;
		*)
			say "$line: not of the form CONFIG_X=value"
			bad=y
			;;
		esac
	done <"$2"
	[ -z "$bad" ] || die "the options above can't be as $CONFIGS has them: add what they depend on, or remove them"
}

# write_gnumakefile: the GNUmakefile of a build, so that a plain 'make -C KDIR M=...' uses its toolchain
write_gnumakefile()
{
	local arg

	echo '# Uses what this kernel was built with, unless the command line says otherwise.'
	[ -z "${LIBCLANG_PATH:-}" ] || echo "export LIBCLANG_PATH ?= $LIBCLANG_PATH"
	for arg in "${MAKE_ARGS[@]}"; do
		echo "ifneq (\$(origin ${arg%%=*}),command line)"
		echo "args += $arg"
		echo "endif"
	done
	# shellcheck disable=SC2016 # as make is to read it
	printf '%s\n' '$(filter-out __build,$(MAKECMDGOALS)) _all: __build' '	@:' '__build:' \
		'	@$(MAKE) --no-print-directory -f Makefile $(args) $(MAKECMDGOALS)' '.PHONY: __build'
}

prune_builds()
{
	local dir

	# shellcheck disable=SC2012 # names are ours
	ls -dt "$CACHE/kernel/$1"-*/ 2>/dev/null | tail -n +$((KERNEL_KEEP + 1)) | while read -r dir; do
		dir=${dir%/}
		(flock -n 9 || exit 0; rm -rf "$dir") 9>"$dir.lock"
	done
}

configure_kernel()
{
	local dir=$1 log=$2

	fragment_of "$SCENARIO" >"$dir/fragment"
	make -C "$KERNEL_SOURCE" O="$dir" "${MAKE_ARGS[@]}" KCONFIG_ALLCONFIG="$dir/fragment" allnoconfig \
		>"$log" 2>&1 </dev/null || {
		tail -n 20 "$log" >&2
		die "the kernel can't be configured (log: $log)"
	}
	if ! grep -qx CONFIG_RUST=y "$dir/.config"; then
		make -C "$KERNEL_SOURCE" O="$dir" "${MAKE_ARGS[@]}" rustavailable </dev/null >&2 || true
	fi
	check_config "$dir/.config" "$dir/fragment"
}

# is_complete DIR: whether it has a kernel with that banner; one with another banner is only linked again
is_complete()
{
	[ -e "$1/rcu_ptr.complete" ] && [ "$(cat "$1/rcu_ptr.complete")" = "${KERNEL_BANNER[*]}" ]
}

# kernel_build NAME: builds the kernel with the chosen toolchain; sets KDIR_OF_SCENARIO
kernel_build()
{
	local SCENARIO=$1 arch key dir log steps
	local -a MAKE_ARGS

	arch=$(scenario_arch "$1")
	kernel_source
	mapfile -t MAKE_ARGS < <(make_args)
	MAKE_ARGS+=("ARCH=$arch")
	key=$({
		echo "$KERNEL_RECIPE"
		echo "$KERNEL_SOURCE $(kernel_version "$KERNEL_SOURCE")"
		toolchain_words
		printf '%s\n' "${MAKE_ARGS[@]}"
		fragment_of "$1"
	} | sha256sum | cut -c1-12)
	dir=$CACHE/kernel/$1-$(kernel_version "$KERNEL_SOURCE")-$key
	# shellcheck disable=SC2034 # for the caller
	KDIR_OF_SCENARIO=$dir
	# The user's own source may have changed: make decides.
	[ -n "${KSRC:-}" ] || ! is_complete "$dir" || return 0
	lock "$dir.lock" "the kernel of $1"
	[ -n "${KSRC:-}" ] || ! is_complete "$dir" || return 0
	mkdir -p "$dir" "$CACHE/log"
	log=$CACHE/log/kernel-$1.log
	configure_kernel "$dir" "$log"
	toolchain_save "$dir/toolchain.env"
	steps=$(cat "$CACHE/log/kernel-$1.steps" 2>/dev/null || echo "$KERNEL_STEPS")
	[ ! -e "$dir/rcu_ptr.complete" ] || steps=0
	progress "building the kernel of $1 ($arch, Linux $(kernel_version "$KERNEL_SOURCE"))" "$log" "$steps" \
		env "${KERNEL_BANNER[@]}" make -C "$KERNEL_SOURCE" O="$dir" "${MAKE_ARGS[@]}" -j"$(nproc)" ||
		die "the kernel of $1 can't be built (log: $log)"
	write_gnumakefile >"$dir/GNUmakefile"
	if [ ! -e "$dir/rcu_ptr.complete" ]; then
		grep -c '^  [A-Z]' "$log" >"$CACHE/log/kernel-$1.steps" || true
	fi
	echo "${KERNEL_BANNER[*]}" >"$dir/rcu_ptr.complete"
	prune_builds "$1"
}

# check_kdir DIR: checks that the modules can be built against it
check_kdir()
{
	local config=$1/include/config/auto.conf version reason

	[ -e "$config" ] || die "KDIR=$1 is no prepared kernel build: build that kernel first"
	grep -qx CONFIG_MODULES=y "$config" || die "KDIR=$1: the kernel has no CONFIG_MODULES=y"
	reason=$(make -f "$config" -f "$ROOT/Kbuild" "objtree=$1" 2>&1 |
		sed -n 's/.*\*\*\* rcu_ptr: \(.*\)\.  Stop\.$/\1/p') || true
	[ -z "$reason" ] || die "KDIR=$1: $reason"
	if grep -qx CONFIG_DEBUG_INFO_BTF_MODULES=y "$config" && [ -e "$1/vmlinux" ] && ! have program pahole; then
		die "KDIR=$1: this kernel's modules have BTF, and pahole is missing: apt-get install pahole"
	fi
	[ -e "$1/Module.symvers" ] || die "KDIR=$1 has no Module.symvers: build the kernel there"
	version=$(cat "$1/include/config/kernel.release")
	at_least "${version%%-*}" "$KERNEL_MIN" || die "KDIR=$1 is Linux $version, needed is $KERNEL_MIN or newer"
}

# kdir_arch DIR
kdir_arch()
{
	if grep -qx CONFIG_ARM64=y "$1/.config"; then
		echo arm64
	elif grep -qx CONFIG_X86_64=y "$1/.config"; then
		echo x86_64
	else
		die "KDIR=$1: 64-bit kernels for x86_64 and arm64 only"
	fi
}
