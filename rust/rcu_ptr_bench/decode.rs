// SPDX-License-Identifier: GPL-2.0

//! Tells from the bytes of an x86-64 instruction whether it locks the bus or is a barrier.

/// What an instruction is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing special.
    Plain,
    /// A locked read-modify-write, which is a full barrier too.
    Locked,
    /// A full barrier and nothing else: `mfence`, or a locked add of 0 to the stack (`smp_mb()`).
    FullBarrier,
}

const LOCK: u8 = 0xf0;

/// The kind of the instruction that starts at `code`.
pub(crate) fn kind(code: &[u8]) -> Kind {
    let at = |i: usize| code.get(i).copied().unwrap_or(0);
    let mut i = 0;
    let mut lock = false;
    while matches!(
        at(i),
        LOCK | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64..=0x67
    ) {
        lock |= at(i) == LOCK;
        i += 1;
    }
    if at(i) & 0xf0 == 0x40 {
        i += 1;
    }
    let (opcode, modrm) = (at(i), at(i + 1));
    let in_memory = modrm >> 6 != 3;
    if lock {
        // add $0, disp8(%rsp) or disp32(%rsp)
        let stack = modrm & 7 == 4 && at(i + 2) & 7 == 4;
        let immediate = at(i + 3 + usize::from(modrm >> 6 == 1));
        let adds = opcode == 0x83 && modrm >> 3 & 7 == 0;
        return if adds && stack && immediate == 0 {
            Kind::FullBarrier
        } else {
            Kind::Locked
        };
    }
    match (opcode, modrm) {
        // xchg with memory locks by itself.
        (0x86 | 0x87, _) if in_memory => Kind::Locked,
        (0x0f, 0xae) if at(i + 2) >> 3 == 0o36 => Kind::FullBarrier,
        _ => Kind::Plain,
    }
}
