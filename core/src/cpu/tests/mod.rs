//! The system side of the processor, instruction by instruction: a machine with a few descriptors and handlers that
//! are only ever arrived at.

mod cet;
mod control;
mod debug;
mod delivery;
mod disagreements;
mod far;
mod ferr;
mod frames;
mod nmi;
mod paragraphs;
mod reset;
mod segments;
mod series;
mod small_modes;
mod strings;
mod task_shadow;
mod tasks;
mod vectors;
mod waiting;
mod xsave;

use std::sync::Arc;

use super::bits::*;
use super::block::CodeCache;
use super::run::{self, Turn};
use super::segment::{Rights, Segment, TableRegister, CS, DS, ES, SS, TR};
use super::{flags, Cpu, Shadow, RSP};
use crate::platform::Bus;

const GDT: u64 = 0x1000;
const IDT: u64 = 0x2000;
const TSS: u64 = 0x3000;
const OTHER_TSS: u64 = 0x3200;
const PAGE_TABLES: u64 = 0x4000;
const CODE: u64 = 0x1_0000;
/// Where the handler of vector n is: at `HANDLERS + 16 * n`.
const HANDLERS: u64 = 0x2_0000;
const STACK: u64 = 0x8000;
const INNER_STACK: u64 = 0x9000;
const IST_STACK: u64 = 0xa000;
const USER_STACK: u64 = 0xb000;

const CODE0: u16 = 0x08;
const DATA0: u16 = 0x10;
const CODE3: u16 = 0x1b;
const DATA3: u16 = 0x23;
const TSS_SELECTOR: u16 = 0x28;
const OTHER_TSS_SELECTOR: u16 = 0x38;
const CONFORMING: u16 = 0x40;
const ABSENT: u16 = 0x48;
const CALL_GATE: u16 = 0x50;
const COMPATIBILITY: u16 = 0x63;
const GDT_BYTES: u16 = 0x80;

/// Gate rights: present, DPL 0; of DPL 3 where a program may use it.
const INTERRUPT_GATE: u8 = 0x8e;
const TRAP_GATE: u8 = 0x8f;
const USER_GATE: u8 = 0xee;

