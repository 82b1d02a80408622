# SPDX-License-Identifier: GPL-2.0
"""One boot of a seed, and its digest.

The guest's time is the number of instructions that it has executed, one vCPU runs at a time, and there is no
input from the host. So everything, including interrupts and the order of memory accesses of several CPUs, is
the same in each boot of the same files with the same command line.

There is one exception: QEMU's main thread wakes up for each timer and checks whether all vCPUs are idle. If the
host delays or preempts it, it checks while a vCPU executes, and time jumps by another amount. So both threads
share one CPU of the host, and the main thread has real-time priority: it always finishes before a vCPU
continues. That needs CAP_SYS_NICE.
"""

import copy
import hashlib
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import time

from .. import console, initramfs, machine, verdict
from ..base import llvm
from ..plan import Plan
from .shortcut import Shortcut, Stub

# The line in which the kernel states when and where it was built.
BANNER = re.compile(rb"^(?:\[[^\]]*\] ?)*Linux version .*$", re.M)
RESULT = re.compile(r"^rcu_ptr_torture: (seed=\d+ .*)$")
SECTION = re.compile(r"\brcu_ptr_sim: section (\S+) (\S+) (0x[0-9a-f]+)$")
MODULES = ("rcu_ptr.ko", "rcu_ptr_torture.ko", "rcu_ptr_client_c.ko", "rcu_ptr_client_rs.ko")
# Also in the guest where can_take_over().
TAKEOVER_MODULES = ("rcu_ptr_takeover.ko", "rcu_ptr_kernel_client.ko")
REDIRECTED = re.compile(r"^rcu_ptr_takeover: (\d+) objects were redirected")
CONSOLE = "console.log"
# The mark of rcu_ptr_torture.ko for a failure, and the interval of checks for it, in seconds.
SIGN = b"FAILURE!"
HASTE = 0.5
# For the whole boot, on a busy host.
SECONDS = 900
KERNEL = (
    # Addresses and interrupts follow from the seed alone.
    "hpet=disable", "norandmaps", "nokaslr", "random.trust_cpu=off",
    # Timers with a resolution of an instruction from the start.
    "tsc=reliable",
    # Time is counted in instructions: a CPU that executes none for so long hangs.
    "rcupdate.rcu_cpu_stall_timeout=10", "sysctl.kernel.panic_on_rcu_stall=1",
    "sysctl.kernel.hung_task_timeout_secs=60", "sysctl.kernel.hung_task_panic=1",
)
# The results of calibrations, which would take a tenth of the instructions of a boot.
KERNEL_OF = {"x86_64": ("lpj=4000000",)}


def _stripped(strip, path):
    """A module without debug information, which is large and contains paths of the host."""
    with tempfile.NamedTemporaryFile(suffix=".ko") as copy:
        argv = [strip, "--strip-debug", "-o", copy.name, str(path)]
        llvm(argv, path, "apt-get install llvm")
        return pathlib.Path(copy.name).read_bytes()


def can_take_over(scenario):
    """Whether rcu_ptr_takeover.ko can be loaded there."""
    return "DYNAMIC_FTRACE_WITH_ARGS" in scenario.options


class Result:
    """The result of one boot."""

    def __init__(self, case, data, judged, seconds):
        self.case = case
        self.data = data
        self.verdict = judged
        self.seconds = seconds
        texts = [line.text for line in console.lines(data)]
        self.lines = BANNER.sub(b"Linux version", data).split(b"\n")
        self.digest = hashlib.sha256(b"\n".join(self.lines)).hexdigest()[:16]
        self.sections = {}
        self.sums = {}
        self.redirected = 0
        for text in texts:
            section, result, redirected = SECTION.search(text), RESULT.match(text), REDIRECTED.match(text)
            if section:
                self.sections.setdefault(section.group(1), {})[section.group(2)] = section.group(3)
            elif result:
                self.sums = dict(word.partition("=")[::2] for word in result.group(1).split())
            elif redirected:
                self.redirected += int(redirected.group(1))

    @property
    def good(self):
        """Whether the boot passed, with a result of the module."""
        return self.verdict.state == "PASS" and bool(self.sums)

    def count(self, name):
        """A number of the module's result, 0 without a result."""
        return int(self.sums.get(name, 0))

    def what(self):
        """The first errors, a line each."""
        lines = []
        for case in self.verdict.leaves():
            if not case.passed():
                lines += [f"{case.name}: {text}" for text in case.log[:6]]
        if not lines and not self.sums:
            lines = ["rcu_ptr_torture.ko printed no result"]
        return lines[:12]

    def differs(self, other):
        """The first line in which another run of the same seed differs: (number, here, there)."""
        for number, (here, there) in enumerate(zip(self.lines, other.lines), 1):
            if here != there:
                return number, here.decode("utf-8", "replace"), there.decode("utf-8", "replace")
        if len(self.lines) != len(other.lines):
            return min(len(self.lines), len(other.lines)) + 1, "", "one of them goes on here"
        return None


