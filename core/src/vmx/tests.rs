//! A hypervisor of a few bytes, run instruction by instruction.

mod bus_locks;
mod causes;
mod controls_document;
mod ept;
mod every_reason;
mod guest_paging;
mod injection;
mod later_entries;
mod nmi;
mod real_address_mode;
mod sub_pages;
mod switching;
mod vectoring;

use std::sync::Arc;

use super::cause::Cause;
use super::controls::{entry, exit, pin, primary, secondary, secondary_exit};
use super::explain;
use super::fields::{field, Field};
use super::reasons::reason;
use super::record::{FailReason, Outcome, Refusal};
use super::rules::baseline::baseline;
use crate::cpu::bits::*;
use crate::cpu::block::CodeCache;
use crate::cpu::run::{self, Turn, TurnEnd};
use crate::cpu::segment::{Rights, Segment, TableRegister, CS, SS, TR};
use crate::cpu::{flags, Cpu, RAX, RBX, RCX, RSP};
use crate::debug::catch::Forced;
use crate::debug::events::EventKind;
use crate::platform::Bus;
use ept::add_ept;

const VMXON_REGION: u64 = 0x1_0000;
const VMCS: u64 = 0x1_1000;
const BITMAP: u64 = 0x1_2000;
const EPT: u64 = 0x2_0000;
const POINTER: u64 = 0x8000;
const HOST: u64 = 0x10_0000;
const GUEST: u64 = 0x11_0000;

const VMXON: &[u8] = &[0xf3, 0x0f, 0xc7, 0x30];
const VMCLEAR: &[u8] = &[0x66, 0x0f, 0xc7, 0x30];
const VMPTRLD: &[u8] = &[0x0f, 0xc7, 0x30];
const VMLAUNCH: &[u8] = &[0x0f, 0x01, 0xc2];
const VMRESUME: &[u8] = &[0x0f, 0x01, 0xc3];
const VMCALL: &[u8] = &[0x0f, 0x01, 0xc1];
/// VMREAD RBX, RAX and VMWRITE RAX, RBX.
const VMREAD: &[u8] = &[0x0f, 0x78, 0xc3];
const VMWRITE: &[u8] = &[0x0f, 0x79, 0xc3];
const CPUID: &[u8] = &[0x0f, 0xa2];
const NOPS: &[u8] = &[0x90; 64];

pub(super) struct Bench {
    pub(super) cpu: Cpu,
    pub(super) bus: Bus,
    code: CodeCache,
}

impl Bench {
    /// A 64-bit host with 4 MB of identity-mapped RAM, not in VMX operation.
    pub(super) fn new() -> Bench {
        let mut bench = Bench {
            cpu: Cpu::new(0, Arc::default()),
            bus: Bus::new(4 << 20, 2),
            code: CodeCache::default(),
        };
        for (address, entry) in [
            (0x1000, 0x2007),
            (0x2000, 0x3007),
            (0x3000, 0x87),
            (0x3008, 0x20_0087),
        ] {
            bench.store(address, entry);
        }
        let cpu = &mut bench.cpu;
        cpu.cr0 = 0x8001_0031;
        cpu.cr3 = 0x1000;
        cpu.cr4 = CR4_PAE | CR4_VMXE;
        cpu.efer = EFER_LME | EFER_LMA;
        let segment = |selector, rights| Segment {
            selector,
            rights: Rights(rights),
            limit: !0,
            base: 0,
        };
        *cpu.seg = [segment(0x10, 0xc093); 8];
        cpu.seg[CS] = segment(0x08, 0xa09b);
        cpu.seg[TR] = segment(0x18, 0x8b);
        cpu.idtr = TableRegister { base: 0, limit: 0 };
        cpu.regs[RSP] = 0x20_0000;
        cpu.msr.feature_control = 5;
        cpu.update_space();
        cpu.update_mode();
        let revision = cpu.profile.capabilities().revision() as u64;
        bench.store(VMXON_REGION, revision);
        bench.store(VMCS, revision);
        bench
    }

    /// In VMX root operation, with a current VMCS that passes every check and leads to `guest`'s code.
    pub(super) fn with_guest(guest: &[u8]) -> Bench {
        let mut bench = Bench::new();
        bench.pointer(VMXON, VMXON_REGION);
        bench.pointer(VMCLEAR, VMCS);
        bench.pointer(VMPTRLD, VMCS);
        assert_eq!(bench.status(), 0);
        let good = baseline().vmcs;
        for field in Field::all() {
            bench.set(field, good.get(field));
        }
        bench.set(field::HOST_RIP, HOST);
        bench.set(field::GUEST_RIP, GUEST);
        // The host waits in a loop.
        bench.write(HOST, &[0xeb, 0xfe]);
        bench.write(GUEST, guest);
        bench
    }

