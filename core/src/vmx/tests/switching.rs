//! A run that goes from world to world without a look at everything does what one does that looks before each instruction.

use super::*;
use crate::debug::breakpoints::{Breakpoint, Scope};
use crate::debug::catch::{Catch, Filter};
use crate::debug::events::Event;

/// MOV EAX, the encoding of guest RIP; VMREAD RBX, RAX; ADD RBX, 2; VMWRITE RAX, RBX; VMRESUME.
const HANDLER: &[u8] = &[
    0xb8, 0x1e, 0x68, 0, 0, 0x0f, 0x78, 0xc3, 0x48, 0x83, 0xc3, 2, 0x0f, 0x79, 0xc3, 0x0f, 0x01, 0xc3,
];
/// Instructions, a few rounds of the loop each.
const WARM: u64 = 100;
const LENGTH: u64 = 400;
const LIST: u64 = 0x3_0000;
const TSC_DEADLINE: u64 = 0x6e0;

/// A loop of CPUID and jumps to the next instruction, which the next rounds find decoded; whatever exits, two bytes on is an
/// instruction.
const LOOP: &[u8] = &[
    0x0f, 0xa2, 0xeb, 0, 0x0f, 0xa2, 0xeb, 0, 0x0f, 0xa2, 0xeb, 0xf4, 0xeb, 0xf2, 0xeb, 0xf0, 0xeb, 0xee,
];

#[derive(Debug, PartialEq)]
struct Trail {
    /// Why it stopped, but for the count, and when.
    stops: Vec<(TurnEnd, u64)>,
    rip: u64,
    icount: u64,
    clock: u64,
    registers: Vec<u64>,
    flags: u64,
    in_guest: bool,
    pending_debug: u64,
    events: Vec<Event>,
}

/// Launches the guest, and when all of the loop has run prepares what may happen; then runs `LENGTH` instructions, at most
/// `stretch` of them at a time.
fn run(prepare: Prepare, stretch: u64) -> Trail {
    let mut bench = Bench::with_guest(LOOP);
    bench.write(HOST, HANDLER);
    bench.execute(VMLAUNCH);
    bench.go(WARM);
    prepare(&mut bench);
    let last = bench.cpu.icount + LENGTH;
    let (mut stops, mut end) = (Vec::new(), TurnEnd::Count);
    while bench.cpu.icount < last && end != TurnEnd::Idle {
        let turn = Turn {
            until: last.min(bench.cpu.icount + stretch),
            leave_breakpoint: end == TurnEnd::Breakpoint,
            mask_interrupts: false,
        };
        end = run::turn(&mut bench.cpu, &mut bench.bus, &mut bench.code, turn);
        if end != TurnEnd::Count {
            stops.push((end, bench.cpu.icount));
        }
    }
    Trail {
        stops,
        rip: bench.cpu.rip,
        icount: bench.cpu.icount,
        clock: bench.bus.clock,
        registers: bench.cpu.regs[..16].to_vec(),
        flags: bench.cpu.flags.get(),
        in_guest: bench.cpu.vmx.guest,
        pending_debug: bench.cpu.pending_debug,
        events: bench.bus.debug.events.since(0).collect(),
    }
}

/// A local APIC's timer that interrupts at the TSC that IA32_TSC_DEADLINE says, and a list of MSRs that loads it.
fn deadline(bench: &mut Bench, count: Field, address: Field) {
    bench.bus.set_apic_base(0, 0xfee0_0d00).unwrap();
    for (register, value) in [(0x80f, 0x1ff), (0x832, 2 << 17 | 0xee)] {
        bench.bus.x2apic_write(0, register, value).unwrap();
    }
    bench.store(LIST, TSC_DEADLINE);
    bench.store(LIST + 8, bench.bus.clock + 50);
    bench.set(count, 1);
    bench.set(address, LIST);
    bench.set_bits(field::PIN_BASED_CONTROLS, pin::EXTERNAL_INTERRUPT_EXITING);
}

type Prepare = fn(&mut Bench);

const CASES: &[(&str, Prepare)] = &[
    ("nothing but CPUID exits", |_| {}),
    ("a preemption timer", |bench| {
        bench.set_bits(field::PIN_BASED_CONTROLS, pin::ACTIVATE_PREEMPTION_TIMER);
        bench.set(field::GUEST_PREEMPTION_TIMER_VALUE, 1);
    }),
    ("a preemption timer at 0", |bench| {
        bench.set_bits(field::PIN_BASED_CONTROLS, pin::ACTIVATE_PREEMPTION_TIMER);
    }),
    ("a deadline that entries load", |bench| {
        deadline(bench, field::ENTRY_MSR_LOAD_COUNT, field::ENTRY_MSR_LOAD_ADDRESS);
    }),
    ("a deadline that exits load", |bench| {
        deadline(bench, field::EXIT_MSR_LOAD_COUNT, field::EXIT_MSR_LOAD_ADDRESS);
    }),
    ("a catchpoint on entries", |bench| {
        bench.bus.debug.catches.add(Catch::Entry);
    }),
    ("a catchpoint on exits", |bench| {
        bench.bus.debug.catches.add(Catch::Exit(Filter::Any));
    }),
    ("a breakpoint where the guest goes on", |bench| {
        bench.bus.debug.breakpoints.insert(Breakpoint {
            address: GUEST + 6,
            scope: Scope::default(),
        });
    }),
    ("a debug register where the guest goes on", |bench| {
        bench.set_bits(field::ENTRY_CONTROLS, entry::LOAD_DEBUG_CONTROLS);
        bench.set(field::GUEST_DR7, 0x401);
        bench.set(field::EXCEPTION_BITMAP, 1 << 1);
        bench.cpu.dr[0] = GUEST + 6;
    }),
    ("an interrupt window", |bench| {
        bench.set_bits(
            field::PRIMARY_PROCESSOR_BASED_CONTROLS,
            primary::INTERRUPT_WINDOW_EXITING,
        );
        bench.set_bits(field::GUEST_RFLAGS, flags::IF);
    }),
    ("the monitor trap flag", |bench| {
        bench.set_bits(
            field::PRIMARY_PROCESSOR_BASED_CONTROLS,
            primary::MONITOR_TRAP_FLAG,
        );
    }),
    ("a single step", |bench| {
        bench.set_bits(field::GUEST_RFLAGS, flags::TF);
        bench.set(field::EXCEPTION_BITMAP, 1 << 1);
    }),
    ("a guest that is halted", |bench| {
        bench.set(field::GUEST_ACTIVITY_STATE, 1);
    }),
];

#[test]
fn worlds_that_follow_each_other_are_those_of_single_steps() {
    for (name, prepare) in CASES {
        let steps = run(*prepare, 1);
        assert!(!steps.events.is_empty(), "{name}");
        for stretch in [7, LENGTH] {
            assert_eq!(run(*prepare, stretch), steps, "{name}, {stretch} at a time");
        }
    }
}

/// The cases are what they say: each comes to something else than CPUID exits alone.
#[test]
fn every_case_of_worlds_has_its_own_trail() {
    let trails: Vec<Trail> = CASES.iter().map(|(_, prepare)| run(*prepare, LENGTH)).collect();
    for (trail, (name, _)) in trails.iter().zip(CASES).skip(1) {
        assert_ne!(*trail, trails[0], "{name}");
    }
}
