//! A virtual-machine control structure: the values of its fields, and its image in memory.

use super::fields::{field, Access, Field, FieldSet};
use super::segments;
use crate::cpu::flags;
use crate::cpu::segment::Segment;

/// Bytes of a VMCS region, as reported in bits 44:32 of IA32_VMX_BASIC.
pub const REGION_SIZE: usize = 4096;

/// The launch states in a VMCS region. VMCLEAR leaves `CLEAR`, so a region with neither was never cleared.
const CLEAR: u64 = u64::from_le_bytes(*b"VMCclear");
const LAUNCHED: u64 = u64::from_le_bytes(*b"launched");

const STATE_OFFSET: usize = 8;
const DATA_OFFSET: usize = 16;

// The first 8 bytes of a region are the revision and the abort indicator (SDM vol. 3, 25.2).
const _: () = assert!(DATA_OFFSET + 8 * Field::COUNT <= REGION_SIZE);

/// What the checks of VM entry depend on beside fields: modes of the processor, and of the guest where the
/// field that says so changes all the time for other reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    pub long_mode: bool,
    pub in_smm: bool,
    pub virtual_8086: bool,
}

/// What an entry that has passed all its checks leaves for those of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub modes: Modes,
    /// A check has looked into memory: it must look again, whatever has changed.
    pub reads_memory: bool,
}

/// The bits that no check of VM entry looks at, of the fields that nearly every exit changes: the lower half of RIP, and
/// the flags but TF, IF and VM.
pub const UNCHECKED: [(Field, u64); 2] = [
    (field::GUEST_RIP, 0xffff_ffff),
    (
        field::GUEST_RFLAGS,
        flags::DEFINED & !(flags::TF | flags::IF | flags::VM),
    ),
];

/// What `set` goes by.
#[derive(Clone, Copy)]
struct Width {
    /// The bits that the field holds.
    mask: u64,
    /// The bits whose change is a change to the checks of VM entry.
    checked: u64,
}

/// By `Field::index`.
static WIDTHS: [Width; Field::COUNT] = {
    let mut widths = [Width { mask: 0, checked: !0 }; Field::COUNT];
    let mut at = 0;
    while at < Field::COUNT {
        widths[at].mask = Field::at(at).mask();
        at += 1;
    }
    at = 0;
    while at < UNCHECKED.len() {
        widths[UNCHECKED[at].0.index()].checked = !UNCHECKED[at].1;
        at += 1;
    }
    widths
};

#[derive(Clone, Debug)]
pub struct Vmcs {
    /// Physical address of the region.
    pub address: u64,
    pub launched: bool,
    /// Whether VMCLEAR ever initialised the region; where it did not, the SDM leaves the launch state
    /// undefined (25.1).
    pub initialised: bool,
    /// Field values by `Field::index`, each inside the field's width.
    values: [u64; Field::COUNT],
    /// The fields that got another value since `accept_changes`, in bits that a check of VM entry may look at.
    changed: FieldSet,
    /// What `accept_changes` was given; None if no entry with this VMCS ever passed.
    passed: Option<Passed>,
    loaded: segments::Loaded,
    #[cfg(test)]
    reads: std::cell::Cell<FieldSet>,
}

impl Vmcs {
    /// A cleared VMCS whose fields are all 0, for the region at `address`.
    pub fn new(address: u64) -> Vmcs {
        Vmcs {
            address,
            launched: false,
            initialised: true,
            values: [0; Field::COUNT],
            changed: FieldSet::EMPTY,
            passed: None,
            loaded: Default::default(),
            #[cfg(test)]
            reads: Default::default(),
        }
    }

    #[inline(always)]
    pub fn get(&self, field: Field) -> u64 {
        #[cfg(test)]
        self.reads.set(self.reads.get().union(FieldSet::of(&[field])));
        self.values[field.index()]
    }

    /// Stores `value`, cut to the field's width. Returns whether the field changed.
    #[inline(always)]
    pub fn set(&mut self, field: Field, value: u64) -> bool {
        // Most fields that a VM exit saves are as they were.
        self.values[field.index()] != value && self.change(field, value)
    }

    /// `set` of a value that the field does not hold, before it is cut.
    #[inline(never)]
    fn change(&mut self, field: Field, value: u64) -> bool {
        let slot = &mut self.values[field.index()];
        let width = &WIDTHS[field.index()];
        let value = value & width.mask;
        if *slot == value {
            return false;
        }
        if (*slot ^ value) & width.checked != 0 {
            self.changed.insert(field);
        }
        *slot = value;
        self.loaded.forget(field);
        true
    }

    /// The value that VMREAD of this half gives.
    #[inline(always)]
    pub fn read(&self, field: Field, access: Access) -> u64 {
        match access {
            Access::Full => self.get(field),
            Access::High => self.get(field) >> 32,
        }
    }

    /// Stores as VMWRITE to this half does. Returns whether the field changed.
    #[inline(always)]
    pub fn write(&mut self, field: Field, access: Access, value: u64) -> bool {
        match access {
            Access::Full => self.set(field, value),
            Access::High => self.set(field, value << 32 | self.get(field) & 0xffff_ffff),
        }
    }

    /// The modes of an entry with this VMCS.
    #[inline(always)]
    pub fn modes(&self, long_mode: bool, in_smm: bool) -> Modes {
        Modes {
            long_mode,
            in_smm,
            virtual_8086: self.get(field::GUEST_RFLAGS) & flags::VM != 0,
        }
    }

