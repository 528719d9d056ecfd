//! The fields of the VMCS: SDM vol. 3, appendix B, with the sections of chapter 25 that describe them.
//!
//! One table gives every field its constant, encoding, name, way to print it and the controls without which
//! it does not exist. Width and area are part of the encoding (25.11.2), so the table does not repeat them.

use super::controls::{
    entry, exit, pin, primary, secondary, secondary_exit, snake_case, tertiary, vm_function, Word,
};

/// A field of the VMCS, as a dense index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field(u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    Bits16,
    Bits64,
    Bits32,
    Natural,
}

/// The area of the VMCS that a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    Control,
    ExitInfo,
    Guest,
    Host,
}

/// How a value of the field is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Hex,
    Decimal,
    /// A guest-linear address.
    Linear,
    /// A physical address of the VMCS's owner; where it belongs to a guest, guest-physical.
    Physical,
    Controls(Word),
    ExceptionBitmap,
    EptPointer,
    Selector,
    AccessRights,
    ActivityState,
    InterruptibilityState,
    PendingDebugExceptions,
    InterruptStatus,
    EntryInterruption,
    ExitInterruption,
    ExitReason,
    ExitQualification,
    InstructionError,
    Cr0,
    Cr4,
    Rflags,
    Dr7,
    Efer,
    Pat,
    DebugCtl,
}

/// What the table says of a field.
#[derive(Debug)]
pub struct FieldInfo {
    /// The SDM's name in snake case, the area first.
    pub name: &'static str,
    /// The encoding that VMREAD and VMWRITE use, of the full access type.
    pub encoding: u16,
    pub format: Format,
    /// The section of SDM vol. 3 that describes the field.
    pub section: &'static str,
    /// The field exists if the processor allows one of these controls; always, if there are none.
    pub needs: &'static [(Word, u64)],
}

impl FieldInfo {
    /// The field's index in its width and area (bits 9:1 of the encoding), as counted by IA32_VMX_VMCS_ENUM.
    pub const fn index(&self) -> u16 {
        self.encoding >> 1 & 0x1ff
    }

    pub const fn width(&self) -> Width {
        match self.encoding >> 13 & 3 {
            0 => Width::Bits16,
            1 => Width::Bits64,
            2 => Width::Bits32,
            _ => Width::Natural,
        }
    }

    pub const fn group(&self) -> Group {
        match self.encoding >> 10 & 3 {
            0 => Group::Control,
            1 => Group::ExitInfo,
            2 => Group::Guest,
            _ => Group::Host,
        }
    }
}

impl Group {
    pub const ALL: [Group; 4] = [Group::Control, Group::Guest, Group::Host, Group::ExitInfo];

    /// The name that commands use.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Control => "control",
            Group::ExitInfo => "exit-info",
            Group::Guest => "guest",
            Group::Host => "host",
        }
    }
}

impl Width {
    /// The bits that a field of this width holds on a processor with 64-bit mode.
    pub const fn mask(self) -> u64 {
        match self {
            Width::Bits16 => 0xffff,
            Width::Bits32 => 0xffff_ffff,
            Width::Bits64 | Width::Natural => u64::MAX,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Width::Bits16 => "16",
            Width::Bits32 => "32",
            Width::Bits64 => "64",
            Width::Natural => "natural",
        }
    }
}

macro_rules! fields {
    ($($section:literal {
        $($constant:ident $encoding:literal $format:expr $(, if $($word:ident $bit:ident),+)?;)*
    })*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Index { $($($constant,)*)* }

        /// The fields, by name.
        pub mod field {
            use super::{Field, Index};
            $($(
                #[doc = concat!("Encoding ", $encoding, "; SDM vol. 3, ", $section, ".")]
                pub const $constant: Field = Field(Index::$constant as u8);
            )*)*
        }

        /// The table itself, in the order of `Field::index`.
        static TABLE: [FieldInfo; Field::COUNT] = [$($(FieldInfo {
            name: snake_case!($constant),
            encoding: $encoding,
            format: $format,
            section: $section,
            needs: &[$($(($word::WORD, $word::$bit)),+)?],
        },)*)*];

        const ENCODINGS: [u16; Field::COUNT] = [$($($encoding,)*)*];

        impl Field {
            /// The number of fields of the table.
            pub const COUNT: usize = [$($(stringify!($constant),)*)*].len();
        }
    };
}

