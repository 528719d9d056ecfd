//! Guests of a few bytes with a virtual APIC.

use super::emulation::Unfinished;
use super::page::Refusal;
use super::registers::{EOI, ICR, ICR_HIGH, IRR, ISR, PPR, SELF_IPI, TPR};
use crate::cpu::flags;
use crate::platform::Bus;
use crate::vmx::cause::Cause;
use crate::vmx::controls::{exit, pin, primary, secondary, tertiary};
use crate::vmx::describe::describe;
use crate::vmx::fields::field;
use crate::vmx::reasons::reason;
use crate::vmx::tests::Bench;

/// Host-physical addresses.
const ACCESS: u64 = 0x3_0000;
const APIC: u64 = 0x3_1000;
const MSR_BITMAP: u64 = 0x3_2000;
const DESCRIPTOR: u64 = 0x3_3000;
const POINTERS: u64 = 0x3_4000;
const IDT: u64 = 0x3_5000;
const HANDLER: u64 = 0x11_0800;

const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
const HLT: [u8; 1] = [0xf4];

const ALL: u64 = secondary::VIRTUALIZE_APIC_ACCESSES
    | secondary::APIC_REGISTER_VIRTUALIZATION
    | secondary::VIRTUAL_INTERRUPT_DELIVERY;

/// `mov eax, [ACCESS + offset]`.
fn read(offset: u16) -> Vec<u8> {
    absolute(&[0x8b, 0x04, 0x25], offset)
}

/// `mov eax, value; mov [ACCESS + offset], eax`.
fn write(offset: u16, value: u32) -> Vec<u8> {
    let load = [&[0xb8], &value.to_le_bytes()[..]].concat();
    [load, absolute(&[0x89, 0x04, 0x25], offset)].concat()
}

fn absolute(opcode: &[u8], offset: u16) -> Vec<u8> {
    let address = (ACCESS as u32 + u32::from(offset)).to_le_bytes();
    [opcode, &address].concat()
}

/// `mov ecx, msr; mov eax, low; mov edx, high; wrmsr`.
fn wrmsr(msr: u32, value: u64) -> Vec<u8> {
    let [low, high] = [value as u32, (value >> 32) as u32].map(u32::to_le_bytes);
    let msr = msr.to_le_bytes();
    [&[0xb9], &msr[..], &[0xb8], &low, &[0xba], &high, &[0x0f, 0x30]].concat()
}

