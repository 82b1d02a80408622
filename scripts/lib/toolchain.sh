# SPDX-License-Identifier: GPL-2.0
#
# Chooses rustc, LLVM and bindgen. Sets RUSTC, RUSTDOC, RUSTFMT, CARGO,
# CLIPPY_DRIVER, LLVM, BINDGEN, and RUST_LIB_SRC and LIBCLANG_PATH where needed.
#
# RUSTC=, LLVM= and BINDGEN= in the environment have precedence.

RUSTC_MIN=1.85.0
CLANG_MIN=17
CLANG_MAX=30
BINDGEN_MIN=0.71.1
BINDGEN_CLI=0.72.1
TOOLS=(RUSTC RUSTDOC RUSTFMT CARGO CLIPPY_DRIVER LLVM BINDGEN RUST_LIB_SRC LIBCLANG_PATH)

# Debian has a second, newer set of Rust packages.
# shellcheck disable=SC2034 # for need.sh
RUST_PACKAGES=(
	"rustc rust-src cargo rustfmt rust-clippy"
	"rustc-web rust-web-src cargo-web rustfmt-web rust-web-clippy"
)

# why_not_rustc RUSTC: prints why it can't be used; fails if it can be
why_not_rustc()
{
	local version sysroot

	version=$("$1" --version 2>/dev/null | awk '{ print $2; exit }') || true
	if [ -z "$version" ]; then
		echo "does not run"
	elif ! at_least "${version%%-*}" "$RUSTC_MIN"; then
		echo "is $version, the kernel needs $RUSTC_MIN"
	else
		sysroot=$("$1" --print sysroot)
		[ ! -e "${RUST_LIB_SRC:-$sysroot/lib/rustlib/src/rust/library}/core/src/lib.rs" ] || return 1
		echo "has no library source ($sysroot/lib/rustlib/src): install rust-src for it"
	fi
}

# use_rustc RUSTC: sets it and the tools that belong to it
use_rustc()
{
	local bin

	bin=$("$1" --print sysroot)/bin
	[ -x "$bin/rustc" ] || bin=$(dirname "$1")
	RUSTC=$bin/rustc
	RUSTDOC=$bin/rustdoc
	RUSTFMT=$bin/rustfmt
	CLIPPY_DRIVER=$bin/clippy-driver
	CARGO=$bin/cargo
	[ -x "$CARGO" ] || CARGO=$(command -v cargo || true)
	[ -x "$RUSTFMT" ] || RUSTFMT=$(command -v rustfmt || true)
}

# find_rustc: chooses a rustc; fails if there is none
find_rustc()
{
	local candidate reason

	RUST_REASONS=()
	if [ -n "${RUSTC:-}" ]; then
		candidate=$(command -v "$RUSTC") || die "RUSTC=$RUSTC: there is no such program"
		if reason=$(why_not_rustc "$candidate"); then
			die "RUSTC=$RUSTC $reason"
		fi
		use_rustc "$candidate"
		return
	fi
	for candidate in $( (echo /usr/bin/rustc; type -ap rustc) | awk '!seen[$0]++'); do
		[ -x "$candidate" ] || continue
		if ! reason=$(why_not_rustc "$candidate"); then
			use_rustc "$candidate"
			return
		fi
		RUST_REASONS+=("$candidate $reason")
	done
	return 1
}

# llvm_complete SUFFIX-OR-LLVM: whether it has every program that the kernel needs
llvm_complete()
{
	local tool path

	for tool in clang ld.lld llvm-ar llvm-nm llvm-objcopy llvm-objdump llvm-readelf llvm-strip llvm-link; do
		path=$(llvm_tool "$1" "$tool")
		command -v "$path" >/dev/null || { LLVM_MISSING=$path; return 1; }
	done
}

# llvm_tool LLVM PROGRAM: prints its name, as the kernel's Makefile spells it
llvm_tool()
{
	case $1 in
	*/) echo "$1$2" ;;
	-*) echo "$2$1" ;;
	*) echo "$2" ;;
	esac
}

rustc_llvm_major()
{
	"$1" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'
}

# find_llvm: sets LLVM; fails if there is none
find_llvm()
{
	local major

	if [ -n "${LLVM:-}" ]; then
		llvm_complete "$LLVM" || die "LLVM=$LLVM: $LLVM_MISSING is missing"
		return
	fi
	for major in $(rustc_llvm_major "$RUSTC") $(seq "$CLANG_MAX" -1 "$CLANG_MIN"); do
		[ "$major" -ge "$CLANG_MIN" ] || continue
		if llvm_complete "-$major"; then
			LLVM=-$major
			return
		fi
	done
	return 1
}

