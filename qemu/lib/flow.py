# SPDX-License-Identifier: GPL-2.0
"""What can be said of an instruction without running it, from the control flow of its function.

    p   leads to a panic and nowhere else
    k   runs only while the key of its module is on: behind the true side of a branch on a word that
        KEYS names
    o   the same, off
    a   exchanges a word if it still is what it was: just before it is the window for others
    c   follows a call or a warning, where single steps may get lost
    n   padding: a nop that nothing in the function leads to
    s   follows an instruction after which the CPU puts breakpoints off
    u   belongs to a function that nothing refers to: inlined wherever it is called, or unused

A function that jumps to where the disassembly doesn't show (a table) has no p, k or o in what can be
reached from nowhere else.
"""

import re

# Which word chooses between two ways through a module.
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
        """The first word, prefixes aside."""
        words = self.text.split()
        while len(words) > 1 and words[0] in PREFIXES:
            words.pop(0)
        return words[0] if words else ""


def _target(insn):
    """Where a branch goes, None if that doesn't show. With a relocation it leaves the function."""
    if insn.symbol or "*" in insn.text:
        return None
    found = _TARGET.search(insn.text.split("<")[0].split("#")[0])
    return int(found.group(1), 16) if found else None


def _reach(starts, edges):
    """All that can be reached from some nodes."""
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
        self.fine = set()
        # Edges taken only with the key on, and off.
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
                self.fine.add(insn.address)
        else:
            target = None if _RETURN.match(insn.mnemonic) else _target(insn)
            if target in inside:
                out.add(target)
            elif not insn.mnemonic.startswith(("ud", "brk")):
                # Out of the function: a return, a tail call, a table of jumps.
                self.fine.add(insn.address)
            if not _NEVER_NEXT.match(insn.mnemonic) and following:
                out.add(following.address)
            # A warning goes on behind it; where nothing follows it does not.
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
    reached = {"p": _reach(graph.fine, back)}
    for flag, edges in (("k", graph.keyed[True]), ("o", graph.keyed[False])):
        left = {node: {to for to in out if (node, to) not in edges}
                for node, out in graph.after.items()}
        reached[flag] = _reach([entry], left)
    shadow = call = False
    for insn in insns:
        known = insn.address in everything
        flags = {flag: known and insn.address not in nodes for flag, nodes in reached.items()}
        flags |= {"n": not known and insn.mnemonic.startswith("nop"), "s": shadow, "c": call,
                  "a": _EXCHANGE.match(insn.mnemonic)}
        insn.flags.update(flag for flag, is_set in flags.items() if is_set)
        call = _CALL.match(insn.mnemonic) or insn.mnemonic.startswith("ud")
        shadow = _SHADOW.search(insn.text)
