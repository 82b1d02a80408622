# SPDX-License-Identifier: GPL-2.0
"""One boot of one scenario: its files, the guest, whose console is read until it ends or times out, and the
verdict."""

import os
import re
import selectors
import shlex
import shutil
import subprocess
import sys
import threading
import time

from . import console, initramfs, ktap, machine, qmp, report, verdict

# The kernel checks the timers of an x86 CPU against each other during boot. If the host is too busy for that, it
# disables the APIC timer, and times in the guest are meaningless.
NO_TIMER = re.compile(r"^APIC timer disabled due to verification failure")
# Boots of a guest without that timer; the last one is used as it is.
BOOTS = 10
# Seconds after the last line of a halted guest.
HALT_SECONDS = 3
# Without a terminal, a step that takes longer than this is reported as still running.
STILL = 30.0
# Set to terminate all guests.
STOP = threading.Event()


class Progress:
    """Shows the current step of a guest on stderr: in place on a terminal, where several guests share a line, else
    a line for each step."""

    _drawn = []

    def __init__(self, name, out=sys.stderr):
        self._name = name
        self._out = out
        self._tty = out.isatty()
        self._started = time.monotonic()
        self.step("boot")

    def _text(self, state):
        seconds = int(time.monotonic() - self._started)
        return f"[{self._name} {seconds // 60:02}:{seconds % 60:02}] {state}"

    def _say(self, state):
        print(self._text(state), file=self._out, flush=True)

    def _state(self):
        return f"{self._step}: {self._detail}" if self._detail else self._step

    def step(self, text):
        """The guest starts a step."""
        self._step, self._detail = text, ""
        self._shown = time.monotonic()
        if self._tty:
            self._draw()
        else:
            self._say(text)

    def detail(self, text):
        self._detail = text

    def tick(self):
        since = time.monotonic() - self._shown
        if self._tty and since > 0.2:
            self._draw()
        elif not self._tty and since > STILL:
            self._shown = time.monotonic()
            self._say(f"still {self._state()}")

    def _draw(self):
        self._shown = time.monotonic()
        if self not in self._drawn:
            self._drawn.append(self)
        width = 100 // len(self._drawn)
        self._out.write("\r\033[K" + "  ".join(each._text(each._state())[:width] for each in self._drawn))
        self._out.flush()

    def close(self, state):
        if self._tty:
            self._drawn.remove(self)
            self._out.write("\r\033[K")
        self._say(state)


class Guest:
    """A QEMU and its console."""

    def __init__(self, progress, nmi):
        self._progress = progress
        self._nmi = nmi
        self._parser = ktap.Parser()
        self._rest = b""
        self.init = self.halted = self.no_timer = False
        self.data = bytearray()
        self.ended = self.code = None
        self.stderr = ""

    def feed(self, data):
        """Processes data of the serial line: updates the progress display, and passes on requests to the host."""
        self.data += data
        *complete, self._rest = (self._rest + data).split(b"\n")
        for raw in complete:
            text = console.Line(raw.decode("utf-8", "replace")).text
            nmi, mark = console.NMI.search(text), console.MARK.match(text)
            if nmi:
                self._nmi.request(int(nmi.group(1)), nmi.group(2) and int(nmi.group(2)))
            elif mark and mark.group(1) == "init":
                self.init = True
                self._progress.step("init")
            elif mark and mark.group(4):
                self._progress.step(f"{mark.group(4)}/{mark.group(5)} {mark.group(6)}".rstrip())
            elif verdict.HALTED.match(text):
                self.halted = True
            elif NO_TIMER.match(text):
                self.no_timer = True
            else:
                before = self._parser.running
                self._parser.feed(text)
                if self._parser.running != before:
                    self._progress.detail(self._parser.running)

    def boot(self, argv, folder, boot_seconds, all_seconds, again=False):
        """Runs QEMU. With `again` a guest without a timer is terminated."""
        with open(folder / "console.log", "wb") as log, \
                open(folder / "qemu-stderr", "w+b") as errors, \
                subprocess.Popen([*argv, *self._nmi.argv], cwd=folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=errors, pass_fds=self._nmi.fds) as qemu:
            self._nmi.started()
            try:
                self.ended = self._follow(qemu.stdout, log, boot_seconds, all_seconds, again)
            finally:
                if self.ended != verdict.EXITED:
                    qemu.kill()
                self._nmi.close()
            code = qemu.wait()
            errors.seek(0)
            self.stderr = errors.read().decode("utf-8", "replace")
        self.code = code if self.ended == verdict.EXITED else None

    def _follow(self, pipe, log, boot_seconds, all_seconds, again):
        """Returns how it ended."""
        started, halted_at = time.monotonic(), None
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                now = time.monotonic() - started
                if STOP.is_set() or now > all_seconds or (now > boot_seconds and not self.init):
                    return verdict.TIMED_OUT
                if self.no_timer and again:
                    return verdict.NO_TIMER
                if self.halted:
                    halted_at = halted_at or now
                    if now - halted_at > HALT_SECONDS:
                        return verdict.TIMED_OUT
                self._progress.tick()
                if not selector.select(timeout=0.5):
                    continue
                chunk = os.read(pipe.fileno(), 65536)
                if not chunk:
                    return verdict.EXITED
                log.write(chunk)
                log.flush()
                self.feed(chunk)


