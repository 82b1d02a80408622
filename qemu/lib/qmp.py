# SPDX-License-Identifier: GPL-2.0
"""NMIs that the host injects over QEMU's machine protocol, because the guest asked for them.

On x86 QEMU raises LINT1 of every local APIC; Linux unmasks it on the boot CPU only. So the NMI
arrives on CPU 0, and is of unknown reason to all but the handlers that claim it.
"""

import json
import os
import socket
import threading
import time

SOCKET = "qmp.sock"
REPLY_SECONDS = 20
CONNECT_SECONDS = 10
# The most that a guest gets.
MAX_HZ = 5000
GONE = (EOFError, BrokenPipeError, ConnectionResetError)


def arguments():
    """For QEMU, started in the folder where the socket is to be."""
    return ["-qmp", f"unix:{SOCKET},server=on,wait=off"]


class _Connection:
    """One session with QEMU."""

    def __init__(self, folder):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(REPLY_SECONDS)
        # The path of a socket has to be short: go by the folder's descriptor.
        where = os.open(folder, os.O_PATH)
        try:
            self._connect(f"/proc/self/fd/{where}/{SOCKET}")
        finally:
            os.close(where)
        self._stream = self._socket.makefile("rw", encoding="utf-8", newline="\n")
        self._reply("QMP")
        self.execute("qmp_capabilities")

    def _connect(self, path):
        end = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                return self._socket.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def _reply(self, key):
        """Reads on until QEMU answered; events come in between."""
        for line in self._stream:
            reply = json.loads(line)
            if "error" in reply:
                raise OSError(reply["error"].get("desc", "QEMU refused"))
            if key in reply:
                return
        raise EOFError("QEMU closed the connection")

    def execute(self, command):
        """Has QEMU do something, and waits until it has."""
        self._stream.write(json.dumps({"execute": command}) + "\n")
        self._stream.flush()
        self._reply("return")

    def close(self):
        """Also wakes a waiter for a reply."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()


class Injector:
    """Injects on a thread of its own, at the rate that was asked for last."""

    def __init__(self, folder):
        self._folder = folder
        self._change = threading.Condition()
        self._closed = False
        self._hz = self._left = 0
        self._last = 0.0
        self._thread = None
        self.requests = self.sent = 0
        self.error = None

    def request(self, rate, count=None):
        """So many a second; no more than count, if there is one. A rate of 0 ends it."""
        with self._change:
            self._hz = min(rate, MAX_HZ)
            self._left = count
            self.requests += 1 if rate else 0
            self._change.notify()
        if rate and not self._thread:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def close(self):
        """The guest has ended."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread:
            self._thread.join(REPLY_SECONDS)

    def _next(self):
        """Waits until one is due; false when there will be none."""
        with self._change:
            while not self._closed:
                if self._hz and self._left != 0:
                    due = self._last + 1 / self._hz
                    now = time.monotonic()
                    if now >= due:
                        # No bursts to make up for lost time.
                        self._last = max(due, now - 1 / self._hz)
                        if self._left is not None:
                            self._left -= 1
                        return True
                    self._change.wait(due - now)
                else:
                    self._change.wait()
        return False

    def _work(self):
        connection = None
        try:
            connection = _Connection(self._folder)
            while self._next():
                connection.execute("inject-nmi")
                self.sent += 1
        except (OSError, EOFError, ValueError) as error:
            # A guest that ended while it was at it is not at fault.
            time.sleep(0.2)
            if not self._closed and not isinstance(error, GONE):
                self.error = str(error) or type(error).__name__
        finally:
            if connection:
                connection.close()
