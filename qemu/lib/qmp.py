# SPDX-License-Identifier: GPL-2.0
"""Injects NMIs over QEMU's machine protocol when the guest requests them.

On x86 QEMU raises LINT1 of every local APIC; Linux unmasks it on the boot CPU only. So the NMI
arrives on CPU 0, with an unknown reason unless a handler claims it.

Two commands without arguments are all that is needed; the qemu.qmp package would be one more to install.
"""

import json
import socket
import threading
import time

REPLY_SECONDS = 20
# The maximum rate.
MAX_HZ = 5000
GONE = (EOFError, BrokenPipeError, ConnectionResetError)


class Channel:
    """A connection to a QEMU that is about to start, which inherits its end."""

    def __init__(self, name, seconds):
        self.socket, self._theirs = socket.socketpair()
        self.socket.settimeout(seconds)
        self.fds = (self._theirs.fileno(),)
        # Arguments of QEMU.
        self.argv = ["-chardev", f"socket,id={name},fd={self.fds[0]}"]

    def started(self):
        """To be called when QEMU has inherited its end."""
        self._theirs.close()

    def close(self):
        self.socket.close()
        self._theirs.close()


class Injector(Channel):
    """Injects in a thread of its own, at the rate that was requested last."""

    def __init__(self):
        super().__init__("qmp", REPLY_SECONDS)
        self.argv += ["-mon", "chardev=qmp,mode=control"]
        self._change = threading.Condition()
        self._closed = False
        self._hz = self._left = 0
        self._last = 0.0
        self._thread = None
        self.requests = self.sent = 0
        self.error = None

    def request(self, rate, count=None):
        """Requests `rate` NMIs a second, at most `count` if given. A rate of 0 stops them."""
        with self._change:
            self._hz = min(rate, MAX_HZ)
            self._left = count
            self.requests += 1 if rate else 0
            self._change.notify()
        if rate and not self._thread:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def close(self):
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread:
            self._thread.join(REPLY_SECONDS)
        super().close()

    def _next(self):
        """Waits until one is due; false when the channel is closed."""
        with self._change:
            while not self._closed:
                if self._hz and self._left != 0:
                    due = self._last + 1 / self._hz
                    now = time.monotonic()
                    if now >= due:
                        # No bursts after a delay.
                        self._last = max(due, now - 1 / self._hz)
                        if self._left is not None:
                            self._left -= 1
                        return True
                    self._change.wait(due - now)
                else:
                    self._change.wait()
        return False

    @staticmethod
    def _reply(stream, key):
        """Reads until QEMU's answer, skipping events."""
        for line in stream:
            reply = json.loads(line)
            if "error" in reply:
                raise OSError(reply["error"].get("desc", "QEMU refused"))
            if key in reply:
                return
        raise EOFError("QEMU closed the connection")

    def _execute(self, stream, command):
        """Executes a command, and waits for its completion."""
        stream.write(json.dumps({"execute": command}) + "\n")
        stream.flush()
        self._reply(stream, "return")

    def _work(self):
        try:
            with self.socket.makefile("rw", encoding="utf-8", newline="\n") as stream:
                self._reply(stream, "QMP")
                self._execute(stream, "qmp_capabilities")
                while self._next():
                    self._execute(stream, "inject-nmi")
                    self.sent += 1
        except (OSError, EOFError, ValueError) as error:
            # It is no error if the guest ended at this moment.
            time.sleep(0.2)
            if not self._closed and not isinstance(error, GONE):
                self.error = str(error) or type(error).__name__
