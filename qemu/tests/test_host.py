# SPDX-License-Identifier: GPL-2.0
"""Services of the host for a guest: NMIs on request, lists of instructions."""

import io
import json
import os
import pathlib
import socket
import tempfile
import threading
import time
import unittest

from lib import boot, console, insns, qmp, verdict


class Qemu(threading.Thread):
    """QEMU's side of the machine protocol."""

    def __init__(self, nmi, refuse=False):
        super().__init__(daemon=True)
        self._connection = socket.socket(fileno=os.dup(nmi.fds[0]))
        nmi.started()
        self._refuse = refuse
        self.injected = 0
        self.start()

    def run(self):
        with self._connection as connection, connection.makefile("rw", encoding="utf-8") as stream:
            def say(what):
                stream.write(json.dumps(what) + "\n")
                stream.flush()
            say({"QMP": {"version": {}}})
            for line in stream:
                command = json.loads(line)["execute"]
                say({"event": "RTC_CHANGE"})
                if command == "inject-nmi" and self._refuse:
                    say({"error": {"class": "GenericError", "desc": "no NMIs here"}})
                    continue
                self.injected += command == "inject-nmi"
                say({"return": {}})


def until(condition):
    """Waits for a condition that another thread makes true."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)


class Timer(unittest.TestCase):
    """A guest that has no timer."""

    def boot(self, again, line="[    0.593103] APIC timer disabled due to verification failure"):
        """How it ends, and its marks."""
        with tempfile.TemporaryDirectory() as folder:
            argv = ["sh", "-c", f"echo '{line}'; sleep 1; echo end", "qemu"]
            guest = boot.Guest(boot.Progress("X", io.StringIO()), qmp.Injector())
            guest.boot(argv, pathlib.Path(folder), 60, 60, again)
        return guest.ended, guest.code, b"end" in guest.data

    def test_is_not_gone_on_with(self):
        self.assertEqual(self.boot(True), (verdict.NO_TIMER, None, False))

    def test_is_gone_on_with_in_the_end(self):
        self.assertEqual(self.boot(False), (verdict.EXITED, 0, True))

    def test_others(self):
        self.assertEqual(self.boot(True, "[    0.1] ..TIMER: vector=0x30"), (verdict.EXITED, 0, True))


class Nmis(unittest.TestCase):
    def injector(self, **how):
        """An injector connected to a QEMU."""
        nmi = qmp.Injector()
        qemu = Qemu(nmi, **how)
        self.addCleanup(nmi.close)
        return nmi, qemu

    def test_count(self):
        nmi, qemu = self.injector()
        nmi.request(1000, 20)
        until(lambda: nmi.sent == 20)
        time.sleep(0.05)
        self.assertEqual((nmi.sent, qemu.injected, nmi.error), (20, 20, None))
        nmi.request(1000, 5)
        until(lambda: nmi.sent == 25)
        self.assertEqual((nmi.sent, qemu.injected, nmi.requests), (25, 25, 2))

    def test_rate_and_off(self):
        nmi, _ = self.injector()
        started = time.monotonic()
        nmi.request(100)
        until(lambda: nmi.sent >= 20)
        self.assertGreater(time.monotonic() - started, 0.15)
        nmi.request(0)
        time.sleep(0.05)
        sent = nmi.sent
        time.sleep(0.1)
        self.assertEqual((nmi.sent, nmi.requests), (sent, 1))

    def test_refused(self):
        nmi, _ = self.injector(refuse=True)
        nmi.request(1000, 5)
        until(lambda: nmi.error)
        self.assertEqual((nmi.sent, nmi.error), (0, "no NMIs here"))

    def test_marks(self):
        for text, want in (("rcu_ptr_guest: nmi 500", ("500", None)),
                           ("rcu_ptr_kunit: rcu_ptr_guest: nmi 500 1000", ("500", "1000")),
                           ("rcu_ptr_guest: step 3/8 nmi 500", None),
                           ("rcu_ptr_guest: nmi off", None)):
            with self.subTest(text):
                found = console.NMI.search(text)
                self.assertEqual(found and found.groups(), want)


LLVM = """
a.ko:\tfile format elf64-x86-64

Disassembly of section .text:

0000000000000000 <first>:
       0: 55                           \tpushq\t%rbp
       1: 48 89 e5                     \tmovq\t%rsp, %rbp
       4: c3                           \tretq
       5: 0f 1f 00                     \tnopl\t(%rax)