fn code(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A guest with a TPR shadow and these secondary controls, about to run `guest`; vector 0x51 leads to a VMCALL.
fn bench(guest: &[u8], secondary: u64) -> Bench {
    let mut bench = Bench::with_guest(guest);
    bench.set_bits(field::PIN_BASED_CONTROLS, pin::EXTERNAL_INTERRUPT_EXITING);
    bench.set_bits(
        field::PRIMARY_PROCESSOR_BASED_CONTROLS,
        primary::USE_TPR_SHADOW | primary::USE_MSR_BITMAPS | primary::ACTIVATE_SECONDARY_CONTROLS,
    );
    bench.set(field::SECONDARY_PROCESSOR_BASED_CONTROLS, secondary);
    bench.set(field::VIRTUAL_APIC_ADDRESS, APIC);
    bench.set(field::APIC_ACCESS_ADDRESS, ACCESS);
    bench.set(field::MSR_BITMAP, MSR_BITMAP);
    bench.store(8, 0x00af_9b00_0000_ffff);
    bench.set(field::GUEST_IDTR_BASE, IDT);
    bench.store(
        IDT + 0x51 * 16,
        HANDLER >> 16 << 48 | 0x8e00 << 32 | 8 << 16 | HANDLER & 0xffff,
    );
    bench.write(HANDLER, &VMCALL);
    bench
}

impl Bench {
    fn apic(&mut self, offset: u16) -> u32 {
        self.bus.read_physical(0, APIC + u64::from(offset), 4) as u32
    }

    fn set_apic(&mut self, offset: u16, value: u32) {
        self.bus
            .write_physical(0, APIC + u64::from(offset), 4, value.into());
    }

    fn qualification(&self) -> u64 {
        self.get(field::EXIT_QUALIFICATION)
    }
}

#[test]
fn what_is_not_virtualized_exits() {
    let page = secondary::VIRTUALIZE_APIC_ACCESSES;
    let delivery = page | secondary::VIRTUAL_INTERRUPT_DELIVERY;
    let register = |write| Refusal::Register { write };
    let wide_read = absolute(&[0x48, 0x8b, 0x04, 0x25], TPR);
    let or = absolute(&[0x09, 0x04, 0x25], 0x300);
    let cases = [
        (read(0x20), page, 0x020, register(false)),
        (write(0x20, 1), page, 0x1020, register(true)),
        (read(0xb0), page, 0x0b0, register(false)),
        (write(ICR, 1), page, 0x1300, register(true)),
        (read(0x81), page, 0x081, Refusal::Misplaced { bytes: 4 }),
        (read(0x84), ALL, 0x084, Refusal::Misplaced { bytes: 4 }),
        (read(0xffe), ALL, 0xffe, Refusal::Misplaced { bytes: 4 }),
        (wide_read, ALL, 0x080, Refusal::Wide { bytes: 8 }),
        (write(ISR, 1), ALL, 0x1100, register(true)),
        (read(PPR), ALL, 0x0a0, register(false)),
        (or.clone(), page, 0x1300, register(false)),
        (read(0x380), delivery, 0x380, register(false)),
    ];
    for (guest, secondary, qualification, refusal) in cases {
        let mut bench = bench(&code(&[&guest, &VMCALL]), secondary);
        assert_eq!(bench.launch(), reason::APIC_ACCESS as u64, "{refusal:?}");
        assert_eq!(bench.qualification(), qualification, "{refusal:?}");
        let offset = qualification as u16 & 0xfff;
        assert_eq!(bench.cause(), Cause::ApicAccess { offset, refusal });
        let access = guest.len() as u64 - bench.get(field::EXIT_INSTRUCTION_LENGTH);
        assert_eq!(bench.get(field::GUEST_RIP), 0x11_0000 + access);
        assert_eq!(bench.get(field::GUEST_RFLAGS) & flags::RF, flags::RF);
        assert!(
            bench.words().contains(&format!("offset {offset:#x}")),
            "{}",
            bench.words()
        );
    }
}

#[test]
fn without_a_tpr_shadow_nothing_is_virtualized() {
    let mut bench = bench(&read(TPR), secondary::VIRTUALIZE_APIC_ACCESSES);
    let primary = bench.get(field::PRIMARY_PROCESSOR_BASED_CONTROLS) & !primary::USE_TPR_SHADOW;
    bench.set(field::PRIMARY_PROCESSOR_BASED_CONTROLS, primary);
    assert_eq!(bench.launch(), reason::APIC_ACCESS as u64);
    assert!(bench.words().contains("use TPR shadow"));
}

#[test]
fn fetches_event_deliveries_and_walks_have_types_of_their_own() {
    let page = secondary::VIRTUALIZE_APIC_ACCESSES;
    // jmp to the page: mov eax, ACCESS; jmp rax.
    let jump = code(&[&[0xb8], &(ACCESS as u32).to_le_bytes(), &[0xff, 0xe0]]);
    let mut fetch = bench(&jump, page);
    assert_eq!(fetch.launch(), reason::APIC_ACCESS as u64);
    assert_eq!(fetch.qualification(), 0x2000);

    // INT 0x51 with a stack on the page.
    let mut delivery = bench(&[0xcd, 0x51], page);
    delivery.set(field::GUEST_RSP, ACCESS + 0x800);
    assert_eq!(delivery.launch(), reason::APIC_ACCESS as u64);
    assert_eq!(delivery.qualification(), 0x37f8);
    assert_eq!(delivery.get(field::IDT_VECTORING_INFO), 1 << 31 | 4 << 8 | 0x51);
    assert_eq!(delivery.get(field::EXIT_INSTRUCTION_LENGTH), 2);
    assert_eq!(delivery.get(field::GUEST_RFLAGS) & flags::RF, 0);

    // The guest's page directory lies on the page: EPT maps all to itself.
    let mut walk = bench(&VMCALL, page | secondary::ENABLE_EPT);
    walk.store(0x4_0000, 0x4_1007);
    walk.store(0x4_1000, 0x4_2007);
    walk.store(0x4_2000, 0xb7);
    walk.set(field::EPT_POINTER, 0x4_001e);
    walk.set(field::APIC_ACCESS_ADDRESS, 0x3000);
    assert_eq!(walk.launch(), reason::APIC_ACCESS as u64);
    assert_eq!(walk.qualification() & 0xf000, 0xf000);
    assert!(walk.words().contains("paging structure"));
}

#[test]
fn the_page_is_the_host_s_own_outside_the_guest_and_without_the_control() {
    let mut bench = bench(
        &code(&[&read(0x20), &VMCALL]),
        secondary::VIRTUALIZE_APIC_ACCESSES,
    );
    bench.bus.write_physical(0, ACCESS + 0x20, 4, 0x77);
    assert_eq!(bench.launch(), reason::APIC_ACCESS as u64);
    bench.execute(&read(0x20));
    assert_eq!(bench.cpu.regs[0], 0x77);
    bench.set(field::SECONDARY_PROCESSOR_BASED_CONTROLS, 0);
    assert_eq!(bench.resume(), reason::VMCALL as u64);
    assert_eq!(bench.cpu.regs[0], 0x77);
    bench.set(
        field::SECONDARY_PROCESSOR_BASED_CONTROLS,
        secondary::VIRTUALIZE_APIC_ACCESSES,
    );
    bench.set(field::GUEST_RIP, 0x11_0000);
    assert_eq!(bench.resume(), reason::APIC_ACCESS as u64);
}

#[test]
fn the_task_priority_is_compared_with_the_threshold() {
    let page = secondary::VIRTUALIZE_APIC_ACCESSES;
    for (guest, secondary) in [
        (write(TPR, 0xabcd_ef3f), page),
        (code(&[&[0xb8, 3, 0, 0, 0], &[0x44, 0x0f, 0x22, 0xc0]]), 0),
        (wrmsr(0x808, 0x3f), secondary::VIRTUALIZE_X2APIC_MODE),
    ] {
        let mut bench = bench(&code(&[&guest, &VMCALL]), secondary);
        bench.set_apic(TPR, 0x40);
        bench.set(field::TPR_THRESHOLD, 4);
        assert_eq!(bench.launch(), reason::TPR_BELOW_THRESHOLD as u64);
        assert_eq!(bench.get(field::GUEST_RIP), 0x11_0000 + guest.len() as u64);
        assert_eq!(bench.apic(TPR) & !0xf, 0x30);
        assert!(bench.words().contains("threshold 0x4"), "{}", bench.words());
        // At VM entry the class is looked at with "virtualize APIC accesses" only; a rule speaks of it otherwise.
        if secondary == page {
            assert_eq!(bench.resume(), reason::TPR_BELOW_THRESHOLD as u64);
            assert!(bench.words().contains("at the VM entry"), "{}", bench.words());
        }
        bench.set(field::TPR_THRESHOLD, 3);
        assert_eq!(bench.resume(), reason::VMCALL as u64);
    }
}

#[test]
fn a_virtual_interrupt_is_delivered_at_entry_and_ended() {
    let mut bench = bench(&VMCALL, ALL);
    bench.write(HANDLER, &code(&[&write(EOI, 5), &VMCALL]));
    bench.set_bits(field::GUEST_RFLAGS, flags::IF);
    bench.set_apic(IRR + 0x20, 1 << 0x11);
    bench.set_apic(IRR + 0x10, 1 << 0x1f);
    bench.set(field::GUEST_INTERRUPT_STATUS, 0x51);
    bench.set(field::EOI_EXIT_BITMAP1, 1 << 0x11);
    assert_eq!(bench.launch(), reason::VIRTUALIZED_EOI as u64);
    assert_eq!(bench.qualification(), 0x51);
    assert_eq!(bench.get(field::GUEST_RIP), HANDLER + 12);
    assert_eq!(bench.get(field::GUEST_INTERRUPT_STATUS), 0x3f);
    assert_eq!(
        [EOI, PPR, ISR + 0x20, IRR + 0x20].map(|it| bench.apic(it)),
        [0; 4]
    );
    assert_eq!(bench.apic(IRR + 0x10), 1 << 0x1f, "the lower one still waits");
    assert!(
        bench.words().contains("bit 17 of eoi_exit_bitmap1"),
        "{}",
        bench.words()
    );
}

#[test]
fn interrupts_wait_for_the_priority_and_for_the_flag() {
    // sti; nop; mov [TPR], 0; nop; vmcall
    let guest = code(&[&[0xfb, 0x90], &write(TPR, 0), &[0x90], &VMCALL]);
    let mut bench = bench(&guest, ALL);
    bench.set_apic(TPR, 0x50);
    bench.set_apic(IRR + 0x20, 1 << 0x11);
    bench.set(field::GUEST_INTERRUPT_STATUS, 0x51);
    assert_eq!(bench.launch(), reason::VMCALL as u64);
    assert_eq!(bench.get(field::GUEST_RIP), HANDLER);
    let pushed = bench.get(field::GUEST_RSP);
    assert_eq!(bench.bus.read_physical(0, pushed, 8), 0x11_0000 + 14);
    assert_eq!(bench.get(field::GUEST_INTERRUPT_STATUS), 0x5100);
    assert_eq!(bench.apic(PPR), 0x50);
}

#[test]
fn a_self_ipi_comes_through_the_page_or_the_msr() {
    for (guest, secondary) in [
        (write(ICR, 0x4_0051), ALL),
        (
            wrmsr(0x83f, 0x51),
            secondary::VIRTUALIZE_X2APIC_MODE | secondary::VIRTUAL_INTERRUPT_DELIVERY,
        ),
    ] {
        let mut bench = bench(&code(&[&guest, &[0x90], &VMCALL]), secondary);
        bench.set_bits(field::GUEST_RFLAGS, flags::IF);
        assert_eq!(bench.launch(), reason::VMCALL as u64);
        assert_eq!(bench.get(field::GUEST_RIP), HANDLER);
    }
}

#[test]
fn writes_that_the_processor_cannot_finish_exit_after_them() {
    let x2apic = secondary::VIRTUALIZE_X2APIC_MODE | secondary::VIRTUAL_INTERRUPT_DELIVERY;
    let registers = secondary::VIRTUALIZE_APIC_ACCESSES | secondary::APIC_REGISTER_VIRTUALIZATION;
    for (guest, secondary, offset, why) in [
        (write(0x20, 7), ALL, 0x20, Unfinished::Register),
        (write(EOI, 7), registers, EOI, Unfinished::NoInterruptDelivery),
        (write(ICR, 7), registers, ICR, Unfinished::NoInterruptDelivery),
        (write(ICR, 0x51), ALL, ICR, Unfinished::Command(0x51)),
        (write(ICR, 0x4_000f), ALL, ICR, Unfinished::Command(0x4_000f)),
        (write(ICR, 0x4_8051), ALL, ICR, Unfinished::Command(0x4_8051)),
        (wrmsr(0x83f, 7), x2apic, SELF_IPI, Unfinished::Vector(7)),
    ] {
        let mut bench = bench(&code(&[&guest, &VMCALL]), secondary);
        assert_eq!(bench.launch(), reason::APIC_WRITE as u64, "{why:?}");
        assert_eq!(bench.qualification(), offset.into());
        assert_eq!(bench.cause(), Cause::ApicWrite { offset, why });
        assert_eq!(bench.get(field::GUEST_RIP), 0x11_0000 + guest.len() as u64);
        assert!(
            bench.words().contains(&format!("offset {offset:#x}")),
            "{}",
            bench.words()
        );
        assert_eq!(bench.resume(), reason::VMCALL as u64);
    }
    let mut bench = bench(&code(&[&write(ICR_HIGH, 0x1234_5678), &VMCALL]), ALL);
    assert_eq!(bench.launch(), reason::VMCALL as u64);
    assert_eq!(bench.apic(ICR_HIGH), 0x1200_0000);
}

#[test]
fn an_element_of_a_string_is_an_operation() {
    // mov edi, ACCESS + TPR; mov ecx, 2; rep stosd
    let to = (ACCESS as u32 + u32::from(TPR)).to_le_bytes();
    let guest = code(&[&[0xbf], &to, &[0xb9, 2, 0, 0, 0], &[0xf3, 0xab], &VMCALL]);
    let mut bench = bench(&guest, ALL);
    bench.cpu.regs[0] = 0x1_0021;
    assert_eq!(bench.launch(), reason::APIC_ACCESS as u64);
    assert_eq!((bench.qualification(), bench.cpu.regs[1]), (0x1084, 1));
    assert_eq!((bench.apic(TPR), bench.apic(PPR)), (0x21, 0x21));
}

#[test]
fn x2apic_reads_come_from_the_page() {
    // mov ecx, 0x802; rdmsr
    let guest = code(&[&[0xb9, 2, 8, 0, 0, 0x0f, 0x32], &VMCALL]);
    let mode = secondary::VIRTUALIZE_X2APIC_MODE;
    let mut bench = bench(&guest, mode | secondary::APIC_REGISTER_VIRTUALIZATION);
    bench.set_apic(0x20, 0x1111_2222);
    bench.set_apic(0x24, 0x3333_4444);
    assert_eq!(bench.launch(), reason::VMCALL as u64);
    assert_eq!((bench.cpu.regs[0], bench.cpu.regs[2]), (0x1111_2222, 0x3333_4444));
    // The real one is in xAPIC mode: #GP, and there is no handler.
    bench.set(field::SECONDARY_PROCESSOR_BASED_CONTROLS, mode);
    bench.set(field::EXCEPTION_BITMAP, 1 << 13);
    bench.set(field::GUEST_RIP, 0x11_0000);
    assert_eq!(bench.resume(), reason::EXCEPTION_OR_NMI as u64);
    // Reserved bits of what is virtualized.
    bench.write(0x11_0000, &wrmsr(0x808, 0x100));
    bench.set(field::GUEST_RIP, 0x11_0000);
    assert_eq!(bench.resume(), reason::EXCEPTION_OR_NMI as u64);
}

/// Raises `vector` at the processor's own local APIC.
fn raise(bus: &mut Bus, vector: u8) {
    bus.set_apic_base(0, 0xfee0_0000 | 1 << 11 | 1 << 10 | 1 << 8)
        .unwrap();
    bus.x2apic_write(0, 0x80f, 0x1ff).unwrap();
    bus.x2apic_write(0, 0x83f, vector.into()).unwrap();
}

fn posting() -> Bench {
    let mut bench = bench(&HLT, ALL);
    bench.set_bits(field::PIN_BASED_CONTROLS, pin::PROCESS_POSTED_INTERRUPTS);
    bench.set_bits(field::EXIT_CONTROLS, exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    bench.set_bits(field::GUEST_RFLAGS, flags::IF);
    bench.set(field::POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xf2);
    bench.set(field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, DESCRIPTOR);
    bench
}

#[test]
fn posted_interrupts_wake_the_guest() {
    let mut bench = posting();
    bench.store(DESCRIPTOR + 8, 1 << 0x11);
    bench.store(DESCRIPTOR + 32, 0xff01);
    raise(&mut bench.bus, 0xf2);
    assert_eq!(bench.launch(), reason::VMCALL as u64);
    assert_eq!(bench.get(field::GUEST_RIP), HANDLER);
    assert_eq!(bench.bus.read_physical(0, DESCRIPTOR + 8, 8), 0);
    assert_eq!(bench.bus.read_physical(0, DESCRIPTOR + 32, 8), 0xff00);
    assert!(!bench.bus.interrupt_pending(0));
    assert_eq!(
        bench.bus.x2apic_read(0, 0x817),
        Ok(0),
        "its interrupt is not in service"
    );
}

#[test]
fn another_vector_than_the_notification_s_exits() {
    let mut bench = posting();
    raise(&mut bench.bus, 0xf3);
    assert_eq!(bench.launch(), reason::EXTERNAL_INTERRUPT as u64);
    assert_eq!(bench.get(field::EXIT_INTERRUPTION_INFO), 1 << 31 | 0xf3);
}

#[test]
fn an_ipi_is_posted() {
    let guest = code(&[&write(ICR_HIGH, 2 << 24), &write(ICR, 0x51), &VMCALL]);
    let x2apic = code(&[&wrmsr(0x830, 2 << 32 | 0x51), &VMCALL]);
    let ways = [
        (guest, secondary::VIRTUALIZE_APIC_ACCESSES),
        (x2apic, secondary::VIRTUALIZE_X2APIC_MODE),
    ];
    for (guest, secondary) in ways {
        let virtualized = secondary | secondary::APIC_REGISTER_VIRTUALIZATION;
        let mut bench = bench(&guest, virtualized);
        bench.set_bits(
            field::PRIMARY_PROCESSOR_BASED_CONTROLS,
            primary::ACTIVATE_TERTIARY_CONTROLS,
        );
        bench.set(
            field::TERTIARY_PROCESSOR_BASED_CONTROLS,
            tertiary::IPI_VIRTUALIZATION,
        );
        bench.set(field::PID_POINTER_TABLE_ADDRESS, POINTERS);
        bench.set(field::LAST_PID_POINTER_INDEX, 1);
        assert_eq!(bench.launch(), reason::APIC_WRITE as u64);
        let beyond = Unfinished::BeyondTable { id: 2, last: 1 };
        assert_eq!(
            bench.cause(),
            Cause::ApicWrite {
                offset: ICR,
                why: beyond
            }
        );
        bench.set(field::LAST_PID_POINTER_INDEX, 2);
        bench.set(field::GUEST_RIP, 0x11_0000);
        assert_eq!(bench.resume(), reason::APIC_WRITE as u64);
        let none = Unfinished::PidPointer { id: 2, entry: 0 };
        assert_eq!(
            bench.cause(),
            Cause::ApicWrite {
                offset: ICR,
                why: none
            }
        );
        // Vector 0xf2 to APIC 0, which is this processor.
        bench.store(POINTERS + 16, DESCRIPTOR | 1);
        bench.store(DESCRIPTOR + 32, 0xf2 << 16);
        bench.set(field::GUEST_RIP, 0x11_0000);
        assert_eq!(bench.resume(), reason::VMCALL as u64);
        assert_eq!(bench.bus.read_physical(0, DESCRIPTOR + 8, 8), 1 << 0x11);
        assert_eq!(bench.bus.read_physical(0, DESCRIPTOR + 32, 8), 0xf2 << 16 | 1);
    }
}

#[test]
fn the_status_is_shown_as_its_parts() {
    let mut bench = bench(&VMCALL, ALL);
    bench.set(field::GUEST_INTERRUPT_STATUS, 0x4151);
    let vmcs = bench.cpu.vmx.current().unwrap();
    let shown = describe(
        field::GUEST_INTERRUPT_STATUS,
        vmcs.get(field::GUEST_INTERRUPT_STATUS),
        vmcs,
    );
    assert_eq!(shown, ["RVI 0x51", "SVI 0x41"]);
}
