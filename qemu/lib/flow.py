# SPDX-License-Identifier: GPL-2.0
"""Flags of instructions, derived from the control flow of their function.

In a function that jumps through a table, whose targets the disassembly doesn't show, instructions that
are reached only by that jump have no PANICS, KEY_ON or KEY_OFF.
"""

import re

# Leads only to a panic.
PANICS = "p"
# Runs only while the key of its module is on, or off: behind one side of a branch on a word of KEYS.
KEY_ON = "k"
KEY_OFF = "o"
# A compare and exchange: the instruction before it is where an NMI makes it fail.
EXCHANGES = "a"
# Follows a call or a warning, where single stepping may stop.
AFTER_CALL = "c"
# Padding: a nop that no instruction of the function leads to.
PADDING = "n"
# Follows an instruction after which the CPU delays breakpoints.
SHADOWED = "s"
# Belongs to a function that nothing refers to: inlined in all its callers, or unused.
UNUSED = "u"

# Words that select one of two paths through a module.
KEYS = ("rcu_ptr_lockless_key",)

PANIC = re.compile(r"9panicking|panic_(?:fmt|bounds_check|const)|\b(?:rust_)?panic\b|"
                   r"__stack_chk_fail|rust_begin_unwind|unwrap_failed|slice_\w+_fail")
PREFIXES = ("lock", "rep", "repe", "repne", "repz", "repnz", "notrack", "data16", "rex64")
_TARGET = re.compile(r"0x([0-9a-f]+)(?:\s|$)")
_END = re.compile(r"(?:j\w+|ret\w*|ud1\w*|ud2|b|b\.\w+|br|cbn?z|tbn?z|ret|eret|brk|iret\w*)$")
_NEVER_NEXT = re.compile(r"(?:jmp\w*|ret\w*|ud2|b|br|eret|iret\w*)$")
_RETURN = re.compile(r"(?:ret\w*|eret|iret\w*)$")
_CALL = re.compile(r"(?:callq?|bl|blr)$")
_EXCHANGE = re.compile(r"cmpxchg\w*$")
_SHADOW = re.compile(r"(?:mov\w?\s.*,\s*%ss$|pop\w?\s+%ss$)")


class Insn:
    """An instruction: its address, length, text, and the symbol of its relocation."""

    def __init__(self, address, length, text):
        self.address = address
        self.length = length
        self.text = text
        self.symbol = ""
        self.flags = set()

    @property
    def mnemonic(self):
        """The first word that is no prefix."""
        words = self.text.split()
        while len(words) > 1 and words[0] in PREFIXES:
            words.pop(0)
        return words[0] if words else ""


def _target(insn):
    """The target of a branch, None if it is not in the text. With a relocation it is outside the function."""
    if insn.symbol or "*" in insn.text:
        return None
    found = _TARGET.search(insn.text.split("<")[0].split("#")[0])
    return int(found.group(1), 16) if found else None


def _reach(starts, edges):
    """All nodes that can be reached from these."""
    seen, todo = set(), list(starts)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += edges.get(node, ())
    return seen


def _is_panic(insn):
    return bool(_CALL.match(insn.mnemonic) or _END.match(insn.mnemonic)) and \
        bool(PANIC.search(insn.symbol or insn.text.partition("<")[2]))


class _Graph:
    """The edges of one function, and those of them that depend on a key."""

    def __init__(self, insns):
        self.after = {}
        # Where the function is left without a panic.
        self.exits = set()
        # Edges that need the key on, and off.
        self.keyed = {True: set(), False: set()}
        inside = {insn.address for insn in insns}
        for insn, following in zip(insns, insns[1:] + [None]):
            self._add(insn, following, inside)
        for insn, key, branch in zip(insns, insns[1:], insns[2:] + [None]):
            self._key(insn, key, branch)

    def _add(self, insn, following, inside):
        out = self.after[insn.address] = set()
        if _is_panic(insn):
            return
        if not _END.match(insn.mnemonic):
            if following:
                out.add(following.address)
            else:
                self.exits.add(insn.address)
        else:
            target = None if _RETURN.match(insn.mnemonic) else _target(insn)
            if target in inside:
                out.add(target)
            elif not insn.mnemonic.startswith(("ud", "brk")):
                # Leaves the function: a return, a tail call, a jump table.
                self.exits.add(insn.address)
            if not _NEVER_NEXT.match(insn.mnemonic) and following:
                out.add(following.address)
            # A warning continues after it; if nothing follows it does not.
            if insn.mnemonic == "ud2" and following and "panic" not in insn.symbol:
                out.add(following.address)

    def _key(self, test, branch, following):
        if not any(key in test.symbol for key in KEYS) or not following:
            return
        target = _target(branch)
        sides = {"jle": (target, following.address), "jg": (following.address, target)}
        off, on = sides.get(branch.mnemonic, (None, None))
        if off is not None and on is not None:
            self.keyed[False].add((branch.address, off))
            self.keyed[True].add((branch.address, on))


def annotate(insns):
    """Sets the flags of the instructions of one function, which are in order."""
    graph = _Graph(insns)
    entry = insns[0].address
    everything = _reach([entry], graph.after)
    back = {}
    for node, out in graph.after.items():
        for to in out:
            back.setdefault(to, set()).add(node)
    reached = {PANICS: _reach(graph.exits, back)}
    for flag, edges in ((KEY_ON, graph.keyed[True]), (KEY_OFF, graph.keyed[False])):
        left = {node: {to for to in out if (node, to) not in edges}
                for node, out in graph.after.items()}
        reached[flag] = _reach([entry], left)
    shadow = call = False
    for insn in insns:
        known = insn.address in everything
        flags = {flag: known and insn.address not in nodes for flag, nodes in reached.items()}
        flags |= {PADDING: not known and insn.mnemonic.startswith("nop"), SHADOWED: shadow, AFTER_CALL: call,
                  EXCHANGES: _EXCHANGE.match(insn.mnemonic)}
        insn.flags.update(flag for flag, is_set in flags.items() if is_set)
        call = _CALL.match(insn.mnemonic) or insn.mnemonic.startswith("ud")
        shadow = _SHADOW.search(insn.text)
