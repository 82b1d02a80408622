# SPDX-License-Identifier: GPL-2.0
"""Everything that is derived from a seed: the machine, the core's parameters, what rcu_ptr_torture.ko does, and
what shells do meanwhile. Increment VERSION when the meaning of seeds changes."""

VERSION = 2
MASK = (1 << 64) - 1
# Guest milliseconds of torture, and of the long form.
MSECS = 300
LONG = 6000


class Dice:
    """Random numbers: splitmix64, as in rust/rcu_ptr_torture/random.rs; independent of Python's version."""

    def __init__(self, seed):
        self._state = (seed * 0x9E3779B97F4A7C15 + VERSION) & MASK

    def roll(self):
        """64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & MASK
        x = self._state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)

    def below(self, n):
        return self.roll() % n

    def of(self, *choices):
        return choices[self.below(len(choices))]


# What a shell does while the module runs; N is another number each time.
ACTIONS = (
    "echo {n} >/sys/module/rcu_ptr/parameters/rcu_min_cached_objs",
    "echo {few} >/sys/module/rcu_ptr/parameters/drain_interval_msec",
    "echo 1 >/sys/kernel/debug/rcu_ptr/barrier",
    "for s in /sys/kernel/debug/shrinker/rcu_ptr*; do echo '0 0 {many}' >$s/scan; done",
    "cat /sys/kernel/debug/rcu_ptr/stats /sys/kernel/debug/rcu_ptr/caches >/dev/null",
    "insmod /modules/rcu_ptr_client_c.ko objects={many}; rmmod rcu_ptr_client_c",
    "insmod /modules/rcu_ptr_client_rs.ko objects={many}; rmmod rcu_ptr_client_rs",
    "echo 1 >/sys/kernel/tracing/events/rcu_ptr/enable; usleep {few}000; "
    "echo 0 >/sys/kernel/tracing/events/rcu_ptr/enable",
)

# Users of kfree_rcu() in the kernel, whose calls rcu_ptr_takeover.ko redirects.
CALLERS = (
    "mkdir -p tree/{n}/a/b; echo {n} >tree/{n}/a/b/c; rm -rf tree",
    "mount -t tmpfs none mounted; echo {n} >mounted/{n}; umount mounted",
    "mount -t cgroup2 none mounted; mkdir mounted/sim{n}; rmdir mounted/sim{n}; umount mounted",
    "(: | :); (: | : | :); (: | :)",
    "unshare -m true; unshare -u true; unshare -i true",
    "unshare -n ip link set lo up",
    "insmod /modules/rcu_ptr_kernel_client.ko rounds={some} objects={many}; rmmod rcu_ptr_kernel_client",
    "insmod /modules/rcu_ptr_kernel_client.ko rounds={some} objects={few}; rmmod rcu_ptr_kernel_client",
)


class Takeover:
    """Loading and unloading of rcu_ptr_takeover.ko, and callers of the kernel's functions meanwhile."""

    def __init__(self, seed):
        # A sequence of its own: the rest of a seed is the same without takeover.
        dice = Dice(MASK ^ seed)
        self.used = dice.of(True, True, False)
        self.early = dice.of(True, False)
        self._turns = []
        for _ in range(1 + dice.below(4)):
            self._turns += [f"usleep {1000 * dice.below(60)}",
                            f"insmod /modules/rcu_ptr_takeover.ko jump={dice.of('y', 'y', 'n')}",
                            f"usleep {dice.of(100, 1000, 10000, 10000) * dice.below(40)}", "rmmod rcu_ptr_takeover"]
        if self.early:
            del self._turns[0]
        self._callers = [CALLERS[dice.below(len(CALLERS))].format(
            n=dice.below(65), some=1 + dice.below(4), few=1 + dice.below(50), many=1 + dice.below(1000))
            for _ in range(1 + dice.below(12))]

    @property
    def script(self):
        """Functions of the shell; an early module is loaded before the torture begins."""
        if not self.used:
            return ""
        first, turns = (self._turns[:1], self._turns[1:]) if self.early else (["true"], self._turns)
        return "TAKEOVER=y\n" + "".join(
            f"{name}() {{\n" + "".join(f"\tover || {{ {line}; }}\n" for line in lines) + "}\n"
            for name, lines in (("before", first), ("turns", turns), ("callers", self._callers)))


