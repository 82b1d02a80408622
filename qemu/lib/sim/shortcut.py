# SPDX-License-Identifier: GPL-2.0
"""Skips the calibration of the local APIC's timer, which is two thirds of the cost of a short boot: it spins for
200 ms, and each cpu_relax() returns to QEMU's main loop. A kernel that knows the frequency skips it. So QEMU's
gdbstub stops where the calibration begins, writes the frequency that it would find, and continues. All boots do
so at the same instruction, so they remain equal."""

import typing

from ..qmp import Channel

STOP = "calibrate_APIC_clock"
WORD = "lapic_timer_period"
# Of the timer, in Hz; one instruction is one nanosecond.
FREQUENCY = 1_000_000_000
SECONDS = 300


class Shortcut(typing.NamedTuple):
    """The address to stop at and what to write, for a kernel."""
    address: int
    word: int
    value: int

    @classmethod
    def of(cls, scenario):
        """None if this kernel has no calibration."""
        path = scenario.kdir / "System.map"
        if scenario.arch != "x86_64" or not path.exists() or not scenario.options.get("HZ", "").isdigit():
            return None
        symbols = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            address, _, name = line.split(None, 2)
            symbols[name] = int(address, 16)
        if STOP not in symbols or WORD not in symbols:
            return None
        return cls(symbols[STOP], symbols[WORD], FREQUENCY // int(scenario.options["HZ"]))

    @property
    def gdb(self):
        """The commands for gdb."""
        return [f"tbreak *{self.address:#x}", "continue", f"set {{unsigned int}}{self.word:#x} = {self.value}"]


class Stub(Channel):
    """A connection to the gdbstub of a QEMU."""

    def __init__(self):
        super().__init__("shortcut", SECONDS)
        self.argv += ["-gdb", "chardev:shortcut", "-S"]
        self._buffer = b""

    def _more(self):
        data = self.socket.recv(4096)
        if not data:
            raise EOFError("QEMU is gone")
        self._buffer += data

    def _packet(self):
        while True:
            _, mark, rest = self._buffer.partition(b"$")
            body, end, rest = rest.partition(b"#")
            if mark and end and len(rest) >= 2:
                self._buffer = rest[2:]
                self.socket.sendall(b"+")
                return body
            if not mark:
                self._buffer = b""
            self._more()

    def _ask(self, text):
        body = text.encode()
        self.socket.sendall(b"$" + body + b"#%02x" % (sum(body) & 0xff))
        return self._packet()

    def take(self, shortcut):
        """Applies the shortcut and detaches from the guest. If QEMU ends meanwhile, that is no error here."""
        self.started()
        try:
            self._ask("?")
            at = f"0,{shortcut.address:x},1"
            self._ask("Z" + at)
            stopped = self._ask("c")
            if not stopped.startswith(b"T05"):
                return
            self._ask(f"M{shortcut.word:x},4:{shortcut.value.to_bytes(4, 'little').hex()}")
            self._ask("z" + at)
            self._ask("D")
        except (EOFError, OSError):
            pass
