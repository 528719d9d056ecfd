//! The translation cache on the hot path: linear page to place in RAM.
//!
//! An entry's tag is the linear page and, in its low 12 bits, the *context* under which the translation was made: the
//! address space (paging root, PCID, VPID, EPT root) and the privilege. Forgetting an address space is taking a new
//! context number; the entries of the old one can no longer match.

use rustc_hash::{FxHashMap, FxHashSet};

pub const PAGE: u64 = 0x1000;
pub const PAGE_MASK: u64 = !0xfff;

const SLOTS: usize = 2048;
/// What a tag is multiplied by, for a slot in the upper bits: the golden ratio both for the page and for the context, by
/// which neighbours land far apart (Knuth vol. 3, 6.4).
const SPREAD: u64 = 0x9e39_e377_9b97_f4a7;
/// Context numbers are 10 bits, 0 is never used; the low two bits of the tag are the privilege.
const CONTEXTS: u64 = 1024;
/// The processor's number lies above the bits of a tag's context, and its generation above that: links between blocks
/// are shared by all processors, translations are not.
const PROCESSOR: u64 = 1 << 12;
const PROCESSORS: u64 = 256;
const GENERATION: u64 = PROCESSOR * PROCESSORS;

/// The privilege that an access is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Privilege {
    Supervisor = 0,
    User = 1,
    /// A supervisor access that SMAP does not stop: RFLAGS.AC is set.
    SupervisorAc = 2,
    /// A user access with alignment checking on; never cached, so that each one is looked at.
    UserAligned = 3,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// Tag for which reads, writes and fetches need no more than `ram`; 0 where they do.
    pub read: u64,
    pub write: u64,
    pub fetch: u64,
    /// The number of the page in RAM.
    pub page: u64,
}

impl Entry {
    /// The offset into RAM of what lies at `linear`, an address in the page.
    #[inline(always)]
    pub fn ram(&self, linear: u64) -> usize {
        (self.page * PAGE + (linear & !PAGE_MASK)) as usize
    }
}

/// What a walk found for a 4-KByte page: which accesses need no more than `ram`.
pub struct Filled {
    pub read: bool,
    pub write: bool,
    pub fetch: bool,
    /// Offset into RAM of the page.
    pub ram: u64,
    /// Of the page that the guest's tables map here.
    pub page_bytes: u64,
}

/// What a set of translations belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Space {
    pub owner: Owner,
    /// Where paging starts: CR3's address; 0 without paging, `Space::PDPTES` with PAE paging.
    pub root: u64,
    /// PKRU, and IA32_PKRS above it.
    pub keys: u64,
    /// Bits 51:12 of the EPT pointer, and what changes the meaning of its tables below them; 0 without EPT.
    pub ept_root: u64,
    /// Where the APIC-access page is (`vmx::apic::State::tag`).
    pub apic_page: u64,
    /// CR0.PG, CR0.WP, CR4.PSE/PAE/SMEP/SMAP/…, EFER.NXE: whatever changes what an entry allows.
    pub paging: u64,
}

/// Whose translations they are: small things in one word, as each VM entry and exit compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Owner(u64);

impl Owner {
    const GUEST: u64 = 1 << 63;

    /// `guest`: VMX non-root operation. `vpid` is 0 for the host and without VPIDs, `pcid` is 0 without CR4.PCIDE. `enforced`: what
    /// CET enforces for user and supervisor, as code is decoded by it.
    #[inline(always)]
    pub fn new(guest: bool, vpid: u16, pcid: u16, enforced: u8) -> Owner {
        let guest = if guest { Owner::GUEST } else { 0 };
        Owner(guest | (enforced as u64) << 32 | (pcid as u64) << 16 | vpid as u64)
    }

    pub fn guest(self) -> bool {
        self.0 & Owner::GUEST != 0
    }

    pub fn vpid(self) -> u16 {
        self.0 as u16
    }

