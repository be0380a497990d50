//! Which packets does a capture want?
//!
//! A filter is a program of classic BPF, the machine of McCanne and Jacobson (USENIX 1993) for which libpcap compiles tcpdump's
//! expressions. The client compiles; what it sends is checked here, once, as the kernel checks its own: every instruction is known, jumps
//! go forward and stay inside, memory cells exist, nothing is divided by the constant zero, and the end is a verdict. So a
//! program of n instructions takes at most n steps, whatever the packet is.

use shunt_ffi::Packet;
pub use shunt_ffi::pcap::Instruction;

/// Most instructions of a filter: they are run for each packet of the port.
pub const INSTRUCTIONS_MAX: usize = 1024;
/// Cells of memory.
const CELLS: usize = 16;

/// Why a program is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// None, or too many instructions.
    #[error("the filter has {0} instructions, and 1 to {INSTRUCTIONS_MAX} are taken; write it shorter")]
    Length(usize),
    /// An instruction makes no sense.
    #[error("instruction {0} of the filter makes no sense: is it classic BPF for Ethernet?")]
    Instruction(usize),
}

/// A checked program.
#[derive(Clone, Debug)]
pub struct Filter(Box<[Instruction]>);

/// Instruction codes: a class, and what it is about (`linux/bpf_common.h` has the same numbers).
mod code {
    pub(super) const CLASS: u16 = 0x07;
    pub(super) const LD: u16 = 0x00;
    pub(super) const LDX: u16 = 0x01;
    pub(super) const ST: u16 = 0x02;
    pub(super) const STX: u16 = 0x03;
    pub(super) const ALU: u16 = 0x04;
    pub(super) const JMP: u16 = 0x05;
    pub(super) const RET: u16 = 0x06;
    pub(super) const MISC: u16 = 0x07;
    /// Of loads: how much, and from where.
    pub(super) const SIZE: u16 = 0x18;
    pub(super) const WORD: u16 = 0x00;
    pub(super) const HALF: u16 = 0x08;
    pub(super) const BYTE: u16 = 0x10;
    pub(super) const MODE: u16 = 0xe0;
    pub(super) const IMM: u16 = 0x00;
    pub(super) const ABS: u16 = 0x20;
    pub(super) const IND: u16 = 0x40;
    pub(super) const MEM: u16 = 0x60;
    pub(super) const LEN: u16 = 0x80;
    pub(super) const MSH: u16 = 0xa0;
    /// Of arithmetic and jumps: which, and with what.
    pub(super) const OP: u16 = 0xf0;
    pub(super) const X: u16 = 0x08;
    pub(super) const ADD: u16 = 0x00;
    pub(super) const SUB: u16 = 0x10;
    pub(super) const MUL: u16 = 0x20;
    pub(super) const DIV: u16 = 0x30;
    pub(super) const OR: u16 = 0x40;
    pub(super) const AND: u16 = 0x50;
    pub(super) const LSH: u16 = 0x60;
    pub(super) const RSH: u16 = 0x70;
    pub(super) const NEG: u16 = 0x80;
    pub(super) const MOD: u16 = 0x90;
    pub(super) const XOR: u16 = 0xa0;
    pub(super) const JA: u16 = 0x00;
    pub(super) const JEQ: u16 = 0x10;
    pub(super) const JGT: u16 = 0x20;
    pub(super) const JGE: u16 = 0x30;
    pub(super) const JSET: u16 = 0x40;
    /// Verdicts: a constant or the accumulator.
    pub(super) const RET_K: u16 = RET;
    pub(super) const RET_A: u16 = RET | 0x10;
    pub(super) const TAX: u16 = MISC;
    pub(super) const TXA: u16 = MISC | 0x80;
}
use code::*;

impl Filter {
    /// Checks a program.
    pub fn new(program: Vec<Instruction>) -> Result<Self, FilterError> {
        let len = program.len();
        if !(1..=INSTRUCTIONS_MAX).contains(&len) {
            return Err(FilterError::Length(len));
        }
        for (at, instruction) in program.iter().enumerate() {
            let ends = matches!(instruction.code, RET_K | RET_A);
            if !is_known(instruction, len - at - 1) || at + 1 == len && !ends {
                return Err(FilterError::Instruction(at));
            }
        }
        Ok(Self(program.into()))
    }

