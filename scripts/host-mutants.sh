#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# host-mutants.sh [ARGUMENT of cargo mutants...]: changes the algorithm files, one
# place at a time; names the changes that the host tests do not detect
#
# PROPTEST_CASES= 64 by default: more cases find more, and take longer. Results are
# in build/mutants.out.

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

command -v cargo-mutants >/dev/null || die "cargo-mutants is missing: cargo install --locked cargo-mutants"
find_rustc || die "no rustc can be used: scripts/build.sh env check"
[ -x "$CARGO" ] || die "cargo is missing: scripts/build.sh env check"

# It changes files below the workspace only, so the root of the copy is a workspace; and it skips what is cfg(test).
tree=$CACHE/host-mutants
lock "$CACHE/host-mutants.lock" "the mutants of the host tests"
rm -rf "$tree/host" "$tree/rust" "$ROOT/build/mutants.out"
mkdir -p "$tree/host" "$tree/rust" "$ROOT/build"
cp -r "$ROOT/host/algorithms" "$tree/host"
cp -r "$ROOT/rust/rcu_ptr" "$tree/rust"
cp "$ROOT/host/Cargo.lock" "$tree"
sed 's,"algorithms","host/algorithms",' "$ROOT/host/Cargo.toml" >"$tree/Cargo.toml"
sed -i 's/^#\[cfg(test)\]$/#[cfg(all(test))]/' "$tree/host/algorithms/src/lib.rs"

cd "$tree"
export RUSTC RUSTDOC PROPTEST_CASES=${PROPTEST_CASES:-64} PROPTEST_MAX_SHRINK_ITERS=0 RUST_BACKTRACE=0
export CARGO_TARGET_DIR=$tree/target CARGO_PROFILE_TEST_OPT_LEVEL=1
rc=0
"$CARGO" mutants --in-place --output "$ROOT/build" --exclude '*_tests.rs' --exclude '*_model.rs' \
	--exclude '*_geometry.rs' --exclude 'host/algorithms/src/[a-z]*.rs' \
	--cargo-arg=--locked --cargo-arg=--lib "$@" || rc=$?
# 2: some were missed; 3: some did not end.
[[ $rc == 0 || $rc == 2 || $rc == 3 ]] || die "cargo mutants ended with $rc"
missed=$ROOT/build/mutants.out/missed.txt
[ ! -e "$missed" ] || sed 's,host/algorithms/src/../../../,,' "$missed"