    pub fn pcid(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

impl Space {
    /// PAE paging starts from four entries that the processor holds, which a `Space` does not name.
    pub const PDPTES: u64 = !0;

    /// Equality, which looks at the owner first: that is what differs most often.
    #[inline(always)]
    fn is(&self, other: &Space) -> bool {
        self.owner == other.owner && self == other
    }
}

/// The translations of one space.
#[derive(Clone, Copy, Debug)]
struct Context {
    number: u64,
    /// The machine's count of writes to tables when it was begun.
    begun: u64,
}

impl Context {
    /// Whether its translations are still what a walk would give: no table of any space was written since.
    fn is_exact(&self, space: &Space, table_writes: u64) -> bool {
        self.begun == table_writes && space.root != Space::PDPTES
    }
}

#[derive(Clone)]
pub struct Tlb {
    entries: Box<[Entry; SLOTS]>,
    /// Context and privilege of the accesses made now, as the low bits of a tag.
    pub context: u64,
    contexts: FxHashMap<Space, Context>,
    /// The count of writes to tables that `flush` was last told.
    table_writes: u64,
    /// No context is older than this count, and all are exact: nothing that a flush could forget.
    fresh_at: Option<u64>,
    /// The current space and the one that was current before: VM entries and exits go back and forth.
    spaces: [Space; 2],
    /// Which of them is the current one.
    at: usize,
    /// The number of the other one while that holds, else 0.
    other: u64,
    next: u64,
    /// With the processor's number. Grows by `GENERATION` each time context numbers are handed out anew, or a page of code is forgotten.
    generation: u64,
    /// Large pages, as `large_key`, with those of their 4-KByte pages that may have entries.
    large: FxHashMap<u64, Vec<u64>>,
    /// Linear pages that code was fetched from: what links between blocks may rest on.
    fetched: FxHashSet<u64>,
}

/// Sizes of pages that fill more than one entry, as powers of 2.
const LARGE: [u32; 3] = [21, 22, 30];
/// Past this the sets of pages are not worth their upkeep, and all is forgotten.
const MOST_PAGES: usize = 4096;
const MOST_PARTS: usize = 64;

/// The large page of 2^`shift` bytes that `linear` lies in.
fn large_key(linear: u64, shift: u32) -> u64 {
    linear >> shift << shift | shift as u64
}

impl Default for Tlb {
    fn default() -> Self {
        Tlb::new(0)
    }
}

impl Tlb {
    /// Of the processor with this number.
    pub fn new(processor: usize) -> Tlb {
        let mut tlb = Tlb {
            entries: Box::new([Entry::default(); SLOTS]),
            context: 0,
            contexts: FxHashMap::default(),
            table_writes: 0,
            fresh_at: None,
            spaces: Default::default(),
            at: 0,
            other: 0,
            next: 1,
            generation: processor as u64 % PROCESSORS * PROCESSOR,
            large: FxHashMap::default(),
            fetched: FxHashSet::default(),
        };
        tlb.begin_space();
        tlb
    }

    #[inline(always)]
    fn slot(linear: u64, context: u64) -> usize {
        ((linear & PAGE_MASK | context).wrapping_mul(SPREAD) >> (64 - SLOTS.ilog2())) as usize
    }

    #[inline(always)]
    pub fn entry(&self, linear: u64, context: u64) -> &Entry {
        &self.entries[Tlb::slot(linear, context)]
    }

    pub fn entry_mut(&mut self, linear: u64, context: u64) -> &mut Entry {
        &mut self.entries[Tlb::slot(linear, context)]
    }

    /// A number that never stands for two sets of translations: what links between blocks are valid for.
    #[inline(always)]
    pub fn unique_context(&self) -> u64 {
        self.generation + self.context
    }

    /// The tag for an access of another privilege in the current address space.
    pub fn context_for(&self, privilege: Privilege) -> u64 {
        self.context & !3 | privilege as u64
    }

    pub fn privilege(&self) -> Privilege {
        match self.context & 3 {
            0 => Privilege::Supervisor,
            1 => Privilege::User,
            2 => Privilege::SupervisorAc,
            _ => Privilege::UserAligned,
        }
    }

    pub fn set_privilege(&mut self, user: bool, ac: bool, align: bool) {
        let privilege = match (user, ac, align) {
            (true, _, true) => Privilege::UserAligned,
            (true, ..) => Privilege::User,
            (false, true, _) => Privilege::SupervisorAc,
            (false, ..) => Privilege::Supervisor,
        };
        self.context = self.context_for(privilege);
    }

    /// Makes `space` the current one, with whatever of it is still cached.
    #[inline(always)]
    pub fn enter(&mut self, space: Space) {
        if space.is(&self.space()) {
            return;
        }
        let left = self.context >> 2;
        let known = std::mem::replace(&mut self.other, left);
        self.at ^= 1;
        if known != 0 && space.is(&self.space()) {
            self.context = known << 2 | self.context & 3;
        } else {
            self.spaces[self.at & 1] = space;
            self.begin_space();
        }
    }

    /// Finds the number of the current space, or gives it one.
    #[inline(never)]
    fn begin_space(&mut self) {
        let space = self.space();
        let number = match self.contexts.get(&space) {
            Some(context) => context.number,
            None => self.fresh(space),
        };
        self.context = number << 2 | self.context & 3;
    }

    fn fresh(&mut self, space: Space) -> u64 {
        if self.next == CONTEXTS {
            self.start_over();
        }
        let number = self.next;
        self.next += 1;
        self.contexts.insert(
            space,
            Context {
                number,
                begun: self.table_writes,
            },
        );
        self.fresh_at = None;
        number
    }

    fn start_over(&mut self) {
        self.entries.fill(Entry::default());
        self.contexts.clear();
        self.large.clear();
        self.fetched.clear();
        self.other = 0;
        self.next = 1;
        self.generation += GENERATION;
    }

    fn bound(&mut self, pages: usize) {
        if pages >= MOST_PAGES {
            self.start_over();
            self.begin_space();
        }
    }

    /// Notes that a block at `linear` was found by its translation, so that links to it rest on that.
    pub fn note_fetch(&mut self, linear: u64) {
        self.bound(self.fetched.len());
        self.fetched.insert(linear >> 12);
    }

    /// Keeps a translation of the 4-KByte page at `linear` for accesses of `privilege` in the current space.
    pub fn fill(&mut self, linear: u64, privilege: Privilege, filled: Filled) {
        self.bound(self.large.len());
        if filled.page_bytes > PAGE {
            let key = large_key(linear, filled.page_bytes.trailing_zeros());
            let parts = self.large.entry(key).or_default();
            if parts.len() < MOST_PARTS && !parts.contains(&(linear & PAGE_MASK)) {
                parts.push(linear & PAGE_MASK);
            }
        }
        let context = self.context_for(privilege);
        let tag = linear & PAGE_MASK | context;
        let tagged = |may: bool| if may { tag } else { 0 };
        *self.entry_mut(linear, context) = Entry {
            read: tagged(filled.read),
            write: tagged(filled.write),
            fetch: tagged(filled.fetch),
            page: filled.ram / PAGE,
        };
    }

    /// Forgets the page that `linear` lies in, whatever its size, in the spaces that `dead` names.
    pub fn forget_page(&mut self, linear: u64, dead: impl Fn(&Space) -> bool) {
        self.forget_part(linear & PAGE_MASK, &dead);
        for shift in LARGE {
            let Some(parts) = self.large.remove(&large_key(linear, shift)) else {
                continue;
            };
            if parts.len() == MOST_PARTS {
                self.forget_entries();
                self.forget_links();
            }
            // In all spaces: what is known of the parts is gone.
            for part in parts {
                self.forget_part(part, &|_: &Space| true);
            }
        }
    }

    fn forget_part(&mut self, page: u64, dead: &impl Fn(&Space) -> bool) {
        for (_, context) in self.contexts.iter().filter(|(space, _)| dead(space)) {
            for privilege in 0..3 {
                let context = context.number << 2 | privilege;
                let entry = &mut self.entries[Tlb::slot(page, context)];
                if [entry.read, entry.write, entry.fetch].contains(&(page | context)) {
                    *entry = Entry::default();
                }
            }
        }
        if self.fetched.contains(&(page >> 12)) {
            self.forget_links();
        }
    }

    /// From now on no link between blocks holds.
    fn forget_links(&mut self) {
        self.generation += GENERATION;
        self.fetched.clear();
    }

    /// Forgets every space that `dead` names, the current one included. `table_writes` is the machine's count of writes to
    /// paging structures: a space begun since the last of them is kept, for nobody can tell it from one walked anew.
    pub fn flush(&mut self, table_writes: u64, dead: impl Fn(&Space) -> bool) {
        self.table_writes = table_writes;
        if self.fresh_at == Some(table_writes) {
            return;
        }
        self.contexts
            .retain(|space, context| context.is_exact(space, table_writes) || !dead(space));
        let all = self
            .contexts
            .iter()
            .all(|(space, context)| context.is_exact(space, table_writes));
        self.fresh_at = all.then_some(table_writes);
        self.other = 0;
        self.begin_space();
    }

    pub fn flush_all(&mut self) {
        self.contexts.clear();
        self.other = 0;
        self.begin_space();
    }

    /// What is cached for the spaces that `wanted` names: the page's linear address, the privilege, the entry.
    pub fn cached(
        &self,
        wanted: impl Fn(&Space) -> bool,
    ) -> impl Iterator<Item = (u64, Privilege, Entry)> + '_ {
        let numbers: Vec<u64> = self
            .contexts
            .iter()
            .filter(|(space, _)| wanted(space))
            .map(|(_, context)| context.number)
            .collect();
        self.entries.iter().filter_map(move |entry| {
            let tag = entry.read | entry.write | entry.fetch;
            let privilege = match tag & 3 {
                0 => Privilege::Supervisor,
                1 => Privilege::User,
                _ => Privilege::SupervisorAc,
            };
            let known = tag != 0 && numbers.contains(&(tag >> 2 & (CONTEXTS - 1)));
            known.then_some((tag & PAGE_MASK, privilege, *entry))
        })
    }

    #[inline(always)]
    pub fn space(&self) -> Space {
        self.spaces[self.at & 1]
    }

    /// From now on a write to the page at `ram` must be seen by the slow path (it holds code, or is watched, or is
    /// shared with a snapshot).
    pub fn forget_writes(&mut self, ram: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.page == ram / PAGE) {
            entry.write = 0;
        }
    }

