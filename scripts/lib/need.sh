# SPDX-License-Identifier: GPL-2.0
#
# Checks and installs what the machine needs.

# NEED,... KIND OPERAND PACKAGE
#
# Needs: modules; build (a kernel), tree (a build tree for a packaged kernel), stock (Debian's kernel), versions
# (of symbols, CONFIG_MODVERSIONS); x86_64, arm64 (guests); check, bench, replay (of these commands).
REQUIREMENTS='
modules,tree program make make
modules program gcc gcc
modules program python3 python3
modules program flock util-linux
build,tree program flex flex
build,tree program bison bison
build,tree program bc bc
build,tree program perl perl
build,tree,stock program xz xz-utils
build,tree header libelf.h libelf-dev
build,tree header openssl/opensslv.h libssl-dev
tree program openssl openssl
tree program python3 python3-minimal
versions header elfutils/libdw.h libdw-dev
build file /etc/ssl/certs/ca-certificates.crt ca-certificates
stock program mmdebstrap mmdebstrap
stock program unshare util-linux
stock program dpkg-deb dpkg
x86_64 program qemu-system-x86_64 qemu-system-x86
arm64 program qemu-system-aarch64 qemu-system-arm
x86_64,arm64,check program cpio cpio
replay program gdb-multiarch gdb-multiarch
bench file /usr/lib/python3/dist-packages/matplotlib python3-matplotlib
check program shellcheck shellcheck
check program pyflakes3 pyflakes3
check program git git
'

# have KIND OPERAND
have()
{
	case $1 in
	program) PATH=$PATH:/usr/sbin:/sbin command -v "$2" >/dev/null ;;
	file) [ -e "$2" ] ;;
	header) [ -n "$(find /usr/include /usr/include/*/"${2%/*}" /usr/local/include -maxdepth 2 \
		-path "*/$2" -print -quit 2>/dev/null)" ] ;;
	esac
}

# rust_packages: prints the first set that apt has and that is new enough
rust_packages()
{
	local set version

	for set in "${RUST_PACKAGES[@]}"; do
		version=$(apt_candidate "${set%% *}")
		if [ -n "$version" ] && at_least "${version%%+*}" "$RUSTC_MIN"; then
			echo "$set"
			return
		fi
	done
	return 1
}

# llvm_packages [MAJOR]: prints those of that major version if apt has it, else of the newest
llvm_packages()
{
	local major

	for major in ${1:+"$1"} $(seq "$CLANG_MAX" -1 "$CLANG_MIN"); do
		if [ -n "$(apt_candidate "clang-$major")" ]; then
			echo "clang-$major lld-$major llvm-$major libclang1-$major"
			return
		fi
	done
	return 1
}

# packaged_llvm_major PACKAGE: prints the major version of the LLVM that a packaged rustc uses
packaged_llvm_major()
{
	apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		--no-replaces --no-enhances "$1" 2>/dev/null |
		sed -n 's/.*Depends: libllvm\([0-9]*\).*/\1/p' | head -n1
}

# missing NEED...: sets MISSING (packages) and WHY (a line for each)
missing()
{
	local needs kind operand package packages need major=

	MISSING=() WHY=()
	while read -r needs kind operand package; do
		for need; do
			if [[ ,$needs, == *,$need,* ]] && ! have "$kind" "$operand"; then
				MISSING+=("$package")
				WHY+=("$operand is missing: apt-get install $package")
				break
			fi
		done
	done <<<"$(grep . <<<"$REQUIREMENTS")"
	[[ " $* " == *" build "* ]] || return 0
	if find_rustc; then
		major=$(rustc_llvm_major "$RUSTC")
		[ -x "$RUSTFMT" ] || missing_of_rust rustfmt rustfmt-web
		[ -x "$CARGO" ] || missing_of_rust cargo cargo-web
		if [[ " $* " == *" check "* ]] && [ ! -x "$CLIPPY_DRIVER" ]; then
			missing_of_rust rust-clippy rust-web-clippy
		fi
	else
		WHY+=("rustc $RUSTC_MIN or newer with its library source is needed" ${RUST_REASONS[@]+"${RUST_REASONS[@]}"})
		if command -v apt-cache >/dev/null && packages=$(rust_packages); then
			add_packages "$packages" "no complete rustc"
			major=$(packaged_llvm_major "${packages%% *}")
		else
			WHY+=("install one with its source, from the distribution or with: rustup component add rust-src")
			HOPELESS=y
		fi
	fi
	if [ -z "${RUSTC:-}" ] && [ -z "${LLVM:-}" ] || ! find_llvm; then
		if command -v apt-cache >/dev/null && packages=$(llvm_packages "$major"); then
			add_packages "$packages" "no complete LLVM"
		else
			WHY+=("no complete LLVM of at least $CLANG_MIN (clang, lld, llvm): install one, or name it with LLVM=")
			HOPELESS=y
		fi
	elif ! find_libclang; then
		major=$("$(llvm_tool "$LLVM" clang)" -dumpversion)
		MISSING+=("libclang1-${major%%.*}")
		WHY+=("libclang for bindgen is missing: apt-get install libclang1-${major%%.*}")
	fi
}

# add_packages "PACKAGE..." WHY
add_packages()
{
	local names

	read -ra names <<<"$1"
	MISSING+=("${names[@]}")
	WHY+=("$2: apt-get install $1")
}

# missing_of_rust PLAIN WEB: adds a missing tool of the rustc that was found
missing_of_rust()
{
	local name=$1

	if [ "$RUSTC" != /usr/bin/rustc ]; then
		WHY+=("$(basename "$1") for $RUSTC is missing: rustup component add ${1#rust-}")
		HOPELESS=y
		return
	fi
	dpkg-query -W rustc-web >/dev/null 2>&1 && name=$2
	add_packages "$name" "$1 is missing"
}

# need NEED...: installs what is missing, and chooses the toolchain
need()
{
	local given_rustc=${RUSTC:-} given_llvm=${LLVM:-} round

	[ -n "$*" ] || set -- build x86_64 arm64 check
	set -- modules "$@"
	for round in 1 2 3; do
		RUSTC=$given_rustc LLVM=$given_llvm HOPELESS=
		missing "$@"
		[ ${#WHY[@]} -gt 0 ] || break
		if [ "$round" = 1 ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
			# Without lists no package is available.
			if [ -z "$(apt_candidate gcc)" ]; then
				apt_update
				continue
			fi
		fi
		printf '%s\n' "${WHY[@]}" | sed 's/^/rcu_ptr:   /' >&2
		if [ -n "$HOPELESS" ]; then
			die "set-up is not complete: fix the problems above"
		elif ! command -v apt-get >/dev/null; then
			die "set-up is not complete: install the above with this system's package manager"
		elif [ "$(id -u)" -ne 0 ]; then
			die "set-up is not complete: sudo apt-get update && sudo ${APT_INSTALL[*]} ${MISSING[*]}"
		elif [ "$round" = 3 ]; then
			die "still missing after the installation: fix the problems above"
		fi
		apt_install "${MISSING[@]}"
	done
	[ -z "${LIBCLANG_PATH:-}" ] || export LIBCLANG_PATH
	[[ " $* " == *" build "* ]] || return 0
	find_bindgen || die "bindgen of at least $BINDGEN_MIN is missing: install it, or cargo to build it"
	check_libclang
}
