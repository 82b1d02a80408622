# SPDX-License-Identifier: GPL-2.0
#
# Debian's own kernels, as packaged: a build tree that matches the vmlinuz, built
# with Debian's compilers in a root of their release.

DEBIAN_FLAVOURS="cloud-amd64 amd64 rt-amd64"
# Packages to build modules there, besides the dependencies of linux-headers-*.
DEBIAN_TOOLS=(make gcc-14 rustc rust-src bindgen pahole kmod libelf-dev libssl-dev flex bison bc perl openssl
	xz-utils python3-minimal)
# Increment it when the root or the tree is made in another way.
DEBIAN_RECIPE=1
BPFTRACE_ROOT=$CACHE/debian/bpftrace-$DEBIAN_SUITE

# stock_scenario NAME: whether it boots a packaged kernel
stock_scenario()
{
	grep -q '^FLAVOUR=' "$CONFIGS/$1" 2>/dev/null
}

# can_stock: whether this machine can install Debian's packages in a root of their own
can_stock()
{
	local user=()

	[ "$(host_arch)" = x86_64 ] && command -v apt-get >/dev/null &&
		[ -e "$KEYRING" ] || return
	if [ "$(id -u)" -ne 0 ]; then
		user=(--map-root-user)
		command -v newuidmap >/dev/null && grep -q "^$(id -un):" /etc/subuid || return
	fi
	unshare "${user[@]}" --mount true 2>/dev/null
}

# in_root ROOT COMMAND...: runs it as root there, with this tree and the cache at the same paths
in_root()
{
	local root=$1 user=()

	shift
	[ "$(id -u)" -eq 0 ] || user=(--map-root-user)
	# shellcheck disable=SC2016,SC2153 # for the shell that is started; common.sh has ROOT
	unshare "${user[@]}" --mount --propagation private bash -c '
		set -e
		root=$1 tree=$2 cache=$3
		shift 3
		for dir in "$cache" "$tree"; do
			mkdir -p "$root$dir"
			mount --bind "$dir" "$root$dir"
		done
		mount --rbind /proc "$root/proc"
		mount --rbind /dev "$root/dev"
		exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
			"$@"' - "$root" "$ROOT" "$CACHE" "$@"
}

# bootstrap TARGET "SUITE..." ARGUMENT...: unpacks packages of suites of the archive in PRIVATE_URI
bootstrap()
{
	local mode=root suite sources=()

	[ "$(id -u)" -eq 0 ] || mode=unshare
	for suite in $2; do
		sources+=("deb [signed-by=$KEYRING] $PRIVATE_URI $suite main")
	done
	mmdebstrap --mode="$mode" --format=tar --aptopt='APT::Install-Recommends "false"' "${@:3}" \
		"$DEBIAN_SUITE" "$1" "${sources[@]}"
}

# make_root DIRECTORY: unpacks a root with DEBIAN_TOOLS
make_root()
{
	mkdir -p "$1"
	# Unpacked as this user: a user namespace has no other.
	bootstrap - "$DEBIAN_SUITE $KERNEL_SUITE" --variant=essential --dpkgopt=force-unsafe-io \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--include="apt,$(IFS=,; echo "${DEBIAN_TOOLS[*]}")" |
		tar -x --no-same-owner --exclude='./dev/*' -C "$1"
}

# debian_root: sets DEBIAN_ROOT, a root with Debian's compilers
debian_root()
{
	local key

	key=$(printf '%s\n' "$DEBIAN_RECIPE" "$KERNEL_SUITE" "${DEBIAN_TOOLS[@]}" | sha256sum | cut -c1-12)
	DEBIAN_ROOT=$CACHE/debian/root-$key
	[ ! -e "$DEBIAN_ROOT.complete" ] || return 0
	lock "$DEBIAN_ROOT.lock" "Debian's compilers"
	[ ! -e "$DEBIAN_ROOT.complete" ] || return 0
	private_apt "$DEBIAN_SUITE" amd64 ||
		die "no archive that apt uses has $DEBIAN_SUITE, whose compilers Debian's kernels are built with"
	rm -rf "$DEBIAN_ROOT.part"
	progress "installing Debian's compilers in a root of their own" "$CACHE/log/debian-root.log" 0 \
		make_root "$DEBIAN_ROOT.part" ||
		die "mmdebstrap failed: check the network, and that there are 3 GB of room under $CACHE"
	rm -rf "$DEBIAN_ROOT"
	mv "$DEBIAN_ROOT.part" "$DEBIAN_ROOT"
	touch "$DEBIAN_ROOT.complete"
}

