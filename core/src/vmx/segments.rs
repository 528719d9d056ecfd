//! The segment registers of guest and host in a VMCS, as VM entry and VM exit load them.

use super::fields::{field, Field, FieldSet};
use crate::cpu::segment::{Rights, Segment, CS, TR};

/// The fields that hold a segment register.
pub struct SegmentFields {
    /// Selector, base, limit and access rights of the guest's.
    pub guest: [Field; 4],
    pub host_selector: Option<Field>,
    pub host_base: Option<Field>,
}

/// In the order of `Cpu::seg`.
pub static FIELDS: [SegmentFields; 8] = {
    use field::*;
    [
        SegmentFields {
            guest: [
                GUEST_ES_SELECTOR,
                GUEST_ES_BASE,
                GUEST_ES_LIMIT,
                GUEST_ES_ACCESS_RIGHTS,
            ],
            host_selector: Some(HOST_ES_SELECTOR),
            host_base: None,
        },
        SegmentFields {
            guest: [
                GUEST_CS_SELECTOR,
                GUEST_CS_BASE,
                GUEST_CS_LIMIT,
                GUEST_CS_ACCESS_RIGHTS,
            ],
            host_selector: Some(HOST_CS_SELECTOR),
            host_base: None,
        },
        SegmentFields {
            guest: [
                GUEST_SS_SELECTOR,
                GUEST_SS_BASE,
                GUEST_SS_LIMIT,
                GUEST_SS_ACCESS_RIGHTS,
            ],
            host_selector: Some(HOST_SS_SELECTOR),
            host_base: None,
        },
        SegmentFields {
            guest: [
                GUEST_DS_SELECTOR,
                GUEST_DS_BASE,
                GUEST_DS_LIMIT,
                GUEST_DS_ACCESS_RIGHTS,
            ],
            host_selector: Some(HOST_DS_SELECTOR),
            host_base: None,
        },
        SegmentFields {
            guest: [
                GUEST_FS_SELECTOR,
                GUEST_FS_BASE,
                GUEST_FS_LIMIT,
                GUEST_FS_ACCESS_RIGHTS,
            ],
            host_selector: Some(HOST_FS_SELECTOR),
            host_base: Some(HOST_FS_BASE),
        },
        SegmentFields {
            guest: [
                GUEST_GS_SELECTOR,
                GUEST_GS_BASE,
                GUEST_GS_LIMIT,
                GUEST_GS_ACCESS_RIGHTS,
            ],
            host_selector: Some(HOST_GS_SELECTOR),
            host_base: Some(HOST_GS_BASE),
        },
        SegmentFields {
            guest: [
                GUEST_LDTR_SELECTOR,
                GUEST_LDTR_BASE,
                GUEST_LDTR_LIMIT,
                GUEST_LDTR_ACCESS_RIGHTS,
            ],
            host_selector: None,
            host_base: None,
        },
        SegmentFields {
            guest: [
                GUEST_TR_SELECTOR,
                GUEST_TR_BASE,
                GUEST_TR_LIMIT,
                GUEST_TR_ACCESS_RIGHTS,
            ],
            host_selector: Some(HOST_TR_SELECTOR),
            host_base: Some(HOST_TR_BASE),
        },
    ]
};

const CODE_64: Rights = Rights(0xa09b);
const CODE_32: Rights = Rights(0xc09b);
const DATA: Rights = Rights(0xc093);
const TASK: Rights = Rights(0x008b);

/// Segment registers that were put together from fields before, as most entries and exits find those as the last ones
/// did. `Vmcs::set` drops what is made of a field that gets another value.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    guest: Option<[Segment; 8]>,
    /// With the host's address-space size, of which CS is made.
    host: Option<(bool, [Segment; 8])>,
}

impl Loaded {
    const GUEST: FieldSet = {
        let mut fields = FieldSet::EMPTY;
        let mut index = 0;
        while index < FIELDS.len() {
            fields = fields.union(FieldSet::of(&FIELDS[index].guest));
            index += 1;
        }
        fields
    };
    const HOST: FieldSet = {
        let mut fields = FieldSet::EMPTY;
        let mut index = 0;
        while index < FIELDS.len() {
            if let Some(selector) = FIELDS[index].host_selector {
                fields = fields.union(FieldSet::of(&[selector]));
            }
            if let Some(base) = FIELDS[index].host_base {
                fields = fields.union(FieldSet::of(&[base]));
            }
            index += 1;
        }
        fields
    };
    /// All that either is made of.
    const BOTH: FieldSet = Loaded::GUEST.union(Loaded::HOST);

