//! Decoded code: blocks keyed by physical address and mode, and the links between them.

use super::cet::Enforcement;
use super::insn::Insn;
use super::CodeSize;
use rustc_hash::FxHashMap;

pub type BlockId = u32;

/// A run of instructions within one page; or the scratch block, see `CodeCache::scratch`.
pub struct Block {
    pub insns: Box<[Insn]>,
    /// Bytes from the first instruction to the end of the last.
    pub length: u16,
    /// The last instruction sets RIP itself.
    pub branches: bool,
    /// A breakpoint may lie at its start: to be entered by `CodeCache` look-up only, never by a link.
    pub guarded: bool,
    links: [Link; LINKS],
}

impl Block {
    pub fn new(insns: Vec<Insn>, guarded: bool) -> Block {
        let last = insns.last();
        Block {
            length: last.map_or(0, |insn| insn.offset + insn.length as u16),
            branches: last.is_some_and(|insn| insn.has(super::insn::flag::BRANCH)),
            insns: insns.into(),
            guarded,
            links: Default::default(),
        }
    }

    /// The block that follows at `linear`, if it followed before under the same translations.
    #[inline(always)]
    pub fn next(&self, linear: u64, context: u64) -> Option<BlockId> {
        for link in &self.links {
            if link.linear == linear && link.context == context {
                return Some(link.block);
            }
        }
        None
    }

    /// Notes what follows, if there is room.
    fn link(&mut self, link: Link) -> bool {
        let free = self.links.iter_mut().find(|it| it.context != link.context);
        match free {
            Some(free) => {
                *free = link;
                true
            }
            None => false,
        }
    }

    fn unlink(&mut self) {
        self.links = Default::default();
    }
}

/// Where a block went before. `context` is the TLB's `unique_context` plus this cache's epoch; 0 matches nothing.
#[derive(Clone, Copy, Default)]
struct Link {
    linear: u64,
    context: u64,
    block: BlockId,
}

/// Of a block.
const LINKS: usize = 3;
/// One in this many times that there is no room for a link one is made all the same.
const GIVES_WAY: u32 = 16;

/// Starts of recently entered blocks by linear address: what indirect branches and returns use.
const RECENT: usize = 4096;

#[derive(PartialEq, Eq, Hash, Clone, Copy)]
pub struct Key {
    /// Offset into RAM.
    pub ram: u64,
    pub size: CodeSize,
    pub enforcement: Enforcement,
}

/// All blocks of the machine. Freed blocks are reused only after the epoch has moved on, so that no link can lead to
/// the wrong one.
pub struct CodeCache {
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    by_key: FxHashMap<Key, BlockId>,
    /// The blocks of each page of RAM.
    by_page: FxHashMap<u64, Vec<(Key, BlockId)>>,
    recent: Box<[Link]>,
    /// Counts in steps of `EPOCH`.
    epoch: u64,
    /// How many times there was no room for a link.
    crowded: u32,
    /// The breakpoints' generation that blocks were cut for.
    pub breakpoints: u64,
}

/// Above the bits of a TLB's unique context and of a code size.
const EPOCH: u64 = 1 << 40;

/// The one block that is not kept: an instruction that crosses a page, or lies outside RAM.
const SCRATCH: BlockId = 0;

/// A guest that makes code for ever may not fill the host's memory: past this all is decoded anew.
const MOST_BLOCKS: usize = 1 << 18;

impl Default for CodeCache {
    fn default() -> Self {
        CodeCache {
            blocks: vec![Block::new(Vec::new(), true)],
            free: Vec::new(),
            by_key: FxHashMap::default(),
            by_page: FxHashMap::default(),
            recent: vec![Link::default(); RECENT].into(),
            epoch: EPOCH,
            crowded: 0,
            breakpoints: 0,
        }
    }
}

impl CodeCache {
    /// What links made now are valid for: `translations` is the TLB's unique context.
    #[inline(always)]
    pub fn context(&self, translations: u64, size: CodeSize) -> u64 {
        self.epoch + (translations << 2) + size as u64
    }

