# SPDX-License-Identifier: GPL-2.0
"""Boots one guest and follows its console until it ends or its time is over."""

import os
import re
import selectors
import subprocess
import threading
import time

from . import console, ktap, qmp, verdict

# The kernel compares the timers of an x86 CPU with each other while it boots. Where the host is too busy for
# that it goes on without, and no time in the guest is worth anything.
NO_TIMER = re.compile(r"^APIC timer disabled due to verification failure")
# After the last line of a halted guest.
HALT_SECONDS = 3
# Set when the host wants all guests to end.
STOP = threading.Event()


class Follower:
    """Tells the progress display what the guest is at, and the host what the guest asks for."""

    def __init__(self, progress, nmi):
        self._progress = progress
        self._nmi = nmi
        self._parser = ktap.Parser()
        self._rest = b""
        self.init = self.halted = self.no_timer = False

    def feed(self, data):
        """Takes what came over the serial line."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        for raw in complete:
            text = console.Line(raw.decode("utf-8", "replace")).text
            if console.NMI.search(text):
                rate, count = console.NMI.search(text).groups()
                self._nmi.request(int(rate), int(count) if count else None)
                continue
            if console.PROGRESS.search(text):
                self._progress.detail(console.PROGRESS.search(text).group(1))
                continue
            found = console.MARK.match(text)
            if found and found.group(1) == "init":
                self.init = True
                self._progress.step("init")
            elif found and found.group(4):
                self._progress.step(f"{found.group(4)}/{found.group(5)} {found.group(6)}".rstrip())
            elif verdict.HALTED.match(text):
                self.halted = True
            elif NO_TIMER.match(text):
                self.no_timer = True
            else:
                before = self._parser.running
                self._parser.feed(text)
                if self._parser.running != before:
                    self._progress.detail(self._parser.running)


def boot(argv, folder, boot_seconds, all_seconds, progress, nmi, again=False):
    """Runs QEMU. Returns the console's bytes, how it ended, the exit code, and its stderr. With `again` it
    ends a guest that has no timer."""
    started = time.monotonic()
    follower = Follower(progress, nmi)
    data = bytearray()
    with open(folder / "console.log", "wb") as log, \
            open(folder / "qemu-stderr", "w+b") as errors, \
            subprocess.Popen([*argv, *qmp.arguments()], cwd=folder, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=errors) as qemu:
        try:
            ended = _follow(qemu, log, data, follower, started, boot_seconds, all_seconds, progress, again)
        finally:
            if qemu.poll() is None:
                qemu.kill()
            nmi.close()
            (folder / qmp.SOCKET).unlink(missing_ok=True)
        code = qemu.wait()
        errors.seek(0)
        stderr = errors.read().decode("utf-8", "replace")
    return bytes(data), ended, code if ended == verdict.EXITED else None, stderr


def _follow(qemu, log, data, follower, started, boot_seconds, all_seconds, progress, again):
    halted_at = None
    pipe = qemu.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            now = time.monotonic() - started
            if STOP.is_set() or now > all_seconds or (now > boot_seconds and not follower.init):
                return verdict.TIMED_OUT
            if follower.no_timer and again:
                return verdict.NO_TIMER
            if follower.halted:
                halted_at = halted_at or now
                if now - halted_at > HALT_SECONDS:
                    return verdict.TIMED_OUT
            progress.tick()
            if not selector.select(timeout=0.5):
                continue
            chunk = os.read(pipe, 65536)
            if not chunk:
                qemu.wait()
                return verdict.EXITED
            log.write(chunk)
            log.flush()
            data += chunk
            follower.feed(chunk)