    pub(super) fn store(&mut self, address: u64, value: u64) {
        self.bus.write_physical(0, address, 8, value);
    }

    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        self.bus.ram.write(address as usize, bytes);
    }

    pub(super) fn set(&mut self, field: Field, value: u64) {
        self.cpu.vmx.current_mut().unwrap().set(field, value);
    }

    pub(super) fn set_bits(&mut self, field: Field, bits: u64) {
        let value = self.get(field) | bits;
        self.set(field, value);
    }

    pub(super) fn get(&self, field: Field) -> u64 {
        self.cpu.vmx.get(field)
    }

    /// Runs `bytes` as the host's next instruction.
    pub(super) fn execute(&mut self, bytes: &[u8]) {
        const AT: u64 = 0x18_0000;
        self.write(AT, bytes);
        self.cpu.rip = AT;
        self.go(1);
    }

    /// Executes an instruction whose operand is at RAX.
    pub(super) fn pointer(&mut self, bytes: &[u8], pointer: u64) {
        self.store(POINTER, pointer);
        self.cpu.regs[RAX] = POINTER;
        self.execute(bytes);
    }

    pub(super) fn go(&mut self, count: u64) -> TurnEnd {
        let turn = Turn {
            until: self.cpu.icount + count,
            leave_breakpoint: true,
            mask_interrupts: false,
        };
        run::turn(&mut self.cpu, &mut self.bus, &mut self.code, turn)
    }

    /// Launches the guest and runs until an exit has led to the host's loop.
    pub(super) fn launch(&mut self) -> u64 {
        self.execute(VMLAUNCH);
        self.settle()
    }

    pub(super) fn resume(&mut self) -> u64 {
        self.execute(VMRESUME);
        self.settle()
    }

    pub(super) fn settle(&mut self) -> u64 {
        for _ in 0..10_000 {
            if !self.cpu.vmx.guest {
                return self.get(field::EXIT_REASON);
            }
            self.go(1);
        }
        panic!("no exit, RIP is {:#x}", self.cpu.rip);
    }

    /// CF and ZF.
    pub(super) fn status(&self) -> u64 {
        self.cpu.flags.get() & (flags::CF | flags::ZF)
    }

    pub(super) fn fail_reason(&self) -> FailReason {
        match self.cpu.vmx.record.failure.as_ref().unwrap().outcome {
            Outcome::Fail { reason, .. } => reason,
            ref other => panic!("{other:?}"),
        }
    }

    pub(super) fn words(&self) -> String {
        let why = explain::why(&self.cpu, &self.bus).unwrap();
        format!("{}\n{}", why.headline, why.paragraphs.join("\n"))
    }

    pub(super) fn cause(&self) -> Cause {
        self.cpu.vmx.exit.cause
    }
}

#[test]
fn vmxon_says_why_it_refuses() {
    type Spoil = fn(&mut Cpu);
    let cases: [(Spoil, Refusal, &str); 4] = [
        (|cpu| cpu.cr4 &= !CR4_VMXE, Refusal::Vmxe, "CR4.VMXE"),
        (
            |cpu| cpu.msr.feature_control = 0,
            Refusal::FeatureControlUnlocked,
            "not locked",
        ),
        (
            |cpu| cpu.msr.feature_control = 1,
            Refusal::FeatureControlDisabled,
            "does not enable",
        ),
        (
            |cpu| cpu.cr0 &= !CR0_NE,
            Refusal::Cr0Fixed {
                missing: CR0_NE,
                excess: 0,
            },
            "CR0 bits 0x20 must be 1",
        ),
    ];
    for (spoil, refusal, words) in cases {
        let mut bench = Bench::new();
        spoil(&mut bench.cpu);
        bench.pointer(VMXON, VMXON_REGION);
        // There is no IDT: the exception is the first of a triple fault.
        assert!(bench.cpu.vmx.vmxon.is_none());
        match bench.cpu.vmx.record.failure.as_ref().unwrap().outcome {
            Outcome::TripleFault {
                refused: Some((name, found, _)),
                ..
            } => assert_eq!((name, found), ("VMXON", refusal)),
            ref other => panic!("{other:?}"),
        }
        let why = explain::why(&bench.cpu, &bench.bus).unwrap();
        let text = format!("{why:?}").to_lowercase();
        assert!(text.contains(&words.to_lowercase()), "{text}");
    }
}