use Format::*;

fields! {
    "25.4.1" {
        GUEST_ES_SELECTOR 0x0800 Selector;
        GUEST_CS_SELECTOR 0x0802 Selector;
        GUEST_SS_SELECTOR 0x0804 Selector;
        GUEST_DS_SELECTOR 0x0806 Selector;
        GUEST_FS_SELECTOR 0x0808 Selector;
        GUEST_GS_SELECTOR 0x080a Selector;
        GUEST_LDTR_SELECTOR 0x080c Selector;
        GUEST_TR_SELECTOR 0x080e Selector;
        GUEST_ES_LIMIT 0x4800 Hex;
        GUEST_CS_LIMIT 0x4802 Hex;
        GUEST_SS_LIMIT 0x4804 Hex;
        GUEST_DS_LIMIT 0x4806 Hex;
        GUEST_FS_LIMIT 0x4808 Hex;
        GUEST_GS_LIMIT 0x480a Hex;
        GUEST_LDTR_LIMIT 0x480c Hex;
        GUEST_TR_LIMIT 0x480e Hex;
        GUEST_GDTR_LIMIT 0x4810 Hex;
        GUEST_IDTR_LIMIT 0x4812 Hex;
        GUEST_ES_ACCESS_RIGHTS 0x4814 AccessRights;
        GUEST_CS_ACCESS_RIGHTS 0x4816 AccessRights;
        GUEST_SS_ACCESS_RIGHTS 0x4818 AccessRights;
        GUEST_DS_ACCESS_RIGHTS 0x481a AccessRights;
        GUEST_FS_ACCESS_RIGHTS 0x481c AccessRights;
        GUEST_GS_ACCESS_RIGHTS 0x481e AccessRights;
        GUEST_LDTR_ACCESS_RIGHTS 0x4820 AccessRights;
        GUEST_TR_ACCESS_RIGHTS 0x4822 AccessRights;
        GUEST_ES_BASE 0x6806 Linear;
        GUEST_CS_BASE 0x6808 Linear;
        GUEST_SS_BASE 0x680a Linear;
        GUEST_DS_BASE 0x680c Linear;
        GUEST_FS_BASE 0x680e Linear;
        GUEST_GS_BASE 0x6810 Linear;
        GUEST_LDTR_BASE 0x6812 Linear;
        GUEST_TR_BASE 0x6814 Linear;
        GUEST_GDTR_BASE 0x6816 Linear;
        GUEST_IDTR_BASE 0x6818 Linear;
        GUEST_CR0 0x6800 Cr0;
        GUEST_CR3 0x6802 Physical;
        GUEST_CR4 0x6804 Cr4;
        GUEST_DR7 0x681a Dr7;
        GUEST_RSP 0x681c Linear;
        GUEST_RIP 0x681e Linear;
        GUEST_RFLAGS 0x6820 Rflags;
        GUEST_SMBASE 0x4828 Hex;
        GUEST_IA32_DEBUGCTL 0x2802 DebugCtl;
        GUEST_IA32_SYSENTER_CS 0x482a Selector;
        GUEST_IA32_SYSENTER_ESP 0x6824 Linear;
        GUEST_IA32_SYSENTER_EIP 0x6826 Linear;
        GUEST_IA32_PERF_GLOBAL_CTRL 0x2808 Hex,
            if entry LOAD_IA32_PERF_GLOBAL_CTRL, exit SAVE_IA32_PERF_GLOBAL_CTRL;
        GUEST_IA32_PAT 0x2804 Pat, if entry LOAD_IA32_PAT, exit SAVE_IA32_PAT;
        GUEST_IA32_EFER 0x2806 Efer, if entry LOAD_IA32_EFER, exit SAVE_IA32_EFER;
        GUEST_IA32_BNDCFGS 0x2812 Hex, if entry LOAD_IA32_BNDCFGS, exit CLEAR_IA32_BNDCFGS;
        GUEST_IA32_RTIT_CTL 0x2814 Hex, if entry LOAD_IA32_RTIT_CTL, exit CLEAR_IA32_RTIT_CTL;
        GUEST_IA32_LBR_CTL 0x2816 Hex, if entry LOAD_GUEST_IA32_LBR_CTL, exit CLEAR_IA32_LBR_CTL;
        GUEST_IA32_S_CET 0x6828 Hex, if entry LOAD_CET_STATE;
        GUEST_SSP 0x682a Linear, if entry LOAD_CET_STATE;
        GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR 0x682c Linear, if entry LOAD_CET_STATE;
        GUEST_IA32_PKRS 0x2818 Hex, if entry LOAD_PKRS;
        GUEST_UINV 0x0814 Hex, if entry LOAD_UINV, exit CLEAR_UINV;
        GUEST_IA32_FRED_CONFIG 0x281a Hex, if entry LOAD_FRED, secondary_exit SAVE_FRED;
        GUEST_IA32_FRED_RSP1 0x281c Linear, if entry LOAD_FRED, secondary_exit SAVE_FRED;
        GUEST_IA32_FRED_RSP2 0x281e Linear, if entry LOAD_FRED, secondary_exit SAVE_FRED;
        GUEST_IA32_FRED_RSP3 0x2820 Linear, if entry LOAD_FRED, secondary_exit SAVE_FRED;
        GUEST_IA32_FRED_STKLVLS 0x2822 Hex, if entry LOAD_FRED, secondary_exit SAVE_FRED;
        GUEST_IA32_FRED_SSP1 0x2824 Linear, if entry LOAD_FRED, secondary_exit SAVE_FRED;
        GUEST_IA32_FRED_SSP2 0x2826 Linear, if entry LOAD_FRED, secondary_exit SAVE_FRED;
        GUEST_IA32_FRED_SSP3 0x2828 Linear, if entry LOAD_FRED, secondary_exit SAVE_FRED;
    }
    "25.4.2" {
        GUEST_ACTIVITY_STATE 0x4826 ActivityState;
        GUEST_INTERRUPTIBILITY_STATE 0x4824 InterruptibilityState;
        GUEST_PENDING_DEBUG_EXCEPTIONS 0x6822 PendingDebugExceptions;
        VMCS_LINK_POINTER 0x2800 Physical;
        GUEST_PREEMPTION_TIMER_VALUE 0x482e Decimal, if pin ACTIVATE_PREEMPTION_TIMER;
        GUEST_PDPTE0 0x280a Physical, if secondary ENABLE_EPT;
        GUEST_PDPTE1 0x280c Physical, if secondary ENABLE_EPT;
        GUEST_PDPTE2 0x280e Physical, if secondary ENABLE_EPT;
        GUEST_PDPTE3 0x2810 Physical, if secondary ENABLE_EPT;
        GUEST_INTERRUPT_STATUS 0x0810 InterruptStatus, if secondary VIRTUAL_INTERRUPT_DELIVERY;
        GUEST_PML_INDEX 0x0812 Hex, if secondary ENABLE_PML;
    }
    "25.5" {
        HOST_ES_SELECTOR 0x0c00 Selector;
        HOST_CS_SELECTOR 0x0c02 Selector;
        HOST_SS_SELECTOR 0x0c04 Selector;
        HOST_DS_SELECTOR 0x0c06 Selector;
        HOST_FS_SELECTOR 0x0c08 Selector;
        HOST_GS_SELECTOR 0x0c0a Selector;
        HOST_TR_SELECTOR 0x0c0c Selector;
        HOST_CR0 0x6c00 Cr0;
        HOST_CR3 0x6c02 Physical;
        HOST_CR4 0x6c04 Cr4;
        HOST_FS_BASE 0x6c06 Linear;
        HOST_GS_BASE 0x6c08 Linear;
        HOST_TR_BASE 0x6c0a Linear;
        HOST_GDTR_BASE 0x6c0c Linear;
        HOST_IDTR_BASE 0x6c0e Linear;
        HOST_IA32_SYSENTER_CS 0x4c00 Selector;
        HOST_IA32_SYSENTER_ESP 0x6c10 Linear;
        HOST_IA32_SYSENTER_EIP 0x6c12 Linear;
        HOST_RSP 0x6c14 Linear;
        HOST_RIP 0x6c16 Linear;
        HOST_IA32_PAT 0x2c00 Pat, if exit LOAD_IA32_PAT;
        HOST_IA32_EFER 0x2c02 Efer, if exit LOAD_IA32_EFER;
        HOST_IA32_PERF_GLOBAL_CTRL 0x2c04 Hex, if exit LOAD_IA32_PERF_GLOBAL_CTRL;
        HOST_IA32_S_CET 0x6c18 Hex, if exit LOAD_CET_STATE;
        HOST_SSP 0x6c1a Linear, if exit LOAD_CET_STATE;
        HOST_IA32_INTERRUPT_SSP_TABLE_ADDR 0x6c1c Linear, if exit LOAD_CET_STATE;
        HOST_IA32_PKRS 0x2c06 Hex, if exit LOAD_PKRS;
        HOST_IA32_FRED_CONFIG 0x2c08 Hex, if secondary_exit LOAD_FRED;
        HOST_IA32_FRED_RSP1 0x2c0a Linear, if secondary_exit LOAD_FRED;
        HOST_IA32_FRED_RSP2 0x2c0c Linear, if secondary_exit LOAD_FRED;
        HOST_IA32_FRED_RSP3 0x2c0e Linear, if secondary_exit LOAD_FRED;
        HOST_IA32_FRED_STKLVLS 0x2c10 Hex, if secondary_exit LOAD_FRED;
        HOST_IA32_FRED_SSP1 0x2c12 Linear, if secondary_exit LOAD_FRED;
        HOST_IA32_FRED_SSP2 0x2c14 Linear, if secondary_exit LOAD_FRED;
        HOST_IA32_FRED_SSP3 0x2c16 Linear, if secondary_exit LOAD_FRED;
    }
    "25.6.1" {
        PIN_BASED_CONTROLS 0x4000 Controls(Word::Pin);
    }
    "25.6.2" {
        PRIMARY_PROCESSOR_BASED_CONTROLS 0x4002 Controls(Word::Primary);
        SECONDARY_PROCESSOR_BASED_CONTROLS 0x401e Controls(Word::Secondary), if primary ACTIVATE_SECONDARY_CONTROLS;
        TERTIARY_PROCESSOR_BASED_CONTROLS 0x2034 Controls(Word::Tertiary), if primary ACTIVATE_TERTIARY_CONTROLS;
    }
    "25.6.3" {
        EXCEPTION_BITMAP 0x4004 ExceptionBitmap;
        PAGE_FAULT_ERROR_CODE_MASK 0x4006 Hex;
        PAGE_FAULT_ERROR_CODE_MATCH 0x4008 Hex;
    }
    "25.6.4" {
        IO_BITMAP_A 0x2000 Physical;
        IO_BITMAP_B 0x2002 Physical;
    }
    "25.6.5" {
        TSC_OFFSET 0x2010 Hex;
        TSC_MULTIPLIER 0x2032 Hex, if secondary USE_TSC_SCALING;
    }
    "25.6.6" {
        CR0_GUEST_HOST_MASK 0x6000 Cr0;
        CR4_GUEST_HOST_MASK 0x6002 Cr4;
        CR0_READ_SHADOW 0x6004 Cr0;
        CR4_READ_SHADOW 0x6006 Cr4;
    }
    "25.6.7" {
        CR3_TARGET_COUNT 0x400a Decimal;
        CR3_TARGET_VALUE0 0x6008 Physical;
        CR3_TARGET_VALUE1 0x600a Physical;
        CR3_TARGET_VALUE2 0x600c Physical;
        CR3_TARGET_VALUE3 0x600e Physical;
    }
    "25.6.8" {
        VIRTUAL_APIC_ADDRESS 0x2012 Physical, if primary USE_TPR_SHADOW;
        APIC_ACCESS_ADDRESS 0x2014 Physical, if secondary VIRTUALIZE_APIC_ACCESSES;
        TPR_THRESHOLD 0x401c Hex, if primary USE_TPR_SHADOW;
        EOI_EXIT_BITMAP0 0x201c Hex, if secondary VIRTUAL_INTERRUPT_DELIVERY;
        EOI_EXIT_BITMAP1 0x201e Hex, if secondary VIRTUAL_INTERRUPT_DELIVERY;
        EOI_EXIT_BITMAP2 0x2020 Hex, if secondary VIRTUAL_INTERRUPT_DELIVERY;
        EOI_EXIT_BITMAP3 0x2022 Hex, if secondary VIRTUAL_INTERRUPT_DELIVERY;
        POSTED_INTERRUPT_NOTIFICATION_VECTOR 0x0002 Hex, if pin PROCESS_POSTED_INTERRUPTS;
        POSTED_INTERRUPT_DESCRIPTOR_ADDRESS 0x2016 Physical, if pin PROCESS_POSTED_INTERRUPTS;
        PID_POINTER_TABLE_ADDRESS 0x2042 Physical, if tertiary IPI_VIRTUALIZATION;
        LAST_PID_POINTER_INDEX 0x0008 Hex, if tertiary IPI_VIRTUALIZATION;
    }
    "25.6.9" {
        MSR_BITMAP 0x2004 Physical, if primary USE_MSR_BITMAPS;
    }
    "25.6.10" {
        EXECUTIVE_VMCS_POINTER 0x200c Physical;
    }
    "25.6.11" {
        EPT_POINTER 0x201a EptPointer, if secondary ENABLE_EPT;
    }
    "25.6.12" {
        VIRTUAL_PROCESSOR_IDENTIFIER 0x0000 Hex, if secondary ENABLE_VPID;
    }
    "25.6.13" {
        PLE_GAP 0x4020 Decimal, if secondary PAUSE_LOOP_EXITING;
        PLE_WINDOW 0x4022 Decimal, if secondary PAUSE_LOOP_EXITING;
    }
    "25.6.14" {
        VM_FUNCTION_CONTROLS 0x2018 Controls(Word::VmFunction), if secondary ENABLE_VM_FUNCTIONS;
        EPTP_LIST_ADDRESS 0x2024 Physical, if vm_function EPTP_SWITCHING;
    }
    "25.6.15" {
        VMREAD_BITMAP 0x2026 Physical, if secondary VMCS_SHADOWING;
        VMWRITE_BITMAP 0x2028 Physical, if secondary VMCS_SHADOWING;
    }
    "25.6.16" {
        ENCLS_EXITING_BITMAP 0x202e Hex, if secondary ENABLE_ENCLS_EXITING;
    }
    "25.6.17" {
        ENCLV_EXITING_BITMAP 0x2036 Hex, if secondary ENABLE_ENCLV_EXITING;
    }
    "25.6.18" {
        PCONFIG_EXITING_BITMAP 0x203e Hex, if secondary ENABLE_PCONFIG;
    }
    "25.6.19" {
        PML_ADDRESS 0x200e Physical, if secondary ENABLE_PML;
    }
    "25.6.20" {
        VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS 0x202a Physical, if secondary EPT_VIOLATION_VE;
        EPTP_INDEX 0x0004 Hex, if secondary EPT_VIOLATION_VE;
    }
    "25.6.21" {
        XSS_EXITING_BITMAP 0x202c Hex, if secondary ENABLE_XSAVES;
    }
    "25.6.22" {
        SUB_PAGE_PERMISSION_TABLE_POINTER 0x2030 Physical, if secondary SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT;
    }
    "25.6.23" {
        HLAT_POINTER 0x2040 Physical, if tertiary ENABLE_HLAT;
        HLAT_PREFIX_SIZE 0x0006 Decimal, if tertiary ENABLE_HLAT;
    }
    "25.6.24" {
        LOW_PASID_DIRECTORY_ADDRESS 0x2038 Physical, if secondary PASID_TRANSLATION;
        HIGH_PASID_DIRECTORY_ADDRESS 0x203a Physical, if secondary PASID_TRANSLATION;
    }
    "25.6.25" {
        INSTRUCTION_TIMEOUT_CONTROL 0x4024 Hex, if secondary INSTRUCTION_TIMEOUT;
    }
    "25.6.26" {
        IA32_SPEC_CTRL_MASK 0x204a Hex, if tertiary VIRTUALIZE_IA32_SPEC_CTRL;
        IA32_SPEC_CTRL_SHADOW 0x204c Hex, if tertiary VIRTUALIZE_IA32_SPEC_CTRL;
    }
    "25.7.1" {
        EXIT_CONTROLS 0x400c Controls(Word::Exit);
        SECONDARY_EXIT_CONTROLS 0x2044 Controls(Word::SecondaryExit), if exit ACTIVATE_SECONDARY_CONTROLS;
    }
    "25.7.2" {
        EXIT_MSR_STORE_COUNT 0x400e Decimal;
        EXIT_MSR_STORE_ADDRESS 0x2006 Physical;
        EXIT_MSR_LOAD_COUNT 0x4010 Decimal;
        EXIT_MSR_LOAD_ADDRESS 0x2008 Physical;
    }
    "25.8.1" {
        ENTRY_CONTROLS 0x4012 Controls(Word::Entry);
    }
    "25.8.2" {
        ENTRY_MSR_LOAD_COUNT 0x4014 Decimal;
        ENTRY_MSR_LOAD_ADDRESS 0x200a Physical;
    }
    "25.8.3" {
        ENTRY_INTERRUPTION_INFO 0x4016 EntryInterruption;
        ENTRY_EXCEPTION_ERROR_CODE 0x4018 Hex;
        ENTRY_INSTRUCTION_LENGTH 0x401a Decimal;
        INJECTED_EVENT_DATA 0x2052 Hex, if entry LOAD_FRED;
    }
    "25.9.1" {
        EXIT_REASON 0x4402 ExitReason;
        EXIT_QUALIFICATION 0x6400 ExitQualification;
        GUEST_LINEAR_ADDRESS 0x640a Linear;
        GUEST_PHYSICAL_ADDRESS 0x2400 Physical, if secondary ENABLE_EPT;
    }
    "25.9.2" {
        EXIT_INTERRUPTION_INFO 0x4404 ExitInterruption;
        EXIT_INTERRUPTION_ERROR_CODE 0x4406 Hex;
    }
    "25.9.3" {
        IDT_VECTORING_INFO 0x4408 ExitInterruption;
        IDT_VECTORING_ERROR_CODE 0x440a Hex;
        ORIGINAL_EVENT_DATA 0x2404 Hex, if entry LOAD_FRED;
    }
    "25.9.4" {
        EXIT_INSTRUCTION_LENGTH 0x440c Decimal;
        EXIT_INSTRUCTION_INFO 0x440e Hex;
        IO_RCX 0x6402 Hex;
        IO_RSI 0x6404 Linear;
        IO_RDI 0x6406 Linear;
        IO_RIP 0x6408 Linear;
    }
    "25.9.5" {
        VM_INSTRUCTION_ERROR 0x4400 InstructionError;
    }
}

