//! From a device's line to a processor: the PIC, the I/O APIC, interrupt messages between local APICs, and what each processor
//! is told.

use super::lapic::{Effect, LocalInterrupt, ESR_SEND_ILLEGAL_VECTOR};
use super::{ioapic, lapic_registers, Bus};

/// The delivery mode of an interrupt message (SDM vol. 3, "Interrupt Command Register").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Fixed,
    LowestPriority,
    Nmi,
    Init,
    StartUp,
}

impl Delivery {
    /// None for SMI, which the machine does not have, and for ExtINT and the reserved encodings.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Delivery::Fixed),
            1 => Some(Delivery::LowestPriority),
            4 => Some(Delivery::Nmi),
            5 => Some(Delivery::Init),
            6 => Some(Delivery::StartUp),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Physical(u32),
    Logical(u32),
    Processor(usize),
    All,
    AllBut(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub vector: u8,
    pub delivery: Delivery,
    pub level: bool,
    pub target: Target,
}

/// What is latched for a processor beside INTR. The processor takes (clears) what it acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    pub nmi: bool,
    pub init: bool,
    /// The vector of a start-up IPI. A processor that does not wait for one drops it.
    pub sipi: Option<u8>,
}

impl Signals {
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.nmi | self.init | self.sipi.is_some()
    }
}

const ICR_LOGICAL: u32 = 1 << 11;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_LEVEL: u32 = 1 << 15;
const X2APIC_BROADCAST: u32 = u32::MAX;
const XAPIC_BROADCAST: u32 = 0xFF;

impl Bus {
    /// Whether INTR is asserted to `cpu`: by the PIC through LINT0, or by its local APIC.
    #[inline]
    pub fn interrupt_pending(&self, cpu: usize) -> bool {
        self.intr.get(cpu).copied().unwrap_or(false)
    }

    /// The interrupt-acknowledge cycle of `cpu`: the vector to deliver. The PIC goes before the local APIC.
    pub fn acknowledge(&mut self, cpu: usize) -> u8 {
        let from_pic = self.pic.intr()
            && self
                .lapics
                .get(cpu)
                .is_some_and(|l| l.lint0() == LocalInterrupt::ExtInt);
        let vector = if from_pic {
            let vector = self.pic.acknowledge();
            self.pic_changed();
            vector
        } else {
            self.lapics.get_mut(cpu).map_or(0xFF, |lapic| lapic.acknowledge())
        };
        self.refresh(cpu);
        vector
    }

    /// EOI by `cpu` to its local APIC, as a processor that posts interrupts does it without a register write.
    pub fn eoi(&mut self, cpu: usize) {
        let clock = self.clock;
        if let Some(lapic) = self.lapics.get_mut(cpu) {
            let effect = lapic.xapic_write(lapic_registers::EOI, 0, clock);
            self.carry_out(cpu, effect);
        }
    }

    /// Sends `vector` from `cpu` as a posted-interrupt descriptor's notification destination says: in xAPIC mode the ID is in
    /// bits 15:8.
    pub fn notify(&mut self, cpu: usize, vector: u8, destination: u32) {
        let Some(lapic) = self.lapics.get(cpu) else {
            return;
        };
        let destination = if lapic.x2apic() {
            destination
        } else {
            destination >> 8 & 0xff
        };
        self.command(cpu, u32::from(vector), destination);
        self.refresh(cpu);
    }

    /// Drives interrupt request `irq` (0–15 as on a PC, 16–23 the I/O APIC's own).
    pub fn set_irq(&mut self, irq: u8, level: bool) {
        if irq < 16 {
            self.pic.set_irq(irq, level);
            self.pic_changed();
        }
        let pin = match irq {
            0 => ioapic::TIMER_PIN,
            2 => return,
            _ => irq,
        };
        self.ioapic.set_pin(pin, level);
        self.service_ioapic();
    }

    /// The PIC's INTR may have changed: tells the LINT0 pins.
    pub(super) fn pic_changed(&mut self) {
        let level = self.pic.intr();
        let rises = level && !self.pic_intr;
        self.pic_intr = level;
        for cpu in 0..self.lapics.len() {
            match self.lapics[cpu].lint0() {
                LocalInterrupt::Fixed { vector, level } if rises => {
                    self.lapics[cpu].accept(vector, level);
                }
                LocalInterrupt::Nmi if rises => self.signals[cpu].nmi = true,
                LocalInterrupt::Init if rises => self.signals[cpu].init = true,
                _ => {}
            }
            self.refresh(cpu);
        }
    }

