# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# No suite: from here on CPU 0 is busy, so that its clock ticks and tests rather go to another CPU,
# and waits for an expedited grace period every second, as a mount that goes away does. A CPU that
# does not answer any more is reported for it.

mkdir -p /tmp/witness
(
	while sleep 1; do
		mount -t tmpfs none /tmp/witness && umount /tmp/witness
	done
) &
taskset -c 0 sh -c 'while true; do :; done' &
