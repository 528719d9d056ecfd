//! The host processor: runs the bytes between a load and a store of all registers.
//!
//! This is the one place of the crate that uses `unsafe`: executing machine code that was made up a moment ago cannot
//! be had without. It is test code, in a process of its own; signals bring faults back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Once;

use super::state::*;

/// What the signal that ended the case told: vector, error code, CR2, RIP and flags.
static TOLD: [AtomicU64; 5] = [const { AtomicU64::new(NONE) }; 5];
/// The vector of no exception.
const NONE: u64 = u64::MAX;
static MAPPED: Once = Once::new();
/// The trampoline's second half.
static RESUME: AtomicU64 = AtomicU64::new(0);

/// Offsets into the context page: the state in and out, then the host's stack pointer and MXCSR.
const STATE_IN: u64 = CONTEXT;
const STATE_OUT: u64 = CONTEXT + 0x400;
const HOST_RSP: u64 = CONTEXT + 0xe00;
const HOST_MXCSR: u64 = CONTEXT + 0xe08;
/// The far pointer to `ENTRY` in a code segment of 32 bits.
const ENTRY_32: u64 = CONTEXT + 0xe10;
/// Linux's selectors in user mode.
const CODE_32: u16 = 0x23;
const CODE_64: u16 = 0x33;
const DATA_SEGMENT: u8 = 0x2b;
const YMM: u64 = 128;
const RFLAGS: u64 = YMM + 512;
const MXCSR: u64 = RFLAGS + 8;
/// FXSAVE64 and FXRSTOR64 reach 512 bytes from here.
const FLOAT: u64 = MXCSR + 8;

extern "C" fn on_signal(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid ucontext_t to an SA_SIGINFO handler.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let told = [
        libc::REG_TRAPNO,
        libc::REG_ERR,
        libc::REG_CR2,
        libc::REG_RIP,
        libc::REG_EFL,
    ];
    for (place, register) in TOLD.iter().zip(told) {
        place.store(registers[register as usize] as u64, Ordering::SeqCst);
    }
    registers[libc::REG_RIP as usize] = RESUME.load(Ordering::SeqCst) as i64;
    registers[libc::REG_EFL as usize] &= !(0x100 | NT | AC) as i64;
    // A fault in compatibility mode goes on in 64-bit mode.
    let selectors = &mut registers[libc::REG_CSGSFS as usize];
    *selectors = *selectors & !0xffff | CODE_64 as i64;
}

/// Machine code under construction.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Code {
        self.0.extend(bytes);
        self
    }
    /// An instruction whose memory operand is the absolute address: `opcode`, ModRM with `reg`, SIB, displacement.
    fn absolute(&mut self, opcode: &[u8], reg: u8, address: u64) -> &mut Code {
        self.bytes(opcode).bytes(&[reg << 3 | 4, 0x25]);
        self.bytes(&(address as u32).to_le_bytes())
    }
    fn general(&mut self, opcode: u8, at: u64) -> &mut Code {
        for register in 0..16u8 {
            let rex = 0x48 | (register >> 3) << 2;
            self.absolute(&[rex, opcode], register & 7, at + register as u64 * 8);
        }
        self
    }
    fn vectors(&mut self, opcode: u8, at: u64) -> &mut Code {
        for register in 0..16u8 {
            // VMOVUPS YMM.
            let vex = [0xc5, if register < 8 { 0xfc } else { 0x7c }, opcode];
            self.absolute(&vex, register & 7, at + YMM + register as u64 * 32);
        }
        self
    }
}

fn put(bytes: &[u8], at: u64) {
    assert!((CODE..=CODE + PAGES * 0x1000 - bytes.len() as u64).contains(&at));
    // SAFETY: these are the pages that `Native::map` maps.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) }
}

/// XCR0 of the host, which has XSAVE.
pub fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: it reads a register; the operating system has enabled XSAVE where CPUID shows AVX.
    unsafe { std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high) };
    (high as u64) << 32 | low as u64
}

pub struct Native {
    prologue: Code,
    epilogue: Code,
}

impl Native {
    fn map() {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let size = (PAGES * 0x1000) as usize;
        // SAFETY: the fixed addresses are free in a test process; MAP_FIXED_NOREPLACE says so otherwise.
        let mapped = unsafe { libc::mmap(CODE as *mut _, size, rights, flags, -1, 0) };
        assert_eq!(
            mapped as u64, CODE,
            "the test needs the addresses from {CODE:#x} on"
        );
        // Handlers begin with the flags of what was interrupted: clears AC with PUSHF, AND and POPF, and jumps on.
        let mut entry = Code::default();
        entry
            .bytes(&[0x9c, 0x81, 0x24, 0x24])
            .bytes(&(!(AC as u32)).to_le_bytes());
        entry
            .bytes(&[0x9d, 0x48, 0xb8])
            .bytes(&(on_signal as *const () as usize).to_le_bytes());
        entry.bytes(&[0xff, 0xe0]);
        put(&entry.0, CODE);
    }

