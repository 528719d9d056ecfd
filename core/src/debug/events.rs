//! The event ring: what happened to VMX, newest last. It is always on; the oldest events give way.

use crate::vmx::cause::Cause;
use crate::vmx::Exit;

/// One event of the trace (`design.md`, "Trace file"). Fields that do not apply are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Counts from 0 over the life of the machine.
    pub seq: u64,
    /// The clock when it happened.
    pub icount: u64,
    pub vcpu: u32,
    pub kind: EventKind,
    /// Guest-physical address of the VMCS region.
    pub vmcs: Option<u64>,
    /// Basic exit reason or VM-instruction error number.
    pub reason: Option<u32>,
    pub qualification: Option<u64>,
    pub guest_rip: Option<u64>,
    pub guest_linear: Option<u64>,
    pub guest_physical: Option<u64>,
    pub interruption_info: Option<u32>,
    pub instruction_length: Option<u32>,
    /// Id of the rule that decided a failure.
    pub rule: Option<&'static str>,
    /// Of a `VmcsWrite`: the field's encoding and the new value.
    pub field: Option<(u32, u64)>,
    /// The exit was asked for by the debugger.
    pub forced: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventKind {
    #[default]
    Entry,
    Exit,
    EntryFailure,
    Vmfail,
    VmcsWrite,
    /// An event injected by VM entry.
    Inject,
    Vmxon,
    Vmxoff,
    Vmclear,
    Vmptrld,
    /// VMPTRLD of a VMCS that is active on another processor, whose number is the event's qualification.
    VmcsActiveElsewhere,
    TripleFault,
    VmxAbort,
}

impl EventKind {
    /// Its name in the trace file.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Entry => "entry",
            EventKind::Exit => "exit",
            EventKind::EntryFailure => "entry_failure",
            EventKind::Vmfail => "vmfail",
            EventKind::VmcsWrite => "vmcs_write",
            EventKind::Inject => "inject",
            EventKind::Vmxon => "vmxon",
            EventKind::Vmxoff => "vmxoff",
            EventKind::Vmclear => "vmclear",
            EventKind::Vmptrld => "vmptrld",
            EventKind::VmcsActiveElsewhere => "vmcs_active_elsewhere",
            EventKind::TripleFault => "triple_fault",
            EventKind::VmxAbort => "vmx_abort",
        }
    }
}

/// How many events the ring keeps: no more than stay in the host's cache, or writing them would cost an exit a fifth.
const CAPACITY: u64 = 1 << 12;

/// When and where a VM entry or exit happened.
#[derive(Clone, Copy)]
pub struct At {
    pub icount: u64,
    pub vcpu: u32,
    /// Guest-physical address of the VMCS region.
    pub vmcs: u64,
    pub guest_rip: u64,
}

/// An event as the ring keeps it. Nearly all are entries and exits: these are turned into an `Event` when one is asked for.
#[derive(Clone)]
enum Kept {
    Entry(At),
    Exit(At, Exit),
    Other(Event),
}

impl Kept {
    /// The event of that number.
    fn event(&self, seq: u64) -> Event {
        match self {
            Kept::Entry(at) => Event {
                seq,
                kind: EventKind::Entry,
                ..Event::at(at)
            },
            Kept::Exit(at, exit) => Event {
                seq,
                kind: EventKind::Exit,
                reason: Some(exit.reason),
                qualification: Some(exit.qualification),
                guest_linear: exit.linear(),
                guest_physical: exit.physical(),
                interruption_info: (exit.interruption_info != 0).then_some(exit.interruption_info),
                instruction_length: (exit.instruction_length != 0).then_some(exit.instruction_length),
                forced: exit.cause == Cause::Forced,
                ..Event::at(at)
            },
            Kept::Other(event) => Event { seq, ..event.clone() },
        }
    }
}

impl Event {
    fn at(at: &At) -> Event {
        Event {
            icount: at.icount,
            vcpu: at.vcpu,
            vmcs: Some(at.vmcs),
            guest_rip: Some(at.guest_rip),
            ..Event::default()
        }
    }
}

#[derive(Clone, Default)]
pub struct EventRing {
    /// Event number `seq` is at `seq % CAPACITY`.
    ring: Vec<Kept>,
    next: u64,
    /// With a trace being written no event may be lost: the run stops for a `drain` when the ring is full.
    pub tracing: bool,
    drained: u64,
}

impl EventRing {
    #[inline(always)]
    fn keep(&mut self, event: Kept) {
        let place = (self.next % CAPACITY) as usize;
        self.next += 1;
        match self.ring.get_mut(place) {
            Some(oldest) => *oldest = event,
            None => self.ring.push(event),
        }
    }

    #[inline(always)]
    pub fn entry(&mut self, at: At) {
        self.keep(Kept::Entry(at));
    }

    #[inline(always)]
    pub fn exit(&mut self, at: At, exit: &Exit) {
        self.keep(Kept::Exit(at, *exit));
    }

    /// Any other event, which is given its number here.
    pub fn push(&mut self, event: Event) {
        self.keep(Kept::Other(event));
    }

    /// Number of events so far.
    pub fn count(&self) -> u64 {
        self.next
    }

    /// Events from number `seq` on, as far as they are still held.
    pub fn since(&self, seq: u64) -> impl DoubleEndedIterator<Item = Event> + '_ {
        let first = self.next - self.ring.len() as u64;
        (seq.max(first)..self.next)
            .filter_map(|seq| Some(self.ring.get((seq % CAPACITY) as usize)?.event(seq)))
    }

    /// The newest `most` events that `wanted` accepts, oldest of them first.
    pub fn last(&self, most: usize, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut found: Vec<_> = self.since(0).rev().filter(wanted).take(most).collect();
        found.reverse();
        found
    }

    /// What was not yet drained; for the writer of a trace.
    pub fn drain(&mut self) -> Vec<Event> {
        let events = self.since(self.drained).collect();
        self.drained = self.next;
        events
    }

    /// Starts a trace here: what came before is not part of it.
    pub fn start_trace(&mut self) {
        self.tracing = true;
        self.drained = self.next;
    }

    pub fn must_drain(&self) -> bool {
        self.tracing && self.next - self.drained >= CAPACITY / 2
    }
}
