//! Guest RAM. Untouched pages cost nothing: the host's zero pages stand for them.

use crate::cpu::int::Int;

const GIB: u64 = 1 << 30;
/// RAM below this lies at its own offset; the rest begins at 4 GiB, leaving a hole for devices.
const LOW_END: u64 = 3 * GIB;
const HIGH_START: u64 = 4 * GIB;

const PAGE: u64 = 0x1000;
pub type Page = [u8; PAGE as usize];

/// After that many writes without a walk between them a page is taken to hold no paging structure any more. More than 1,
/// as guarding a page anew costs a search of the TLB.
const GUARDED_WRITES: u8 = 16;

/// Which bytes of a page have been decoded as instructions.
type CodeMap = [u64; 64];

#[derive(Clone)]
pub struct Ram {
    /// By page, so that an access within one needs no more than a look at the number of pages.
    pages: Vec<Page>,
    code: Vec<Option<Box<CodeMap>>>,
    /// Offsets of code pages that were written to; their blocks are stale.
    stale: Vec<u64>,
    /// For each page, how many writes it stays guarded for since a walk read an entry of it; 0: not guarded.
    tables: Vec<u8>,
    table_writes: u64,
}

impl Ram {
    /// `size` in bytes, rounded up to a page.
    pub fn new(size: u64) -> Ram {
        let pages = size.div_ceil(PAGE);
        Ram {
            pages: bytemuck::zeroed_vec(pages as usize),
            code: vec![None; pages as usize],
            stale: Vec::new(),
            tables: vec![0; pages as usize],
            table_writes: 0,
        }
    }

    pub fn size(&self) -> u64 {
        self.all().len() as u64
    }

    #[inline(always)]
    fn all(&self) -> &[u8] {
        self.pages.as_flattened()
    }

    #[inline(always)]
    fn all_mut(&mut self) -> &mut [u8] {
        self.pages.as_flattened_mut()
    }

    /// Ranges of host-physical addresses that are RAM, as (start, length).
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let size = self.size();
        let mut ranges = vec![(0, size.min(LOW_END))];
        if size > LOW_END {
            ranges.push((HIGH_START, size - LOW_END));
        }
        ranges
    }

    /// The offset in RAM of a host-physical address; `None` where there is no RAM.
    #[inline(always)]
    pub fn offset(&self, physical: u64) -> Option<usize> {
        let size = self.size();
        if physical < size.min(LOW_END) {
            Some(physical as usize)
        } else if physical >= HIGH_START && physical - HIGH_START < size.saturating_sub(LOW_END) {
            Some((physical - HIGH_START + LOW_END) as usize)
        } else {
            None
        }
    }

    #[inline(always)]
    pub fn load<T: Int>(&self, at: usize) -> Option<T> {
        T::load(self.all(), at)
    }

    /// Writes without looking whether the page holds code: for those who know it does not.
    #[inline(always)]
    pub fn store<T: Int>(&mut self, at: usize, value: T) -> bool {
        value.store(self.all_mut(), at)
    }

    /// Reads `within` bytes into the page of that number; `None` where the bytes do not all lie in it.
    #[inline(always)]
    pub fn load_in_page<T: Int>(&self, page: u64, within: usize) -> Option<T> {
        T::load(self.pages.get(page as usize)?, within)
    }

    /// The page of that number, to be written to as `store` does.
    #[inline(always)]
    pub fn page_mut(&mut self, page: u64) -> Option<&mut Page> {
        self.pages.get_mut(page as usize)
    }

    /// Writes there as `store` does.
    #[inline(always)]
    pub fn store_in_page<T: Int>(&mut self, page: u64, within: usize, value: T) -> bool {
        match self.pages.get_mut(page as usize) {
            Some(page) => value.store(page, within),
            None => false,
        }
    }

    #[inline(always)]
    pub fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.all().get(at..)?.first_chunk()
    }

    #[inline(always)]
    pub fn bytes_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.all_mut().get_mut(at..)?.first_chunk_mut()
    }

    /// Copies bytes, as if by way of a buffer, without looking for code. False, and nothing is copied, outside RAM.
    pub fn copy(&mut self, from: usize, to: usize, length: usize) -> bool {
        let size = self.all().len();
        let fits = |at: usize| at.checked_add(length).is_some_and(|end| end <= size);
        if !fits(from) || !fits(to) {
            return false;
        }
        self.all_mut().copy_within(from..from + length, to);
        true
    }

    /// The rest of the page that holds `at`, from `at` on.
    pub fn to_page_end(&self, at: usize) -> &[u8] {
        let end = (at & !0xfff) + 0x1000;
        let bytes = self.all();
        bytes.get(at..end.min(bytes.len())).unwrap_or(&[])
    }

    pub fn slice(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.all().get(at..at.checked_add(length)?)
    }

    /// Writes bytes within one page and notes it where they were code or a paging structure.
    pub fn write(&mut self, at: usize, data: &[u8]) {
        if let Some(writes @ 1..) = self.tables.get_mut(at / PAGE as usize) {
            *writes -= 1;
            self.table_writes += 1;
        }
        self.write_flags(at, data);
    }

    /// Writes what changes no translation: accessed and dirty flags.
    pub fn write_flags(&mut self, at: usize, data: &[u8]) {
        let code = self.holds_code(at as u64, data.len() as u64);
        if let Some(place) = at
            .checked_add(data.len())
            .and_then(|end| self.pages.as_flattened_mut().get_mut(at..end))
        {
            // What is written as it was leaves the code as it was.
            if code && place != data {
                self.stale.push(at as u64 & !0xfff);
            }
            place.copy_from_slice(data);
        }
    }

    /// True where nobody minds writes: neither code nor a paging structure.
    pub fn is_plain(&self, at: u64) -> bool {
        let page = (at / PAGE) as usize;
        matches!(self.code.get(page), Some(None)) && self.tables.get(page) == Some(&0)
    }

    /// Notes that a walk reads an entry in this page. True if the page was plain in this respect before.
    #[inline]
    pub fn mark_table(&mut self, at: usize) -> bool {
        match self.tables.get_mut(at / PAGE as usize) {
            Some(writes) => std::mem::replace(writes, GUARDED_WRITES) == 0,
            None => false,
        }
    }

    /// How often a paging structure was written to.
    pub fn table_writes(&self) -> u64 {
        self.table_writes
    }

    /// Whether any of `bytes` bytes (within one page) has been decoded.
    pub fn holds_code(&self, at: u64, bytes: u64) -> bool {
        match self.code.get((at / PAGE) as usize) {
            Some(Some(map)) => {
                (at..at + bytes).any(|byte| map[(byte >> 6 & 63) as usize] >> (byte & 63) & 1 != 0)
            }
            _ => false,
        }
    }

    /// Notes that `bytes` bytes (within one page) have been decoded. True if the page held no code before.
    pub fn mark_code(&mut self, at: u64, bytes: u64) -> bool {
        let Some(page) = self.code.get_mut((at / PAGE) as usize) else {
            return false;
        };
        let fresh = page.is_none();
        let map = page.get_or_insert_with(|| Box::new([0; 64]));
        for byte in at..at + bytes {
            map[(byte >> 6 & 63) as usize] |= 1 << (byte & 63);
        }
        fresh
    }

    /// The page's blocks are gone.
    pub fn clear_code(&mut self, at: u64) {
        if let Some(page) = self.code.get_mut((at / PAGE) as usize) {
            *page = None;
        }
    }

    /// Whether code pages were written to since `take_stale`.
    #[inline(always)]
    pub fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Takes the offsets of code pages written to since last asked.
    pub fn take_stale(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.stale)
    }
}
