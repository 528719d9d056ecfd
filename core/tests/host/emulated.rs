//! Our processor: 64-bit or compatibility mode at privilege level 3, paging on, nothing else.

use std::sync::Arc;

use _core::cpu::block::CodeCache;
use _core::cpu::exec::x87;
use _core::cpu::run::{turn, Turn};
use _core::cpu::segment::{Rights, CS, DS, ES, SS, TR};
use _core::cpu::{bits, Cpu, RSP};
use _core::platform::Bus;
use _core::vmx::cpuid_features;
use _core::vmx::profile::Profile;

use super::state::*;

/// Physical addresses: the four levels of paging, then the pages of the case.
const TABLES: u64 = 0x1000;
const PAGES_AT: u64 = 0x10000;
/// A page for the supervisor: IDT, GDT and TSS in it, and its end is the stack.
const SYSTEM: u64 = CODE + PAGES * 0x1000;
const SYSTEM_AT: u64 = PAGES_AT + PAGES * 0x1000;
const GDT: u64 = 0x400;
const TSS: u64 = 0x800;
/// The handlers: each a JMP to itself.
const HANDLERS: u64 = 0x900;

const CODE_64: Rights = Rights(0xa0fb);
const CODE_32: Rights = Rights(0xc0fb);

pub struct Emulated {
    fresh: Cpu,
    cpu: Cpu,
    bus: Bus,
    code: CodeCache,
}

impl Emulated {
    pub fn new() -> Emulated {
        let mut bus = Bus::new(0x20000, 1);
        let mut entry = |table: u64, index: u64, value: u64| {
            bus.write_physical(0, TABLES + table * 0x1000 + index * 8, 8, value | 7)
        };
        entry(0, CODE >> 39, TABLES + 0x1000);
        entry(1, CODE >> 30 & 511, TABLES + 0x2000);
        entry(2, CODE >> 21 & 511, TABLES + 0x3000);
        for page in 0..=PAGES {
            entry(3, page, PAGES_AT + page * 0x1000);
        }
        let mut system = |at: u64, value: u64| bus.write_physical(0, SYSTEM_AT + at, 8, value);
        for vector in 0..32 {
            // 64-bit interrupt gates to selector 8 (SDM vol. 3, 6.14.1).
            let handler = SYSTEM + HANDLERS + vector * 8;
            // Programs may raise #BP and #OF by instructions.
            let kind = if matches!(vector, 3 | 4) { 0xee } else { 0x8e };
            system(
                vector * 16,
                handler & 0xffff | 8 << 16 | kind << 40 | handler >> 16 << 48,
            );
            system(HANDLERS + vector * 8, 0xfeeb);
        }
        // 64-bit code, privilege level 0.
        system(GDT + 8, 0x00af_9b00_0000_ffff);
        // RSP0.
        bus.write_physical(0, SYSTEM_AT + TSS + 4, 8, SYSTEM + 0x1000);
        let mut profile = Profile::default();
        for feature in cpuid_features::ALL {
            let old = profile.cpuid(feature.leaf, feature.subleaf)[feature.register as usize];
            profile.set_cpuid(
                feature.leaf,
                feature.subleaf,
                feature.register,
                old | feature.mask(),
            );
        }
        let mut cpu = Cpu::new(0, Arc::new(profile));
        cpu.cr0 = bits::CR0_PE
            | bits::CR0_PG
            | bits::CR0_WP
            | bits::CR0_ET
            | bits::CR0_NE
            | bits::CR0_MP
            | bits::CR0_AM;
        cpu.cr4 = bits::CR4_PAE | bits::CR4_OSFXSR | bits::CR4_OSXMMEXCPT | bits::CR4_OSXSAVE;
        cpu.xcr0 = 7;
        cpu.cr3 = TABLES;
        cpu.efer = bits::EFER_LME | bits::EFER_LMA | bits::EFER_NXE;
        cpu.cpl = 3;
        cpu.seg[CS].rights = CODE_64;
        for segment in [CS, SS, DS, ES] {
            cpu.seg[segment].base = 0;
            cpu.seg[segment].limit = 0xffff_ffff;
        }
        for segment in [SS, DS, ES] {
            cpu.seg[segment].rights = Rights(0xc0f3);
        }
        cpu.idtr.base = SYSTEM;
        cpu.idtr.limit = 0x1ff;
        cpu.gdtr.base = SYSTEM + GDT;
        cpu.gdtr.limit = 15;
        cpu.seg[TR].base = SYSTEM + TSS;
        cpu.seg[TR].limit = 0x67;
        cpu.refresh();
        Emulated {
            fresh: cpu.clone(),
            cpu,
            bus,
            code: CodeCache::default(),
        }
    }