#[test]
fn pointers_are_checked_in_order() {
    let mut bench = Bench::new();
    bench.pointer(VMXON, VMXON_REGION | 8);
    assert_eq!(bench.status(), flags::CF);
    bench.pointer(VMXON, VMCS + 0x1000);
    assert!(matches!(
        bench.fail_reason(),
        FailReason::Revision { found: 0, .. }
    ));
    bench.pointer(VMXON, VMXON_REGION);
    assert_eq!(bench.status(), 0);

    // Without a current VMCS there is no number.
    bench.pointer(VMPTRLD, 1 << 45);
    assert_eq!(bench.status(), flags::CF);
    bench.pointer(VMPTRLD, VMCS);
    assert_eq!(bench.status(), 0);
    for (instruction, pointer, number) in [
        (VMPTRLD, 1 << 45, 9),
        (VMPTRLD, VMXON_REGION, 10),
        (VMPTRLD, VMCS + 0x1000, 11),
        (VMCLEAR, 0x123, 2),
        (VMCLEAR, VMXON_REGION, 3),
        (VMXON, VMXON_REGION, 15),
    ] {
        bench.pointer(instruction, pointer);
        assert_eq!(bench.status(), flags::ZF);
        assert_eq!(bench.get(field::VM_INSTRUCTION_ERROR), number);
        assert!(bench.words().contains(&format!("VMfailValid {number}")));
    }
}

#[test]
fn fields_are_read_and_written() {
    let mut bench = Bench::with_guest(NOPS);
    bench.cpu.regs[RAX] = field::GUEST_RSP.encoding() as u64;
    bench.cpu.regs[RBX] = 0x1234_5678_9abc;
    bench.execute(VMWRITE);
    assert_eq!(
        (bench.status(), bench.get(field::GUEST_RSP)),
        (0, 0x1234_5678_9abc)
    );
    bench.cpu.regs[RBX] = 0;
    bench.execute(VMREAD);
    assert_eq!((bench.status(), bench.cpu.regs[RBX]), (0, 0x1234_5678_9abc));
    bench.cpu.regs[RAX] = 0x7777;
    bench.execute(VMREAD);
    assert_eq!(
        (bench.status(), bench.get(field::VM_INSTRUCTION_ERROR)),
        (flags::ZF, 12)
    );
    assert!(bench.words().contains("0x7777"));
}

#[test]
fn a_vmcs_survives_in_its_region() {
    let mut bench = Bench::with_guest(NOPS);
    bench.set(field::GUEST_RSP, 0x4321);
    bench.pointer(VMCLEAR, VMCS);
    assert!(bench.cpu.vmx.current().is_none());
    bench.pointer(VMPTRLD, VMCS);
    assert_eq!(bench.get(field::GUEST_RSP), 0x4321);
}

#[test]
fn launch_states() {
    let mut bench = Bench::with_guest(CPUID);
    bench.execute(VMRESUME);
    assert_eq!(bench.get(field::VM_INSTRUCTION_ERROR), 5);
    assert_eq!(bench.cpu.rip, 0x18_0003);
    assert_eq!(bench.launch(), reason::CPUID as u64);
    bench.execute(VMLAUNCH);
    assert_eq!(bench.get(field::VM_INSTRUCTION_ERROR), 4);
    assert!(bench.words().contains("use VMRESUME"));
    bench.execute(VMCALL);
    assert_eq!(bench.get(field::VM_INSTRUCTION_ERROR), 1);
}

#[test]
fn a_broken_rule_decides_the_entry() {
    let mut bench = Bench::with_guest(CPUID);
    bench.set(field::HOST_CR3, 1 << 45);
    bench.execute(VMLAUNCH);
    assert_eq!(
        (bench.status(), bench.get(field::VM_INSTRUCTION_ERROR)),
        (flags::ZF, 8)
    );
    assert!(bench.words().contains("host"), "{}", bench.words());
    bench.set(field::HOST_CR3, 0x1000);
    bench.set(field::GUEST_TR_ACCESS_RIGHTS, 0x89);
    bench.execute(VMLAUNCH);
    assert_eq!(bench.get(field::EXIT_REASON), 0x8000_0021);
    assert_eq!(bench.cpu.rip, HOST);
    let why = explain::why(&bench.cpu, &bench.bus).unwrap();
    assert!(
        why.rules[0].deciding && why.rules[0].id.starts_with("guest.tr"),
        "{why:?}"
    );
    let event = &bench.bus.debug.events.last(1, |_| true)[0];
    assert_eq!(
        (event.kind, event.rule),
        (EventKind::EntryFailure, Some(why.rules[0].id))
    );
    // The launch state is still clear.
    bench.set(field::GUEST_TR_ACCESS_RIGHTS, 0x8b);
    assert_eq!(bench.launch(), reason::CPUID as u64);
}

