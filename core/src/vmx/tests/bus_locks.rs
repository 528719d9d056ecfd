//! Bus locks, and shadow stacks that VM exits leave prematurely busy: what the upper bits of the exit reason tell.

use super::*;
use crate::cpu::bus_lock::{Locked, Why};
use crate::vmx::reasons::{BUSY_SHADOW_STACK, BUS_LOCK};

const DATA: u64 = 0x15_0000;

/// A guest that executes `code`, whose operand is at RDI, and then CPUID, on write-back memory and with EAX 1.
fn guest(code: &[u8], operand: u64) -> Bench {
    let mut bench = Bench::with_guest(&[code, CPUID].concat());
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    bench.set_bits(
        field::SECONDARY_PROCESSOR_BASED_CONTROLS,
        secondary::BUS_LOCK_DETECTION,
    );
    bench.cpu.msr.mtrr.default_type = 0x806;
    bench.cpu.regs[RAX] = 1;
    bench.cpu.regs[RCX] = 0;
    bench.cpu.regs[7] = operand;
    bench
}

/// LOCK ADD [RDI], EAX; XCHG [RDI], EAX; ADD [RDI], EAX; LOCK BTS [RDI], RCX; LOCK CMPXCHG16B [RDI].
const LOCK_ADD: &[u8] = &[0xf0, 0x01, 0x07];
const XCHG: &[u8] = &[0x87, 0x07];
const ADD: &[u8] = &[0x01, 0x07];
const LOCK_BTS: &[u8] = &[0xf0, 0x48, 0x0f, 0xab, 0x0f];
const LOCK_CMPXCHG16B: &[u8] = &[0xf0, 0x48, 0x0f, 0xc7, 0x0f];

const EXIT: u64 = reason::BUS_LOCK as u64 | BUS_LOCK;

#[test]
fn a_lock_across_lines_exits_after_its_instruction() {
    for (code, linear, bytes) in [
        (LOCK_ADD, DATA + 61, 4),
        (LOCK_ADD, DATA + 0xffe, 4),
        (XCHG, DATA + 63, 4),
    ] {
        let mut bench = guest(code, linear);
        assert_eq!(bench.launch(), EXIT);
        assert_eq!(bench.bus.read_physical(0, linear, 4), 1);
        assert_eq!(bench.get(field::GUEST_RIP), GUEST + code.len() as u64);
        assert_eq!(bench.get(field::EXIT_QUALIFICATION), 0);
        let cause = Cause::BusLock {
            locked: Locked { linear, bytes },
            why: Why::Split,
        };
        assert_eq!(bench.cause(), cause);
        assert!(
            bench.words().contains("crosses from one line"),
            "{}",
            bench.words()
        );
        // It is over with that.
        assert_eq!(bench.resume(), reason::CPUID as u64);
    }
}

#[test]
fn other_accesses_do_not_exit() {
    for (code, operand) in [
        (LOCK_ADD, DATA + 60),
        (LOCK_CMPXCHG16B, DATA + 48),
        (XCHG, DATA),
        (ADD, DATA + 61),
    ] {
        assert_eq!(guest(code, operand).launch(), reason::CPUID as u64, "{code:x?}");
    }
    // Nor any without the control.
    let mut bench = guest(LOCK_ADD, DATA + 61);
    bench.set(field::SECONDARY_PROCESSOR_BASED_CONTROLS, 0);
    assert_eq!(bench.launch(), reason::CPUID as u64);
}

#[test]
fn a_bit_is_looked_for_where_it_lies() {
    for (bit, expected) in [
        (64, reason::CPUID as u64),
        (3 * 64, EXIT),
        (0u64.wrapping_sub(5 * 64), EXIT),
    ] {
        let mut bench = guest(LOCK_BTS, DATA + 36);
        bench.cpu.regs[RCX] = bit;
        assert_eq!(bench.launch(), expected, "{bit:#x}");
    }
}

#[test]
fn a_lock_on_memory_that_is_not_write_back_exits() {
    type Change = fn(&mut Bench);
    let changes: [(Change, u64); 6] = [
        (|bench| bench.cpu.msr.mtrr.default_type = 0, EXIT),
        // The page: PCD and PWT.
        (|bench| bench.store(0x3000, 0x9f), EXIT),
        (|bench| bench.cpu.msr.pat = 0, EXIT),
        // With EPT its type counts in place of the MTRRs'; and alone, where it says so.
        (
            |bench| {
                add_ept(bench, 7);
                bench.cpu.msr.mtrr.default_type = 0;
            },
            reason::CPUID as u64,
        ),
        (
            |bench| {
                add_ept(bench, 7);
                bench.store(EPT + 0x2000, 0x87);
            },
            EXIT,
        ),
        (
            |bench| {
                add_ept(bench, 7);
                bench.store(EPT + 0x2000, 0xf7);
                bench.cpu.msr.pat = 0;
            },
            reason::CPUID as u64,
        ),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let mut bench = guest(LOCK_ADD, DATA);
        change(&mut bench);
        assert_eq!(bench.launch(), expected, "{number}");
    }
    let mut bench = guest(LOCK_ADD, DATA);
    bench.cpu.msr.pat = 0;
    bench.launch();
    assert!(bench.words().contains("not write-back"), "{}", bench.words());
}