    /// Whether the packet is wanted. One that ends before an octet that is looked at is not.
    pub fn accepts(&self, packet: &Packet<'_>) -> bool {
        self.run(packet).is_some_and(|verdict| verdict != 0)
    }

    fn run(&self, packet: &Packet<'_>) -> Option<u32> {
        let (mut a, mut x, mut cells) = (0u32, 0u32, [0u32; CELLS]);
        let mut at = 0;
        loop {
            let Instruction { code, jt, jf, k } = *self.0.get(at)?;
            at += 1;
            let operand = if code & X != 0 { x } else { k };
            match code & CLASS {
                LD => {
                    a = match code & MODE {
                        IMM => k,
                        ABS => load(packet, k, code & SIZE)?,
                        IND => load(packet, x.checked_add(k)?, code & SIZE)?,
                        MEM => *cells.get(k as usize)?,
                        _ => packet.len() as u32,
                    };
                }
                LDX => {
                    x = match code & MODE {
                        IMM => k,
                        MEM => *cells.get(k as usize)?,
                        // The length of an IPv4 header.
                        MSH => 4 * (load(packet, k, BYTE)? & 0xf),
                        _ => packet.len() as u32,
                    };
                }
                ST => *cells.get_mut(k as usize)? = a,
                STX => *cells.get_mut(k as usize)? = x,
                ALU => {
                    a = match code & OP {
                        ADD => a.wrapping_add(operand),
                        SUB => a.wrapping_sub(operand),
                        MUL => a.wrapping_mul(operand),
                        DIV => a.checked_div(operand)?,
                        MOD => a.checked_rem(operand)?,
                        OR => a | operand,
                        AND => a & operand,
                        XOR => a ^ operand,
                        LSH => a.checked_shl(operand).unwrap_or(0),
                        RSH => a.checked_shr(operand).unwrap_or(0),
                        _ => a.wrapping_neg(),
                    };
                }
                JMP => {
                    let holds = match code & OP {
                        JA => {
                            at += k as usize;
                            continue;
                        }
                        JEQ => a == operand,
                        JGT => a > operand,
                        JGE => a >= operand,
                        _ => a & operand != 0,
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
                RET => return Some(if code == RET_A { a } else { k }),
                _ if code == TAX => x = a,
                _ => a = x,
            }
        }
    }
}

/// Whether an instruction makes sense that has `behind` others behind it.
fn is_known(instruction: &Instruction, behind: usize) -> bool {
    let Instruction { code, jt, jf, k } = *instruction;
    let (is_cell, is_inside) = ((k as usize) < CELLS, |jump: usize| jump < behind);
    let has_rest = |rest: u16| code & !(CLASS | rest) == 0;
    match code & CLASS {
        LD => match code & MODE {
            ABS | IND => has_rest(MODE | SIZE) && code & SIZE != SIZE,
            MEM => has_rest(MODE) && is_cell,
            IMM | LEN => has_rest(MODE),
            _ => false,
        },
        LDX => match code & MODE {
            MSH => code == LDX | BYTE | MSH,
            MEM => has_rest(MODE) && is_cell,
            IMM | LEN => has_rest(MODE),
            _ => false,
        },
        ST | STX => has_rest(0) && is_cell,
        ALU => match code & OP {
            DIV | MOD => has_rest(OP | X) && (code & X != 0 || k != 0),
            ADD | SUB | MUL | OR | AND | XOR | LSH | RSH => has_rest(OP | X),
            NEG => has_rest(OP),
            _ => false,
        },
        JMP => match code & OP {
            JA => has_rest(OP) && is_inside(k as usize),
            JEQ | JGT | JGE | JSET => has_rest(OP | X) && is_inside(usize::from(jt)) && is_inside(usize::from(jf)),
            _ => false,
        },
        RET => matches!(code, RET_K | RET_A),
        _ => matches!(code, TAX | TXA),
    }
}

/// Octets of the packet as a number; none behind its end.
#[inline]
fn load(packet: &Packet<'_>, at: u32, size: u16) -> Option<u32> {
    let at = at as usize;
    let octets = packet.head().get(at..).unwrap_or_default();
    let (number, len) = match size {
        WORD => (octets.first_chunk().map(|octets| u32::from_be_bytes(*octets)), 4),
        HALF => (octets.first_chunk().map(|octets| u16::from_be_bytes(*octets).into()), 2),
        _ => (octets.first().map(|octet| u32::from(*octet)), 1),
    };
    number.or_else(|| {
        let octets = load_scattered(packet, at, len)?;
        Some(octets[..len].iter().fold(0, |number, octet| number << 8 | u32::from(*octet)))
    })
}

/// The same of a packet in several pieces.
#[cold]
fn load_scattered(packet: &Packet<'_>, at: usize, len: usize) -> Option<[u8; 4]> {
    let mut found = [0; 4];
    for (place, octet) in found[..len].iter_mut().enumerate() {
        let mut left = at + place;
        *octet = packet.segments().find_map(|segment| {
            let octet = segment.get(left).copied();
            left = left.saturating_sub(segment.len());
            octet
        })?;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(lines: &[(u16, u8, u8, u32)]) -> Result<Filter, FilterError> {
        Filter::new(lines.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect())
    }

    /// What is in the accumulator after `lines`.
    fn result(lines: &[(u16, u8, u8, u32)], octets: &[u8]) -> Option<u32> {
        let lines: Vec<_> = lines.iter().copied().chain([(RET_A, 0, 0, 0)]).collect();
        program(&lines).unwrap().run(&Packet::contiguous(octets))
    }

    #[test]
    fn loads_see_what_is_there_in_any_segmentation() {
        let octets: Vec<u8> = (1..=20).collect();
        assert_eq!(result(&[(LD | WORD | ABS, 0, 0, 16)], &octets), Some(0x11121314));
        assert_eq!(result(&[(LD | WORD | ABS, 0, 0, 17)], &octets), None);
        assert_eq!(result(&[(LD | HALF | ABS, 0, 0, 18)], &octets), Some(0x1314));
        assert_eq!(result(&[(LD | BYTE | ABS, 0, 0, u32::MAX)], &octets), None);
        assert_eq!(result(&[(LDX | IMM, 0, 0, 5), (LD | BYTE | IND, 0, 0, 2)], &octets), Some(8));
        assert_eq!(result(&[(LDX | IMM, 0, 0, 5), (LD | BYTE | IND, 0, 0, u32::MAX)], &octets), None);
        assert_eq!(result(&[(LDX | BYTE | MSH, 0, 0, 4), (TXA, 0, 0, 0)], &octets), Some(20));
        assert_eq!(result(&[(LD | LEN, 0, 0, 0)], &octets), Some(20));
        assert_eq!(result(&[(LDX | LEN, 0, 0, 0), (TXA, 0, 0, 0)], &octets), Some(20));
        let filter = program(&[(LD | WORD | ABS, 0, 0, 16), (RET_A, 0, 0, 0)]).unwrap();
        for (first, second) in (1..20).flat_map(|first| (first + 1..20).map(move |second| (first, second))) {
            let pieces = vec![&octets[..first], &octets[first..second], &octets[second..]];
            assert_eq!(filter.run(&Packet::segmented(&pieces, 0, 20)), Some(0x11121314), "{first} {second}");
        }
    }

    #[test]
    fn arithmetic_memory_and_jumps() {
        for (op, k, wanted) in [
            (ADD, u32::MAX, Some(6)),
            (SUB, 8, Some(u32::MAX)),
            (MUL, 3, Some(21)),
            (DIV, 2, Some(3)),
            (MOD, 4, Some(3)),
            (OR, 8, Some(15)),
            (AND, 5, Some(5)),
            (XOR, 5, Some(2)),
            (LSH, 31, Some(1 << 31)),
            (LSH, 32, Some(0)),
            (RSH, 1, Some(3)),
            (NEG, 0, Some(7u32.wrapping_neg())),
        ] {
            assert_eq!(result(&[(LD | IMM, 0, 0, 7), (ALU | op, 0, 0, k)], &[]), wanted, "{op:#x} {k}");
            if op != NEG {
                let by_x = [(LD | IMM, 0, 0, 7), (LDX | IMM, 0, 0, k), (ALU | op | X, 0, 0, 0)];
                assert_eq!(result(&by_x, &[]), wanted, "{op:#x} {k} by x");
            }
        }
        assert_eq!(result(&[(LD | IMM, 0, 0, 7), (ALU | DIV | X, 0, 0, 0)], &[]), None, "by zero");
        let cells = [(LD | IMM, 0, 0, 7), (ST, 0, 0, 15), (LDX | MEM, 0, 0, 15), (STX, 0, 0, 2), (LD | MEM, 0, 0, 2)];
        assert_eq!(result(&cells, &[]), Some(7));
        assert_eq!(result(&[(LD | IMM, 0, 0, 9), (TAX, 0, 0, 0), (LD | IMM, 0, 0, 1), (TXA, 0, 0, 0)], &[]), Some(9));
        for (op, k, holds) in [(JEQ, 7, true), (JGT, 7, false), (JGE, 7, true), (JSET, 8, false), (JSET, 5, true)] {
            for by_x in [0, X] {
                let jump = [
                    (LDX | IMM, 0, 0, k),
                    (LD | IMM, 0, 0, 7),
                    (JMP | op | by_x, 1, 0, k),
                    (RET_K, 0, 0, 0),
                    (RET_K, 0, 0, 1),
                ];
                assert_eq!(program(&jump).unwrap().accepts(&Packet::contiguous(&[])), holds, "{op:#x} {k}");
            }
        }
        let over = [(LD | IMM, 0, 0, 7), (JMP | JA, 0, 0, 1), (LD | IMM, 0, 0, 8)];
        assert_eq!(result(&over, &[]), Some(7));
    }

    #[test]
    fn what_could_go_astray_is_refused() {
        assert_eq!(program(&[]).unwrap_err(), FilterError::Length(0));
        assert_eq!(program(&vec![(RET_K, 0, 0, 0); 1025]).unwrap_err(), FilterError::Length(1025));
        for bad in [
            (JMP | JA, 0, 0, 1),
            (JMP | JA, 0, 0, u32::MAX),
            (JMP | JEQ, 1, 0, 0),
            (JMP | JEQ, 0, 1, 0),
            (JMP | 0x50, 0, 0, 0),
            (ST, 0, 0, 16),
            (STX, 0, 0, 16),
            (LD | MEM, 0, 0, 16),
            (LDX | MEM, 0, 0, 16),
            (LD | MSH, 0, 0, 0),
            (LD | SIZE | ABS, 0, 0, 0),
            (LDX | ABS, 0, 0, 0),
            (ALU | DIV, 0, 0, 0),
            (ALU | MOD, 0, 0, 0),
            (ALU | 0xb0, 0, 0, 0),
            (RET | X, 0, 0, 0),
            (MISC | 0x40, 0, 0, 0),
            (0x100, 0, 0, 0),
        ] {
            assert_eq!(program(&[bad, (RET_K, 0, 0, 0)]).unwrap_err(), FilterError::Instruction(0), "{bad:?}");
        }
        assert_eq!(program(&[(LD | LEN, 0, 0, 0)]).unwrap_err(), FilterError::Instruction(0), "no verdict");
        // Any program that is taken comes to an end, and reads nothing that is not there.
        let mut dice = crate::port::fault::Dice::new(7);
        for _ in 0..20_000 {
            let mut line = || {
                let word = dice.roll();
                (word as u16 & 0xff, (word >> 8) as u8 & 3, (word >> 10) as u8 & 3, (word >> 20) as u32 & 31)
            };
            let lines: Vec<_> = (0..6).map(|_| line()).chain([(RET_A, 0, 0, 0)]).collect();
            if let Ok(filter) = program(&lines) {
                filter.run(&Packet::contiguous(&[0xff; 24]));
            }
        }
    }
}