#[test]
fn an_exit_saves_the_guest_and_loads_the_host() {
    let mut bench = Bench::with_guest(&[&[0x48, 0xff, 0xc3], CPUID, &[0x48, 0xff, 0xc3], CPUID].concat());
    bench.cpu.regs[RBX] = 41;
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!((bench.cpu.rip, bench.cpu.regs[RBX]), (HOST, 42));
    assert_eq!(bench.get(field::GUEST_RIP), GUEST + 3);
    assert_eq!(bench.get(field::EXIT_INSTRUCTION_LENGTH), 2);
    assert_eq!(bench.cause(), Cause::Always);
    let world = crate::debug::breakpoints::World::Guest(VMCS);
    assert_eq!(bench.cpu.vmx.saved_registers(world).unwrap()[RBX], 42);
    bench.set(field::GUEST_RIP, GUEST + 5);
    assert_eq!(bench.resume(), reason::CPUID as u64);
    assert_eq!(
        (bench.get(field::GUEST_RIP), bench.cpu.regs[RBX]),
        (GUEST + 8, 43)
    );
}

#[test]
fn io_and_msr_bitmaps_name_their_bit() {
    // OUT 0x80, AL; then RDMSR of RCX.
    let mut bench = Bench::with_guest(&[0xe6, 0x80, 0x0f, 0x32]);
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::USE_IO_BITMAPS | primary::USE_MSR_BITMAPS,
    );
    bench.set(field::IO_BITMAP_A, BITMAP);
    bench.set(field::IO_BITMAP_B, BITMAP + 0x1000);
    bench.set(field::MSR_BITMAP, BITMAP + 0x2000);
    bench.store(BITMAP + 0x10, 1);
    assert_eq!(bench.launch(), reason::IO_INSTRUCTION as u64);
    assert_eq!(bench.get(field::EXIT_QUALIFICATION), 0x80 << 16 | 1 << 6);
    let (byte, bit, port) = (BITMAP + 0x10, 0, 0x80);
    assert_eq!(bench.cause(), Cause::IoBitmap { byte, bit, port });
    assert!(bench.words().contains("0x12010"), "{}", bench.words());
    bench.set(field::GUEST_RIP, GUEST + 2);
    bench.cpu.regs[1] = 0xc000_0080;
    bench.store(BITMAP + 0x2410, 1);
    assert_eq!(bench.resume(), reason::RDMSR as u64);
    assert!(matches!(
        bench.cause(),
        Cause::MsrBitmap {
            msr: 0xc000_0080,
            write: false,
            ..
        }
    ));
}

#[test]
fn control_registers_by_mask_and_shadow() {
    // MOV RAX, CR0; XOR EAX, 8; MOV CR0, RAX.
    let mut bench = Bench::with_guest(&[0x0f, 0x20, 0xc0, 0x83, 0xf0, 0x08, 0x0f, 0x22, 0xc0]);
    bench.set(field::CR0_GUEST_HOST_MASK, CR0_TS);
    bench.set(field::CR0_READ_SHADOW, CR0_TS);
    assert_eq!(bench.launch(), reason::CR_ACCESS as u64);
    // The guest saw TS set by the shadow, and tried to clear it.
    assert_eq!(bench.cpu.regs[RAX], 0x8001_0031);
    assert_eq!(bench.get(field::EXIT_QUALIFICATION), 0);
    assert_eq!(bench.get(field::GUEST_RIP), GUEST + 6);
    assert!(bench.words().contains("mask of CR0 is 0x8"), "{}", bench.words());
}

