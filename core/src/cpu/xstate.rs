//! The state components that the XSAVE feature set manages: who has them, what is in them, where each lies in an XSAVE
//! area (SDM vol. 1, 13.1 to 13.6).

use super::Cpu;
use crate::vmx::cpuid_features::{feature, Feature};
use crate::vmx::profile::Profile;

/// The two components of the legacy region, by their bits in XCR0.
pub const X87: u64 = 1 << 0;
pub const SSE: u64 = 1 << 1;
pub const AVX: u64 = 1 << 2;

/// Bytes of the legacy region and of the header that follows it: where the extended region begins.
pub const LEGACY: usize = 512;
pub const EXTENDED: usize = 576;

/// XCOMP_BV: the extended region has the compacted format.
pub const COMPACTED: u64 = 1 << 63;

/// MXCSR's value after RESET.
pub const MXCSR_INITIAL: u32 = 0x1f80;

/// A component of the extended region. All of them are made of 64-bit words, and initial when all words are 0. None
/// needs its place in the compacted format aligned.
pub struct Component {
    /// Its bit in XCR0, or in IA32_XSS.
    pub bit: u32,
    /// It is there with any of these.
    features: &'static [Feature],
    pub words: usize,
    /// In bytes from the start of an area in the standard format; supervisor components have none.
    offset: Option<usize>,
    get: fn(&Cpu, usize) -> u64,
    set: fn(&mut Cpu, usize, u64),
    /// Whether XRSTORS takes such a word: of supervisor components it refuses what their registers do.
    accepts: fn(&Cpu, usize, u64) -> bool,
}

/// How many components there are, and the words of the largest.
pub const COUNT: usize = COMPONENTS.len();
pub const MOST_WORDS: usize = 32;

pub const COMPONENTS: &[Component] = &[
    Component {
        bit: 2,
        features: &[feature::AVX],
        words: 32,
        offset: Some(576),
        get: |cpu, word| cpu.ymm[word / 2][2 + word % 2],
        set: |cpu, word, value| cpu.ymm[word / 2][2 + word % 2] = value,
        accepts: |_, _, _| true,
    },
    Component {
        bit: 9,
        features: &[feature::PKU],
        words: 1,
        offset: Some(2688),
        get: |cpu, _| cpu.msr.pkru as u64,
        set: |cpu, _, value| {
            cpu.msr.pkru = value as u32;
            cpu.update_space();
        },
        accepts: |_, _, _| true,
    },
    // IA32_U_CET and IA32_PL3_SSP.
    Component {
        bit: 11,
        features: &[feature::CET_SS, feature::CET_IBT],
        words: 2,
        offset: None,
        get: |cpu, word| [cpu.cet.user, cpu.cet.pl_ssp[3]][word & 1],
        set: |cpu, word, value| {
            if word == 0 {
                cpu.cet.user = value;
                cpu.update_space();
            } else {
                cpu.cet.pl_ssp[3] = value;
            }
        },
        accepts: |cpu, word, value| {
            if word == 0 {
                cpu.is_cet_control(value)
            } else {
                cpu.is_shadow_stack_pointer(value)
            }
        },
    },
    // IA32_PL0_SSP to IA32_PL2_SSP.
    Component {
        bit: 12,
        features: &[feature::CET_SS],
        words: 3,
        offset: None,
        get: |cpu, word| cpu.cet.pl_ssp[word & 3],
        set: |cpu, word, value| cpu.cet.pl_ssp[word & 3] = value,
        accepts: |cpu, _, value| cpu.is_shadow_stack_pointer(value),
    },
];

impl Component {
    pub fn mask(&self) -> u64 {
        1 << self.bit
    }

    pub fn is_supervisor(&self) -> bool {
        self.offset.is_none()
    }

    pub fn bytes(&self) -> usize {
        8 * self.words
    }

    /// How many of its words exist in the current mode: outside 64-bit mode there are eight vector registers.
    pub fn present(&self, cpu: &Cpu) -> usize {
        if self.mask() == AVX && !cpu.long64() {
            self.words / 2
        } else {
            self.words
        }
    }

    pub fn in_use(&self, cpu: &Cpu) -> bool {
        (0..self.present(cpu)).any(|word| (self.get)(cpu, word) != 0)
    }

    pub fn word(&self, cpu: &Cpu, word: usize) -> u64 {
        (self.get)(cpu, word)
    }

    pub fn accepts(&self, cpu: &Cpu, words: &[u64]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(word, value)| (self.accepts)(cpu, word, *value))
    }

    /// Loads the words that exist in the current mode.
    pub fn restore(&self, cpu: &mut Cpu, words: &[u64; MOST_WORDS]) {
        for (word, value) in words.iter().enumerate().take(self.present(cpu)) {
            (self.set)(cpu, word, *value);
        }
    }
}

