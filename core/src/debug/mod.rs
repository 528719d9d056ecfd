//! What a debugger adds beside the machine: breakpoints, watchpoints, catchpoints, the event ring. None of it is in the
//! machine's memory or changes what a guest sees.

pub mod breakpoints;
pub mod catch;
pub mod events;
pub mod hints;
pub mod holders;
pub mod registers;
pub mod stale;
pub mod walk;
pub mod worlds;

use breakpoints::{Breakpoints, Watches};
use catch::Catches;
use events::EventRing;
use holders::Holders;

#[derive(Clone, Default)]
pub struct Debug {
    pub breakpoints: Breakpoints,
    pub watches: Watches,
    pub catches: Catches,
    pub events: EventRing,
    pub holders: Holders,
}
