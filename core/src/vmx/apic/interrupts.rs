//! Virtual interrupts: TPR, PPR, EOI and self-IPI virtualization, evaluation and delivery (SDM vol. 3, 30.1 and 30.2).

use super::registers::{VirtualApic, IRR, ISR, PPR};
use super::{interrupt_delivery, tpr_shadow};
use crate::cpu::exception::{EventKind, Fault};
use crate::cpu::{deliver, flags, Activity, Cpu, Shadow, Stop};
use crate::platform::Bus;
use crate::vmx::cause::Cause;
use crate::vmx::controls::{primary, secondary};
use crate::vmx::fields::{field, Field};
use crate::vmx::reasons::reason;

/// The EOI-exit bitmap, by the upper two bits of a vector.
pub const EOI_EXIT_BITMAP: [Field; 4] = [
    field::EOI_EXIT_BITMAP0,
    field::EOI_EXIT_BITMAP1,
    field::EOI_EXIT_BITMAP2,
    field::EOI_EXIT_BITMAP3,
];

/// The guest interrupt status (25.4.2): the highest vector that is requested, and the highest in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    rvi: u8,
    svi: u8,
}

impl Status {
    fn of(cpu: &Cpu) -> Status {
        let [rvi, svi, ..] = cpu.vmx.get(field::GUEST_INTERRUPT_STATUS).to_le_bytes();
        Status { rvi, svi }
    }

    fn store(self, cpu: &mut Cpu) {
        if let Some(vmcs) = cpu.vmx.current_mut() {
            vmcs.set(
                field::GUEST_INTERRUPT_STATUS,
                u16::from_le_bytes([self.rvi, self.svi]) as u64,
            );
        }
    }
}

/// What VM entry does with the virtual APIC (27.3.2.5 and 27.7.7), before an event is injected.
pub fn enter(cpu: &mut Cpu, bus: &mut Bus) {
    if interrupt_delivery(cpu) {
        virtualize_ppr(cpu, bus);
        evaluate(cpu, bus);
    } else if tpr_shadow(cpu) && cpu.vmx.controls.secondary & secondary::VIRTUALIZE_APIC_ACCESSES != 0 {
        compare_with_threshold(cpu, bus, true);
    }
}

/// TPR virtualization (30.1.2): the virtual TPR was written.
pub fn virtualize_tpr(cpu: &mut Cpu, bus: &mut Bus) {
    if interrupt_delivery(cpu) {
        virtualize_ppr(cpu, bus);
        evaluate(cpu, bus);
    } else {
        compare_with_threshold(cpu, bus, false);
    }
}

fn compare_with_threshold(cpu: &mut Cpu, bus: &mut Bus, at_entry: bool) {
    let class = VirtualApic::of(cpu).task_priority_class(bus);
    let threshold = cpu.vmx.get(field::TPR_THRESHOLD) as u8 & 15;
    if class < threshold {
        let cause = Cause::TprThreshold {
            class,
            threshold,
            at_entry,
        };
        cpu.vmx.apic.exit_after(reason::TPR_BELOW_THRESHOLD, 0, cause);
    }
}

/// PPR virtualization (30.1.3).
fn virtualize_ppr(cpu: &Cpu, bus: &mut Bus) {
    let apic = VirtualApic::of(cpu);
    let tpr = apic.read(bus, super::registers::TPR) as u8;
    let svi = Status::of(cpu).svi;
    let ppr = if tpr >> 4 >= svi >> 4 { tpr } else { svi & 0xf0 };
    apic.write(bus, PPR, ppr as u32);
}

/// EOI virtualization (30.1.4).
pub fn virtualize_eoi(cpu: &mut Cpu, bus: &mut Bus) {
    let apic = VirtualApic::of(cpu);
    let status = Status::of(cpu);
    let vector = status.svi;
    apic.set_bit(bus, ISR, vector, false);
    let svi = apic.highest(bus, ISR);
    Status { svi, ..status }.store(cpu);
    virtualize_ppr(cpu, bus);
    let bitmap = cpu.vmx.get(EOI_EXIT_BITMAP[usize::from(vector >> 6)]);
    if bitmap >> (vector & 63) & 1 != 0 {
        let cause = Cause::EoiExitBitmap { vector };
        cpu.vmx
            .apic
            .exit_after(reason::VIRTUALIZED_EOI, vector as u64, cause);
    } else {
        evaluate(cpu, bus);
    }
}

/// Self-IPI virtualization (30.1.5).
pub fn virtualize_self_ipi(cpu: &mut Cpu, bus: &mut Bus, vector: u8) {
    VirtualApic::of(cpu).set_bit(bus, IRR, vector, true);
    request(cpu, bus, vector);
}

/// Bits up to `vector` of the virtual IRR have been set.
pub fn request(cpu: &mut Cpu, bus: &mut Bus, vector: u8) {
    let status = Status::of(cpu);
    let rvi = status.rvi.max(vector);
    Status { rvi, ..status }.store(cpu);
    evaluate(cpu, bus);
}

/// Evaluation of pending virtual interrupts (30.2.1). Nothing else changes what is recognized, but for a delivery.
pub fn evaluate(cpu: &mut Cpu, bus: &mut Bus) {
    let ppr = VirtualApic::of(cpu).read(bus, PPR) as u8;
    cpu.vmx.apic.recognized = cpu.vmx.controls.primary & primary::INTERRUPT_WINDOW_EXITING == 0
        && Status::of(cpu).rvi >> 4 > ppr >> 4;
}

/// Delivers the virtual interrupt that is recognized, where one is and nothing blocks it (30.2.2). True if it was.
#[inline]
pub fn deliver(cpu: &mut Cpu, bus: &mut Bus) -> Result<bool, Stop> {
    let open = cpu.vmx.apic.recognized
        && cpu.flags.has(flags::IF)
        && cpu.shadow == Shadow::None
        && matches!(cpu.activity, Activity::Active | Activity::Halted);
    if !open {
        return Ok(false);
    }
    let apic = VirtualApic::of(cpu);
    let vector = Status::of(cpu).rvi;
    apic.set_bit(bus, ISR, vector, true);
    apic.write(bus, PPR, (vector & 0xf0) as u32);
    apic.set_bit(bus, IRR, vector, false);
    let rvi = apic.highest(bus, IRR);
    Status { rvi, svi: vector }.store(cpu);
    cpu.vmx.apic.recognized = false;
    cpu.activity = Activity::Active;
    deliver::deliver(cpu, bus, Fault::of(EventKind::ExternalInterrupt, vector)).map(|()| true)
}
