//! From the form of a vector instruction to the one handler that is compiled for it: by encoding and by where the last
//! source is.

use crate::cpu::decode::{Form, Operand};

/// The encoding of a form as the tables of handlers tell them apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    Legacy,
    Vex128,
    Vex256,
}

impl Form<'_> {
    /// `None`: an MMX register is among the operands.
    pub fn encoded(&self) -> Option<Encoded> {
        let any = |wanted: fn(&Operand) -> bool| self.operands.iter().any(wanted);
        if any(|operand| *operand == Operand::Mmx) {
            None
        } else if !self.vex {
            Some(Encoded::Legacy)
        } else if any(|operand| matches!(operand, Operand::Ymm | Operand::Memory(32))) {
            Some(Encoded::Vex256)
        } else {
            Some(Encoded::Vex128)
        }
    }
}

/// `by_encoding!(form, f, …)`: the handler `f::<…, E, S>`, `E` being the encoding and `S` where the last source is.
macro_rules! by_encoding {
    ($form:expr, $handler:ident $(, $parameter:ty)*) => {
        match $form.encoded() {
            Some($crate::cpu::exec::vector_select::Encoded::Vex256) => {
                by_source!($form, $handler $(, $parameter)*, $crate::cpu::exec::vector::Vex<2>)
            }
            _ => by_narrow_encoding!($form, $handler $(, $parameter)*),
        }
    };
}

/// The same for instructions that no more than 128 bits are given to: scalar ones among them.
macro_rules! by_narrow_encoding {
    ($form:expr, $handler:ident $(, $parameter:ty)*) => {
        match $form.encoded() {
            Some($crate::cpu::exec::vector_select::Encoded::Legacy) => {
                by_source!($form, $handler $(, $parameter)*, $crate::cpu::exec::vector::Legacy)
            }
            Some($crate::cpu::exec::vector_select::Encoded::Vex128) => {
                by_source!($form, $handler $(, $parameter)*, $crate::cpu::exec::vector::Vex<1>)
            }
            _ => None,
        }
    };
}

/// The handler `f::<…, S>`.
macro_rules! by_source {
    ($form:expr, $handler:ident $(, $parameter:ty)*) => {
        if $form.has_memory() {
            Some($handler::<$($parameter,)* $crate::cpu::exec::vector::Memory> as $crate::cpu::insn::Handler)
        } else {
            Some($handler::<$($parameter,)* $crate::cpu::exec::vector::Register> as $crate::cpu::insn::Handler)
        }
    };
}

/// `by_length!(form, f, …)`: the handler `f::<…, E>` of an instruction that has one place for its operands only.
macro_rules! by_length {
    ($form:expr, $handler:ident $(, $parameter:ty)*) => {
        match $form.encoded()? {
            $crate::cpu::exec::vector_select::Encoded::Legacy => {
                Some($handler::<$($parameter,)* $crate::cpu::exec::vector::Legacy> as $crate::cpu::insn::Handler)
            }
            $crate::cpu::exec::vector_select::Encoded::Vex128 => {
                Some($handler::<$($parameter,)* $crate::cpu::exec::vector::Vex<1>> as $crate::cpu::insn::Handler)
            }
            $crate::cpu::exec::vector_select::Encoded::Vex256 => {
                Some($handler::<$($parameter,)* $crate::cpu::exec::vector::Vex<2>> as $crate::cpu::insn::Handler)
            }
        }
    };
}

/// Defines instructions that are `Packed`, each by an expression of `a` (the first source), `b` (the last) and `imm`:
/// `Name(how b is shared, bits of imm a lane) |a, b, imm| expression;` with what is the default left out.
macro_rules! packed {
    ($($name:ident$(($share:expr $(, $bits:literal)?))? |$a:pat_param, $b:pat_param, $imm:pat_param| $result:expr;)*) => {$(
        pub struct $name;
        impl super::vector::Packed for $name {
            $(
                const SHARE: super::vector::Share = $share;
                $(const IMMEDIATE_BITS: u32 = $bits;)?
            )?
            #[inline(always)]
            fn compute($a: super::lanes::Xmm, $b: super::lanes::Xmm, $imm: u8) -> super::lanes::Xmm {
                $result
            }
        }
    )*};
}

/// The rows of a group: `Mnemonic VexMnemonic => choice of handler;`, either encoding may be the only one.
macro_rules! vector_rows {
    ($($($mnemonic:ident)+ => $select:expr;)*) => {
        &[$($((
            iced_x86::Mnemonic::$mnemonic,
            $select as $crate::cpu::decode::Select,
            $crate::cpu::decode::Flow::Next,
        ),)+)*]
    };
}
