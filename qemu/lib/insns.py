# SPDX-License-Identifier: GPL-2.0
"""Lists the instructions of a module, or of functions of the kernel: NAME.insns.

One instruction a line: SECTION OFFSET LENGTH FUNCTION FLAGS SOURCE. The offset is within the section,
in hex; the length in bytes, decimal. The function is the symbol that the instruction is in, or '-'
between functions. The flags are those of lib/flow.py, or '-'. The source is FILE:LINE, or '-'. Addresses
of the sections of a loaded module are in /sys/module/NAME/sections.

LLVM's tools disassemble and find source lines. Sections, symbols and relocations are read here: the text
of llvm-readelf would have to be parsed too, which is as long, and takes many times as long to run.
"""

import itertools
import os
import pathlib
import re
import struct
import tempfile

from . import flow
from .base import ROOT, SetupError, llvm

# Distance between the addresses of sections: in a module that is not loaded they all begin at 0.
APART = 1 << 28
SECTION = re.compile(r"^Disassembly of section (\S+):$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+([0-9a-f]{2,}(?: [0-9a-f]{2,})*)\s*(?:\t(.*)|$)")
RELOCATION = re.compile(r"^\s*[0-9a-f]+:\s+R_\w+\s+(\S+)")
SHT_SYMTAB = 2
SHT_RELA = 4
SHF_EXECINSTR = 4
STT_SECTION = 3
STT_FUNC = 2
SHN_LORESERVE = 0xff00
# name, info, other, section, value, size
SYMBOL = "<IBBHQQ"
# Sections of data about code, which refer to all of it.
ABOUT = re.compile(r"orc_|mcount|patchable|bug_table|_sites|altinstr|ex_table|ibt|debug|parainstr|"
                   r"smp_locks|cfi|llvm|eh_frame|discard|annotate|\.comment")
# Sources in this tree, or in a copy of it, as mutants are.
IN_TREE = re.compile(r".*/(rust/(?:rcu_ptr\w*|nmi_sweep|sys|api|clients)/.*)")
BRANCH = re.compile(r"^(?:callq?|jmpq?|j\w+|bl?|b\.\w+|cbn?z|tbn?z)\s[^<]*?(?:0x)?([0-9a-f]+)\s*<")


class _Elf:
    """Sections and functions of a 64-bit little-endian ELF file."""

    def __init__(self, path):
        self._data = path.read_bytes()
        if self._data[:6] != b"\x7fELF\x02\x01":
            raise SetupError(f"{path} is not a 64-bit little-endian ELF file")
        offset, = struct.unpack_from("<Q", self._data, 40)
        size, count, names = struct.unpack_from("<HHH", self._data, 58)
        self._table, self._entry = offset, size
        self._sections = [struct.unpack_from("<IIQQQQIIQQ", self._data, offset + i * size)
                          for i in range(count)]
        table = self._sections[names][4]
        self.names = [self._string(table + section[0]) for section in self._sections]
        self.addresses = {name: section[3] for name, section in zip(self.names, self._sections)}

    def _string(self, at):
        return self._data[at:self._data.index(b"\0", at)].decode()

    def set_apart(self):
        """A copy of the file in which the sections of code have addresses that do not overlap, and these
        addresses by name. .debug_aranges is emptied, as LLVM does not relocate it."""
        data, bases = bytearray(self._data), {}
        for i, (name, section) in enumerate(zip(self.names, self._sections)):
            at = self._table + i * self._entry
            if section[2] & SHF_EXECINSTR:
                bases[name] = len(bases) * APART
                struct.pack_into("<Q", data, at + 16, bases[name])
            elif name == ".debug_aranges":
                struct.pack_into("<Q", data, at + 32, 0)
        return data, bases

    def _entries(self, kind, layout):
        """(section, entry) of all sections of this kind, whose entries have 24 bytes."""
        for section in self._sections:
            if section[1] == kind:
                for at in range(section[4], section[4] + section[5], 24):
                    yield section, struct.unpack_from(layout, self._data, at)

    def references(self):
        """The places and targets of relocations, except in sections about code; each is (section, offset)."""
        symbols = [symbol for _, symbol in self._entries(SHT_SYMTAB, SYMBOL)]
        about = {number for number, name in enumerate(self.names) if ABOUT.search(name)}
        for section, (offset, info, addend) in self._entries(SHT_RELA, "<QQq"):
            _, kind, _, index, value, _ = symbols[info >> 32]
            if section[7] not in about and 0 < index < SHN_LORESERVE:
                # The addend is the offset in a section: minus 4 for calls on x86.
                ends = (addend, addend + 4) if kind & 15 == STT_SECTION else (value,)
                for end in ends:
                    yield (self.names[section[7]], offset), (self.names[index], end)

    def functions(self):
        """{section: [(start, end, name), ...]}, sorted. Of aliases, the first by name."""
        found = {}
        for section, (name, info, _, index, value, size) in self._entries(SHT_SYMTAB, SYMBOL):
            if info & 15 == STT_FUNC and size and 0 < index < SHN_LORESERVE:
                spans = found.setdefault(self.names[index], {})
                text = self._string(self._sections[section[6]][4] + name)
                spans[value, value + size] = min(text, spans.get((value, value + size), text))
        return {name: sorted((start, end, text) for (start, end), text in spans.items())
                for name, spans in found.items()}


