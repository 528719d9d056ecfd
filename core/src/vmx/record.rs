//! What VMX did last, kept for those who ask why.

use super::rules::Rule;
use super::state::Exit;
use super::vmcs::Vmcs;
use crate::cpu::exception::Fault;

/// Why a VMX instruction raised an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// #UD: not in VMX operation.
    NotInVmxOperation,
    /// #UD: real-address or virtual-8086 mode.
    Mode,
    /// #UD: compatibility mode.
    CompatibilityMode,
    /// #UD: CR4.VMXE is 0.
    Vmxe,
    /// #UD: the processor or its controls do not offer the instruction.
    NotOffered,
    /// #GP: not at CPL 0.
    Privilege,
    /// #GP: CR0 or CR4 has a value that VMX operation does not allow; the offending bits.
    Cr0Fixed {
        missing: u64,
        excess: u64,
    },
    Cr4Fixed {
        missing: u64,
        excess: u64,
    },
    /// #GP: IA32_FEATURE_CONTROL is not locked.
    FeatureControlUnlocked,
    /// #GP: IA32_FEATURE_CONTROL does not enable VMX outside SMX operation.
    FeatureControlDisabled,
}

impl Refusal {
    /// #UD; otherwise #GP(0).
    pub fn is_undefined_opcode(&self) -> bool {
        matches!(
            self,
            Refusal::NotInVmxOperation
                | Refusal::Mode
                | Refusal::CompatibilityMode
                | Refusal::Vmxe
                | Refusal::NotOffered
        )
    }
}

/// Why an instruction ended in VMfail.
#[derive(Clone, Copy, Debug)]
pub enum FailReason {
    /// There is no current VMCS.
    NoCurrentVmcs,
    /// A pointer operand that is not aligned or beyond the physical-address width.
    Pointer { address: u64 },
    /// A pointer operand that is the VMXON pointer.
    VmxonPointer { address: u64 },
    /// The region's first four bytes are not the revision identifier.
    Revision { address: u64, found: u32, wanted: u32 },
    /// VMLAUNCH or VMRESUME with a shadow VMCS.
    ShadowVmcs { address: u64 },
    /// VMLAUNCH or VMRESUME with the other launch state. `initialised`: VMCLEAR was ever used on the region.
    LaunchState { address: u64, initialised: bool },
    /// An encoding that names no field of this processor.
    Field { encoding: u64 },
    /// A field that VMWRITE may not write on this processor.
    ReadOnly { encoding: u64 },
    /// VMLAUNCH or VMRESUME right after a load of SS.
    MovSs,
    /// Not in root operation's repertoire: VMCALL, VMXON.
    InRoot,
    /// INVEPT or INVVPID: the type and the first 16 bytes of the descriptor.
    Invalidation { kind: u64, low: u64, high: u64 },
    /// A rule of VM entry.
    Rule(&'static Rule),
    /// The debugger asked for it.
    Forced,
    /// Another processor told its number, and no more.
    Reported,
}

/// The last thing that went wrong, or the last exit.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A VMX instruction raised #UD (6) or #GP (13).
    Refused {
        instruction: &'static str,
        refusal: Refusal,
        rip: u64,
    },
    /// VMfail; `error` 0: VMfailInvalid.
    Fail {
        instruction: &'static str,
        error: u32,
        reason: FailReason,
        rip: u64,
    },
    /// VM entry failed after its checks of controls and host state; reason 33 or 34.
    EntryFailure {
        reason: u32,
        qualification: u64,
        rule: Option<&'static Rule>,
        words: Option<String>,
        rip: u64,
    },
    /// Outside a guest. `refused`: a VMX instruction was refused before, and nothing else happened since.
    TripleFault {
        rip: u64,
        refused: Option<(&'static str, Refusal, u64)>,
    },
    Abort {
        cause: u32,
        detail: String,
    },
}

/// An outcome, and when it was.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub outcome: Outcome,
    /// The clock.
    pub clock: u64,
    pub vmcs: Option<u64>,
    /// The VMCS as it was judged, for a failed entry: hypervisors repair it before anyone asks.
    pub judged: Option<Box<Vmcs>>,
    /// IA32_EFER.LMA at the entry that failed.
    pub long_mode: bool,
}

/// The longest chain that ends in a triple fault: a benign exception, one while it was delivered, one while that was,
/// one while the double fault was (SDM vol. 3, 6.15).
const FAULTS: usize = 4;

#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The last failure: VMfail, failed entry, refusal, abort, triple fault.
    pub failure: Option<Box<Recorded>>,
    /// The last exit: what it was, the guest's RIP, the clock.
    pub exit: Option<(Exit, u64, u64)>,
    /// The clock at the last VM entry.
    pub entered: u64,
    /// How many VM entries in a row, beside the first, ended in the same exit before the guest had run an instruction.
    pub repeats: u64,
    /// The last exceptions delivered, oldest first: with RIP.
    faults: [Option<(Fault, u64)>; FAULTS],
}

impl Record {
    /// Notes an exception, with the RIP at which it was raised.
    #[inline]
    pub fn fault(&mut self, fault: Fault, rip: u64) {
        self.faults.rotate_left(1);
        self.faults[FAULTS - 1] = Some((fault, rip));
    }

    /// Notes an exit at the guest's RIP.
    #[inline]
    pub fn exited(&mut self, exit: &Exit, rip: u64, clock: u64) {
        // VMLAUNCH and VMRESUME count themselves.
        let ran = clock.wrapping_sub(self.entered) > 1;
        let same = self.exit.as_ref().is_some_and(|(last, at, _)| {
            (last.reason, last.qualification, *at) == (exit.reason, exit.qualification, rip)
        });
        self.repeats = if same && !ran { self.repeats + 1 } else { 0 };
        self.exit = Some((*exit, rip, clock));
    }

    /// The last refusal, if the exceptions since come from it: it raised one of them.
    pub fn refusal(&self) -> Option<(&'static str, Refusal, u64)> {
        match self.failure.as_ref()?.outcome {
            Outcome::Refused {
                instruction,
                refusal,
                rip,
            } if self.faults().any(|fault| fault.1 == rip) => Some((instruction, refusal, rip)),
            _ => None,
        }
    }

    /// The last exceptions, oldest first.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        self.faults.iter().flatten().copied()
    }
}