#[test]
fn an_exit_during_delivery_leaves_idt_vectoring_information() {
    let mut bench = Bench::with_guest(NOPS);
    bench.set(field::GUEST_IDTR_LIMIT, 0);
    bench.set(field::GUEST_RFLAGS, 0x202);
    bench.set(field::EXCEPTION_BITMAP, 1 << 13);
    bench.set(field::ENTRY_INTERRUPTION_INFO, 0x8000_0080);
    assert_eq!(bench.launch(), reason::EXCEPTION_OR_NMI as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 0x8000_0b0d);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_ERROR_CODE), 0x80 << 3 | 3);
    assert_eq!(bench.get(field::IDT_VECTORING_INFO), 0x8000_0080);
    assert_eq!(bench.get(field::ENTRY_INTERRUPTION_INFO) >> 31, 0);
    assert_eq!(bench.get(field::GUEST_RIP), GUEST);
    // Without the bitmap it becomes a triple fault.
    bench.set(field::EXCEPTION_BITMAP, 0);
    bench.set(field::ENTRY_INTERRUPTION_INFO, 0x8000_0080);
    assert_eq!(bench.resume(), reason::TRIPLE_FAULT as u64);
    assert_eq!(bench.get(field::IDT_VECTORING_INFO), 0);
    assert!(bench.words().contains("#GP at RIP"), "{}", bench.words());
}

#[test]
fn mtf_exits_after_one_instruction() {
    let mut bench = Bench::with_guest(NOPS);
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::MONITOR_TRAP_FLAG,
    );
    assert_eq!(bench.launch(), reason::MONITOR_TRAP_FLAG as u64);
    assert_eq!(bench.get(field::GUEST_RIP), GUEST + 1);
    assert_eq!(bench.resume(), reason::MONITOR_TRAP_FLAG as u64);
    assert_eq!(bench.get(field::GUEST_RIP), GUEST + 2);
    // Injected without the control it comes before the first instruction.
    let controls = bench.get(field::PRIMARY_PROCESSOR_BASED_CONTROLS);
    bench.set(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        controls & !primary::MONITOR_TRAP_FLAG,
    );
    bench.set(field::ENTRY_INTERRUPTION_INFO, 0x8000_0700);
    assert_eq!(bench.resume(), reason::MONITOR_TRAP_FLAG as u64);
    assert_eq!(bench.get(field::GUEST_RIP), GUEST + 2);
}

#[test]
fn the_preemption_timer_counts_changes_of_a_bit_of_the_tsc() {
    let mut bench = Bench::with_guest(&[0x90; 256]);
    bench.set_bits(field::PIN_BASED_CONTROLS, pin::ACTIVATE_PREEMPTION_TIMER);
    bench.set(field::GUEST_PREEMPTION_TIMER_VALUE, 3);
    let begun = bench.cpu.tsc(&bench.bus);
    assert_eq!(bench.launch(), reason::PREEMPTION_TIMER as u64);
    // VMLAUNCH itself takes one count.
    let ended = begun + 1 + bench.get(field::GUEST_RIP) - GUEST;
    let shift = bench.cpu.profile.capabilities().preemption_timer_shift();
    assert_eq!((ended >> shift) - (begun >> shift), 3);
    assert_ne!(ended >> shift, (ended - 1) >> shift);
    let rip = bench.get(field::GUEST_RIP);
    bench.set(field::GUEST_PREEMPTION_TIMER_VALUE, 0);
    assert_eq!(bench.resume(), reason::PREEMPTION_TIMER as u64);
    assert_eq!(bench.get(field::GUEST_RIP), rip);
}

#[test]
fn an_interrupt_window_opens_with_if() {
    // CLI; STI; NOP
    let mut bench = Bench::with_guest(&[0xfa, 0xfb, 0x90, 0x90]);
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::INTERRUPT_WINDOW_EXITING,
    );
    assert_eq!(bench.launch(), reason::INTERRUPT_WINDOW as u64);
    // After STI and the instruction in its shadow.
    assert_eq!(bench.get(field::GUEST_RIP), GUEST + 3);
}