# find_libclang: sets LIBCLANG_PATH to the libclang of this LLVM, for bindgen; fails if there is none
find_libclang()
{
	local major path

	[ -z "${LIBCLANG_PATH:-}" ] || return 0
	major=$("$(llvm_tool "$LLVM" clang)" -dumpversion)
	major=${major%%.*}
	for path in /usr/lib/llvm-"$major"/lib/libclang.so* /usr/lib/llvm-"$major"/lib/libclang-[0-9]*.so* \
			/usr/lib/*/libclang-"$major".so* /usr/lib*/libclang.so."$major"*; do
		if [ -e "$path" ]; then
			LIBCLANG_PATH=$path
			return
		fi
	done
	return 1
}

bindgen_good()
{
	local version

	version=$("$1" --version 2>/dev/null | awk '{ print $2; exit }') || true
	[ -n "$version" ] && at_least "$version" "$BINDGEN_MIN"
}

# find_bindgen: sets BINDGEN to an installed one, or builds one in the cache
find_bindgen()
{
	local candidate root

	if [ -n "${BINDGEN:-}" ]; then
		bindgen_good "$BINDGEN" || die "BINDGEN=$BINDGEN is no bindgen of at least $BINDGEN_MIN"
		BINDGEN=$(command -v "$BINDGEN")
		return
	fi
	root=$CACHE/bindgen-$BINDGEN_CLI
	for candidate in $(type -ap bindgen) "$root/bin/bindgen"; do
		if [ -x "$candidate" ] && bindgen_good "$candidate"; then
			BINDGEN=$candidate
			return
		fi
	done
	[ -x "$CARGO" ] || return 1
	(
		lock "$CACHE/bindgen.lock" "building bindgen"
		[ ! -x "$root/bin/bindgen" ] || exit 0
		rm -rf "$root"
		RUSTC=$RUSTC progress "building bindgen-cli $BINDGEN_CLI" "$CACHE/log/bindgen.log" 0 \
			"$CARGO" install --locked --version "$BINDGEN_CLI" --root "$root" \
			--target-dir "$CACHE/bindgen-target" bindgen-cli || exit 1
		rm -rf "$CACHE/bindgen-target"
	) || die "bindgen-cli $BINDGEN_CLI can't be built. Install a bindgen of at least $BINDGEN_MIN," \
		"or check the network and try again: cargo install --locked bindgen-cli --version $BINDGEN_CLI"
	BINDGEN=$root/bin/bindgen
}

# check_libclang: runs bindgen to check that it finds one
check_libclang()
{
	mkdir -p "$CACHE"
	: >"$CACHE/empty.h"
	"$BINDGEN" "$CACHE/empty.h" >/dev/null 2>&1 ||
		die "$BINDGEN finds no libclang${LIBCLANG_PATH:+ at $LIBCLANG_PATH}: apt-get install libclang1-N," \
			"with the N of clang-N, or name it with LIBCLANG_PATH="
}

toolchain_words()
{
	local rust llvm

	rust=$("$RUSTC" --version)
	llvm=$("$(llvm_tool "$LLVM" clang)" --version | head -n1)
	echo "$RUSTC: $rust; LLVM=$LLVM: $llvm; $BINDGEN: $("$BINDGEN" --version)"
}

# find_objdump KDIR: prints one that reads the output of this kernel's toolchain
find_objdump()
{
	local path

	# The compilers of a distribution's kernel are elsewhere, and nothing of it is disassembled.
	[ -e "$1/build-root" ] || toolchain_of "$1"
	for path in "$(llvm_tool "${LLVM:-}" llvm-objdump)" llvm-objdump objdump; do
		! command -v "$path" || return 0
	done
	die "llvm-objdump is missing: apt-get install llvm"
}

# toolchain_save FILE: writes the toolchain as variables, for 'source'
toolchain_save()
{
	local name

	for name in "${TOOLS[@]}"; do
		[ -z "${!name:-}" ] || printf '%s=%q\n' "$name" "${!name}"
	done >"$1"
}

