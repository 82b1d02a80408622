# SPDX-License-Identifier: GPL-2.0
#
# Functions of all commands, each of which sources this file.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
for part in sums apt toolchain need source kernel debian modules; do
	# shellcheck source=/dev/null
	source "$ROOT/scripts/lib/$part.sh"
done

# check_variables: checks those that the Makefile exports
check_variables()
{
	case ${ARCH:=} in
	''|x86_64|arm64) ;;
	*) die "ARCH=$ARCH: 64-bit kernels for x86_64 and arm64 only" ;;
	esac
	[[ ${SMP:-1} =~ ^[1-9][0-9]*$ ]] || die "SMP=$SMP: not a number of CPUs"
	[[ ${MEM:-1} =~ ^[1-9][0-9]*$ ]] || die "MEM=$MEM: not a number of MiB"
	[[ ${TIMEOUT:-1} =~ ^[1-9][0-9]*$ ]] || die "TIMEOUT=$TIMEOUT: not a number of seconds"
	if [ -n "${KDIR:-}" ]; then
		[ -d "$KDIR" ] || die "KDIR=$KDIR: there is no such directory"
		check_kdir "$KDIR"
		KDIR=$(cd "$KDIR" && pwd)
		if [ -n "$ARCH" ] && [ "$ARCH" != "$(kdir_arch "$KDIR")" ]; then
			die "ARCH=$ARCH, but KDIR=$KDIR is a kernel for $(kdir_arch "$KDIR")"
		fi
		ARCH=$(kdir_arch "$KDIR")
	fi
}

# choose_scenarios run|test: sets NAMES
choose_scenarios()
{
	local name

	if [ -n "${SCENARIOS:-}" ]; then
		read -ra NAMES <<<"$SCENARIOS"
	elif [ "$1" = test ] && [ -z "${KDIR:-}" ]; then
		NAMES=()
		while read -r name; do
			[ -n "$ARCH" ] && [ "$ARCH" != "$(scenario_arch "$name")" ] || NAMES+=("$name")
		done < <(awk '$1 ~ /^(test|all)$/ && !seen[$3]++ { print $3 }' "$ROOT/qemu/jobs")
	elif [ "${KERNEL:-}" = debian ]; then
		NAMES=(DEBIAN)
	elif [ "${KERNEL:-base}" != base ]; then
		die "KERNEL=$KERNEL: there are 'debian', Debian's own kernel, and 'base', which is built"
	elif [ "$ARCH" = arm64 ]; then
		NAMES=(ARM64)
	else
		NAMES=(BASE)
	fi
	for name in "${NAMES[@]}"; do
		scenario_arch "$name" >/dev/null
		if [ -n "$ARCH" ] && [ "$ARCH" != "$(scenario_arch "$name")" ]; then
			die "scenario $name is for $(scenario_arch "$name"), but ARCH=$ARCH"
		fi
	done
	[ -z "${KDIR:-}" ] || [ ${#NAMES[@]} -eq 1 ] || die "KDIR= is one kernel: name one scenario, not ${NAMES[*]}"
}

# is_built NAME: whether a kernel was built for it, with any configuration
is_built()
{
	[ -n "$(compgen -G "$CACHE/kernel/$1-*/rcu_ptr.complete")" ]
}

# choose_kernel: sets KERNEL, unless given, to the one that is ready first
choose_kernel()
{
	[ -z "${KERNEL:-}${SCENARIOS:-}${KDIR:-}${KSRC:-}${LLVM:-}${RUSTC:-}${BINDGEN:-}" ] || return 0
	KERNEL=base
	if [ "$ARCH" != arm64 ] && can_stock && { is_built DEBIAN || ! is_built BASE; }; then
		KERNEL=debian
	fi
}

# kernel_of NAME: sets KDIR_OF_SCENARIO, to KDIR= if given
kernel_of()
{
	if [ -n "${KDIR:-}" ]; then
		# shellcheck disable=SC2034 # for the caller
		KDIR_OF_SCENARIO=$KDIR
	elif stock_scenario "$1"; then
		debian_kernel "$1"
	else
		kernel_build "$1"
	fi
}

# need_for kernels|guests NAME...: installs what kernels and modules of scenarios are built with; for guests QEMU too
need_for()
{
	local what=$1 name needs=()

	shift
	for name; do
		if [ -n "${KDIR:-}" ]; then
			needs+=(modules)
		elif stock_scenario "$name"; then
			needs+=(stock)
		else
			needs+=(build)
			! grep -qx CONFIG_GENDWARFKSYMS=y "$CONFIGS/$name" || needs+=(versions)
		fi
		[ "$what" = kernels ] || needs+=("$(scenario_arch "$name")")
	done
	need "${needs[@]}"
}

# scenario_ready NAME [MAKE-ARGUMENT...]: prepares kernel, modules and busybox; sets SPEC, the value of the runner's
# --scenario
scenario_ready()
{
	local out

	kernel_of "$1"
	out=$(modules_directory "$1")
	build_modules "$1" "$KDIR_OF_SCENARIO" "$out" "${@:2}" >&2 || exit
	guest_busybox "$(scenario_arch "$1")"
	# shellcheck disable=SC2034 # for the caller
	SPEC=$1:$KDIR_OF_SCENARIO:$out:$BUSYBOX
}

# option VARIABLE...: adds to args the option of the same name for each variable that is set
option()
{
	local name

	for name; do
		[ -z "${!name:-}" ] || args+=("--${name,,}" "${!name}")
	done
}

# runner_arguments: adds to args the arguments of qemu/run.py that follow from variables
runner_arguments()
{
	local var

	args+=(--out "$ROOT/out")
	for var in ${VARS:-}; do
		args+=(--define "$var")
	done
	option TIMEOUT
	[ -z "${SMP:-}" ] || args+=(--set smp="$SMP")
	[ -z "${MEM:-}" ] || args+=(--set mem="$MEM")
}

# modules_directory NAME: prints where its modules are built
modules_directory()
{
	if [ -n "${KDIR:-}" ]; then
		echo "$ROOT/build/kdir-$(printf '%s' "$KDIR" | sha256sum | cut -c1-8)"
	else
		echo "$ROOT/build/$1"
	fi
}

# kill_tree PID: kills it and all its descendants
kill_tree()
{
	local stat line fields

	for stat in /proc/[0-9]*/stat; do
		line=$(cat "$stat" 2>/dev/null) || continue
		# After the name in parentheses: the state, the parent.
		read -ra fields <<<"${line##*) }"
		[ "${fields[1]}" != "$1" ] || kill_tree "$(basename "$(dirname "$stat")")"
	done
	kill "$1" 2>/dev/null || true
}

# feed_of FUNCTION COMMAND...: pipes the output of the function to the command; when the command ends, the function
# is killed
feed_of()
{
	local feed pid rc=0

	exec {feed}< <("$1")
	pid=$!
	"${@:2}" <&"$feed" || rc=$?
	kill_tree "$pid"
	return "$rc"
}
