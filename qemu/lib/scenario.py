# SPDX-License-Identifier: GPL-2.0
"""A scenario: a kernel build, modules built against it, and how to boot it."""

import copy
import pathlib
import struct

from .base import SetupError, read
from .plan import CONFIGS, UP

# What NAME.qemu may hold: qemu/configs/README.
KEYS = ("machine", "cpu", "thread", "icount", "smp", "mem", "timeout_boot", "timeout_run", "timeout_test", "args",
        "boot")
NUMBERS = ("smp", "mem", "timeout_boot", "timeout_run", "timeout_test")
IMAGES = {"x86_64": "arch/x86/boot/bzImage", "arm64": "arch/arm64/boot/Image"}
# The kernel's own tests, in a build that has them.
OWN_TESTS = ("kernel/torture.ko", "kernel/rcu/rcuscale.ko", "kernel/rcu/rcutorture.ko",
             "lib/test_vmalloc.ko", "lib/tests/slub_kunit.ko")
# The factor by which sanitizers slow a kernel down.
SLOW = 8
# With -icount nothing may differ from boot to boot: the date, random numbers, addresses.
EXACT = "-seed 1 -rtc base=2026-01-01,clock=vm"
EXACT_BOOT = ("nokaslr", "norandmaps")
# The TSC is exact: the kernel need not calibrate or check it; and lock prefixes are kept with one CPU.
EXACT_BOOT_X86 = ("tsc=reliable", "tsc_early_khz=1000000", "noreplace-smp")
# As much of ELF as distinguishes a busybox that runs in the guest, for which binutils need not be there.
ELF_MACHINE = {"x86_64": 62, "arm64": 183}
PT_INTERP = 3


def parse_settings(text, name):
    """The keys and values of NAME.qemu, with numbers as ints."""
    settings = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        where = f"{name}:{number}"
        if not equals or key not in KEYS:
            known = ", ".join(KEYS)
            raise SetupError(f"{where}: unknown setting '{line}'; there are: {known}")
        if key in NUMBERS:
            if not value.isdigit() or int(value) == 0:
                raise SetupError(f"{where}: {key} is a whole number above 0, not '{value}'")
            value = int(value)
        if key == "thread" and value not in ("multi", "single"):
            raise SetupError(f"{where}: thread is multi or single, not '{value}'")
        settings[key] = value
    return settings


def why_not_static(data, arch):
    """Returns None for a static 64-bit program of this architecture, else the reason."""
    if data[:4] != b"\x7fELF" or data[4] != 2:
        return "is not a 64-bit ELF program"
    if struct.unpack_from("<H", data, 18)[0] != ELF_MACHINE[arch]:
        return f"is not built for {arch}"
    phoff, = struct.unpack_from("<Q", data, 32)
    phentsize, phnum = struct.unpack_from("<HH", data, 54)
    for i in range(phnum):
        if struct.unpack_from("<I", data, phoff + i * phentsize)[0] == PT_INTERP:
            return "is dynamically linked"
    return None


def _options(path):
    """The options set in a .config, by their names without CONFIG_."""
    pairs = (line[len("CONFIG_"):].split("=", 1) for line in read(path).splitlines()
             if line.startswith("CONFIG_") and "=" in line)
    return {name: value.strip('"') for name, value in pairs}