    /// Forgets all entries but no address space: for when a debugger's watchpoints change.
    pub fn forget_entries(&mut self) {
        self.entries.fill(Entry::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_page(linear: u64, page_bytes: u64) -> Tlb {
        let mut tlb = Tlb::new(0);
        tlb.enter(Space {
            owner: Owner::new(true, 1, 0, 0),
            ..Space::default()
        });
        fill(&mut tlb, linear, page_bytes);
        tlb
    }

    fn fill(tlb: &mut Tlb, linear: u64, page_bytes: u64) {
        let filled = Filled {
            read: true,
            write: true,
            fetch: true,
            ram: 0x5000,
            page_bytes,
        };
        tlb.fill(linear, Privilege::Supervisor, filled);
    }

    fn holds(tlb: &Tlb, linear: u64) -> bool {
        tlb.entry(linear, tlb.context).read == linear & PAGE_MASK | tlb.context
    }

    #[test]
    fn owners_that_differ_in_anything_are_others() {
        let owner = Owner::new(true, 0xffff, 0xfff, 0xff);
        assert_eq!((owner.guest(), owner.vpid(), owner.pcid()), (true, 0xffff, 0xfff));
        for other in [
            Owner::new(false, 0xffff, 0xfff, 0xff),
            Owner::new(true, 0x7fff, 0xfff, 0xff),
            Owner::new(true, 0xffff, 0x7ff, 0xff),
            Owner::new(true, 0xffff, 0xfff, 0x7f),
        ] {
            assert_ne!(owner, other);
        }
    }

    #[test]
    fn forgetting_a_page_keeps_others_and_other_vpids() {
        let mut tlb = with_page(0x40_0000, PAGE);
        fill(&mut tlb, 0x40_1000, PAGE);
        tlb.forget_page(0x40_0123, |space| space.owner.vpid() == 2);
        assert!(holds(&tlb, 0x40_0000));
        tlb.forget_page(0x40_0123, |space| space.owner.vpid() == 1);
        assert!(!holds(&tlb, 0x40_0000) && holds(&tlb, 0x40_1000));
    }

    #[test]
    fn a_large_page_is_forgotten_with_all_its_parts() {
        for (bytes, parts) in [(1 << 21, 3), (1 << 22, 100), (1 << 30, 3)] {
            let mut tlb = with_page(0x8000_0000, bytes);
            for part in 0..parts {
                fill(&mut tlb, 0x8000_0000 + part * PAGE, bytes);
            }
            fill(&mut tlb, 0x4000_0000, PAGE);
            tlb.forget_page(0x8000_0000 + bytes - 1, |_| true);
            assert!((0..parts).all(|part| !holds(&tlb, 0x8000_0000 + part * PAGE)));
            assert!(holds(&tlb, 0x4000_0000) || parts > MOST_PARTS as u64);
        }
    }

    #[test]
    fn no_link_of_one_processor_holds_on_another() {
        assert_ne!(Tlb::new(0).unique_context(), Tlb::new(1).unique_context());
    }

    #[test]
    fn links_hold_until_a_page_of_code_is_forgotten() {
        let mut tlb = with_page(0x40_0000, PAGE);
        tlb.note_fetch(0x40_0000);
        let links = tlb.unique_context();
        tlb.forget_page(0x40_1000, |_| true);
        assert_eq!(tlb.unique_context(), links);
        tlb.forget_page(0x40_0000, |_| true);
        assert_ne!(tlb.unique_context(), links);
    }
}