#[test]
fn what_the_debugger_forces() {
    let force = |bench: &mut Bench, forced| bench.bus.debug.catches.forced = Some(forced);
    let mut bench = Bench::with_guest(&[0x48, 0x01, 0xd8, 0x48, 0x01, 0xd8]);
    force(
        &mut bench,
        Forced {
            reason: None,
            error: 7,
            ..Forced::default()
        },
    );
    bench.execute(VMLAUNCH);
    assert_eq!(
        (bench.status(), bench.get(field::VM_INSTRUCTION_ERROR)),
        (flags::ZF, 7)
    );
    assert!(bench.words().contains("debugger"));

    let of = |reason: u16| Forced {
        reason: Some(reason as u32),
        ..Forced::default()
    };
    force(&mut bench, of(reason::ENTRY_FAILURE_MSR_LOADING));
    bench.execute(VMLAUNCH);
    assert_eq!(bench.get(field::EXIT_REASON), 0x8000_0022);

    // Armed in root operation, taken at the first boundary of the guest, with the length of what is there.
    force(&mut bench, of(reason::CPUID));
    assert_eq!(bench.launch(), reason::CPUID as u64);
    assert_eq!(
        (
            bench.get(field::GUEST_RIP),
            bench.get(field::EXIT_INSTRUCTION_LENGTH)
        ),
        (GUEST, 3)
    );
    assert!(bench.bus.debug.events.last(1, |_| true)[0].forced);
    force(
        &mut bench,
        Forced {
            interruption_info: Some(0x31),
            ..of(reason::EXTERNAL_INTERRUPT)
        },
    );
    assert_eq!(bench.resume(), reason::EXTERNAL_INTERRUPT as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 0x8000_0031);
    assert_eq!(bench.get(field::EXIT_INSTRUCTION_LENGTH), 0);
}

#[test]
fn the_tpr_shadow_and_its_threshold() {
    // MOV RAX, CR8; MOV CR8, RBX; NOP
    let mut bench = Bench::with_guest(&[0x44, 0x0f, 0x20, 0xc0, 0x44, 0x0f, 0x22, 0xc3, 0x90]);
    bench.set_bits(field::PRIMARY_PROCESSOR_BASED_CONTROLS, primary::USE_TPR_SHADOW);
    bench.set(field::VIRTUAL_APIC_ADDRESS, BITMAP);
    bench.set(field::TPR_THRESHOLD, 5);
    bench.store(BITMAP + 0x80, 0x70);
    bench.cpu.regs[RBX] = 4;
    assert_eq!(bench.launch(), reason::TPR_BELOW_THRESHOLD as u64);
    assert_eq!((bench.cpu.regs[RAX], bench.get(field::GUEST_RIP)), (7, GUEST + 8));
    assert_eq!(bench.bus.read_physical(0, BITMAP + 0x80, 8), 0x40);
    assert!(bench.words().contains("threshold"), "{}", bench.words());
}

/// An unrestricted guest without paging; `cr0` beside ET and NE.
fn unrestricted(code: &[u8], cr0: u64) -> Bench {
    let mut bench = Bench::with_guest(code);
    add_ept(&mut bench, 7);
    bench.set_bits(
        field::SECONDARY_PROCESSOR_BASED_CONTROLS,
        secondary::UNRESTRICTED_GUEST,
    );
    let controls = bench.get(field::ENTRY_CONTROLS);
    bench.set(field::ENTRY_CONTROLS, controls & !entry::IA32E_MODE_GUEST);
    bench.set(field::GUEST_CR0, CR0_ET | CR0_NE | cr0);
    bench.set(field::GUEST_CR4, CR4_VMXE);
    bench
}

#[test]
fn a_guest_in_protected_mode_without_paging() {
    // In 32-bit code: INC EAX; VMCALL.
    let mut bench = unrestricted(&[0x40, 0x0f, 0x01, 0xc1], CR0_PE);
    bench.set(field::GUEST_CS_ACCESS_RIGHTS, 0xc09b);
    bench.cpu.regs[RAX] = 5;
    assert_eq!(bench.launch(), reason::VMCALL as u64, "{}", bench.words());
    assert_eq!((bench.cpu.regs[RAX], bench.get(field::GUEST_RIP)), (6, GUEST + 1));
    assert!(bench.cpu.long64());
    assert_eq!(bench.cpu.seg[SS].rights.0, 0xc093);
}

/// `cargo test --release round_trip -- --ignored --nocapture`: CPUID exits with a handler of two VMREAD and VMWRITE.
#[test]
#[ignore = "a measurement"]
fn round_trip() {
    const ROUNDS: u64 = 1_000_000;
    // CPUID; JMP to it.
    let mut bench = Bench::with_guest(&[0x0f, 0xa2, 0xeb, 0xfc]);
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    bench.set_bits(field::SECONDARY_PROCESSOR_BASED_CONTROLS, secondary::ENABLE_VPID);
    bench.set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 1);
    // MOV EAX, EXIT_REASON; VMREAD RBX, RAX; MOV EAX, GUEST_RIP; VMREAD RBX, RAX; ADD RBX, 2; VMWRITE RAX, RBX; VMRESUME.
    let handler = [
        &[0xb8, 0x02, 0x44, 0x00, 0x00],
        VMREAD,
        &[0xb8, 0x1e, 0x68, 0x00, 0x00],
        VMREAD,
        &[0x48, 0x83, 0xc3, 0x02],
        VMWRITE,
        VMRESUME,
    ]
    .concat();
    bench.write(HOST, &handler);
    bench.execute(VMLAUNCH);
    let before = bench.bus.debug.events.count();
    let start = std::time::Instant::now();
    while bench.bus.debug.events.count() - before < 2 * ROUNDS {
        bench.go(1_000_000);
    }
    println!(
        "{:.0} ns a round trip",
        start.elapsed().as_nanos() as f64 / ROUNDS as f64
    );
}