def new_folder(out, name):
    """Creates a folder OUT/NAME-DATE."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        folder = out / (f"{name}-{stamp}" + (f".{number}" if number else ""))
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    return folder


class Run:
    """A boot and its folder."""

    def __init__(self, scenario, plan, wanted, detector, objdump, seconds, out, name=None, extra=(), stamped=True):
        """wanted: an Expected, or None; seconds: for the whole boot; extra: more files of the guest; out: where the
        folder of this boot is created, with a time stamp or without."""
        self.scenario = scenario
        self.name = name or scenario.name
        self._plan = plan
        self._wanted = wanted
        self._detector = detector
        self._objdump = objdump
        self._seconds = seconds
        self._out = out
        self._extra = extra
        self._stamped = stamped
        self.accel = self.why = self.folder = None
        self.seconds = 0.0
        # The console's lines, without time stamps.
        self.texts = []

    def _new_folder(self):
        folder = self._out / self.name
        if not self._stamped:
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        folder = new_folder(self._out, self.name)
        for link in (self._out / "latest", self._out / f"{self.name}-latest"):
            if link.is_symlink() or not link.exists():
                # In one step, as another boot may do the same.
                new = folder / link.name
                os.symlink(folder.name, new)
                os.replace(new, link)
        return folder

    def go(self):
        """Boots, judges and stores the logs."""
        scen, started = self.scenario, time.monotonic()
        self.folder = self._new_folder()
        initrd = self.folder / "initrd.cpio"
        initramfs.write(initrd, scen, self._plan, self._objdump, self._extra)
        self.accel, self.why = machine.choose(scen)
        argv = machine.command(scen, self.accel, initrd)
        (self.folder / "qemu-cmd").write_text(shlex.join(argv) + "\n", encoding="utf-8")
        shutil.copyfile(scen.kdir / ".config", self.folder / "config")
        progress = Progress(self.name)
        for before in range(BOOTS):
            nmi = qmp.Injector()
            guest = Guest(progress, nmi)
            guest.boot(argv, self.folder, scen.settings["timeout_boot"], self._seconds, before + 1 < BOOTS)
            if guest.ended != verdict.NO_TIMER:
                break
            progress.step("boot, again: the host was too busy for the kernel to find its timer")
        data = bytes(guest.data)
        lines = console.lines(data)
        self.texts = [line.text for line in lines]
        result = verdict.judge(self.name, data, self._plan, self._wanted, self._detector, guest.ended, guest.code,
                               guest.stderr, nmi)
        result.folder, result.before = self.folder, before
        self.seconds = time.monotonic() - started
        progress.close(result.state)
        (self.folder / "dmesg").write_text(console.dmesg(lines), encoding="utf-8")
        ktap_lines = [*report.header(1), *report.scenario(result, 1), report.closing(report.totals([result]))]
        (self.folder / "results.ktap").write_text("\n".join(ktap_lines) + "\n", encoding="utf-8")
        initrd.unlink()
        return result