    pub fn new() -> Native {
        MAPPED.call_once(Native::map);
        // SAFETY: the handler only touches what it is given, on a stack of its own.
        unsafe {
            let stack = libc::stack_t {
                ss_sp: Box::leak(vec![0u8; 1 << 16].into_boxed_slice())
                    .as_mut_ptr()
                    .cast(),
                ss_flags: 0,
                ss_size: 1 << 16,
            };
            libc::sigaltstack(&stack, std::ptr::null_mut());
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = CODE as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            for signal in [
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGTRAP,
            ] {
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
        let mut prologue = Code::default();
        // PUSH of RBX, RBP, R12 to R15.
        prologue.bytes(&[0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57]);
        prologue.absolute(&[0x48, 0x89], 4, HOST_RSP);
        // DS and ES are null in 64-bit mode, and must be there in 32-bit mode.
        prologue.bytes(&[0xb8, DATA_SEGMENT, 0, 0, 0, 0x8e, 0xd8, 0x8e, 0xc0]);
        prologue.absolute(&[0x0f, 0xae], 3, HOST_MXCSR);
        prologue.absolute(&[0x48, 0x0f, 0xae], 1, STATE_IN + FLOAT);
        prologue.vectors(0x10, STATE_IN);
        prologue.absolute(&[0x0f, 0xae], 2, STATE_IN + MXCSR);
        prologue.absolute(&[0xff], 6, STATE_IN + RFLAGS).bytes(&[0x9d]);
        prologue.general(0x8b, STATE_IN);
        let mut epilogue = Code::default();
        epilogue.general(0x89, STATE_OUT);
        epilogue.absolute(&[0x48, 0x8b], 4, HOST_RSP).bytes(&[0x9c]);
        epilogue.absolute(&[0x8f], 0, STATE_OUT + RFLAGS);
        epilogue.absolute(&[0x0f, 0xae], 3, STATE_OUT + MXCSR);
        epilogue.absolute(&[0x48, 0x0f, 0xae], 0, STATE_OUT + FLOAT);
        // FNINIT.
        epilogue.bytes(&[0xdb, 0xe3]);
        epilogue.absolute(&[0x0f, 0xae], 2, HOST_MXCSR);
        epilogue.vectors(0x11, STATE_OUT);
        // VZEROUPPER, POPF of plain flags, the POPs, RET.
        epilogue.bytes(&[0xc5, 0xf8, 0x77, 0x68, 2, 2, 0, 0, 0x9d]);
        epilogue.bytes(&[0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c]);
        epilogue.bytes(&[0x5d, 0x5b, 0xc3]);
        assert!(prologue.0.len() as u64 <= ENTRY);
        Native { prologue, epilogue }
    }

    pub fn run(&self, case: &Case) -> Outcome {
        let compatibility = case.bitness == 32;
        // In compatibility mode the instruction stands between two far jumps.
        let mut entry = Code::default();
        let mut back = Code::default();
        let after = case.end();
        let mut epilogue = after;
        if compatibility {
            entry.absolute(&[0xff], 5, ENTRY_32);
            epilogue += 7;
            back.bytes(&[0xea]).bytes(&(epilogue as u32).to_le_bytes());
            back.bytes(&CODE_64.to_le_bytes());
        }
        let start = CODE + ENTRY - (self.prologue.0.len() + entry.0.len()) as u64;
        TOLD[0].store(NONE, Ordering::SeqCst);
        RESUME.store(epilogue, Ordering::SeqCst);
        put(&self.prologue.0, start);
        put(&entry.0, CODE + ENTRY - entry.0.len() as u64);
        put(&((CODE + ENTRY) as u32).to_le_bytes(), ENTRY_32);
        put(&CODE_32.to_le_bytes(), ENTRY_32 + 4);
        put(&case.bytes, CODE + ENTRY);
        put(&back.0, after);
        put(&self.epilogue.0, epilogue);
        put(&case.memory, WINDOW);
        // SAFETY: as above; the code saves and restores all that the calling convention asks for. A case that
        // overwrites code or context outside the window is not generated.
        let state = unsafe {
            *(STATE_IN as *mut State) = case.state;
            let code: extern "C" fn() = std::mem::transmute(start);
            code();
            *(STATE_OUT as *const State)
        };
        let [vector, error, address, rip, flags] = TOLD.each_ref().map(|told| told.load(Ordering::SeqCst));
        let is_fault = vector != NONE;
        let state = State {
            flags: FLAGS & if is_fault { flags } else { state.flags },
            // Its upper half belongs to nobody.
            mxcsr: state.mxcsr & 0xffff_ffff,
            x87: X87 {
                unused: case.state.x87.unused,
                ..state.x87
            },
            ..state
        };
        let mut memory = [0; WINDOW_BYTES];
        // SAFETY: the window is mapped.
        unsafe { std::ptr::copy_nonoverlapping(WINDOW as *const u8, memory.as_mut_ptr(), WINDOW_BYTES) };
        Outcome {
            fault: is_fault.then(|| Fault::new(vector as u8, error as u32, address, rip)),
            state,
            memory,
        }
    }
}
