//! Breakpoints and watchpoints by linear address.

/// A world: the host of a vCPU, or one of its guests by the address of its VMCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum World {
    Host,
    /// Guest-physical address of the VMCS region.
    Guest(u64),
}

/// Where a breakpoint or watchpoint holds; `None`: everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Scope {
    pub vcpu: Option<usize>,
    pub world: Option<World>,
}

impl Scope {
    pub fn covers(&self, vcpu: usize, world: World) -> bool {
        self.vcpu.is_none_or(|it| it == vcpu) && self.world.is_none_or(|it| it == world)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakpoint {
    /// Linear address.
    pub address: u64,
    pub scope: Scope,
}

#[derive(Clone, Default)]
pub struct Breakpoints {
    list: Vec<Breakpoint>,
    /// Grows with each change: blocks decoded before are cut in the wrong places.
    pub generation: u64,
}

impl Breakpoints {
    pub fn insert(&mut self, breakpoint: Breakpoint) {
        self.list.push(breakpoint);
        self.generation += 1;
    }

    /// False if there was none such.
    pub fn remove(&mut self, breakpoint: Breakpoint) -> bool {
        let found = self.list.iter().position(|it| *it == breakpoint);
        if let Some(at) = found {
            self.list.swap_remove(at);
            self.generation += 1;
        }
        found.is_some()
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.generation += 1;
    }

    pub fn hit(&self, linear: u64, vcpu: usize, world: World) -> bool {
        self.list
            .iter()
            .any(|it| it.address == linear && it.scope.covers(vcpu, world))
    }

    /// Whether a block must end before this address. Blocks are shared by all linear addresses of a page, so only the
    /// offset in the page counts.
    pub fn cuts(&self, linear: u64) -> bool {
        self.list.iter().any(|it| (it.address ^ linear) & 0xfff == 0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    Write,
    Read,
    Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Linear address.
    pub address: u64,
    pub bytes: u64,
    pub kind: WatchKind,
    pub scope: Scope,
}

#[derive(Clone, Default)]
pub struct Watches {
    list: Vec<Watch>,
    /// Accesses of the running instruction that some watch covers: (linear address, watch).
    hits: Vec<Watch>,
}

impl Watches {
    pub fn insert(&mut self, watch: Watch) {
        self.list.push(watch);
    }

    pub fn remove(&mut self, watch: Watch) -> bool {
        let found = self.list.iter().position(|it| *it == watch);
        if let Some(at) = found {
            self.list.swap_remove(at);
        }
        found.is_some()
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Whether any watch overlaps these bytes, whatever its kind.
    #[inline]
    pub fn touch(&self, linear: u64, bytes: u64) -> bool {
        self.list.iter().any(|it| it.overlaps(linear, bytes))
    }

    /// Notes an access of the running instruction.
    #[inline]
    pub fn note(&mut self, linear: u64, bytes: u64, write: bool) {
        for watch in &self.list {
            let kind = match watch.kind {
                WatchKind::Access => true,
                WatchKind::Write => write,
                WatchKind::Read => !write,
            };
            if kind && watch.overlaps(linear, bytes) && self.hits.len() < 16 {
                self.hits.push(*watch);
            }
        }
    }

    /// Whether the last instruction hit one, in whatever world.
    #[inline]
    pub fn were_hit(&self) -> bool {
        !self.hits.is_empty()
    }

    /// The watch that the last instruction hit in this world, if any; forgets all hits.
    pub fn take_hit(&mut self, vcpu: usize, world: World) -> Option<Watch> {
        let hit = self.hits.iter().find(|it| it.scope.covers(vcpu, world)).copied();
        self.hits.clear();
        hit
    }
}

impl Watch {
    fn overlaps(&self, linear: u64, bytes: u64) -> bool {
        linear < self.address.saturating_add(self.bytes) && self.address < linear.saturating_add(bytes)
    }
}