# debian_bpftrace: fills BPFTRACE_ROOT with bpftrace and its libraries
debian_bpftrace()
{
	[ ! -e "$BPFTRACE_ROOT.complete" ] || return 0
	lock "$BPFTRACE_ROOT.lock" "Debian's bpftrace"
	[ ! -e "$BPFTRACE_ROOT.complete" ] || return 0
	private_apt "$DEBIAN_SUITE" amd64 || die "no archive that apt uses has $DEBIAN_SUITE, whose bpftrace is needed"
	rm -rf "$BPFTRACE_ROOT"
	mkdir -p "$BPFTRACE_ROOT"
	progress "fetching Debian's bpftrace" "$CACHE/log/debian-bpftrace.log" 0 \
		bootstrap "$BPFTRACE_ROOT/all.tar" "$DEBIAN_SUITE" --variant=extract --include=bpftrace ||
		die "mmdebstrap failed: check the network, and that there is 1 GB of room under $CACHE"
	tar -x --no-same-owner -C "$BPFTRACE_ROOT" -f "$BPFTRACE_ROOT/all.tar" --wildcards \
		'./usr/bin/bpftrace' './usr/lib/x86_64-linux-gnu/*.so*' './usr/lib/llvm-*/lib/*.so*' './usr/lib64/*'
	rm -f "$BPFTRACE_ROOT/all.tar"
	touch "$BPFTRACE_ROOT.complete"
}

# debian_packages FLAVOUR DIRECTORY: unpacks the kernel, its modules and headers; sets DEBIAN_RELEASE
debian_packages()
{
	local flavour=$1 dir=$2 deb name log=$CACHE/log/debian-packages.log
	local -a names

	rm -rf "$dir"
	mkdir -p "$dir"
	name=$("${PRIVATE_APT_CACHE[@]}" pkgnames linux-headers- |
		grep -x "linux-headers-[0-9][0-9.]*+[a-z0-9.]*-$flavour" | sort -V | tail -n1) || true
	[ -n "$name" ] || die "$KERNEL_SUITE has no kernel headers of flavour $flavour"
	DEBIAN_RELEASE=${name#linux-headers-}
	names=("linux-headers-$DEBIAN_RELEASE" "linux-binary-$DEBIAN_RELEASE" "linux-modules-$DEBIAN_RELEASE")
	for name in "${names[@]}"; do
		deb=$(private_download "$name" "$CACHE/download") ||
			die "$name can't be downloaded: check the network and try again"
		dpkg-deb -x "$deb" "$dir" >"$log" 2>&1 || die "$deb can't be unpacked: is there room under $CACHE?"
		rm -f "$deb"
	done
}

# debian_kernel NAME: sets KDIR_OF_SCENARIO, the build tree of a packaged kernel
debian_kernel()
{
	local flavour=${FLAVOUR:-$(sed -n 's/^FLAVOUR=//p' "$CONFIGS/$1")} dir packages version

	[[ " $DEBIAN_FLAVOURS " == *" $flavour "* ]] ||
		die "FLAVOUR=$flavour: Debian's kernels are $DEBIAN_FLAVOURS"
	kernel_source
	[ -z "${KSRC:-}" ] || die "KSRC= is not for $1, which boots a packaged kernel"
	debian_root
	# The name of the source's folder is its Debian version.
	version=$(basename "$KERNEL_SOURCE")
	dir=$CACHE/kernel/$1-$flavour-${version#linux-}-$DEBIAN_RECIPE
	# shellcheck disable=SC2034 # for the caller
	KDIR_OF_SCENARIO=$dir
	[ ! -e "$dir/rcu_ptr.complete" ] || return 0
	lock "$dir.lock" "the kernel of $1"
	[ ! -e "$dir/rcu_ptr.complete" ] || return 0
	private_apt "$KERNEL_SUITE" amd64 || die "no archive that apt uses has $KERNEL_SUITE"
	packages=$CACHE/debian/packages-$flavour
	debian_packages "$flavour" "$packages"
	rm -rf "$dir"
	mkdir -p "$dir"
	progress "preparing a build tree for Debian's $DEBIAN_RELEASE" "$CACHE/log/kernel-$1.log" 0 \
		in_root "$DEBIAN_ROOT" "$ROOT/scripts/stock-tree.sh" "$KERNEL_SOURCE" \
		"$packages/usr/src/linux-headers-$DEBIAN_RELEASE" "$dir" ||
		die "the build tree can't be prepared; if the packages are of another version than" \
			"$CACHE/source/current, remove that and try again"
	# The paths at which the runner expects the kernel and the modules that plans load.
	mkdir -p "$dir/arch/x86/boot" "$dir/stock"
	mv "$packages/usr/lib/modules/$DEBIAN_RELEASE/vmlinuz" "$dir/arch/x86/boot/bzImage"
	rm -rf "$dir/stock"
	mv "$packages/usr/lib/modules/$DEBIAN_RELEASE" "$dir/stock"
	rm -rf "$packages"
	echo "$DEBIAN_ROOT" >"$dir/build-root"
	touch "$dir/rcu_ptr.complete"
}