struct Bench {
    cpu: Cpu,
    bus: Bus,
    code: CodeCache,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            cpu: Cpu {
                x87: Default::default(),
                ..Cpu::new(0, Arc::default())
            },
            bus: Bus::new(4 << 20, 1),
            code: CodeCache::default(),
        }
    }

    /// Real-address mode with IVT entries that lead to 0:16 n + 0x600.
    fn real() -> Bench {
        let mut bench = Bench::new();
        for vector in 0..256u64 {
            bench.store::<4>(vector * 4, 0x600 + 16 * vector);
        }
        for segment in [CS, SS, DS, ES] {
            bench.cpu.seg[segment] = Segment::real(0x100);
        }
        bench.cpu.idtr = TableRegister {
            base: 0,
            limit: 0x3ff,
        };
        bench.cpu.regs[RSP] = 0x1000;
        bench.cpu.rip = 0;
        bench.cpu.update_mode();
        bench
    }

    /// 32-bit protected mode at CPL 0 without paging, every vector an interrupt gate.
    fn protected() -> Bench {
        let mut bench = Bench::new();
        bench.tables(0x00cf_9b00_0000_ffff);
        bench.cpu.cr0 = CR0_PE | CR0_ET;
        for vector in 0..=255 {
            bench.gate(vector, INTERRUPT_GATE);
        }
        bench.task_stack(0, DATA0, INNER_STACK as u32);
        bench.start(CODE0, 0xc09b);
        bench
    }

    /// 64-bit mode at CPL 0, the first 4 MB mapped to themselves for CPL 3, every vector an interrupt gate.
    fn long() -> Bench {
        let mut bench = Bench::new();
        bench.tables(0x00af_9b00_0000_ffff);
        for (at, entry) in [
            (0, PAGE_TABLES + 0x1007),
            (0x1000, PAGE_TABLES + 0x2007),
            (0x2000, 0x87),
            (0x2008, 0x20_0087),
        ] {
            bench.store::<8>(PAGE_TABLES + at, entry);
        }
        bench.cpu.cr0 = CR0_PE | CR0_ET | CR0_PG | CR0_WP;
        bench.cpu.cr3 = PAGE_TABLES;
        bench.cpu.cr4 = CR4_PAE;
        bench.cpu.efer = EFER_LME | EFER_LMA | EFER_NXE;
        for vector in 0..=255 {
            bench.gate(vector, INTERRUPT_GATE);
        }
        bench.store::<8>(TSS + 4, INNER_STACK);
        bench.store::<8>(TSS + 0x24, IST_STACK);
        bench.start(CODE0, 0xa09b);
        bench
    }

    fn tables(&mut self, code: u64) {
        let user = 3 << 45;
        let tss = |base: u64| 0x0000_8900_0000_0067 | base << 16;
        for (selector, descriptor) in [
            (CODE0, code),
            (DATA0, 0x00cf_9300_0000_ffff),
            (CODE3, code | user),
            (DATA3, 0x00cf_f300_0000_ffff),
            (TSS_SELECTOR, tss(TSS) | 1 << 41),
            (CONFORMING, code | 1 << 42),
            (ABSENT, 0x00cf_1300_0000_ffff),
            (COMPATIBILITY, 0x00cf_fb00_0000_ffff),
        ] {
            self.descriptor(selector, descriptor);
        }
        self.cpu.gdtr = TableRegister {
            base: GDT,
            limit: GDT_BYTES - 1,
        };
        self.cpu.idtr = TableRegister {
            base: IDT,
            limit: 0xfff,
        };
    }

    fn start(&mut self, code: u16, rights: u32) {
        let cpu = &mut self.cpu;
        *cpu.seg = [Segment::flat(DATA0, 0xc093); 8];
        cpu.seg[CS] = Segment::flat(code, rights);
        cpu.seg[TR] = Segment {
            selector: TSS_SELECTOR,
            rights: Rights(0x8b),
            limit: 0x67,
            base: TSS,
        };
        cpu.seg[super::segment::LDTR] = Segment::unusable(0);
        cpu.regs[RSP] = STACK;
        cpu.rip = CODE;
        cpu.update_space();
        cpu.update_mode();
    }

    /// At CPL 3 from now on.
    fn user(mut self) -> Bench {
        let code = self.cpu.seg[CS].rights.0 | 3 << 5;
        self.cpu.seg[CS] = Segment::flat(CODE3, code);
        for segment in [SS, DS, ES] {
            self.cpu.seg[segment] = Segment::flat(DATA3, 0xc0f3);
        }
        self.cpu.cpl = 3;
        self.cpu.regs[RSP] = USER_STACK;
        self.cpu.update_mode();
        self
    }

    fn descriptor(&mut self, selector: u16, descriptor: u64) {
        self.store::<8>(GDT + (selector & !7) as u64, descriptor);
    }

    /// A gate with `rights` for `vector`, into code segment `CODE0`.
    fn gate(&mut self, vector: u64, rights: u8) {
        self.gate_to(vector, CODE0, rights, 0);
    }

    fn gate_to(&mut self, vector: u64, selector: u16, rights: u8, ist: u64) {
        let offset = handler(vector as u8);
        let low = offset & 0xffff | (selector as u64) << 16 | ist << 32 | (rights as u64) << 40;
        let low = low | (offset & 0xffff_0000) << 32;
        if self.cpu.efer & EFER_LMA != 0 {
            self.store::<8>(IDT + vector * 16, low);
            self.store::<8>(IDT + vector * 16 + 8, 0);
        } else {
            self.store::<8>(IDT + vector * 8, low);
        }
    }

    fn task_stack(&mut self, level: u64, selector: u16, pointer: u32) {
        self.store::<4>(TSS + 4 + 8 * level, pointer as u64);
        self.store::<4>(TSS + 8 + 8 * level, selector as u64);
    }

    fn store<const BYTES: u64>(&mut self, address: u64, value: u64) {
        self.bus.write_physical(0, address, BYTES, value);
    }

    fn load<const BYTES: u64>(&mut self, address: u64) -> u64 {
        self.bus.read_physical(0, address, BYTES)
    }

    /// The entries on top of the stack, `BYTES` each.
    fn stack<const BYTES: u64, const N: usize>(&mut self) -> [u64; N] {
        let top = self.cpu.seg[SS].base + self.cpu.regs[RSP];
        std::array::from_fn(|n| self.load::<BYTES>(top + n as u64 * BYTES))
    }

    /// Runs `code`, which is one instruction, at RIP.
    fn run(&mut self, code: &[u8]) {
        let at = self.cpu.code_linear();
        for (n, byte) in code.iter().enumerate() {
            self.store::<1>(at + n as u64, *byte as u64);
        }
        self.step();
    }

    fn step(&mut self) {
        self.turn(self.cpu.icount + 1);
    }

    /// A turn that ends at that instruction count.
    fn turn(&mut self, until: u64) {
        let turn = Turn {
            until,
            leave_breakpoint: false,
            mask_interrupts: false,
        };
        run::turn(&mut self.cpu, &mut self.bus, &mut self.code, turn);
    }

    /// Runs that many instructions, at most `stride` in a turn.
    fn advance(&mut self, instructions: u64, stride: u64) {
        let end = self.cpu.icount + instructions;
        while self.cpu.icount < end {
            self.turn(end.min(self.cpu.icount + stride));
        }
    }

    /// Runs `code`; says that it raised `vector` and gives the error code that its handler finds.
    fn fault(&mut self, code: &[u8], vector: u8) -> u64 {
        self.run(code);
        self.assert_in(vector);
        let top = self.cpu.regs[RSP];
        if self.cpu.long_mode() {
            self.load::<8>(top)
        } else {
            self.load::<4>(top)
        }
    }

    fn assert_in(&self, vector: u8) {
        assert_eq!(
            self.cpu.rip,
            handler(vector),
            "RIP is not that of vector {vector}'s handler"
        );
    }
}

fn handler(vector: u8) -> u64 {
    HANDLERS + 16 * vector as u64
}