    #[inline(always)]
    pub fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id as usize]
    }

    pub fn link(&mut self, from: BlockId, linear: u64, context: u64, to: BlockId) {
        if self.blocks[to as usize].guarded {
            return;
        }
        // To take `to` in, all blocks may have been forgotten, `from` among them.
        let Some(block) = self.blocks.get_mut(from as usize) else {
            return;
        };
        let link = Link {
            linear,
            context,
            block: to,
        };
        if block.link(link) {
            return;
        }
        // A return that goes to more places than there are links is left to `recent`, which is not much slower than to
        // make a link each time. Now and then one gives way: those of a return's first callers do not stay for ever.
        self.crowded = self.crowded.wrapping_add(1);
        if self.crowded % GIVES_WAY == 0 {
            block.links[(self.crowded / GIVES_WAY) as usize % LINKS] = link;
        }
    }

    #[inline(always)]
    fn recent_slot(linear: u64) -> usize {
        (linear ^ linear >> 12) as usize & (RECENT - 1)
    }

    #[inline(always)]
    pub fn recent(&self, linear: u64, context: u64) -> Option<BlockId> {
        let link = &self.recent[CodeCache::recent_slot(linear)];
        (link.linear == linear && link.context == context).then_some(link.block)
    }

    pub fn remember(&mut self, linear: u64, context: u64, block: BlockId) {
        if !self.blocks[block as usize].guarded {
            self.recent[CodeCache::recent_slot(linear)] = Link {
                linear,
                context,
                block,
            };
        }
    }

    pub fn find(&self, key: Key) -> Option<BlockId> {
        self.by_key.get(&key).copied()
    }

    /// Takes a block to be run once.
    pub fn scratch(&mut self, block: Block) -> BlockId {
        // No link may lead here: the next one to be taken is another.
        self.blocks[SCRATCH as usize] = Block {
            guarded: true,
            ..block
        };
        SCRATCH
    }

    /// Adds a block.
    pub fn insert(&mut self, key: Key, block: Block) -> BlockId {
        if self.blocks.len() >= MOST_BLOCKS && self.free.is_empty() {
            self.clear();
        }
        let id = match self.free.pop() {
            Some(id) => {
                self.blocks[id as usize] = block;
                id
            }
            None => {
                self.blocks.push(block);
                (self.blocks.len() - 1) as BlockId
            }
        };
        self.by_key.insert(key, id);
        self.by_page.entry(key.ram & !0xfff).or_default().push((key, id));
        id
    }

    /// Forgets what was decoded from the page at RAM offset `page`.
    pub fn invalidate(&mut self, page: u64) {
        for (key, id) in self.by_page.remove(&(page & !0xfff)).unwrap_or_default() {
            if self.by_key.get(&key) == Some(&id) {
                self.by_key.remove(&key);
                self.free.push(id);
            }
        }
        self.next_epoch();
    }

    pub fn clear(&mut self) {
        self.blocks.truncate(1);
        self.free.clear();
        self.by_key.clear();
        self.by_page.clear();
        self.next_epoch();
    }

    /// From now on no link is valid. Where the epochs are used up, links of the first ones would be valid again: there all
    /// links go.
    fn next_epoch(&mut self) {
        self.epoch = self.epoch.checked_add(EPOCH).unwrap_or_else(|| {
            self.recent.fill(Link::default());
            self.blocks.iter_mut().for_each(Block::unlink);
            EPOCH
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key {
            ram: n,
            size: CodeSize::Bits64,
            enforcement: Default::default(),
        }
    }

    #[test]
    fn a_block_that_was_forgotten_meanwhile_is_linked_from_no_more() {
        let mut code = CodeCache::default();
        let last = (1..MOST_BLOCKS as u64)
            .map(|n| code.insert(key(n), Block::new(Vec::new(), false)))
            .last()
            .expect("blocks");
        let next = code.insert(key(0), Block::new(Vec::new(), false));
        assert!(next < last && code.find(key(1)).is_none());
        code.link(last, 8, 8, next);
        code.link(next, 8, 8, next);
        assert_eq!(code.block(next).next(8, 8), Some(next));
    }

    #[test]
    fn a_return_forgets_callers_that_come_no_more() {
        let mut code = CodeCache::default();
        let [from, to] = [0, 0x1000].map(|ram| code.insert(key(ram), Block::new(Vec::new(), false)));
        (0..LINKS as u64).for_each(|first| code.link(from, first, 8, to));
        let known = |code: &CodeCache, linear| code.block(from).next(linear, 8).is_some();
        for _ in 0..LINKS as u32 * LINKS as u32 * GIVES_WAY {
            let missed = (100..100 + LINKS as u64).find(|linear| !known(&code, *linear));
            if let Some(linear) = missed {
                code.link(from, linear, 8, to);
            }
        }
        assert!((100..100 + LINKS as u64).all(|linear| known(&code, linear)));
    }

    /// After 16 million changes of code the epochs begin anew.
    #[test]
    fn links_of_the_first_epoch_do_not_become_valid_again() {
        let mut code = CodeCache::default();
        let context = code.context(1, CodeSize::Bits64);
        let [from, to] = [0, 0x1000].map(|ram| code.insert(key(ram), Block::new(Vec::new(), false)));
        code.link(from, 8, context, to);
        code.remember(8, context, to);
        assert_eq!(
            (code.block(from).next(8, context), code.recent(8, context)),
            (Some(to), Some(to))
        );
        code.epoch = 0u64.wrapping_sub(EPOCH);
        code.invalidate(0x2000);
        assert_eq!(code.context(1, CodeSize::Bits64), context);
        assert_eq!(
            (code.block(from).next(8, context), code.recent(8, context)),
            (None, None)
        );
    }
}