    /// Recomputes INTR of `cpu`.
    pub(super) fn refresh(&mut self, cpu: usize) {
        if let (Some(lapic), Some(intr)) = (self.lapics.get(cpu), self.intr.get_mut(cpu)) {
            *intr = lapic.interrupt().is_some() || self.pic_intr && lapic.lint0() == LocalInterrupt::ExtInt;
        }
    }

    /// Sends what the I/O APIC's pins have to say, lowest pin first.
    pub(super) fn service_ioapic(&mut self) {
        for pin in 0..ioapic::PINS {
            if let Some(message) = self.ioapic.pending(pin) {
                let accepted = self.send(message);
                self.ioapic.sent(pin, accepted);
            }
        }
    }

    /// Carries out what a write to the local APIC of `cpu` asked for, and recomputes what depends on it.
    pub(super) fn carry_out(&mut self, cpu: usize, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Eoi { vector } => {
                self.ioapic.eoi(vector);
                self.service_ioapic();
            }
            Effect::Command { low, destination } => self.command(cpu, low, destination),
        }
        self.refresh(cpu);
    }

    fn command(&mut self, cpu: usize, low: u32, destination: u32) {
        let Some(delivery) = Delivery::from_bits((low >> 8 & 7) as u8) else {
            return;
        };
        // An INIT level de-assert only sets arbitration IDs, which this generation of APICs has not.
        if delivery == Delivery::Init && low & (ICR_LEVEL | ICR_ASSERT) == ICR_LEVEL {
            return;
        }
        let vector = low as u8;
        if matches!(delivery, Delivery::Fixed | Delivery::LowestPriority) && vector < 16 {
            self.lapics[cpu].error(ESR_SEND_ILLEGAL_VECTOR);
            return;
        }
        let broadcast = if self.lapics[cpu].x2apic() {
            X2APIC_BROADCAST
        } else {
            XAPIC_BROADCAST
        };
        let target = match low >> 18 & 3 {
            1 => Target::Processor(cpu),
            2 => Target::All,
            3 => Target::AllBut(cpu),
            _ if destination == broadcast => Target::All,
            _ if low & ICR_LOGICAL != 0 => Target::Logical(destination),
            _ => Target::Physical(destination),
        };
        // An IPI is edge-triggered whatever the trigger bit says.
        self.send(Message {
            vector,
            delivery,
            level: false,
            target,
        });
    }

    /// Delivers a message. Says whether some processor accepted it.
    pub(super) fn send(&mut self, message: Message) -> bool {
        let cpus = 0..self.lapics.len();
        if message.delivery == Delivery::LowestPriority {
            // Of equals the first: real hardware rotates, a deterministic machine need not.
            let idlest = cpus
                .filter(|&cpu| self.names(message.target, cpu) && self.lapics[cpu].software_enabled())
                .min_by_key(|&cpu| self.lapics[cpu].ppr());
            return idlest.is_some_and(|cpu| self.receive(cpu, message));
        }
        let mut accepted = false;
        for cpu in cpus {
            if self.names(message.target, cpu) {
                accepted |= self.receive(cpu, message);
            }
        }
        accepted
    }

    fn names(&self, target: Target, cpu: usize) -> bool {
        let lapic = &self.lapics[cpu];
        match target {
            Target::Physical(id) => lapic.matches_physical(id),
            Target::Logical(destination) => lapic.matches_logical(destination),
            Target::Processor(one) => one == cpu,
            Target::All => lapic.enabled(),
            Target::AllBut(one) => one != cpu && lapic.enabled(),
        }
    }

    fn receive(&mut self, cpu: usize, message: Message) -> bool {
        let signals = &mut self.signals[cpu];
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                let accepted = self.lapics[cpu].accept(message.vector, message.level);
                self.refresh(cpu);
                return accepted;
            }
            Delivery::Nmi => signals.nmi = true,
            Delivery::Init => {
                *signals = Signals {
                    init: true,
                    sipi: None,
                    ..*signals
                }
            }
            Delivery::StartUp => {
                signals.sipi.get_or_insert(message.vector);
            }
        }
        true
    }
}
