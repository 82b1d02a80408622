# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# A simulated run: rcu_ptr_torture.ko, and what the seed says beside it. /sim.case defines TORTURE and
# meanwhile; qemu/lib/sim/case.py writes it.

# shellcheck source=/dev/null
. /lib.sh
# shellcheck source=/dev/null
. /sim.case

# Where modules are, for debuggers.
sections() {
	for section in .text .text.unlikely .init.text .data .bss .rodata; do
		file=/sys/module/$1/sections/$section
		[ ! -e "$file" ] || say "rcu_ptr_sim: section $1 $section $(cat "$file")"
	done
}

sections rcu_ptr
# Its parameters are words.
# shellcheck disable=SC2086,SC2153,SC2154
insmod /modules/rcu_ptr_torture.ko $TORTURE &
torture=$!
# It is there while it is being loaded.
tries=0
while [ ! -e /sys/module/rcu_ptr_torture/sections/.text ] && [ $tries -lt 50 ]; do
	usleep 1000
	tries=$((tries + 1))
done
sections rcu_ptr_torture
meanwhile >/dev/null 2>&1
wait $torture || exit
for module in rcu_ptr_client_c rcu_ptr_client_rs; do
	unload $module
done
rmmod rcu_ptr_torture