class Booter:
    def __init__(self, scenario, detector, out, strip, modules=None):
        """strip: a program. modules: {name: path}, instead of the scenario's."""
        self.scenario = scenario
        self._detector = detector
        self._out = out
        self._running = set()
        self.stopped = False
        names = MODULES + (TAKEOVER_MODULES if can_take_over(scenario) else ())
        modules = modules or {name: scenario.module(name) for name in names}
        self.modules = {name: modules[name] for name in names}
        self.shortcut = Shortcut.of(scenario)
        # Copies: later builds must not change the runs of this object.
        self._contents = {name: _stripped(strip, path) for name, path in self.modules.items()}

    def _initrd(self, path, case):
        guest = initramfs.GUEST
        initramfs.pack(path, self.scenario, [
            ("init", (guest / "init").read_bytes(), 0o755), ("lib.sh", (guest / "lib.sh").read_bytes()),
            ("plan", case.plan.encode()), ("slow", b"%d\n" % self.scenario.slow),
            ("tests/sim.sh", (guest / "sim.sh").read_bytes()), ("sim.case", case.script.encode()),
            *((f"modules/{name}", content) for name, content in self._contents.items())])

    def command(self, case, initrd):
        scen = copy.copy(self.scenario)
        scen.settings = {**scen.settings, "thread": "single", "icount": "shift=0,sleep=off", "smp": case.smp,
                         "mem": case.mem}
        scen.boot = [*scen.boot, *KERNEL, *KERNEL_OF.get(scen.arch, ())]
        argv = machine.command(scen, "tcg", initrd)
        # A file accepts data at once; the guest would notice how fast a pipe is read.
        argv[argv.index("-serial") + 1] = f"file:{CONSOLE}"
        return [*argv, "-nodefaults", "-rtc", "clock=vm,base=2026-01-01", "-seed", str(case.seed)]

    def folder(self, case):
        folder = self._out / f"{self.scenario.name}-{case.engine}-{case.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def prepare(self, case):
        """Writes the files of a boot. Returns (argv, folder)."""
        folder = self.folder(case)
        initrd = folder / "initrd.cpio"
        self._initrd(initrd, case)
        # The same command line in every directory: the guest's work depends on its length.
        argv = self.command(case, "initrd.cpio")
        (folder / "qemu-cmd").write_text(shlex.join(argv) + "\n", encoding="utf-8")
        (folder / "case").write_text(case.plan + case.script, encoding="utf-8")
        return argv, folder

    @staticmethod
    def _in_order(cpu):
        """In the child that becomes QEMU: pins it to one CPU, and gives its main thread real-time priority, which
        other threads don't inherit."""
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0)) if cpu is None else cpu})
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        except PermissionError:
            # search.py reports this where it matters.
            pass

    def _wait(self, qemu, log, seconds, hasty):
        """How QEMU ended, its exit code, and its stderr."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            try:
                _, stderr = qemu.communicate(timeout=min(left, HASTE) if hasty else left)
                return verdict.EXITED, qemu.returncode, stderr
            except subprocess.TimeoutExpired:
                if time.monotonic() >= end or hasty and log.exists() and SIGN in log.read_bytes():
                    return verdict.TIMED_OUT, None, ""

    def _boot(self, argv, folder, seconds, shortcut, cpu, hasty):
        """The console's bytes, how QEMU ended, its exit code, and its stderr."""
        log = folder / CONSOLE
        log.unlink(missing_ok=True)
        stub = Stub() if shortcut else None
        with subprocess.Popen([*argv, *(stub.argv if stub else ())], cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
                              pass_fds=stub.fds if stub else (),
                              preexec_fn=lambda: self._in_order(cpu)) as qemu:
            self._running.add(qemu)
            try:
                if stub:
                    stub.take(shortcut)
                ended, code, stderr = self._wait(qemu, log, seconds, hasty)
            finally:
                self._running.discard(qemu)
                if qemu.poll() is None:
                    qemu.kill()
                if stub:
                    stub.close()
        return log.read_bytes() if log.exists() else b"", ended, code, stderr

    def stop(self):
        """Terminates all boots; no other is started."""
        self.stopped = True
        for qemu in list(self._running):
            qemu.kill()

    def go(self, case, stub=(), seconds=SECONDS, cpu=None, hasty=False):
        """Boots a seed. stub: arguments for QEMU, if a debugger applies the shortcut; cpu: CPU of the host; hasty:
        stop at the first failure."""
        started = time.monotonic()
        argv, folder = self.prepare(case)
        data, ended, code, stderr = self._boot([*argv, *stub], folder, seconds, None if stub else self.shortcut, cpu,
                                              hasty)
        plan = Plan(case.plan, "case", (self.scenario.name, self.scenario.arch))
        judged = verdict.judge(str(case.seed), data, plan, None, self._detector, ended, code, stderr)
        (folder / "initrd.cpio").unlink(missing_ok=True)
        return Result(case, data, judged, time.monotonic() - started)
