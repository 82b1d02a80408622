// SPDX-License-Identifier: GPL-2.0

//! Where the instructions of a loaded module, or of the kernel, are: `/modules/NAME.insns`, which
//! the host made of the disassembly, and the addresses of the sections.

use crate::sys::{file::File, text};
use core::ops::Range;
use kernel::{prelude::*, str::CString};

/// A function: its name in the file, and its instructions.
pub(crate) struct Function {
    name: Range<usize>,
    /// Numbers of its instructions.
    pub(crate) insns: Range<usize>,
}

/// The code.
pub(crate) struct Code {
    file: File,
    /// Addresses of instructions, in order of the file.
    pub(crate) insns: KVVec<usize>,
    /// Functions, in order of the file.
    pub(crate) functions: KVVec<Function>,
}

/// Where a section of `module` was loaded.
fn base(module: &str, section: &str) -> Result<usize> {
    let path = CString::try_from_fmt(fmt!("/sys/module/{}/sections/{}", module, section))?;
    let file = File::read(&path)?;
    let text = core::str::from_utf8(file.bytes()).map_err(|_| EINVAL)?;
    let digits = text.trim().trim_start_matches("0x");
    usize::from_str_radix(digits, 16).map_err(|_| EINVAL)
}

impl Code {
    /// The code of `module`; "vmlinux" is the kernel.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` where nobody made the file.
    pub(crate) fn of(module: &str) -> Result<Self> {
        let path = CString::try_from_fmt(fmt!("/modules/{}.insns", module))?;
        let mut code = Code {
            file: File::read(&path)?,
            insns: KVVec::new(),
            functions: KVVec::new(),
        };
        let bytes = code.file.bytes();
        let mut at = 0;
        let mut section = "";
        let mut start = 0;
        while at < bytes.len() {
            let len = bytes[at..].iter().position(|&b| b == b'\n');
            let end = at + len.unwrap_or(bytes.len() - at);
            let line = core::str::from_utf8(&bytes[at..end]).map_err(|_| EINVAL)?;
            let mut words = line.split(' ');
            let (Some(sect), Some(offset), Some(_), Some(name)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(EINVAL);
            };
            let offset = usize::from_str_radix(offset, 16).map_err(|_| EINVAL)?;
            let name_at = end - name.len()..end;
            at = end + 1;
            // What stands between functions is never run; the code of init is gone, and that of
            // alternatives is copied from where it stands.
            if name == "-" || !(sect.starts_with(".text") || sect == ".exit.text") {
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
            code.insns.push(start + offset, GFP_KERNEL)?;
        }
        if module == "vmlinux" {
            // All in one section, of which one function is known.
            let (name, address) = text::anchor();
            let anchor = code.find(name).ok_or(ENOENT)?;
            let first = code.functions[anchor].insns.start;
            let start = address.wrapping_sub(code.insns[first]);
            for insn in code.insns.iter_mut() {
                *insn = insn.wrapping_add(start);
            }
        }
        Ok(code)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.functions.iter().position(|f| self.name(f) == name)
    }

    /// Where the instructions of the functions are whose name `select` likes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub(crate) fn addresses(&self, select: impl Fn(&str) -> bool) -> Result<KVVec<usize>> {
        let mut found = KVVec::new();
        for function in self.functions.iter().filter(|f| select(self.name(f))) {
            for &insn in &self.insns[function.insns.clone()] {
                found.push(insn, GFP_KERNEL)?;
            }
        }
        Ok(found)
    }

    /// The name of a function.
    pub(crate) fn name(&self, function: &Function) -> &str {
        core::str::from_utf8(&self.file.bytes()[function.name.clone()]).unwrap_or("?")
    }
}