#[test]
fn supervisor_state_exits_by_the_xss_exiting_bitmap() {
    const COMPONENT: u64 = 1 << 8;
    // XSAVES [RAX+0x10].
    let run = |controls: u64, bitmap: u64| {
        let mut bench = Bench::with_guest(&[0x0f, 0xc7, 0x68, 0x10]);
        bench.set_bits(
            field::PRIMARY_PROCESSOR_BASED_CONTROLS,
            primary::ACTIVATE_SECONDARY_CONTROLS,
        );
        bench.set_bits(field::SECONDARY_PROCESSOR_BASED_CONTROLS, controls);
        bench.set(field::XSS_EXITING_BITMAP, bitmap);
        bench.set(field::EXCEPTION_BITMAP, 1 << 6 | 1 << 13);
        bench.set_bits(field::GUEST_CR4, CR4_OSXSAVE);
        bench.cpu.msr.xss = COMPONENT;
        bench.execute(VMLAUNCH);
        bench.cpu.regs[RAX] = COMPONENT | 3;
        let reason = bench.settle();
        (reason, bench)
    };
    let (reason, bench) = run(0, !0);
    assert_eq!((reason, bench.get(field::EXIT_INTERRUPTION_INFO) & 0xff), (0, 6));
    let (reason, bench) = run(secondary::ENABLE_XSAVES, !COMPONENT);
    // It executes, and the place is not aligned.
    assert_eq!((reason, bench.get(field::EXIT_INTERRUPTION_INFO) & 0xff), (0, 13));
    let (reason, bench) = run(secondary::ENABLE_XSAVES, COMPONENT);
    assert_eq!(reason, reason::XSAVES as u64);
    assert_eq!(bench.get(field::EXIT_QUALIFICATION), 0x10);
    assert_eq!(bench.cause(), Cause::XssBitmap { bits: COMPONENT });
    assert!(bench.words().contains("XSS-exiting bitmap"), "{}", bench.words());
}

#[test]
fn random_numbers_exit_with_the_register_they_are_for() {
    for (control, modrm, reason) in [
        (secondary::RDRAND_EXITING, 0xf1, reason::RDRAND),
        (secondary::RDSEED_EXITING, 0xf9, reason::RDSEED),
    ] {
        // RDRAND R9 or RDSEED R9.
        let mut bench = Bench::with_guest(&[0x49, 0x0f, 0xc7, modrm]);
        bench.set_bits(
            field::PRIMARY_PROCESSOR_BASED_CONTROLS,
            primary::ACTIVATE_SECONDARY_CONTROLS,
        );
        bench.set_bits(field::SECONDARY_PROCESSOR_BASED_CONTROLS, control);
        assert_eq!(bench.launch(), reason as u64);
        assert_eq!(
            bench.get(field::EXIT_INSTRUCTION_INFO),
            9 << 3 | 2 << 11,
            "register and operand size"
        );
    }
}

#[test]
fn an_mwait_exit_tells_whether_a_line_is_monitored() {
    // MONITOR; MWAIT.
    for (code, armed) in [
        (&[0x0f, 0x01, 0xc8, 0x0f, 0x01, 0xc9][..], 1),
        (&[0x0f, 0x01, 0xc9], 0),
    ] {
        let mut bench = Bench::with_guest(code);
        bench.set_bits(field::PRIMARY_PROCESSOR_BASED_CONTROLS, primary::MWAIT_EXITING);
        bench.cpu.regs[RCX] = 0;
        assert_eq!(bench.launch(), reason::MWAIT as u64);
        assert_eq!(bench.get(field::EXIT_QUALIFICATION), armed);
    }
}

