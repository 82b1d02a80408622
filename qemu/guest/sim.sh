# SPDX-License-Identifier: GPL-2.0
# A simulated run: rcu_ptr_torture.ko, and what the seed adds. /sim.case, written by qemu/lib/sim/case.py, defines
# TORTURE and meanwhile, and with rcu_ptr_takeover.ko also TAKEOVER, before, turns and callers.

# shellcheck source=/dev/null
. /sim.case

# Prints the addresses of a module's sections, for debuggers.
sections() {
	for section in .text .text.unlikely .init.text .data .bss .rodata; do
		file=/sys/module/$1/sections/$section
		[ ! -e "$file" ] || say "rcu_ptr_sim: section $1 $section $(cat "$file")"
	done
}

over() {
	[ -e /tmp/over ]
}

# again NAME: repeats a function until the torture is over
again() {
	until over; do
		"$1"
	done
}

sections rcu_ptr
beside=
if [ -n "${TAKEOVER:-}" ]; then
	mkdir -p mounted
	before
	sections rcu_ptr_takeover
	again turns >/dev/null 2>&1 &
	beside=$!
	again callers >/dev/null 2>&1 &
	beside="$beside $!"
	# The threads of the torture leave little time to others.
	# shellcheck disable=SC2086 # numbers
	renice -n -15 -p $beside
fi
# Its parameters are words.
# shellcheck disable=SC2086,SC2153,SC2154
insmod /modules/rcu_ptr_torture.ko $TORTURE &
torture=$!
# Its sections are in sysfs while it is being loaded.
tries=0
while [ ! -e /sys/module/rcu_ptr_torture/sections/.text ] && [ $tries -lt 50 ]; do
	usleep 1000
	tries=$((tries + 1))
done
sections rcu_ptr_torture
meanwhile >/dev/null 2>&1
wait $torture || exit
if [ -n "${TAKEOVER:-}" ]; then
	: >/tmp/over
	# shellcheck disable=SC2086 # numbers
	wait $beside
fi
for module in rcu_ptr_client_c rcu_ptr_client_rs rcu_ptr_kernel_client rcu_ptr_takeover; do
	unload $module
done
rmmod rcu_ptr_torture
