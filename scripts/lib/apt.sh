# SPDX-License-Identifier: GPL-2.0
#
# Packages: installs what is missing, and downloads from another Debian suite or
# architecture without changes to the system's configuration.

APT_INSTALL=(apt-get install -y --no-install-recommends --no-remove)
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# apt_candidate PACKAGE: prints the version that would be installed, or nothing
apt_candidate()
{
	apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2; exit }'
}

apt_update()
{
	progress "apt-get update" "$CACHE/log/apt-update.log" 0 apt-get update -q ||
		die "the package lists can't be fetched: check the network or the sources of apt, then try again"
}

# apt_install PACKAGE...: as root only
apt_install()
{
	local package again=

	for package; do
		[ -n "$(apt_candidate "$package")" ] || again=y
	done
	[ -z "$again" ] || apt_update
	say "installing: $*"
	export DEBIAN_FRONTEND=noninteractive
	! TAIL=0 progress "installing $# packages" "$CACHE/log/apt-install.log" 0 "${APT_INSTALL[@]}" "$@" || return 0
	if [ -z "$again" ]; then
		apt_update
		! TAIL=0 progress "installing $# packages with new lists" "$CACHE/log/apt-install-again.log" 0 \
			"${APT_INSTALL[@]}" "$@" || return 0
	fi
	apt_install_backports "$@" || die "install them by hand: ${APT_INSTALL[*]} $*"
}

# apt_install_backports PACKAGE...: tries backports, as the system may have packages from
# there, and others that match them are only there too
apt_install_backports()
{
	local dir=$CACHE/apt/backports suite uri log=$CACHE/log/apt-backports.log
	local -a options

	suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	[ -n "$suite" ] && [ -e "$KEYRING" ] || return 1
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	options=(-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache"
		-o "Dir::Etc::sourcelist=$dir/sources.list" -o "Dir::Etc::sourceparts=-"
		-o "APT::Sandbox::User=root")
	for uri in $(apt_archives); do
		printf "deb [signed-by=$KEYRING] $uri %s main\n" "$suite" "$suite-backports" >"$dir/sources.list"
		if progress "reading the package list of $suite-backports" "$log" 0 \
				apt-get -q "${options[@]}" -o APT::Update::Error-Mode=any update; then
			progress "installing $# packages from $suite-backports" "$log" 0 \
				"${APT_INSTALL[@]}" "${options[@]}" -t "$suite-backports" "$@"
			return
		fi
	done
	return 1
}

# apt_archives: prints the archives of the system's apt, without security archives
apt_archives()
{
	# shellcheck disable=SC2016 # apt expands these
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		grep -v security | sort -u || true
}

# private_apt SUITE ARCHITECTURE TEST-PACKAGE
#
# Prepares a separate apt with one suite, and sets PRIVATE_APT (apt-get), PRIVATE_APT_CACHE,
# and PRIVATE_URI to its archive. Fails if no archive has the suite.
private_apt()
{
	local suite=$1 arch=$2 dir=$CACHE/apt/$1-$2 log=$CACHE/log/apt-$1-$2.log

	command -v apt-get >/dev/null || return 1
	if [ ! -e "$KEYRING" ]; then
		say "$KEYRING is missing: apt-get install debian-archive-keyring"
		return 1
	fi
	# There may be no package lists yet.
	[ -n "$(apt_candidate gcc)" ] || [ "$(id -u)" -ne 0 ] || apt_update
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/preferences.d"
	cat >"$dir/apt.conf" <<-END
		Dir::State "$dir";
		Dir::State::lists "$dir/lists";
		Dir::State::status "/dev/null";
		Dir::Cache "$dir/cache";
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "$dir/preferences.d";
		APT::Architecture "$arch";
		APT::Architectures { "$arch"; };
		APT::Default-Release "";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Post-Invoke;
	END
	PRIVATE_APT=(apt-get -q -c "$dir/apt.conf")
	# shellcheck disable=SC2034 # for the caller
	PRIVATE_APT_CACHE=(apt-cache -c "$dir/apt.conf")
	for PRIVATE_URI in $(apt_archives); do
		echo "deb [signed-by=$KEYRING] $PRIVATE_URI $suite main" >"$dir/sources.list"
		if progress "reading the package list of $suite ($arch)" "$log" 0 \
				"${PRIVATE_APT[@]}" -o APT::Update::Error-Mode=any update; then
			return 0
		fi
	done
	return 1
}

# private_download PACKAGE DIRECTORY: prints the path of the .deb
private_download()
{
	local deb

	mkdir -p "$2"
	rm -f "$2/$1"_*.deb
	(
		cd "$2"
		progress "downloading $1" "$CACHE/log/download-$1.log" 0 "${PRIVATE_APT[@]}" download "$1"
	) || return 1
	deb=$(find "$2" -maxdepth 1 -name "$1_*.deb")
	[ -n "$deb" ] || return 1
	echo "$deb"
}