#[test]
fn a_bus_lock_comes_before_other_traps() {
    let mut bench = guest(LOCK_ADD, DATA + 61);
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::MONITOR_TRAP_FLAG,
    );
    bench.set(field::GUEST_RFLAGS, 0x102);
    assert_eq!(bench.launch(), EXIT);
    assert_eq!(bench.get(field::GUEST_PENDING_DEBUG_EXCEPTIONS), 1 << 14);
    // A fault asserts nothing.
    let mut bench = guest(LOCK_ADD, 0x4000_003d);
    bench.set(field::EXCEPTION_BITMAP, 1 << 14);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
}

/// The pages that the frame and the token lie on.
const FRAME: u64 = 0x16_0000;
const TOKEN: u64 = FRAME + 0x1000;
/// The guest's page table, and EPT's.
const PAGES: u64 = 0x4000;
const EPT_PAGES: u64 = EPT + 0x3000;

/// A guest that executes UD2 with a supervisor shadow stack; the handler has another, on pages that can be read and
/// written.
fn with_shadow_stacks() -> Bench {
    const INTERRUPT_TABLE: u64 = 0x17_0000;
    const IST: u64 = 1;
    let mut bench = Bench::with_guest(&[0x0f, 0x0b]);
    add_ept(&mut bench, 7);
    super::ept::handle(&mut bench, 6);
    let gate = bench.get(field::GUEST_IDTR_BASE) + 16 * 6;
    let low = bench.bus.read_physical(0, gate, 8);
    bench.store(gate, low | IST << 32);
    bench.store(0x24, 0x9000);
    bench.store(0x3000, PAGES | 0x67);
    bench.store(EPT + 0x2000, EPT_PAGES | 7);
    for page in 0..512 {
        let address = page << 12;
        let rights = if [FRAME, TOKEN].contains(&address) {
            0x61
        } else {
            0x67
        };
        bench.store(PAGES + page * 8, address | rights);
        bench.store(EPT_PAGES + page * 8, address | 0x37);
    }
    bench.store(INTERRUPT_TABLE + IST * 8, TOKEN);
    bench.store(TOKEN, TOKEN);
    bench.set_bits(field::ENTRY_CONTROLS, entry::LOAD_CET_STATE);
    bench.set_bits(
        field::EXIT_CONTROLS,
        exit::LOAD_CET_STATE | exit::ACTIVATE_SECONDARY_CONTROLS,
    );
    bench.set(
        field::SECONDARY_EXIT_CONTROLS,
        secondary_exit::PREMATURELY_BUSY_SHADOW_STACK,
    );
    bench.set(field::GUEST_IA32_S_CET, 1);
    bench.set(field::GUEST_SSP, 0x18_0000);
    bench.set(field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR, INTERRUPT_TABLE);
    bench.set_bits(field::GUEST_CR4, CR4_CET);
    bench
}

const FRAME_INDEX: u64 = FRAME >> 9;

#[test]
fn the_handler_gets_the_frame_on_its_shadow_stack() {
    let mut bench = with_shadow_stacks();
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!(bench.bus.read_physical(0, TOKEN, 8), TOKEN | 1);
    assert_eq!(bench.get(field::GUEST_SSP), TOKEN - 24);
}

#[test]
fn an_exit_that_leaves_a_shadow_stack_busy_says_so() {
    type Change = fn(&mut Bench);
    let changes: [(Change, u16); 4] = [
        (
            |bench| bench.store(EPT_PAGES + FRAME_INDEX, FRAME | 0x31),
            reason::EPT_VIOLATION,
        ),
        // It cannot become a virtualization exception.
        (
            |bench| {
                bench.store(EPT_PAGES + FRAME_INDEX, FRAME | 0x31);
                bench.set_bits(
                    field::SECONDARY_PROCESSOR_BASED_CONTROLS,
                    secondary::EPT_VIOLATION_VE,
                );
                bench.set(field::VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, 0x1_3000);
            },
            reason::EPT_VIOLATION,
        ),
        (
            |bench| bench.store(EPT_PAGES + FRAME_INDEX, FRAME | 0x32),
            reason::EPT_MISCONFIGURATION,
        ),
        (
            |bench| {
                bench.store(PAGES + FRAME_INDEX, 0);
                bench.set(field::EXCEPTION_BITMAP, 1 << 14);
            },
            reason::EXCEPTION_OR_NMI,
        ),
    ];
    for (change, reason) in changes {
        let mut bench = with_shadow_stacks();
        change(&mut bench);
        assert_eq!(bench.launch(), reason as u64 | BUSY_SHADOW_STACK);
        assert_eq!(bench.bus.read_physical(0, TOKEN, 8), TOKEN | 1);
        assert_eq!(bench.get(field::GUEST_SSP), 0x18_0000);
        assert_eq!(bench.get(field::IDT_VECTORING_INFO), 0x8000_0306);
        let linear = match reason {
            reason::EXCEPTION_OR_NMI => bench.get(field::EXIT_QUALIFICATION),
            _ => bench.get(field::GUEST_LINEAR_ADDRESS),
        };
        assert_eq!(linear, TOKEN - 4);
        assert!(bench.words().contains("prematurely busy"), "{}", bench.words());

        let mut bench = with_shadow_stacks();
        change(&mut bench);
        bench.set(field::SECONDARY_EXIT_CONTROLS, 0);
        assert_eq!(bench.launch(), reason as u64);
    }
    // The token's own page: nothing was acquired.
    let mut bench = with_shadow_stacks();
    bench.store(EPT_PAGES + (TOKEN >> 9), TOKEN | 0x31);
    assert_eq!(bench.launch(), reason::EPT_VIOLATION as u64);
    assert_eq!(bench.bus.read_physical(0, TOKEN, 8), TOKEN);
}
