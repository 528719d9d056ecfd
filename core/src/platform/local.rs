//! The processors' side of their local APICs: IA32_APIC_BASE, the page and the MSRs, CR8, the TSC-deadline timer, INIT.

use super::lapic::Illegal;
use super::Bus;

/// What the processors offer, by which IA32_APIC_BASE is checked.
#[derive(Clone, Copy)]
pub struct ApicLimits {
    physical_address_width: u8,
    x2apic: bool,
}

impl Default for ApicLimits {
    fn default() -> Self {
        ApicLimits {
            physical_address_width: 52,
            x2apic: true,
        }
    }
}

impl Bus {
    /// What CPUID tells: MAXPHYADDR, and whether x2APIC mode is there.
    pub fn set_apic_limits(&mut self, physical_address_width: u8, x2apic: bool) {
        self.limits = ApicLimits {
            physical_address_width,
            x2apic,
        };
    }

    /// IA32_APIC_BASE.
    pub fn apic_base(&self, cpu: usize) -> u64 {
        self.lapics.get(cpu).map_or(0, |lapic| lapic.base())
    }

    /// Writes IA32_APIC_BASE; the error is a #GP: reserved bits, or a change of mode that is not allowed.
    pub fn set_apic_base(&mut self, cpu: usize, value: u64) -> Result<(), Illegal> {
        let limits = self.limits;
        let lapic = self.lapics.get_mut(cpu).ok_or(Illegal)?;
        lapic.set_base(value, limits.physical_address_width, limits.x2apic)?;
        let mut pages = self.lapics.iter().filter_map(|lapic| lapic.page());
        self.apic_over_ram = pages.any(|page| self.ram.offset(page).is_some());
        self.refresh(cpu);
        Ok(())
    }

    /// Where in RAM an access by `cpu` goes; `None` outside RAM, and where the page of its local APIC lies in front.
    #[inline]
    pub fn ram_at(&self, cpu: usize, physical: u64) -> Option<usize> {
        if self.apic_over_ram && self.lapic_page(cpu) == Some(physical & !0xfff) {
            return None;
        }
        self.ram.offset(physical)
    }

    /// INIT resets the local APIC, its ID and IA32_APIC_BASE excepted. The processor calls this when it takes the INIT.
    pub fn init_lapic(&mut self, cpu: usize) {
        if let Some(lapic) = self.lapics.get_mut(cpu) {
            lapic.reset();
        }
        self.refresh(cpu);
    }

    pub(super) fn lapic_page(&self, cpu: usize) -> Option<u64> {
        self.lapics.get(cpu)?.page()
    }

    pub(super) fn lapic_read(&mut self, cpu: usize, offset: u64) -> u32 {
        let clock = self.clock;
        let value = self
            .lapics
            .get_mut(cpu)
            .map_or(0, |lapic| lapic.xapic_read((offset >> 4) as u8, clock));
        self.refresh(cpu);
        value
    }

    pub(super) fn lapic_write(&mut self, cpu: usize, offset: u64, value: u32) {
        let clock = self.clock;
        if let Some(lapic) = self.lapics.get_mut(cpu) {
            let effect = lapic.xapic_write((offset >> 4) as u8, value, clock);
            self.carry_out(cpu, effect);
        }
    }

    /// RDMSR of 0x800–0x8FF; the error is a #GP.
    pub fn x2apic_read(&self, cpu: usize, msr: u32) -> Result<u64, Illegal> {
        self.lapics
            .get(cpu)
            .ok_or(Illegal)?
            .x2apic_read(x2apic_register(msr)?, self.clock)
    }

    /// WRMSR of 0x800–0x8FF; the error is a #GP.
    pub fn x2apic_write(&mut self, cpu: usize, msr: u32, value: u64) -> Result<(), Illegal> {
        let register = x2apic_register(msr)?;
        let effect = self
            .lapics
            .get_mut(cpu)
            .ok_or(Illegal)?
            .x2apic_write(register, value, self.clock)?;
        self.carry_out(cpu, effect);
        Ok(())
    }

    /// The task-priority register, all eight bits; CR8 is its high half.
    pub fn tpr(&self, cpu: usize) -> u8 {
        self.lapics.get(cpu).map_or(0, |lapic| lapic.tpr())
    }

    pub fn set_tpr(&mut self, cpu: usize, value: u8) {
        if let Some(lapic) = self.lapics.get_mut(cpu) {
            lapic.set_tpr(value);
        }
        self.refresh(cpu);
    }

    /// The processor's TSC less the clock, modulo 2^64: the TSC-deadline timer compares with the TSC.
    pub fn set_tsc_offset(&mut self, cpu: usize, offset: u64) {
        if let Some(place) = self.tsc_offsets.get_mut(cpu) {
            *place = offset;
        }
    }