    /// The fields that got another value since the last `accept_changes`, in bits that a check of VM entry may look at.
    pub fn changed(&self) -> &FieldSet {
        &self.changed
    }

    /// Starts a new list of changed fields; VM entry does so once all its checks have passed.
    pub fn accept_changes(&mut self, passed: Passed) {
        self.changed = FieldSet::EMPTY;
        self.passed = Some(passed);
    }

    /// What the last entry left that passed all its checks.
    #[inline]
    pub fn passed(&self) -> Option<Passed> {
        self.passed
    }

    /// What VM entry loads into the segment registers.
    #[inline(always)]
    pub fn guest_segments(&mut self) -> &[Segment; 8] {
        let Vmcs { values, loaded, .. } = self;
        loaded.guest(|field| values[field.index()])
    }

    /// Whether the guest's segments are what `guest_segments` gave or `set_guest_segments` was given last.
    #[inline(always)]
    pub fn has_guest_segments(&self) -> bool {
        self.loaded.has_guest()
    }

    /// Saves the segment registers, as VM exit does.
    pub fn set_guest_segments(&mut self, segments: &[Segment; 8]) {
        for (field, value) in segments::guest_fields(segments) {
            self.set(field, value);
        }
        self.loaded.set_guest(segments);
    }

    /// What VM exit loads into the segment registers. `long`: “host address-space size”.
    #[inline(always)]
    pub fn host_segments(&mut self, long: bool) -> &[Segment; 8] {
        let Vmcs { values, loaded, .. } = self;
        loaded.host(long, |field| values[field.index()])
    }

    /// Writes launch state and fields behind the first 8 bytes of a region, which are left to the guest.
    pub fn pack(&self, region: &mut [u8; REGION_SIZE]) {
        let state = if self.launched { LAUNCHED } else { CLEAR };
        region[STATE_OFFSET..DATA_OFFSET].copy_from_slice(&state.to_le_bytes());
        for (slot, value) in region[DATA_OFFSET..].chunks_exact_mut(8).zip(&self.values) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Reads a region at physical `address` as `pack` wrote it. Whatever the bytes are, the result is a valid
    /// VMCS.
    pub fn unpack(address: u64, region: &[u8; REGION_SIZE]) -> Vmcs {
        let word = |offset: usize| {
            region[offset..offset + 8]
                .iter()
                .rev()
                .fold(0, |w, &b| w << 8 | u64::from(b))
        };
        let mut vmcs = Vmcs::new(address);
        vmcs.launched = word(STATE_OFFSET) == LAUNCHED;
        vmcs.initialised = vmcs.launched || word(STATE_OFFSET) == CLEAR;
        for field in Field::all() {
            vmcs.values[field.index()] = word(DATA_OFFSET + 8 * field.index()) & field.mask();
        }
        vmcs
    }

    /// The fields read since the last call, for tests that hold rules to the fields that they say they read.
    #[cfg(test)]
    pub fn take_reads(&self) -> FieldSet {
        self.reads.replace(FieldSet::EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_to_the_width_of_the_field() {
        let mut vmcs = Vmcs::new(0x1000);
        vmcs.set(field::GUEST_CS_SELECTOR, 0x1_2345);
        vmcs.set(field::EXCEPTION_BITMAP, u64::MAX);
        vmcs.set(field::GUEST_RIP, u64::MAX);
        assert_eq!(vmcs.get(field::GUEST_CS_SELECTOR), 0x2345);
        assert_eq!(vmcs.get(field::EXCEPTION_BITMAP), 0xffff_ffff);
        assert_eq!(vmcs.get(field::GUEST_RIP), u64::MAX);
    }

    #[test]
    fn the_high_access_type_is_the_upper_half() {
        let mut vmcs = Vmcs::new(0x1000);
        vmcs.write(field::TSC_OFFSET, Access::Full, 0x1111_2222_3333_4444);
        vmcs.write(field::TSC_OFFSET, Access::High, 0xaaaa_bbbb);
        assert_eq!(vmcs.read(field::TSC_OFFSET, Access::Full), 0xaaaa_bbbb_3333_4444);
        assert_eq!(vmcs.read(field::TSC_OFFSET, Access::High), 0xaaaa_bbbb);
    }

    #[test]
    fn a_region_keeps_all_but_its_first_eight_bytes() {
        let mut vmcs = Vmcs::new(0x5000);
        for field in Field::all() {
            vmcs.set(field, 0x0123_4567_89ab_cdef ^ field.index() as u64);
        }
        for launched in [false, true] {
            vmcs.launched = launched;
            let mut region = [0x5a; REGION_SIZE];
            vmcs.pack(&mut region);
            assert_eq!(region[..8], [0x5a; 8]);
            let read = Vmcs::unpack(0x5000, &region);
            assert_eq!(
                (read.values, read.launched, read.initialised),
                (vmcs.values, launched, true)
            );
        }
        let garbage = Vmcs::unpack(0, &[0xff; REGION_SIZE]);
        assert_eq!((garbage.launched, garbage.initialised), (false, false));
        assert_eq!(garbage.get(field::GUEST_ES_SELECTOR), 0xffff);
    }

    #[test]
    fn only_another_value_is_a_change() {
        let mut vmcs = Vmcs::new(0);
        vmcs.accept_changes(Passed::default());
        assert!(!vmcs.set(field::GUEST_RSP, 0));
        assert!(vmcs.changed().is_empty());
        assert!(vmcs.set(field::GUEST_RSP, 5));
        assert_eq!(*vmcs.changed(), FieldSet::of(&[field::GUEST_RSP]));
    }
}
