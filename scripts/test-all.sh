#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-all.sh: the boots of set 'all' in qemu/jobs, then every mutant

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

sum_of "the boots" "$ROOT/scripts/test.sh" all
sum_of "the mutants" "$ROOT/scripts/mutants.sh"
closing
