//! Exceptions: how an instruction raises one. Delivery is in `deliver`.

use super::{Cpu, Stop};

/// How an event came to be; the numbers are those of the VMCS's interruption information (SDM vol. 3, 26.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EventKind {
    #[default]
    ExternalInterrupt = 0,
    Nmi = 2,
    HardwareException = 3,
    /// INT n.
    SoftwareInterrupt = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3 and INTO.
    SoftwareException = 6,
}

/// An event on its way through the IDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Event {
    pub kind: EventKind,
    pub vector: u8,
    pub error_code: Option<u32>,
    /// Length of the instruction, for those kinds that an instruction causes.
    pub length: u8,
}

impl Event {
    pub fn is_software(&self) -> bool {
        self.kind as u8 >= EventKind::SoftwareInterrupt as u8
    }
}

/// What `Stop::Fault` speaks of: an event, with what its delivery stores beside the stack frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fault {
    pub event: Event,
    /// #PF: the linear address for CR2. #DB: the bits for DR6.
    pub payload: u64,
}

impl Fault {
    /// An event with nothing beside it.
    pub fn of(kind: EventKind, vector: u8) -> Fault {
        Fault {
            event: Event {
                kind,
                vector,
                error_code: None,
                length: 0,
            },
            payload: 0,
        }
    }
}

/// Vectors (SDM vol. 3, table 6-1).
pub mod vector {
    pub const DIVIDE_ERROR: u8 = 0;
    pub const DEBUG: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BREAKPOINT: u8 = 3;
    pub const OVERFLOW: u8 = 4;
    pub const BOUND: u8 = 5;
    pub const INVALID_OPCODE: u8 = 6;
    pub const DEVICE_NOT_AVAILABLE: u8 = 7;
    pub const DOUBLE_FAULT: u8 = 8;
    pub const INVALID_TSS: u8 = 10;
    pub const SEGMENT_NOT_PRESENT: u8 = 11;
    pub const STACK_FAULT: u8 = 12;
    pub const GENERAL_PROTECTION: u8 = 13;
    pub const PAGE_FAULT: u8 = 14;
    pub const MATH_FAULT: u8 = 16;
    pub const ALIGNMENT_CHECK: u8 = 17;
    pub const MACHINE_CHECK: u8 = 18;
    pub const SIMD: u8 = 19;
    pub const VIRTUALIZATION: u8 = 20;
    pub const CONTROL_PROTECTION: u8 = 21;
}

/// Error codes of #CP (SDM vol. 3, 6.15, interrupt 21).
pub mod control_protection {
    pub const NEAR_RETURN: u32 = 1;
    pub const FAR_RETURN: u32 = 2;
    pub const ENDBRANCH: u32 = 3;
    pub const RSTORSSP: u32 = 4;
    pub const SETSSBSY: u32 = 5;
}

/// Each of these notes the exception and gives the `Stop` to return.
impl Cpu {
    #[cold]
    pub fn raise(&mut self, vector: u8, error_code: Option<u32>, payload: u64) -> Stop {
        self.fault = self.exception(vector, error_code, payload);
        Stop::Fault
    }
    /// The exception with its error code, which there is none of in real-address mode (SDM vol. 3, 20.1.4).
    pub fn exception(&self, vector: u8, error_code: Option<u32>, payload: u64) -> Fault {
        Fault {
            event: Event {
                kind: EventKind::HardwareException,
                vector,
                error_code: error_code.filter(|_| self.protected()),
                length: 0,
            },
            payload,
        }
    }
    pub fn divide_error(&mut self) -> Stop {
        self.raise(vector::DIVIDE_ERROR, None, 0)
    }
    pub fn invalid_opcode(&mut self) -> Stop {
        self.raise(vector::INVALID_OPCODE, None, 0)
    }
    pub fn device_not_available(&mut self) -> Stop {
        self.raise(vector::DEVICE_NOT_AVAILABLE, None, 0)
    }
    pub fn general_protection(&mut self, error_code: u32) -> Stop {
        self.raise(vector::GENERAL_PROTECTION, Some(error_code), 0)
    }
    pub fn stack_fault(&mut self, error_code: u32) -> Stop {
        self.raise(vector::STACK_FAULT, Some(error_code), 0)
    }
    pub fn segment_not_present(&mut self, error_code: u32) -> Stop {
        self.raise(vector::SEGMENT_NOT_PRESENT, Some(error_code), 0)
    }
    pub fn invalid_tss(&mut self, error_code: u32) -> Stop {
        self.raise(vector::INVALID_TSS, Some(error_code), 0)
    }
    pub fn control_protection(&mut self, error_code: u32) -> Stop {
        self.raise(vector::CONTROL_PROTECTION, Some(error_code), 0)
    }
    pub fn alignment_check(&mut self) -> Stop {
        self.raise(vector::ALIGNMENT_CHECK, Some(0), 0)
    }
    /// `linear`: the address that faulted.
    pub fn page_fault(&mut self, linear: u64, error_code: u32) -> Stop {
        self.raise(vector::PAGE_FAULT, Some(error_code), linear)
    }
    /// `dr6`: the bits to set there.
    pub fn debug_exception(&mut self, dr6: u64) -> Stop {
        self.raise(vector::DEBUG, None, dr6)
    }
    /// An instruction's own event: INT n, INT3, INTO, INT1.
    pub fn software_event(&mut self, kind: EventKind, vector: u8, length: u8) -> Stop {
        self.fault = Fault {
            event: Event {
                kind,
                vector,
                error_code: None,
                length,
            },
            payload: 0,
        };
        Stop::Fault
    }
}
