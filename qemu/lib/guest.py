# SPDX-License-Identifier: GPL-2.0
"""Boots one guest and follows its console until it ends or its time is over."""

import os
import selectors
import subprocess
import time

from . import console, ktap, verdict

# After the last line of a halted guest.
HALT_SECONDS = 3


class Follower:
    """Tells the progress display what the guest is at."""

    def __init__(self, progress):
        self._progress = progress
        self._parser = ktap.Parser()
        self._rest = b""
        self.init = self.halted = False

    def feed(self, data):
        """Takes what came over the serial line."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        for raw in complete:
            text = console.Line(raw.decode("utf-8", "replace")).text
            found = console.MARK.match(text)
            if found and found.group(1) == "init":
                self.init = True
                self._progress.step("init")
            elif found and found.group(4):
                self._progress.step(f"{found.group(4)}/{found.group(5)} {found.group(6)}".rstrip())
            elif verdict.HALTED.match(text):
                self.halted = True
            else:
                before = self._parser.running
                self._parser.feed(text)
                if self._parser.running != before:
                    self._progress.detail(self._parser.running)


def boot(argv, folder, boot_seconds, all_seconds, progress):
    """Runs QEMU. Returns the console's bytes, how it ended, the exit code, and its stderr."""
    started = time.monotonic()
    follower = Follower(progress)
    data = bytearray()
    with open(folder / "console.log", "wb") as log, \
            open(folder / "qemu-stderr", "w+b") as errors, \
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=errors) as qemu:
        try:
            ended = _follow(qemu, log, data, follower, started, boot_seconds, all_seconds, progress)
        finally:
            if qemu.poll() is None:
                qemu.kill()
        code = qemu.wait()
        errors.seek(0)
        stderr = errors.read().decode("utf-8", "replace")
    return bytes(data), ended, code if ended == verdict.EXITED else None, stderr


def _follow(qemu, log, data, follower, started, boot_seconds, all_seconds, progress):
    halted_at = None
    pipe = qemu.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            now = time.monotonic() - started
            if now > all_seconds or (now > boot_seconds and not follower.init):
                return verdict.TIMED_OUT
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