# make_args: prints the toolchain as arguments of the kernel's make, one per line
make_args()
{
	local name

	printf '%s\n' "RUSTC=$RUSTC" "HOSTRUSTC=$RUSTC" "RUSTDOC=$RUSTDOC" "RUSTFMT=$RUSTFMT" \
		"CLIPPY_DRIVER=$CLIPPY_DRIVER" "BINDGEN=$BINDGEN"
	for name in LLVM RUST_LIB_SRC; do
		[ -z "${!name:-}" ] || printf '%s\n' "$name=${!name}"
	done
}

# config_value FILE OPTION: prints its value without quotes
config_value()
{
	sed -n "s/^$2=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$1"
}

# check_compilers CONFIG RELEASE: checks that the compilers of a packaged kernel are installed; sets RUSTC and CC
check_compilers()
{
	local wanted found library

	[ "$(config_value "$1" CONFIG_RUST)" = y ] ||
		die "$2 has no CONFIG_RUST=y: no Rust module can be built for it; use a kernel that has it"
	wanted=$(config_value "$1" CONFIG_RUSTC_VERSION_TEXT)
	RUSTC=${RUSTC:-rustc}
	command -v "$RUSTC" >/dev/null ||
		die "rustc is missing; $2 was built with '$wanted': apt-get install rustc rust-src"
	found=$("$RUSTC" --version 2>/dev/null) || found="one that does not run"
	[ "$found" = "$wanted" ] ||
		die "$RUSTC is $found, $2 was built with '$wanted': install that one, or name it with RUSTC="
	library=$("$RUSTC" --print sysroot)/lib/rustlib/src/rust/library
	[ -e "$library/core/src/lib.rs" ] || die "rustc's library source is missing ($library): apt-get install rust-src"
	command -v "${BINDGEN:-bindgen}" >/dev/null || die "bindgen is missing: apt-get install bindgen"
	bindgen_good "${BINDGEN:-bindgen}" || die "bindgen is older than $BINDGEN_MIN: install a newer one, or name it with BINDGEN="
	CC=$(config_value "$1" CONFIG_CC_VERSION_TEXT)
	CC=${CC%% *}
	command -v "$CC" >/dev/null || die "$CC is missing, which $2 was built with: apt-get install ${CC#*-linux-gnu-}"
}

# toolchain_of KDIR: sets the toolchain that this kernel was built with
toolchain_of()
{
	local config=$1/.config want candidate major tool llvm=${LLVM:-}

	if [ -e "$1/toolchain.env" ]; then
		# shellcheck source=/dev/null
		source "$1/toolchain.env"
		export LIBCLANG_PATH=${LIBCLANG_PATH:-}
		[ -n "$LIBCLANG_PATH" ] || unset LIBCLANG_PATH
		for tool in "$RUSTC" "$BINDGEN" "$(llvm_tool "${LLVM:-}" ld.lld)"; do
			command -v "$tool" >/dev/null || die "$1 was built with $tool, which is missing now: install it again"
		done
		check_libclang
		return
	fi
	want=$(config_value "$config" CONFIG_RUSTC_VERSION_TEXT)
	for candidate in ${RUSTC:+"$RUSTC"} /usr/bin/rustc $(type -ap rustc); do
		if [ "$("$candidate" --version 2>/dev/null)" = "$want" ]; then
			use_rustc "$candidate"
			break
		fi
		[ -z "${RUSTC:-}" ] || break
	done
	if [ -z "${RUSTDOC:-}" ]; then
		die "$1 was built with '$want', which ${RUSTC:-no rustc here} is not: install that one and name it with RUSTC="
	fi
	LLVM=$llvm
	if [ -z "$LLVM" ] && grep -qx CONFIG_CC_IS_CLANG=y "$config"; then
		major=$(($(config_value "$config" CONFIG_CLANG_VERSION) / 10000))
		if llvm_complete "-$major"; then
			LLVM=-$major
		elif llvm_complete 1 && [[ $(clang -dumpversion) == "$major".* ]]; then
			LLVM=1
		else
			die "$1 was built with clang $major: apt-get install clang-$major lld-$major llvm-$major," \
				"or name it with LLVM="
		fi
	fi
	[ -z "$LLVM" ] || find_libclang || true
	[ -z "${LIBCLANG_PATH:-}" ] || export LIBCLANG_PATH
	find_bindgen || die "bindgen of at least $BINDGEN_MIN is missing: install it, or cargo to build it"
	check_libclang
}
