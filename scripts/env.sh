#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# env.sh [NEED...]: checks that everything is there, installs what is missing
#
# NEED: modules, build (kernels too), x86_64, arm64 (guests), check; default all.
# Packages are installed as root on Debian and Ubuntu only. Otherwise the command
# that installs them is printed, and it ends with 2.

# shellcheck source=scripts/lib/all.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

need "${@:-}"
[[ " ${*:-build} " != *" build "* ]] || say "toolchain: $(toolchain_words)"