#[test]
fn timed_waits_are_a_guests_by_a_control_and_go_by_its_clock() {
    // TPAUSE RBX; CPUID.
    const CODE: &[u8] = &[0x66, 0x0f, 0xae, 0xf3, 0x0f, 0xa2];
    let bench = |secondary: u64| {
        let mut bench = Bench::with_guest(CODE);
        bench.set_bits(
            field::PRIMARY_PROCESSOR_BASED_CONTROLS,
            primary::ACTIVATE_SECONDARY_CONTROLS | primary::USE_TSC_OFFSETTING,
        );
        bench.set_bits(field::SECONDARY_PROCESSOR_BASED_CONTROLS, secondary);
        bench.set_bits(field::EXCEPTION_BITMAP, 1 << 6);
        bench.cpu.regs[RBX] = 0;
        bench
    };
    assert_eq!(bench(0).launch(), reason::EXCEPTION_OR_NMI as u64);

    // Half the speed, and far ahead: 500 counts of the guest are 1000.
    let mut bench = bench(secondary::ENABLE_USER_WAIT_AND_PAUSE | secondary::USE_TSC_SCALING);
    bench.set(field::TSC_MULTIPLIER, 1 << 47);
    bench.set(field::TSC_OFFSET, 1 << 40);
    bench.execute(VMLAUNCH);
    let now = bench.cpu.clock_base + bench.cpu.icount;
    bench.cpu.set_halves((1 << 40) + now / 2 + 500);
    bench.go(2);
    let end = bench.cpu.deadline().unwrap();
    assert!((now + 998..=now + 1002).contains(&end), "{}", end - now);
    bench.bus.clock = end;
    assert_eq!(bench.settle(), reason::CPUID as u64);
}

#[test]
fn a_vmcs_active_on_two_processors_is_noted() {
    const REGION: u64 = 0x1_4000;
    let mut bench = Bench::with_guest(CPUID);
    let events = |bench: &Bench| {
        let kinds = bench.bus.debug.events.since(0).map(|event| event.kind);
        kinds
            .filter(|kind| *kind == EventKind::VmcsActiveElsewhere)
            .count()
    };
    let first = bench.cpu.clone();
    bench.cpu.id = 1;
    bench.cpu.vmx = Default::default();
    bench.store(REGION, bench.cpu.profile.capabilities().revision() as u64);
    bench.pointer(VMXON, REGION);
    bench.pointer(VMPTRLD, VMCS);
    assert_eq!((bench.status(), events(&bench)), (0, 1));
    bench.execute(VMRESUME);
    assert!(
        bench.words().contains("active on vCPU 0 too"),
        "{}",
        bench.words()
    );

    // VMCLEAR on the first ends it.
    let second = std::mem::replace(&mut bench.cpu, first);
    bench.pointer(VMCLEAR, VMCS);
    bench.cpu = second;
    bench.pointer(VMPTRLD, VMCS);
    bench.execute(VMRESUME);
    assert_eq!(events(&bench), 1);
    assert!(!bench.words().contains("vCPU 0"), "{}", bench.words());
}

#[test]
fn enforcement_state_is_loaded_where_its_controls_say_and_always_saved() {
    for loaded in [false, true] {
        let mut bench = Bench::with_guest(CPUID);
        if loaded {
            bench.set_bits(field::ENTRY_CONTROLS, entry::LOAD_CET_STATE);
            bench.set_bits(field::EXIT_CONTROLS, exit::LOAD_CET_STATE);
        }
        let (guest, host) = ([2, 0x7000, 0x7100], [4, 0x6000, 0x6100]);
        let fields = [
            (field::GUEST_IA32_S_CET, field::HOST_IA32_S_CET),
            (field::GUEST_SSP, field::HOST_SSP),
            (
                field::GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR,
                field::HOST_IA32_INTERRUPT_SSP_TABLE_ADDR,
            ),
        ];
        for (n, (guest_field, host_field)) in fields.into_iter().enumerate() {
            bench.set(guest_field, guest[n]);
            bench.set(host_field, host[n]);
        }
        bench.cpu.cet.ssp = 0x5000;
        bench.execute(VMLAUNCH);
        let entered = bench.cpu.cet;
        assert_eq!(entered.ssp, if loaded { 0x7000 } else { 0x5000 });
        bench.settle();
        assert_eq!(bench.get(field::GUEST_IA32_S_CET), if loaded { 2 } else { 0 });
        assert_eq!(bench.get(field::GUEST_SSP), entered.ssp);
        let after = bench.cpu.cet;
        let expected = if loaded { host } else { [0, 0x5000, 0] };
        assert_eq!([after.supervisor, after.ssp, after.interrupt_table], expected);
    }
}
