// SPDX-License-Identifier: GPL-2.0

//! The instructions of a loaded module or of the kernel: `/modules/NAME.insns`, which the host has
//! generated from the disassembly, and the addresses of sections.

use crate::sys::{text, user::File};
use core::ops::Range;
use kernel::{prelude::*, str::CString};

/// Properties of an instruction, from the host (qemu/lib/flow.py).
#[derive(Clone, Copy)]
pub(crate) struct Flags(u8);

impl Flags {
    /// Letter `i` of flow.py is bit `i` below.
    const LETTERS: [u8; 7] = *b"pkosuca";
    /// It leads only to a panic.
    pub(crate) const PANICS: Self = Self(1);
    /// It is executed with engine lockless only.
    const LOCKLESS: Self = Self(1 << 1);
    /// It is executed with engine rfc only.
    const RFC: Self = Self(1 << 2);
    /// The instruction before it delays debug exceptions.
    pub(crate) const IN_SHADOW: Self = Self(1 << 3);
    /// Nothing refers to its function.
    pub(crate) const UNUSED: Self = Self(1 << 4);
    /// The instruction before it calls another function, or warns.
    pub(crate) const FOLLOWS_CALL: Self = Self(1 << 5);
    /// It is a cmpxchg.
    pub(crate) const IS_CMPXCHG: Self = Self(1 << 6);

    fn parse(text: &str) -> Self {
        let bit = |letter| Self::LETTERS.iter().position(|l| l == letter);
        let bits = text.as_bytes().iter().filter_map(bit);
        Self(bits.fold(0, |flags, i| flags | 1 << i))
    }

    /// Whether `flag` is one of them.
    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

pub(crate) struct Function {
    /// The position of its name in the file.
    name: Range<usize>,
    /// The numbers of its instructions.
    pub(crate) insns: Range<usize>,
}

/// The code of a module, or of some functions of the kernel.
pub(crate) struct Code {
    file: File,
    /// By instruction: the position of its source line, FILE:LINE, in the file.
    sources: KVVec<Range<usize>>,
    /// Addresses of instructions, in order of the file.
    pub(crate) insns: KVVec<usize>,
    pub(crate) flags: KVVec<Flags>,
    /// Functions, in order of the file.
    pub(crate) functions: KVVec<Function>,
    /// Instructions of one section each, in order of their addresses.
    sections: KVVec<Range<usize>>,
    /// Whether engine lockless is loaded; `None` for other code than the core.
    pub(crate) lockless: Option<bool>,
}

/// The address of a section of `module`.
fn base(module: &str, section: &str) -> Result<usize> {
    let path = CString::try_from_fmt(fmt!("/sys/module/{}/sections/{}", module, section))?;
    let file = File::read(&path)?;
    let text = core::str::from_utf8(file.bytes()).map_err(|_| EINVAL)?;
    let digits = text.trim().trim_start_matches("0x");
    usize::from_str_radix(digits, 16).map_err(|_| EINVAL)
}

impl Code {
    /// Reads the code of `module`; "vmlinux" is the kernel.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such file.
    pub(crate) fn of(module: &str) -> Result<Self> {
        let path = CString::try_from_fmt(fmt!("/modules/{}.insns", module))?;
        let mut code = Code {
            file: File::read(&path)?,
            sources: KVVec::new(),
            insns: KVVec::new(),
            flags: KVVec::new(),
            functions: KVVec::new(),
            sections: KVVec::new(),
            lockless: None,
        };
        let bytes = code.file.bytes();
        let mut section = "";
        let mut start = 0;
        let lines = bytes.split(|&byte| byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            let line = core::str::from_utf8(line).map_err(|_| EINVAL)?;
            let in_file = |word: &str| {
                let start = word.as_ptr().addr() - bytes.as_ptr().addr();
                start..start + word.len()
            };
            let mut words = line.split(' ');
            let mut word = || words.next().ok_or(EINVAL);
            let (sect, offset, _, name, flags) = (word()?, word()?, word()?, word()?, word()?);
            let source = word()?;
            let offset = usize::from_str_radix(offset, 16).map_err(|_| EINVAL)?;
            let name_at = in_file(name);
            // Padding is never executed, init code is freed, and alternatives are executed at
            // another address.
            if name == "-"
                || flags.contains('n')
                || !(sect.starts_with(".text") || sect == ".exit.text")
            {
                continue;
            }
            if sect != section && module != "vmlinux" {
                section = sect;
                start = base(module, sect)?;
            }
            let number = code.insns.len();
            match code.functions.last_mut() {
                Some(last) if bytes[last.name.clone()] == *name.as_bytes() => {
                    last.insns.end = number + 1;
                }
                _ => code.functions.push(
                    Function {
                        name: name_at,
                        insns: number..number + 1,
                    },
                    GFP_KERNEL,
                )?,
            }
            match code.sections.last_mut() {
                Some(last) if code.insns.last().is_some_and(|&i| i < start + offset) => {
                    last.end = number + 1;
                }
                _ => code.sections.push(number..number + 1, GFP_KERNEL)?,
            }
            code.insns.push(start + offset, GFP_KERNEL)?;
            code.flags.push(Flags::parse(flags), GFP_KERNEL)?;
            code.sources.push(in_file(source), GFP_KERNEL)?;
        }
        if module == "vmlinux" {
            // All functions are in one section, in which the address of one is known.
            let (name, address) = text::anchor();
            let anchor = code.functions.iter().find(|f| code.name(f) == name);
            let first = anchor.ok_or(ENOENT)?.insns.start;
            let start = address.wrapping_sub(code.insns[first]);
            for insn in code.insns.iter_mut() {
                *insn = insn.wrapping_add(start);
            }
        }
        Ok(code)
    }

    /// Whether `insn` can't be hit: it leads to a panic, follows an instruction that delays
    /// breakpoints, is unused, or belongs to the engine that is not loaded.
    pub(crate) fn is_excluded(&self, insn: usize) -> bool {
        let flags = self.flags[insn];
        flags.has(Flags::PANICS)
            || flags.has(Flags::IN_SHADOW)
            || flags.has(Flags::UNUSED)
            || self.lockless == Some(false) && flags.has(Flags::LOCKLESS)
            || self.lockless == Some(true) && flags.has(Flags::RFC)
    }

    fn text(&self, at: &Range<usize>) -> &str {
        core::str::from_utf8(&self.file.bytes()[at.clone()]).unwrap_or("?")
    }

    /// The source line, FILE:LINE, "-" if unknown.
    pub(crate) fn source(&self, insn: usize) -> &str {
        self.text(&self.sources[insn])
    }

    /// Whether `function` belongs to the engine that is not loaded.
    pub(crate) fn is_of_other_engine(&self, function: &Function) -> bool {
        // In mangled names: length and name of the module.
        let other = match self.lockless {
            Some(true) => "3rfc",
            Some(false) => "8lockless",
            None => return false,
        };
        self.name(function).contains(other)
    }

    /// The instruction that starts at `address`.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn at(&self, address: usize) -> Option<usize> {
        self.sections.iter().find_map(|section| {
            let insns = self.insns.get(section.clone())?;
            let i = insns.binary_search(&address).ok()?;
            Some(section.start + i)
        })
    }

    /// The name of a function.
    pub(crate) fn name(&self, function: &Function) -> &str {
        self.text(&function.name)
    }
}