    /// IA32_TSC_DEADLINE: 0 where the timer is not armed or not in this mode.
    pub fn tsc_deadline(&self, cpu: usize) -> u64 {
        self.lapics.get(cpu).map_or(0, |lapic| lapic.timer.tsc_deadline())
    }

    /// Writes IA32_TSC_DEADLINE: arms the timer, or disarms it with 0. Does nothing in the timer's other modes.
    pub fn set_tsc_deadline(&mut self, cpu: usize, value: u64) {
        if let Some(lapic) = self.lapics.get_mut(cpu) {
            lapic.timer.set_tsc_deadline(value);
        }
    }

    /// The clock when the timer of `cpu` next expires.
    #[inline]
    pub(super) fn timer_deadline(&self, cpu: usize) -> Option<u64> {
        let offset = self.tsc_offsets.get(cpu)?;
        self.lapics.get(cpu)?.timer.next_deadline(*offset)
    }

    pub(super) fn fire_lapic_timer(&mut self, cpu: usize) {
        if let (Some(lapic), Some(offset)) = (self.lapics.get_mut(cpu), self.tsc_offsets.get(cpu)) {
            if lapic.fire_timer(self.clock, *offset) {
                self.refresh(cpu);
            }
        }
    }
}

fn x2apic_register(msr: u32) -> Result<u8, Illegal> {
    msr.checked_sub(0x800)
        .and_then(|register| u8::try_from(register).ok())
        .ok_or(Illegal)
}

#[cfg(test)]
mod tests {
    use super::super::TICKS_PER_SECOND;
    use super::*;

    const X2APIC: u64 = 0xFEE0_0000 | 1 << 11 | 1 << 10;
    const SVR: u32 = 0x80F;
    const ICR: u32 = 0x830;

    fn machine(cpus: usize) -> Bus {
        let mut bus = Bus::for_test(cpus);
        for cpu in 0..cpus {
            bus.set_apic_base(cpu, X2APIC | u64::from(cpu == 0) << 8).unwrap();
            bus.x2apic_write(cpu, SVR, 0x1FF).unwrap();
        }
        bus
    }

    fn pending(bus: &Bus) -> Vec<usize> {
        (0..bus.cpu_count())
            .filter(|&cpu| bus.interrupt_pending(cpu))
            .collect()
    }

    #[test]
    fn ipis_reach_whom_they_name() {
        const ALL: u64 = 0xFFFF_FFFF << 32;
        let logical = |mask: u64| mask << 32 | 1 << 11;
        for (command, expected) in [
            (2 << 32, vec![2]),
            (logical(0b101), vec![0, 2]),
            (1 << 18, vec![1]),
            (2 << 18, vec![0, 1, 2]),
            (3 << 18, vec![0, 2]),
            (ALL, vec![0, 1, 2]),
            (ALL | 1 << 11, vec![0, 1, 2]),
            (7 << 32, vec![]),
            (logical(0b111) | 1 << 8, vec![0]),
        ] {
            let mut bus = machine(3);
            bus.x2apic_write(1, ICR, command | 0x4040).unwrap();
            assert_eq!(pending(&bus), expected, "{command:x}");
            for cpu in expected {
                assert_eq!(bus.acknowledge(cpu), 0x40);
                bus.x2apic_write(cpu, 0x80B, 0).unwrap();
            }
            assert!(pending(&bus).is_empty());
        }
    }

    #[test]
    fn lowest_priority_goes_to_the_idlest() {
        let mut bus = machine(3);
        bus.set_tpr(0, 0x30);
        bus.set_tpr(1, 0x20);
        bus.set_tpr(2, 0x30);
        bus.x2apic_write(0, ICR, 0b111 << 32 | 1 << 11 | 1 << 8 | 0x50)
            .unwrap();
        assert_eq!(pending(&bus), [1]);
    }

    #[test]
    fn nmi_init_and_startup_are_latched() {
        let mut bus = machine(2);
        bus.x2apic_write(0, ICR, 1 << 32 | 0x4400).unwrap();
        assert!(bus.signals[1].nmi && !bus.signals[0].any());
        bus.x2apic_write(0, ICR, 0xC_4500).unwrap();
        bus.x2apic_write(0, ICR, 0xC_4600 | 0x9A).unwrap();
        assert!(bus.signals[1].init);
        assert_eq!(bus.signals[1].sipi, Some(0x9A));
        bus.x2apic_write(0, ICR, 0xC_8500).unwrap();
        assert_eq!(bus.signals[1].sipi, Some(0x9A), "a level de-assert is no INIT");
        bus.x2apic_write(0, ICR, 0xC_4500).unwrap();
        assert_eq!(bus.signals[1].sipi, None, "an INIT forgets what came before");
        bus.init_lapic(1);
        assert_eq!(bus.x2apic_read(1, SVR), Ok(0xFF));
        assert_eq!(bus.x2apic_read(1, 0x802), Ok(1));
    }