class Scenario:
    """One NAME:KDIR:MODDIR[:BUSYBOX]."""

    def __init__(self, spec, configs=CONFIGS):
        fields = spec.split(":")
        if len(fields) not in (3, 4) or not all(fields):
            raise SetupError(f"--scenario {spec}: write NAME:KDIR:MODDIR or NAME:KDIR:MODDIR:BUSYBOX")
        self.name = fields[0]
        self.kdir = pathlib.Path(fields[1]).resolve()
        self.moddir = pathlib.Path(fields[2]).resolve()
        self._find_kernel()
        self.busybox = pathlib.Path(fields[3] if len(fields) == 4 else "/bin/busybox")
        self._check_busybox()
        own = [self.kdir / name for name in OWN_TESTS]
        self._modules = {path.name: path for path in [*(path for path in own if path.exists()),
                                                      *sorted(self.moddir.rglob("*.ko"))]}
        qemu = configs / f"{self.name}.qemu"
        self.settings = self._defaults() | (parse_settings(read(qemu), qemu) if qemu.exists() else {})
        self.boot = self.settings.pop("boot", "").split()

    def _find_kernel(self):
        remedy = f"build the kernel of scenario {self.name} first ('make kernel' does)"
        config = self.kdir / ".config"
        release = self.kdir / "include/config/kernel.release"
        for path in (config, release):
            if not path.exists():
                raise SetupError(f"{self.name}: {path} is missing: {remedy}")
        self.options = _options(config)
        self.release = read(release).strip()
        self.arch = "arm64" if "ARM64" in self.options else "x86_64"
        # Whether KASAN is on, under which everything is slow.
        self.slow = "KASAN" in self.options
        # Whether it is a distribution's kernel: without sweeps and KUnit.
        self.stock = (self.kdir / "stock").is_dir()
        self.image = self.kdir / IMAGES[self.arch]
        if not self.image.exists():
            raise SetupError(f"{self.name}: {self.image} is missing: {remedy}")

    def _check_busybox(self):
        remedy = "install the package busybox-static, or name one of the guest's architecture in the " \
               "fourth field of --scenario"
        if not self.busybox.exists():
            raise SetupError(f"{self.name}: {self.busybox} is missing: {remedy}")
        reason = why_not_static(self.busybox.read_bytes(), self.arch)
        if reason:
            raise SetupError(f"{self.name}: {self.busybox} {reason}: {remedy}")

    def _defaults(self):
        """Settings derived from the configuration; NAME.qemu overrides them."""
        on = self.options
        cpu = "max"
        if self.arch == "arm64":
            cpu = "max,pauth-impdef=on"
        elif "KASAN" in on:
            # With 5-level paging KASAN reports a wild access during boot.
            cpu = "max,la57=off"
        # Text that is patched at run time is not coherent between TCG threads on x86.
        patches = self.arch == "x86_64" and ("JUMP_LABEL" in on or "FUNCTION_TRACER" in on)
        return {
            "machine": "virt,gic-version=3" if self.arch == "arm64" else "pc",
            "cpu": cpu,
            "thread": "single" if patches else "multi",
            "smp": 2,
            "mem": 2048 if self.slow else 1024,
            "timeout_boot": 400 if self.slow else 120,
            # All CPUs share one thread there.
            "timeout_run": (180 if patches else 60) * (SLOW if self.slow else 1),
            # Sweeps of every instruction take minutes.
            "timeout_test": 2100 if self.slow else 1500,
        }

    @property
    def where(self):
        """The words that 'on' conditions are compared with."""
        return (self.name, self.arch) + ((UP,) if self.settings["smp"] == 1 else ())

    def adjusted(self, settings):
        """This scenario with other settings."""
        other = copy.copy(self)
        other.settings = {**self.settings, **settings}
        other.boot = [*self.boot, *settings.get("boot", "").split()]
        if "icount" in settings:
            how = other.settings
            how["thread"] = "single"
            how["args"] = f"{how.get('args', '')} {EXACT}".strip()
            other.boot += EXACT_BOOT
            if self.arch == "x86_64":
                # With a HPET the kernel does not trust its APIC timer under icount.
                how["machine"] = "pc,hpet=off"
                other.boot += EXACT_BOOT_X86
        return other

    def leave_out(self, plan):
        """Removes steps from a plan that this kernel can't do."""
        if "DEBUG_KMEMLEAK" not in self.options:
            plan.drop("kmemleak")

    def has(self, name):
        return name in self._modules

    def module(self, name):
        if name not in self._modules:
            raise SetupError(f"{self.name}: {name} is nowhere under {self.moddir}: build the modules "
                             f"for this kernel first ('make modules' does)")
        return self._modules[name]