/// The extended components of `mask` with their places in an area of the standard format.
fn standard(mask: u64) -> impl Iterator<Item = (&'static Component, usize)> {
    COMPONENTS
        .iter()
        .filter(move |component| mask & component.mask() != 0)
        .filter_map(|component| Some((component, component.offset?)))
}

/// The same for the compacted format: one after the other.
fn compacted(mask: u64) -> impl Iterator<Item = (&'static Component, usize)> {
    let mut end = EXTENDED;
    COMPONENTS
        .iter()
        .filter(move |component| mask & component.mask() != 0)
        .map(move |component| {
            let at = end;
            end += component.bytes();
            (component, at)
        })
}

/// The extended components of an area whose XCOMP_BV is `format`, with their places in bytes; of the standard format,
/// those of `mask`.
pub fn layout(format: u64, mask: u64) -> impl Iterator<Item = (&'static Component, usize)> {
    let is_compacted = format & COMPACTED != 0;
    compacted(if is_compacted { format } else { 0 }).chain(standard(if is_compacted { 0 } else { mask }))
}

/// The bytes of an area that holds the components of `mask`, `format` being its XCOMP_BV.
pub fn size(format: u64, mask: u64) -> usize {
    layout(format, mask)
        .map(|(component, at)| at + component.bytes())
        .fold(EXTENDED, usize::max)
}

/// The bits of XCR0 and of IA32_XSS that a processor with these features has.
pub fn supported(has: impl Fn(Feature) -> bool) -> (u64, u64) {
    if !has(feature::XSAVE) {
        return (X87, 0);
    }
    let mut supported = (X87 | SSE, 0);
    for component in COMPONENTS {
        if component.features.iter().any(|feature| has(*feature)) {
            let place = if component.is_supervisor() {
                &mut supported.1
            } else {
                &mut supported.0
            };
            *place |= component.mask();
        }
    }
    if !has(feature::XSAVES) {
        supported.1 = 0;
    }
    supported
}

/// All of XCR0 and of IA32_XSS that the core can honour.
pub fn honoured() -> (u64, u64) {
    supported(|_| true)
}

/// CPUID leaf 0DH from subleaf 0 on, by subleaf: EAX to EDX of those that are not all zeros. The sizes of subleaves 0
/// and 1 that depend on XCR0 are the processor's to fill in.
pub fn leaves(has: impl Fn(Feature) -> bool) -> Vec<(u32, [u32; 4])> {
    let (user, supervisor) = supported(has);
    let mut leaves = vec![
        (0, [user as u32, 0, size(0, user) as u32, (user >> 32) as u32]),
        (1, [0, 0, supervisor as u32, (supervisor >> 32) as u32]),
    ];
    for component in COMPONENTS {
        if (user | supervisor) & component.mask() != 0 {
            let place = component.offset.unwrap_or(0) as u32;
            let kind = component.is_supervisor() as u32;
            leaves.push((component.bit, [component.bytes() as u32, place, kind, 0]));
        }
    }
    leaves
}

/// Whether XCR0 may have this value: x87 always, AVX only with SSE (SDM vol. 1, 13.3).
pub fn valid_xcr0(profile: &Profile, value: u64) -> bool {
    value & !profile.xcr0_allowed() == 0 && value & X87 != 0 && (value & AVX == 0 || value & SSE != 0)
}

impl Cpu {
    /// XINUSE: the components that are not in their initial configuration. MXCSR does not count (SDM vol. 1, 13.6).
    pub fn state_in_use(&self) -> u64 {
        let registers = if self.long64() { 16 } else { 8 };
        let vectors = self.ymm[..registers].iter().any(|ymm| ymm[0] | ymm[1] != 0);
        let legacy = if self.x87.is_initial() { 0 } else { X87 } | if vectors { SSE } else { 0 };
        COMPONENTS
            .iter()
            .filter(|component| component.in_use(self))
            .fold(legacy, |mask, component| mask | component.mask())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_do_not_overlap_and_ascend() {
        for pair in COMPONENTS.windows(2) {
            assert!(pair[0].bit < pair[1].bit);
        }
        let mut end = EXTENDED;
        for (component, at) in standard(!0) {
            assert!(at >= end, "component {}", component.bit);
            end = at + component.bytes();
        }
    }

    #[test]
    fn the_compacted_format_leaves_no_gaps() {
        let all = COMPACTED | X87 | SSE | AVX | 1 << 9;
        assert_eq!(size(all, !0), EXTENDED + 256 + 8);
        assert_eq!(size(COMPACTED | 1 << 9, !0), EXTENDED + 8);
        assert_eq!(size(0, X87 | 1 << 9), 2688 + 8);
        assert_eq!(size(0, X87 | SSE), EXTENDED);
    }
}