    #[test]
    fn tpr_holds_interrupts_back() {
        let mut bus = machine(1);
        bus.x2apic_write(0, 0x83F, 0x61).unwrap();
        assert!(bus.interrupt_pending(0));
        bus.set_tpr(0, 0x60);
        assert!(!bus.interrupt_pending(0));
        bus.set_tpr(0, 0x50);
        assert!(bus.interrupt_pending(0));
    }

    #[test]
    fn the_tsc_deadline_timer_sets_the_machine_s_deadline() {
        let mut bus = machine(1);
        bus.set_tsc_offset(0, 1000);
        bus.x2apic_write(0, 0x832, 2 << 17 | 0xEF).unwrap();
        bus.set_tsc_deadline(0, 6000);
        assert_eq!(bus.deadline(), Some(5000));
        bus.clock = 4999;
        bus.advance(0);
        assert!(!bus.interrupt_pending(0));
        bus.clock = 5000;
        bus.advance(0);
        assert!(bus.interrupt_pending(0));
        assert_eq!((bus.deadline(), bus.tsc_deadline(0)), (None, 0));
    }

    #[test]
    fn a_timer_goes_by_the_time_of_its_own_processor() {
        let mut bus = machine(2);
        for cpu in 0..2 {
            bus.x2apic_write(cpu, 0x83E, 0xB).unwrap();
            bus.x2apic_write(cpu, 0x832, 0xEE).unwrap();
            bus.x2apic_write(cpu, 0x838, 500).unwrap();
        }
        bus.clock = 600;
        bus.advance(0);
        assert_eq!(pending(&bus), [0]);
        bus.clock = 100;
        bus.advance(1);
        assert_eq!(bus.x2apic_read(1, 0x839), Ok(400));
        assert_eq!((pending(&bus), bus.deadline_for(1)), (vec![0], Some(500)));
        bus.clock = 500;
        bus.advance(1);
        assert_eq!(pending(&bus), [0, 1]);
    }

    #[test]
    fn the_pic_reaches_a_processor_whose_lapic_is_off_and_one_that_lets_it_through() {
        let mut bus = Bus::for_test(1);
        for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFE)] {
            bus.io_write(0, port, 1, value);
        }
        for (port, value) in [(0x43, 0x34), (0x40, 0xFF), (0x40, 0xFF)] {
            bus.io_write(0, port, 1, value);
        }
        bus.clock = TICKS_PER_SECOND / 10;
        bus.advance(0);
        assert!(bus.interrupt_pending(0));
        bus.mmio_write(0, 0xFEE0_0350, 4, 0x1_0000);
        assert!(!bus.interrupt_pending(0), "LINT0 is masked");
        bus.set_apic_base(0, 0xFEE0_0100).unwrap();
        assert!(bus.interrupt_pending(0));
        assert_eq!(bus.acknowledge(0), 0x20);
        assert!(!bus.interrupt_pending(0));
    }

    #[test]
    fn a_level_interrupt_comes_again_until_its_line_falls() {
        let mut bus = machine(1);
        for (select, value) in [(0x10 + 2 * 14, 0x8077), (0x11 + 2 * 14, 0)] {
            bus.mmio_write(0, 0xFEC0_0000, 4, select);
            bus.mmio_write(0, 0xFEC0_0010, 4, value);
        }
        bus.io_write(0, 0x200E, 1, 1);
        for _ in 0..2 {
            assert_eq!(bus.acknowledge(0), 0x77);
            assert!(!bus.interrupt_pending(0));
            bus.eoi(0);
            assert!(bus.interrupt_pending(0));
        }
        bus.acknowledge(0);
        bus.io_write(0, 0x200E, 1, 0);
        bus.x2apic_write(0, 0x80B, 0).unwrap();
        assert!(!bus.interrupt_pending(0));
    }

    #[test]
    fn a_lost_processor_number_is_no_panic() {
        let mut bus = machine(1);
        assert!(!bus.interrupt_pending(9));
        assert_eq!(bus.set_apic_base(9, X2APIC), Err(Illegal));
        bus.set_tpr(9, 1);
        bus.init_lapic(9);
        assert_eq!(bus.acknowledge(9), 0xFF);
    }
}
