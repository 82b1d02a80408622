# SPDX-License-Identifier: GPL-2.0
"""Where the instructions of a module, or of functions of the kernel, start: NAME.insns.

One instruction a line: SECTION OFFSET LENGTH FUNCTION FLAGS. The offset is within the section, in
hex; the length in bytes, decimal. The function is the symbol that the instruction is in, or '-' for
what stands between functions. The flags are those of lib/flow.py, or '-'. The sections of a loaded
module are where /sys/module/NAME/sections says.
"""

import itertools
import os
import pathlib
import re
import struct
import subprocess

from . import flow
from .errors import SetupError

SECTION = re.compile(r"^Disassembly of section (\S+):$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+([0-9a-f]{2,}(?: [0-9a-f]{2,})*)\s*(?:\t(.*)|$)")
RELOCATION = re.compile(r"^\s*[0-9a-f]+:\s+R_\w+\s+(\S+)")
SHT_SYMTAB = 2
STT_FUNC = 2
SHN_LORESERVE = 0xff00


class _Elf:
    """Sections and functions of a 64-bit little-endian ELF file."""

    def __init__(self, path):
        self._data = path.read_bytes()
        if self._data[:6] != b"\x7fELF\x02\x01":
            raise SetupError(f"{path} is not a 64-bit little-endian ELF file")
        offset, = struct.unpack_from("<Q", self._data, 40)
        size, count, names = struct.unpack_from("<HHH", self._data, 58)
        self._sections = [struct.unpack_from("<IIQQQQIIQQ", self._data, offset + i * size)
                          for i in range(count)]
        table = self._sections[names][4]
        self.names = [self._string(table + section[0]) for section in self._sections]
        self.addresses = {name: section[3] for name, section in zip(self.names, self._sections)}

    def _string(self, at):
        return self._data[at:self._data.index(b"\0", at)].decode()

    def functions(self):
        """By section: (start, end, name), sorted. Of aliases, the first by name."""
        found = {}
        for section in self._sections:
            if section[1] != SHT_SYMTAB:
                continue
            strings = self._sections[section[6]][4]
            for at in range(section[4], section[4] + section[5], 24):
                name, info, _, index, value, size = struct.unpack_from("<IBBHQQ", self._data, at)
                if info & 15 == STT_FUNC and size and 0 < index < SHN_LORESERVE:
                    spans = found.setdefault(self.names[index], {})
                    text = self._string(strings + name)
                    if (value, value + size) not in spans or text < spans[value, value + size]:
                        spans[value, value + size] = text
        return {name: sorted((start, end, text) for (start, end), text in spans.items())
                for name, spans in found.items()}


def parse(text, functions, addresses):
    """Makes the lines out of what objdump -d -r printed."""
    # (section, offset, function, instruction)
    found = []
    section, spans, base, at = None, [], 0, 0
    for line in text.splitlines():
        match = SECTION.match(line)
        if match:
            section = match.group(1)
            spans, base, at = functions.get(section, []), addresses.get(section, 0), 0
            continue
        match = RELOCATION.match(line)
        if match and found:
            found[-1][3].symbol = match.group(1)
            continue
        match = INSTRUCTION.match(line) if section else None
        if not match:
            continue
        address = int(match.group(1), 16)
        length = len(match.group(2).replace(" ", "")) // 2
        while at < len(spans) and spans[at][1] <= address:
            at += 1
        inside = at < len(spans) and spans[at][0] <= address
        insn = flow.Insn(address, length, (match.group(3) or "").strip())
        found.append((section, address - base, spans[at][2] if inside else "-", insn))
    for (_, name), group in itertools.groupby(found, lambda one: (one[0], one[2])):
        if name != "-":
            flow.annotate([insn for *_, insn in group])
    return [f"{section} {offset:x} {insn.length} {name} {''.join(sorted(insn.flags)) or '-'}"
            for section, offset, name, insn in found]


def generate(objdump, path, functions=()):
    """Disassembles a file, or some functions in it."""
    elf = _Elf(path)
    argv = [objdump, "-d", "-r", "-w", str(path)]
    if functions:
        argv.insert(3, f"--disassemble-symbols={','.join(functions)}")
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    except OSError as error:
        raise SetupError(f"{objdump}: {error.strerror}: name another one with --objdump") from error
    if done.returncode:
        raise SetupError(f"{objdump} can't read {path}: {done.stderr.strip()}")
    lines = parse(done.stdout, elf.functions(), elf.addresses)
    missing = set(functions) - {line.split()[3] for line in lines}
    if missing:
        raise SetupError(f"{path} has no function {', '.join(sorted(missing))}")
    if not lines:
        raise SetupError(f"{objdump} found no instructions in {path}")
    return "\n".join(lines) + "\n"


def of_module(objdump, path):
    """The same for a module, kept beside it for as long as it doesn't change."""
    kept = path.with_suffix(".insns")
    sources = [path, pathlib.Path(__file__), pathlib.Path(flow.__file__)]
    if not kept.exists() or \
            kept.stat().st_mtime_ns <= max(source.stat().st_mtime_ns for source in sources):
        part = path.with_suffix(f".insns.{os.getpid()}")
        part.write_text(generate(objdump, path), encoding="utf-8")
        part.replace(kept)
    return kept.read_bytes()