const NO_FIELD: u8 = u8::MAX;

/// The field of each encoding, of either access type. Bits 12 and 31:15 are reserved and 0 (SDM vol. 3, 25.11.2).
static BY_ENCODING: [u8; 1 << 15] = {
    let mut table = [NO_FIELD; 1 << 15];
    let mut i = 0;
    while i < Field::COUNT {
        let encoding = ENCODINGS[i] as usize;
        assert!(table[encoding] == NO_FIELD, "two fields with one encoding");
        table[encoding] = i as u8;
        if encoding >> 13 == 1 {
            table[encoding | 1] = i as u8;
        }
        i += 1;
    }
    table
};

/// Which half of a field an encoding names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Full,
    /// Bits 63:32 of a 64-bit field.
    High,
}

impl Field {
    pub fn all() -> impl Iterator<Item = Field> {
        (0..Field::COUNT as u8).map(Field)
    }

    /// The field of that `index`, below `COUNT`.
    pub(super) const fn at(index: usize) -> Field {
        assert!(index < Field::COUNT);
        Field(index as u8)
    }

    /// The field's place in arrays of `Field::COUNT` elements.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline(always)]
    pub fn info(self) -> &'static FieldInfo {
        &TABLE[self.index()]
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    #[inline(always)]
    pub const fn encoding(self) -> u16 {
        ENCODINGS[self.0 as usize]
    }