0000000000000008 <second>:
       8: f3 0f 1e fa                  \tendbr64
       c: c3                           \tretq

Disassembly of section .init.text:

0000000000000000 <init>:
       0: e8 00 00 00 00               \tcallq\t0x5 <init+0x5>
"""
GNU = """
Disassembly of section .text:

0000000000000000 <first>:
   0:\t48 b8 00 00 00 00 00 00 00 00 \tmovabs $0x0,%rax
   a:\tc3                   \tret
"""
ARM64 = """
Disassembly of section .text:

ffff800080010000 <first>:
ffff800080010000: d503201f     \tnop
ffff800080010004: d65f03c0     \tret
"""

# Both sides of a key, a panic, a loop, a warning, and a load of %ss.
FLOW = """
Disassembly of section .text:

0000000000000000 <f>:
       0: 83 3d 00 00 00 00 00         \tcmpl\t$0, (%rip)              # 0x7 <f+0x7>
\t\t0000000000000002:  R_X86_64_PC32\trcu_ptr_lockless_key-0x5
       7: 7e 06                        \tjle\t0xf <f+0xf>
       9: 90                           \tnop
       a: eb 08                        \tjmp\t0x14 <f+0x14>
       f: 90                           \tnop
      10: 0f 0b                        \tud2
      12: 8e d0                        \tmovl\t%eax, %ss
      14: 75 fe                        \tjne\t0x14 <f+0x14>
      16: 74 01                        \tje\t0x19 <f+0x19>
      18: c3                           \tretq
      19: 31 ff                        \txorl\t%edi, %edi
      1b: e8 00 00 00 00               \tcallq\t0x20 <f+0x20>
\t\t000000000000001c:  R_X86_64_PLT32\t_RNv4core9panicking5panic-0x4
"""


class Console(unittest.TestCase):
    def test_replay(self):
        data = (b"[    1.0] ok 1 a\r\n[    1.1] ok 2 b # SKIP needs CON\r\n"
                b"** replaying previous printk message **\r\n"
                b"[    1.1] ok 2 b # SKIP needs CONFIG_X\r\n[    1.2] ok 3 c\r\n")
        self.assertEqual([line.text for line in console.lines(data)],
                         ["ok 1 a", "ok 2 b # SKIP needs CONFIG_X", "ok 3 c"])

    def test_replay_of_what_had_not_begun(self):
        again = b"** replaying previous printk message **\n"
        for data in (b"[ 1.0] a\n" + again + b"[ 1.1] b\n", b"[ 1.0] a\n[ 1" + again + b"[ 1.1] b\n",
                     b"[ 1.0] a\n[ 1.1] b\n" + again + b"[ 1.1] b\n"):
            self.assertEqual([line.text for line in console.lines(data)], ["a", "b"])


class Instructions(unittest.TestCase):
    def test_llvm(self):
        functions = {".text": [(0, 5, "first"), (8, 13, "second")], ".init.text": [(0, 5, "init")]}
        self.assertEqual(insns.parse(LLVM, functions, {}), [
            ".text 0 1 first - -", ".text 1 3 first - -", ".text 4 1 first - -", ".text 5 3 - - -",
            ".text 8 4 second - -", ".text c 1 second - -", ".init.text 0 5 init - -"])

    def test_gnu(self):
        self.assertEqual(insns.parse(GNU, {".text": [(0, 11, "first")]}, {}),
                         [".text 0 10 first - -", ".text a 1 first - -"])

    def test_linked(self):
        base = 0xffff800080010000
        self.assertEqual(insns.parse(ARM64, {".text": [(base + 4, base + 8, "last")]},
                                     {".text": base}), [".text 0 4 - - -", ".text 4 4 last - -"])

    def test_flow(self):
        lines = insns.parse(FLOW, {".text": [(0, 32, "f")]}, {})
        self.assertEqual([(line.split()[1], line.split()[4]) for line in lines], [
            ("0", "-"), ("7", "-"), ("9", "k"), ("a", "k"), ("f", "o"), ("10", "o"), ("12", "co"),
            ("14", "s"), ("16", "-"), ("18", "-"), ("19", "p"), ("1b", "p")])

    def test_source(self):
        functions = {".text": [(0, 5, "first")]}
        lines = insns.parse(LLVM, functions, {}, lambda places: {places[1]: "f.rs:3"})
        self.assertEqual(lines[:3], [".text 0 1 first - -", ".text 1 3 first - f.rs:3", ".text 4 1 first - -"])