class Case:
    def __init__(self, seed, engine=None, slow=False, long=False, takeover=False):
        """long: a longer and denser run; takeover: the kernel supports rcu_ptr_takeover.ko."""
        self.seed = seed
        self.long = long
        dice = Dice(seed)
        chosen = dice.of("lockless", "lockless", "rfc")
        self.engine = engine or chosen
        self.smp = dice.of(2, 2, 2, 3, 4)
        self.mem = dice.of(384, 512, 1024) * (3 if slow else 1)
        self.core = {
            "engine": self.engine,
            "drain_interval_msec": dice.of(1, 2, 5, 10, 30, 100),
            "rcu_min_cached_objs": dice.of(0, 1, 5, 5, 64),
            "rcu_delay_page_cache_fill_msec": dice.of(0, 10, 5000),
        }
        self.torture = {
            "seed": seed,
            "msecs": (LONG if long else MSECS) * (4 if slow else 1),
            "writers": 1 + dice.below(4),
            "readers": 1 + dice.below(3),
            "urgent": dice.below(3),
            "slots": dice.of(8, 64, 256, 2048),
            "sources": dice.of(127, 127, 127, 1 + dice.below(127)),
            "large": dice.of(4096, 16384, 65536, 100000),
            "span_us": dice.of(50, 500, 3000, 20000),
            "timer_us": dice.of(10, 30, 50, 100, 400),
            "nmis": dice.of(0, 2, 4, 8, 16, 24),
            "hotplug_ms": dice.of(0, 0, 10, 30),
            "disturb_ms": dice.of(2, 5, 20),
            "fail": dice.of(0, 0, 50, 1000),
            "squeeze": dice.of(0, 0, self.mem * 256),
            "stutter_ms": dice.of(0, 5, 20),
        }
        if long:
            # Readers spin; the longer they do, the fewer objects there are.
            self.torture["writers"] += 3
            self.torture["span_us"] = min(self.torture["span_us"], 500)
            self.torture["timer_us"] = min(self.torture["timer_us"], 50)
            self.torture["nmis"] = max(self.torture["nmis"], 16)
            self.torture["records"] = 1 << 18
        self.actions = []
        for _ in range(dice.below(8)):
            text = ACTIONS[dice.below(len(ACTIONS))].format(
                n=dice.below(65), few=1 + dice.below(50), many=1 + dice.below(2000))
            self.actions += [f"usleep {1000 * (1 + dice.below(40))}", text]
        self.takeover = Takeover(seed).script if takeover else ""
        if self.takeover and not long:
            # Restoring the functions takes longer than an ordinary run.
            self.torture["msecs"] *= 2

    def use(self, engine):
        """Overrides the engine of the seed."""
        self.engine = self.core["engine"] = engine

    @property
    def plan(self):
        core = " ".join(f"{key}={value}" for key, value in self.core.items())
        return f"insmod rcu_ptr.ko {core}\nsh sim.sh\nrmmod rcu_ptr\n"

    @property
    def script(self):
        """The file for step 'sh sim.sh': the parameters, and what shells do meanwhile."""
        words = " ".join(f"{key}={value}" for key, value in self.torture.items())
        return f'TORTURE="{words}"\nmeanwhile() {{\n\t:\n' + \
            "".join(f"\t{action}\n" for action in self.actions) + "}\n" + self.takeover

    def describe(self):
        what = self.torture
        return f"engine {self.engine}, {self.smp} CPUs, {self.mem} MB, " \
               f"{what['writers']}+{what['readers']}+{what['urgent']} threads, " \
               f"drain {self.core['drain_interval_msec']} ms" + \
               (", hotplug" if what["hotplug_ms"] else "") + (", takeover" if self.takeover else "")