    /// The guest's segments. `get` reads a field.
    #[inline(always)]
    pub fn guest(&mut self, get: impl Fn(Field) -> u64) -> &[Segment; 8] {
        self.guest.get_or_insert_with(|| {
            FIELDS.each_ref().map(|fields| {
                let [selector, base, limit, rights] = fields.guest.map(&get);
                Segment {
                    selector: selector as u16,
                    base,
                    limit: limit as u32,
                    rights: Rights(rights as u32),
                }
            })
        })
    }

    /// The host's. `long`: “host address-space size”.
    #[inline(always)]
    pub fn host(&mut self, long: bool, get: impl Fn(Field) -> u64) -> &[Segment; 8] {
        if self
            .host
            .as_ref()
            .is_some_and(|(made_long, _)| *made_long != long)
        {
            self.host = None;
        }
        let (_, segments) = self.host.get_or_insert_with(|| (long, host(long, get)));
        segments
    }

    pub fn has_guest(&self) -> bool {
        self.guest.is_some()
    }

    /// The fields of the guest's segments hold `segments` now.
    pub fn set_guest(&mut self, segments: &[Segment; 8]) {
        self.guest = Some(*segments);
    }

    /// `field` has got another value.
    #[inline(always)]
    pub fn forget(&mut self, field: Field) {
        if Loaded::BOTH.contains(field) {
            match Loaded::HOST.contains(field) {
                true => self.host = None,
                false => self.guest = None,
            }
        }
    }
}

/// Each field of the guest's segments with its value.
pub fn guest_fields(segments: &[Segment; 8]) -> impl Iterator<Item = (Field, u64)> + '_ {
    segments.iter().zip(&FIELDS).flat_map(|(segment, fields)| {
        let [selector, base, limit, rights] = fields.guest;
        [
            (selector, segment.selector as u64),
            (base, segment.base),
            (limit, segment.limit as u64),
            (rights, segment.rights.0 as u64),
        ]
    })
}

/// The host's segments as VM exit loads them (SDM vol. 3, 28.5.2).
fn host(long: bool, get: impl Fn(Field) -> u64) -> [Segment; 8] {
    std::array::from_fn(|index| {
        let fields = &FIELDS[index];
        let Some(selector) = fields.host_selector.map(|field| get(field) as u16) else {
            return Segment::unusable(0);
        };
        Segment {
            selector,
            rights: match index {
                CS if long => CODE_64,
                CS => CODE_32,
                TR => TASK,
                _ if selector == 0 => Rights::UNUSABLE,
                _ => DATA,
            },
            limit: if index == TR { 0x67 } else { !0 },
            base: fields.host_base.map_or(0, &get),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmx::vmcs::Vmcs;

    /// Whatever field is written, the next load is the one that a VMCS gives which was never loaded from.
    #[test]
    fn a_field_that_is_written_is_loaded() {
        let mut vmcs = Vmcs::new(0x1000);
        for field in Field::all() {
            for value in [0x1_2345_6789_abcd, 0] {
                vmcs.guest_segments();
                vmcs.host_segments(true);
                vmcs.set(field, value);
                let mut fresh = Vmcs::new(0x1000);
                fresh.set(field, value);
                assert_eq!(vmcs.guest_segments(), fresh.guest_segments(), "{field:?}");
                assert_eq!(vmcs.host_segments(true), fresh.host_segments(true), "{field:?}");
            }
        }
    }

    #[test]
    fn code_of_the_host_goes_by_its_address_space_size() {
        let mut vmcs = Vmcs::new(0x1000);
        let mut code = |long| vmcs.host_segments(long)[CS].rights;
        assert_eq!([true, false, true].map(&mut code), [CODE_64, CODE_32, CODE_64]);
    }

    #[test]
    fn saved_segments_are_in_the_fields() {
        let mut vmcs = Vmcs::new(0x1000);
        let segments = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| Segment {
            selector: 0x10 + n,
            base: 0x1234_5678_9abc + n as u64,
            limit: 0xffff_0000 + n as u32,
            rights: Rights(0x93 + n as u32),
        });
        vmcs.set_guest_segments(&segments);
        assert!(vmcs.has_guest_segments());
        assert_eq!(*vmcs.guest_segments(), segments);
        // What is left out of a copy is what was put together.
        vmcs.set(field::GUEST_ES_BASE, 1);
        assert!(!vmcs.has_guest_segments());
        vmcs.set(field::GUEST_ES_BASE, segments[0].base);
        assert_eq!(*vmcs.guest_segments(), segments);
    }
}
