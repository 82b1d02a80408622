#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh [all]: removes what was built; with 'all' also the results of runs and
# the cache with the kernels and their source

source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

rm -rf "$ROOT/build" "$ROOT/rust-project.json" "$ROOT/host/target"
# The products of 'make -C $KDIR M=$PWD'. Its target clean would need that KDIR, which may not exist any more.
rm -f "$ROOT"/{.module-common.o,.Module.symvers.cmd,.modules.order.cmd,..module-common.o.cmd} \
	"$ROOT"/{Module.symvers,modules.order}
find "$ROOT/rust" -type f \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' \
	-o -name '.*.cmd' -o -name '*.rmeta' -o -name '*.a' -o -name modules.order \
	-o -name 'bindings_generated.rs*' -o -name '.*.d' -o -name '*.s' -o -name '*.ll' \
	-o -name '.tmp_*' \) -delete
find "$ROOT/qemu" -name __pycache__ -prune -exec rm -rf {} +
[ "${1:-}" = all ] || exit 0
say "removing $ROOT/out and $CACHE"
rm -rf "$ROOT/out" "$CACHE"
