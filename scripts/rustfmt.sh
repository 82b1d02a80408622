#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# rustfmt.sh [--check]: formats the Rust code as the kernel's is

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

need build
mapfile -t files < <(find "$ROOT/rust" "$ROOT/host" -name '*.rs' -not -path '*/target/*' \
	-not -name 'bindings_generated.rs' | sort)
[ ${#files[@]} -gt 0 ] || die "there are no Rust files under $ROOT/rust"
exec "$RUSTFMT" "$@" --edition 2021 --config-path "$ROOT/.rustfmt.toml" "${files[@]}"
