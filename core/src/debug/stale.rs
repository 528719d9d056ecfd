//! Cached translations that the tables no longer give: a forgotten INVEPT, INVVPID or INVLPG. The machine holds both the
//! TLB and the tables, and compares them when it is asked.

use super::breakpoints::World;
use super::walk::Seen;
use crate::machine::Machine;
use crate::mmu::ept;
use crate::mmu::paging::{self, Access, Control, Kind};
use crate::mmu::tlb::{Space, PAGE, PAGE_MASK};
use crate::vmx::controls::secondary;
use crate::vmx::state::Controls;

/// A translation that an access would still be made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Guest-linear, of the page.
    pub linear: u64,
    pub kind: Kind,
    /// Offset in the machine's RAM of the page that is cached.
    pub cached: u64,
    /// Guest-physical: what the guest's tables give now, if they give anything.
    pub guest_physical: Option<u64>,
    /// The page that the tables give now; `None` if they do not allow the access.
    pub now: Option<u64>,
}

impl Machine {
    /// The stale translations of the guest of the VMCS at `vmcs`, by linear address, in its address space as it is now.
    pub fn stale_translations(&self, cpu: usize, vmcs: u64) -> Vec<Stale> {
        let Some(view) = self.view(cpu, World::Guest(vmcs)) else {
            return Vec::new();
        };
        let Some(fields) = view.vmx.current() else {
            return Vec::new();
        };
        let controls = Controls::of(fields);
        let here = view.space();
        let same = |space: &Space| {
            space.owner.guest()
                && space.owner.vpid() == controls.vpid(fields)
                && space.owner.pcid() == here.owner.pcid()
                && (space.root, space.paging) == (here.root, here.paging)
                && space.ept_root & PAGE_MASK == here.ept_root & PAGE_MASK
        };
        let control = Control::of(&view);
        let by_mode = controls.secondary & secondary::MODE_BASED_EXECUTE_CONTROL_FOR_EPT != 0;
        let mut found: Vec<Stale> = Vec::new();
        for (linear, privilege, entry) in self.cpus[cpu].tlb.cached(same) {
            let tags = [
                (Kind::Read, entry.read),
                (Kind::Write, entry.write),
                (Kind::Fetch, entry.fetch),
            ];
            for (kind, _) in tags.into_iter().filter(|(_, tag)| *tag != 0) {
                let access = Access {
                    kind,
                    privilege,
                    shadow_stack: false,
                };
                let mut tables = Seen::new(self, Some(&view));
                let leaf = paging::walk(&control, &mut tables, linear, access).ok();
                let wanted = match kind {
                    Kind::Read => ept::READ,
                    Kind::Write => ept::WRITE,
                    Kind::Fetch if by_mode && leaf.is_some_and(|leaf| leaf.user) => ept::USER_EXECUTE,
                    Kind::Fetch => ept::EXECUTE,
                };
                let now = leaf
                    .and_then(|leaf| self.allowed(&view, leaf.physical, wanted))
                    .and_then(|physical| self.bus.ram.offset(physical))
                    .map(|at| at as u64 & PAGE_MASK);
                if now != Some(entry.page * PAGE) {
                    found.push(Stale {
                        linear,
                        kind,
                        cached: entry.page * PAGE,
                        guest_physical: leaf.map(|leaf| leaf.physical & PAGE_MASK),
                        now,
                    });
                }
            }
        }
        found.sort_by_key(|stale| stale.linear);
        found
    }
}
