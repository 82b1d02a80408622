# SPDX-License-Identifier: GPL-2.0
#
# Shared by all scripts: messages, the cache, locks, progress.
#
# Exit codes: 0 success, 1 a failure, 2 set-up or usage.

set -euo pipefail
export LC_ALL=C

# shellcheck disable=SC2034 # for those that source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CONFIGS=$ROOT/qemu/configs
# shellcheck disable=SC2034 # for those that source this
CACHE=${RCU_PTR_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/rcu_ptr}

# The scripts choose the variables of the make that they call.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL KBUILD_OUTPUT CROSS_COMPILE
# An empty variable counts as unset, as it should for the kernel's '?=' too.
for name in RUSTC RUST_LIB_SRC LIBCLANG_PATH LLVM BINDGEN KRUSTFLAGS KCFLAGS; do
	[ -n "${!name:-}" ] || unset "$name"
done

say()
{
	printf 'rcu_ptr: %s\n' "$*" >&2
}

# die MESSAGE...: ends with an error in set-up or usage
die()
{
	say "$@"
	exit 2
}

# at_least VERSION MINIMUM
at_least()
{
	[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]
}

# lock FILE WHAT: takes a lock until this script and its children have ended
lock()
{
	local fd

	mkdir -p "$(dirname "$1")"
	exec {fd}>"$1"
	if ! flock -n "$fd"; then
		say "waiting: another run is at $2"
		flock "$fd"
	fi
}

elapsed()
{
	printf '%d:%02d' $(((SECONDS - $1) / 60)) $(((SECONDS - $1) % 60))
}

# progress LABEL LOG TOTAL COMMAND...
#
# Runs COMMAND with its output in LOG, and shows its progress on stderr. TOTAL is an
# estimate of the lines that a kernel build prints, 0 for anything else. TAIL is the
# number of lines of the log that are shown after a failure; 0: failing is no error.
progress()
{
	local label=$1 log=$2 total=$3 start=$SECONDS shown=$SECONDS every=15 text pid rc=0

	shift 3
	mkdir -p "$(dirname "$log")"
	[ -t 2 ] && every=1
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	# A background job ignores SIGINT.
	trap 'kill '"$pid"' 2>/dev/null; wait; say "interrupted"; exit 130' INT TERM
	[ -t 2 ] || say "$label (log: $log)"
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		[ $((SECONDS - shown)) -ge "$every" ] || continue
		shown=$SECONDS
		text="$label: $(elapsed "$start")"
		if [ "$total" -gt 0 ]; then
			text+=", $(grep -c '^  [A-Z]' "$log" || true) of about $total steps"
		fi
		if [ -t 2 ]; then
			printf '\r\033[Krcu_ptr: %s' "$text" >&2
		else
			say "$text"
		fi
	done
	wait "$pid" || rc=$?
	trap - INT TERM
	[ -t 2 ] && printf '\r\033[K' >&2
	if [ "$rc" -ne 0 ] && [ "${TAIL:-}" = 0 ]; then
		say "$label: failed after $(elapsed "$start") (log: $log)"
		return 1
	fi
	if [ "$rc" -ne 0 ]; then
		say "$label: failed after $(elapsed "$start"); the end of $log:"
		tail -n "${TAIL:-25}" "$log" | sed 's/^/    /' >&2
		return 1
	fi
	say "$label: done in $(elapsed "$start")"
}

# scenario_arch NAME
scenario_arch()
{
	local known

	if [ ! -f "$CONFIGS/$1" ] || [[ $1 == CF* || $1 == *.* || $1 == README ]]; then
		known=$(cd "$CONFIGS" && find . -type f ! -name 'CF*' ! -name '*.*' ! -name README |
			sed 's,^./,,' | sort | xargs)
		die "there is no scenario '$1'; there are: $known"
	fi
	if grep -qx 'CONFIG_ARM64=y' "$CONFIGS/$1"; then
		echo arm64
	else
		echo x86_64
	fi
}

host_arch()
{
	case $(uname -m) in
	aarch64) echo arm64 ;;
	*) uname -m ;;
	esac
}