def parse(text, functions, addresses, look_up=None):
    """Generates the lines from the output of objdump -d -r. look_up: _sources()."""
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
        if found and found[-1][3].text in flow.PREFIXES:
            # A prefix on a line of its own; there is no boundary after it.
            found[-1][3].length += length
            found[-1][3].text += f" {(match.group(3) or '').strip()}"
            continue
        inside = at < len(spans) and spans[at][0] <= address
        insn = flow.Insn(address, length, (match.group(3) or "").strip())
        found.append((section, address - base, spans[at][2] if inside else "-", insn))
    places = [(section, offset) for section, offset, *_ in found]
    sources = look_up(places) if look_up else {}
    for (_, name), group in itertools.groupby(found, lambda one: (one[0], one[2])):
        if name != "-":
            flow.annotate([insn for *_, insn in group])
    return [f"{section} {offset:x} {insn.length} {name} {''.join(sorted(insn.flags)) or '-'} "
            f"{sources.get((section, offset), '-')}"
            for section, offset, name, insn in found]


def _unused(lines, text, elf):
    """Marks functions that no other function and no data refers to."""
    spans = elf.functions()
    starts = {(section, start): name for section, found in spans.items() for start, _, name in found}

    def owner(place):
        section, offset = place
        found = (name for start, end, name in spans.get(section, ()) if start <= offset < end)
        return next(found, section)

    edges = {}
    for place, target in elf.references():
        name = starts.get(target)
        if name:
            edges.setdefault(owner(place), set()).add(name)
    section = None
    for line in text.splitlines():
        section = SECTION.match(line).group(1) if SECTION.match(line) else section
        found = INSTRUCTION.match(line)
        branch = BRANCH.match((found.group(3) or "").replace("\t", " ")) if found else None
        name = starts.get((section, int(branch.group(1), 16))) if branch else None
        if name:
            edges.setdefault(owner((section, int(found.group(1), 16))), set()).add(name)
    used, todo = set(), [name for name in edges if name in elf.addresses]
    while todo:
        name = todo.pop()
        if name not in used:
            used.add(name)
            todo += edges.get(name, ())
    for i, line in enumerate(lines):
        section, offset, length, name, flags, *rest = line.split()
        if name != "-" and name not in used:
            lines[i] = " ".join((section, offset, length, name, flags.replace("-", "") + flow.UNUSED, *rest))


def _in_tree(path):
    """The path from the root of this tree, None if it is not in it."""
    known = IN_TREE.fullmatch(path)
    if known:
        return known[1]
    return os.path.relpath(path, ROOT) if path.startswith(f"{ROOT}{os.sep}") else None


def _source(lines):
    """The innermost inlined call in this tree, as FILE:LINE, or '-'."""
    for line in lines:
        name, number, _ = line.rsplit(":", 2)
        path = _in_tree(os.path.normpath(name))
        # Line 0: of several lines, or none.
        if path and int(number):
            return f"{path}:{number}"
    return "-"


def _sources(objdump, path, elf, places):
    """The source lines of instructions, each as (section, offset)."""
    data, bases = elf.set_apart()
    folder, name = os.path.split(objdump)
    program = os.path.join(folder, name.replace("objdump", "symbolizer"))
    known = [place for place in places if place[0] in bases]
    asked = "".join(f"{bases[section] + offset:#x}\n" for section, offset in known)
    with tempfile.NamedTemporaryFile(suffix=".ko") as copy:
        copy.write(data)
        copy.flush()
        argv = [program, f"--obj={copy.name}", "--inlines", "--functions=none"]
        answers = llvm(argv, path, "apt-get install llvm", asked).split("\n\n")
    if len(answers) < len(known):
        raise SetupError(f"{program} can't read {path}: addresses are missing in its output")
    return {place: _source(answer.split()) for place, answer in zip(known, answers)}


def generate(objdump, path, functions=()):
    """The list of a file, or of some functions in it."""
    elf = _Elf(path)
    argv = [objdump, "-d", "-r", "-w", str(path)]
    if functions:
        argv.insert(3, f"--disassemble-symbols={','.join(functions)}")
    said = llvm(argv, path, "name another one with --objdump")
    look_up = None if functions else lambda places: _sources(objdump, path, elf, places)
    lines = parse(said, elf.functions(), elf.addresses, look_up)
    missing = set(functions) - {line.split()[3] for line in lines}
    if missing:
        raise SetupError(f"{path} has no function {', '.join(sorted(missing))}")
    if not functions:
        _unused(lines, said, elf)
    if not lines:
        raise SetupError(f"{objdump} found no instructions in {path}")
    return "\n".join(lines) + "\n"


def of_module(objdump, path):
    """The list of a module, cached beside it until the module or this program changes."""
    kept = path.with_suffix(".insns")
    inputs = [path, *pathlib.Path(__file__).parent.glob("*.py")]
    if not kept.exists() or \
            kept.stat().st_mtime_ns <= max(one.stat().st_mtime_ns for one in inputs):
        part = path.with_suffix(f".insns.{os.getpid()}")
        part.write_text(generate(objdump, path), encoding="utf-8")
        part.replace(kept)
    return kept.read_bytes()