    /// The bits that the field holds.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        match self.encoding() >> 13 & 3 {
            0 => Width::Bits16.mask(),
            2 => Width::Bits32.mask(),
            _ => u64::MAX,
        }
    }

    /// The field and half that an operand of VMREAD or VMWRITE names, if the table has it.
    #[inline(always)]
    pub fn by_encoding(encoding: u64) -> Option<(Field, Access)> {
        // Beyond bit 31, too, an operand must be 0.
        let index = *BY_ENCODING.get(encoding as usize)?;
        let access = if encoding & 1 == 0 {
            Access::Full
        } else {
            Access::High
        };
        (index != NO_FIELD).then_some((Field(index), access))
    }

    pub fn by_name(name: &str) -> Option<Field> {
        Field::all().find(|field| field.name() == name)
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FieldSet([u64; FieldSet::WORDS]);

impl FieldSet {
    const WORDS: usize = Field::COUNT.div_ceil(64);
    pub const EMPTY: FieldSet = FieldSet([0; FieldSet::WORDS]);

    pub const fn of(fields: &[Field]) -> FieldSet {
        let mut set = FieldSet::EMPTY;
        let mut i = 0;
        while i < fields.len() {
            set.0[fields[i].index() / 64] |= 1 << (fields[i].index() % 64);
            i += 1;
        }
        set
    }

    pub const fn union(self, other: FieldSet) -> FieldSet {
        let mut set = self;
        let mut i = 0;
        while i < FieldSet::WORDS {
            set.0[i] |= other.0[i];
            i += 1;
        }
        set
    }

    pub const fn intersection(self, other: &FieldSet) -> FieldSet {
        let mut set = self;
        let mut i = 0;
        while i < FieldSet::WORDS {
            set.0[i] &= other.0[i];
            i += 1;
        }
        set
    }

    #[inline]
    pub fn insert(&mut self, field: Field) {
        self.0[field.index() / 64] |= 1 << (field.index() % 64);
    }

    #[inline(always)]
    pub fn contains(&self, field: Field) -> bool {
        self.0[field.index() / 64] >> (field.index() % 64) & 1 != 0
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; FieldSet::WORDS]
    }

    /// Whether the two have a field in common.
    #[inline(always)]
    pub fn meets(&self, other: &FieldSet) -> bool {
        self.0.iter().zip(&other.0).fold(0, |both, (a, b)| both | a & b) != 0
    }

    /// Whether `wanted` accepts one of the fields. VM entry asks: `iter` costs it twice as much.
    #[inline(always)]
    pub fn any(&self, wanted: impl Fn(Field) -> bool) -> bool {
        for (at, word) in self.0.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                if wanted(Field(64 * at as u8 + rest.trailing_zeros() as u8)) {
                    return true;
                }
                rest &= rest - 1;
            }
        }
        false
    }

    /// The fields of the set, in the order of `Field::index`.
    pub fn iter(&self) -> impl Iterator<Item = Field> + '_ {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|&rest| rest != 0)
                .map(move |rest| Field(64 * i as u8 + rest.trailing_zeros() as u8))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_encoding_and_name() {
        for field in Field::all() {
            let encoding = u64::from(field.encoding());
            assert_eq!(Field::by_encoding(encoding), Some((field, Access::Full)));
            let high = (field.info().width() == Width::Bits64).then_some((field, Access::High));
            assert_eq!(Field::by_encoding(encoding | 1), high, "{field:?}");
            assert_eq!(Field::by_name(field.name()), Some(field));
            assert_eq!(field.mask(), field.info().width().mask());
        }
    }

    #[test]
    fn an_encoding_of_no_field_names_none() {
        for encoding in 0..1 << 17 {
            let wanted = Field::all().find_map(|field| {
                let full = u64::from(field.encoding());
                let high = field.info().width() == Width::Bits64 && encoding == full | 1;
                let access = (encoding == full)
                    .then_some(Access::Full)
                    .or(high.then_some(Access::High));
                Some((field, access?))
            });
            assert_eq!(Field::by_encoding(encoding), wanted, "{encoding:#x}");
        }
        let rip = u64::from(field::GUEST_RIP.encoding());
        assert_eq!(Field::by_encoding(1 << 32 | rip), None);
    }

    #[test]
    fn other_encodings_name_nothing() {
        for encoding in [
            0x1000,
            0x8000,
            0x1_0000,
            1 << 32 | 0x681e,
            u64::MAX,
            0x681f,
            0x0801,
            0x6bfe,
            0x4026,
        ] {
            assert_eq!(Field::by_encoding(encoding), None, "{encoding:#x}");
        }
    }

    #[test]
    fn areas_and_names_agree() {
        for field in Field::all() {
            let name = field.name();
            match field.info().group() {
                Group::Host => assert!(name.starts_with("host_"), "{name}"),
                Group::Guest => assert!(
                    name.starts_with("guest_") || name == "vmcs_link_pointer",
                    "{name}"
                ),
                Group::Control => assert!(
                    !name.starts_with("guest_") && !name.starts_with("host_"),
                    "{name}"
                ),
                Group::ExitInfo => {}
            }
        }
    }

    #[test]
    fn names_of_the_contract() {
        for (name, encoding) in [
            ("guest_rip", 0x681e),
            ("host_cr3", 0x6c02),
            ("pin_based_controls", 0x4000),
            ("exit_reason", 0x4402),
        ] {
            assert_eq!(Field::by_name(name).map(Field::encoding), Some(encoding));
        }
    }

    #[test]
    fn sets() {
        let set = FieldSet::of(&[field::GUEST_RIP, field::VM_INSTRUCTION_ERROR]);
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [field::GUEST_RIP, field::VM_INSTRUCTION_ERROR]
        );
        assert!(set.contains(field::GUEST_RIP) && !set.contains(field::GUEST_RSP));
        let all: Vec<Field> = Field::all().collect();
        assert_eq!(FieldSet::of(&all).iter().collect::<Vec<_>>(), all);
        assert!(all
            .iter()
            .all(|one| set.any(|it| it == *one) == set.contains(*one)));
        assert!(FieldSet::EMPTY.is_empty() && FieldSet::EMPTY.iter().next().is_none());
    }
}
