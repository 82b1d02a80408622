#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-all.sh: the boots of set 'all' in qemu/jobs, then every mutant

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/sums.sh
source scripts/lib/sums.sh

sum_of "the boots" scripts/test.sh all
sum_of "the mutants" scripts/mutants.sh
closing