    fn write(&mut self, linear: u64, bytes: &[u8]) {
        // Piece by piece: RAM takes writes within a page.
        for (at, byte) in bytes.iter().enumerate() {
            let physical = linear + at as u64 - CODE + PAGES_AT;
            self.bus.write_physical(0, physical, 1, *byte as u64);
        }
    }

    fn start(&mut self, case: &Case) {
        // The PC does not change at the end, until the turns are used up: JMP to itself.
        self.write(CODE + ENTRY, &case.bytes);
        self.write(case.end(), &[0xeb, 0xfe]);
        self.write(WINDOW, &case.memory);
        self.cpu = self.fresh.clone();
        let cpu = &mut self.cpu;
        cpu.seg[CS].rights = if case.bitness == 32 { CODE_32 } else { CODE_64 };
        cpu.regs[..16].copy_from_slice(&case.state.regs);
        cpu.ymm = case.state.ymm;
        cpu.mxcsr = case.state.mxcsr as u32;
        cpu.x87 = registers_of(&case.state.x87);
        cpu.set_flags(case.state.flags);
        cpu.rip = CODE + ENTRY;
        cpu.refresh();
    }

    fn turn(&mut self, count: u64) {
        let turn_of = Turn {
            until: self.cpu.icount + count,
            leave_breakpoint: false,
            mask_interrupts: true,
        };
        turn(&mut self.cpu, &mut self.bus, &mut self.code, turn_of);
    }

    /// Runs the instructions of `case` in turns of `stride`.
    pub fn run(&mut self, case: &Case, stride: u64) -> Outcome {
        /// More than any case has, repetitions included.
        const MOST: u64 = 1024;
        self.start(case);
        for _ in 0..MOST / stride {
            self.turn(stride);
            if self.cpu.rip == case.end() || self.cpu.cpl != 3 {
                break;
            }
        }
        let cpu = &self.cpu;
        let mut state = case.state;
        state.regs.copy_from_slice(&cpu.regs[..16]);
        state.ymm = cpu.ymm;
        state.flags = cpu.flags.get();
        state.mxcsr = cpu.mxcsr as u64;
        state.x87 = image_of(&cpu.x87, state.x87.unused);
        let fault = (cpu.cpl != 3).then(|| {
            let vector = cpu.rip.wrapping_sub(SYSTEM + HANDLERS) / 8;
            let vector = u8::try_from(vector).expect("an exception's handler");
            let mut frame = cpu.regs[RSP];
            let mut pop = || {
                frame += 8;
                self.bus.read_physical(0, frame - 8 - SYSTEM + SYSTEM_AT, 8)
            };
            let error = if Fault::new(vector, 0, 0, 0).error.is_some() {
                pop()
            } else {
                0
            };
            let (rip, _, flags, rsp) = (pop(), pop(), pop(), pop());
            (state.flags, state.regs[RSP]) = (flags, rsp);
            Fault::new(vector, error as u32, cpu.cr2, rip)
        });
        if fault.is_none() {
            assert_eq!(cpu.rip, case.end(), "the case does not end: {case:x?}");
        }
        state.flags &= FLAGS;
        let mut memory = [0; WINDOW_BYTES];
        let window = (WINDOW - CODE + PAGES_AT) as usize;
        memory.copy_from_slice(self.bus.ram.slice(window, WINDOW_BYTES).expect("RAM"));
        Outcome { fault, state, memory }
    }
}

fn registers_of(image: &X87) -> x87::X87 {
    let mut x87 = x87::X87 {
        control: image.control,
        status: image.status,
        opcode: image.opcode,
        ..Default::default()
    };
    x87.instruction = image.instruction;
    x87.operand = image.operand;
    for (n, [significand, top]) in image.registers.into_iter().enumerate() {
        x87.set(n, (significand, top as u16));
    }
    x87.set_tags(|n| image.tags >> n & 1 == 0);
    x87
}

fn image_of(x87: &x87::X87, unused: u64) -> X87 {
    let mut registers = [[0; 2]; 8];
    for (n, register) in registers.iter_mut().enumerate() {
        let (significand, top) = x87.get(n);
        *register = [significand, top as u64];
    }
    X87 {
        control: x87.control,
        status: x87.status,
        tags: x87.in_use() as u16,
        opcode: x87.opcode,
        instruction: x87.instruction,
        operand: x87.operand,
        unused,
        registers,
    }
}
