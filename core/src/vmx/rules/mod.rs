//! The checks of VM entry (SDM vol. 3, 27.2 and 27.3) as rows of tables.
//!
//! A row says which fields it reads, when it applies, what must hold and, in words, what was found and what
//! is allowed. The processor, the offline checker and the documentation use the same rows. The order of the
//! rows is the order of the SDM; where that leaves the order to the processor, it is this processor's order.

mod checks;
mod conditions;
mod controls;
mod event;
mod guest;
mod host;
mod msr_load;
mod non_register;
mod pdptes;
mod segments;

#[cfg(test)]
pub mod baseline;
#[cfg(test)]
mod tests;

pub use event::Event;
pub use msr_load::{msr_list_entry_problem, MsrListRule, MsrListUse, MSR_LIST};

use super::capability::Capabilities;
use super::controls::{entry, exit, primary, Word};
use super::fields::{field, Field, FieldSet};
use super::vmcs::{Modes, Passed, Vmcs};

/// What a VM entry that breaks a rule ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// VMfailValid with this VM-instruction error; the instruction after VMLAUNCH or VMRESUME runs next.
    FailValid(u32),
    /// A VM exit with basic reason 33, bit 31 set, and this exit qualification.
    EntryFailure(u64),
}

/// What must hold, and the words for when it does not. Both get the fields of their rule.
#[derive(Clone, Copy)]
pub struct Check {
    pub holds: fn(&Context, &[Field]) -> bool,
    pub words: fn(&Context, &[Field]) -> String,
}

/// One check of VM entry.
pub struct Rule {
    /// Stable name, area first, such as `guest.tr.type`.
    pub id: &'static str,
    /// The section of SDM vol. 3 that asks for it.
    pub section: &'static str,
    pub outcome: Outcome,
    /// The fields that the check reads; where a check serves several rules, the first is its subject.
    pub fields: &'static [Field],
    pub when: Condition,
    check: Check,
}

/// When a rule applies.
#[derive(Clone, Copy)]
pub struct Condition {
    /// The fields that decide it.
    pub fields: &'static [Field],
    holds: fn(&Context) -> bool,
}

const ALWAYS: Condition = Condition {
    fields: &[],
    holds: |_| true,
};

impl Rule {
    /// Whether the state is one that the rule speaks of.
    pub fn applies(&self, context: &Context) -> bool {
        (self.when.holds)(context)
    }

    /// All fields that the rule reads.
    pub fn reads(&self) -> FieldSet {
        FieldSet::of(self.fields).union(FieldSet::of(self.when.fields))
    }

    /// Those fields, each once: the rule's own, then those that decide whether it applies.
    pub fn read_in_order(&self) -> impl Iterator<Item = Field> {
        let more = self
            .when
            .fields
            .iter()
            .filter(|field| !self.fields.contains(field));
        self.fields.iter().chain(more).copied()
    }

    #[inline(always)]
    pub fn is_broken(&self, context: &Context) -> bool {
        self.applies(context) && !(self.check.holds)(context, self.fields)
    }

    /// What was found and what is allowed.
    pub fn words(&self, context: &Context) -> String {
        (self.check.words)(context, self.fields)
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

/// The state of the processor that VM entry is judged in.
pub struct Environment<'a> {
    /// IA32_EFER.LMA at the VM entry.
    pub long_mode: bool,
    pub in_smm: bool,
    /// In bits.
    pub physical_address_width: u8,
    /// In bits: 48, or 57 on processors with 5-level paging.
    pub linear_address_width: u8,
    pub efer_reserved: u64,
    pub debugctl_reserved: u64,
    pub perf_global_ctrl_reserved: u64,
    pub has_sgx: bool,
    pub has_rtm: bool,
    /// Reads 8 bytes, little-endian, at a physical address that is a multiple of 8; None where there is no
    /// memory.
    pub read_physical: &'a dyn Fn(u64) -> Option<u64>,
}

/// What a rule looks at.
pub struct Context<'a> {
    pub vmcs: &'a Vmcs,
    pub capabilities: &'a Capabilities,
    pub environment: &'a Environment<'a>,
}

impl Context<'_> {
    #[inline(always)]
    pub fn get(&self, field: Field) -> u64 {
        self.vmcs.get(field)
    }

    /// The modes of this entry.
    fn modes(&self) -> Modes {
        self.vmcs
            .modes(self.environment.long_mode, self.environment.in_smm)
    }

    fn pin(&self, bits: u64) -> bool {
        self.get(field::PIN_BASED_CONTROLS) & bits == bits
    }

    fn primary(&self, bits: u64) -> bool {
        self.get(field::PRIMARY_PROCESSOR_BASED_CONTROLS) & bits == bits
    }

    /// Whether secondary controls are 1. They count as 0 while they are not activated (SDM vol. 3, 25.6.2).
    fn secondary(&self, bits: u64) -> bool {
        self.primary(primary::ACTIVATE_SECONDARY_CONTROLS)
            && self.get(field::SECONDARY_PROCESSOR_BASED_CONTROLS) & bits == bits
    }

    /// Whether tertiary controls are 1, as above.
    fn tertiary(&self, bits: u64) -> bool {
        self.primary(primary::ACTIVATE_TERTIARY_CONTROLS)
            && self.get(field::TERTIARY_PROCESSOR_BASED_CONTROLS) & bits == bits
    }

    fn exit(&self, bits: u64) -> bool {
        self.get(field::EXIT_CONTROLS) & bits == bits
    }

    fn entry(&self, bits: u64) -> bool {
        self.get(field::ENTRY_CONTROLS) & bits == bits
    }

    fn ia32e_guest(&self) -> bool {
        self.entry(entry::IA32E_MODE_GUEST)
    }

    fn host_64(&self) -> bool {
        self.exit(exit::HOST_ADDRESS_SPACE_SIZE)
    }

    fn unrestricted(&self) -> bool {
        self.secondary(super::controls::secondary::UNRESTRICTED_GUEST)
    }

    fn virtual_8086(&self) -> bool {
        self.modes().virtual_8086
    }

    fn is_canonical(&self, address: u64) -> bool {
        let shift = 64 - u32::from(self.environment.linear_address_width);
        ((address << shift) as i64 >> shift) as u64 == address
    }

    /// The bits that an address of a structure that a control field points to must not set.
    fn address_reserved(&self) -> u64 {
        self.capabilities
            .address_reserved(self.environment.physical_address_width)
    }

    /// The bits beyond the processor's physical-address width.
    fn beyond_width(&self) -> u64 {
        u64::MAX
            .checked_shl(u32::from(self.environment.physical_address_width))
            .unwrap_or(0)
    }
}

/// `name is 0x…`, the start of most sentences of a rule.
fn found(context: &Context, field: Field) -> String {
    format!("{field:?} is {:#x}", context.get(field))
}

/// Makes a table of rules: `"id" [FIELDS] if condition, check;`.
macro_rules! rules {
    ($(#[$doc:meta])* $name:ident $section:literal $outcome:expr;
     $($id:expr, [$($field:ident)+] $(if $when:expr)?, $check:expr;)*) => {
        $(#[$doc])*
        pub static $name: &[crate::vmx::rules::Rule] = &[$(crate::vmx::rules::Rule {
            id: $id,
            section: $section,
            outcome: $outcome,
            fields: &[$(crate::vmx::fields::field::$field),+],
            when: crate::vmx::rules::rules!(@when $($when)?),
            check: $check,
        }),*];
    };
    (@when) => { crate::vmx::rules::ALWAYS };
    (@when $when:expr) => { $when };
}
use rules;

/// The tables in the processor's order, each with what it looks at beside the fields that its rules name.
static TABLES: &[(&[Rule], Inputs)] = &[
    (controls::EXECUTION, Inputs::Fields),
    (controls::VIRTUAL_TPR, Inputs::Memory),
    (controls::EXECUTION_FEATURES, Inputs::Fields),
    (controls::EXIT, Inputs::Fields),
    (controls::ENTRY, Inputs::Fields),
    (host::REGISTERS, Inputs::Fields),
    (host::SEGMENTS, Inputs::Fields),
    (host::ADDRESS_SPACE, Inputs::Fields),
    (guest::REGISTERS, Inputs::Fields),
    (segments::SELECTORS_AND_BASES, Inputs::SegmentFields),
    (segments::VIRTUAL_8086, Inputs::SegmentFields),
    (segments::ACCESS_RIGHTS, Inputs::SegmentFields),
    (segments::SYSTEM, Inputs::SegmentFields),
    (guest::DESCRIPTOR_TABLES, Inputs::Fields),
    (guest::RIP_AND_RFLAGS, Inputs::Fields),
    (non_register::ACTIVITY, Inputs::Fields),
    (non_register::NMI_AND_STI, Inputs::Fields),
    (non_register::LINK_POINTER, Inputs::Fields),
    (non_register::LINKED_REGION, Inputs::Memory),
    (pdptes::IN_FIELDS, Inputs::Fields),
    (pdptes::IN_MEMORY, Inputs::Memory),
];

/// When the rules of a table can come to another result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inputs {
    /// When a field changes that they read.
    Fields,
    /// As `Fields`, but they read RFLAGS, which nearly every guest changes, only for VM, which is one of the
    /// `Modes`.
    SegmentFields,
    /// As `Fields`, and at any time while one of them applies, as they read memory.
    Memory,
}

/// The rules by the field whose change calls for them, and those that read memory.
struct Dependents {
    by_field: Vec<Vec<&'static Rule>>,
    /// The fields that have any.
    fields: FieldSet,
    memory: Vec<&'static Rule>,
    /// The fields that decide whether rules apply that read memory.
    memory_deciders: FieldSet,
}

impl Dependents {
    #[inline(always)]
    fn get() -> &'static Dependents {
        static DEPENDENTS: std::sync::OnceLock<Dependents> = std::sync::OnceLock::new();
        DEPENDENTS.get_or_init(|| {
            let mut dependents = Dependents {
                by_field: vec![Vec::new(); Field::COUNT],
                fields: FieldSet::EMPTY,
                memory: Vec::new(),
                memory_deciders: FieldSet::EMPTY,
            };
            for &(rules, inputs) in TABLES {
                for rule in rules {
                    if inputs == Inputs::Memory {
                        let deciders = FieldSet::of(rule.when.fields);
                        dependents.memory_deciders = dependents.memory_deciders.union(deciders);
                        dependents.memory.push(rule);
                    }
                    let skipped = (inputs == Inputs::SegmentFields).then_some(field::GUEST_RFLAGS);
                    for field in rule.reads().iter().filter(|&field| Some(field) != skipped) {
                        dependents.by_field[field.index()].push(rule);
                        dependents.fields.insert(field);
                    }
                }
            }
            dependents
        })
    }
}

/// All rules in the processor's order.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    TABLES.iter().flat_map(|(rules, _)| *rules)
}

pub fn by_id(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}

/// The first broken rule in the processor's order is the error: it decides the outcome. Without one the entry goes on to
/// load the guest's state, and what this gives is for `Vmcs::accept_changes`.
///
/// Only rules whose fields changed since that was called last are looked at, so the processor must call it only after an
/// entry that broke no rule, with what that was given here, and on a processor whose capabilities stay.
pub fn decide(context: &Context) -> Result<Passed, &'static Rule> {
    let modes = context.modes();
    let last = context.vmcs.passed().filter(|last| last.modes == modes);
    if let Some(passed) = last.and_then(|last| decide_by_changes(context, last)) {
        return Ok(passed);
    }
    match all().find(|rule| rule.is_broken(context)) {
        Some(rule) => Err(rule),
        None => Ok(Passed {
            modes,
            reads_memory: reads_memory(context),
        }),
    }
}

/// What `decide` gives, where a look at the VMCS shows that no rule can come to another result than at the last entry.
#[inline(always)]
pub fn decided(vmcs: &Vmcs, modes: Modes) -> Option<Passed> {
    let same = |last: &Passed| {
        last.modes == modes && !last.reads_memory && !vmcs.changed().meets(&Dependents::get().fields)
    };
    vmcs.passed().filter(same)
}

/// What `decide` gives in the modes of the `last` entry that passed. None: a change broke a rule.
fn decide_by_changes(context: &Context, last: Passed) -> Option<Passed> {
    let dependents = Dependents::get();
    let is_broken = |rules: &[&Rule]| rules.iter().any(|rule| rule.is_broken(context));
    let changed = context.vmcs.changed().intersection(&dependents.fields);
    if changed.any(|field| is_broken(&dependents.by_field[field.index()])) {
        return None;
    }
    let mut passed = last;
    if changed.meets(&dependents.memory_deciders) {
        passed.reads_memory = reads_memory(context);
    }
    (!passed.reads_memory || !is_broken(&dependents.memory)).then_some(passed)
}

/// Whether a rule applies that reads memory.
fn reads_memory(context: &Context) -> bool {
    Dependents::get().memory.iter().any(|rule| rule.applies(context))
}

/// A broken rule in words.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static Rule,
    /// What was found and what is allowed.
    pub words: String,
    /// Whether this is the rule that decides the outcome.
    pub deciding: bool,
}

/// Every broken rule, in the processor's order; the first decides.
pub fn check_all(context: &Context) -> Vec<Finding> {
    let broken = all().filter(|rule| rule.is_broken(context));
    broken
        .enumerate()
        .map(|(i, rule)| Finding {
            rule,
            words: rule.words(context),
            deciding: i == 0,
        })
        .collect()
}

/// The settings that a control word or register breaks, as the end of a sentence: which bits must be 1 and
/// are 0, and which must be 0 and are 1.
fn wrong_bits(missing: u64, excess: u64, name: impl Fn(u64) -> Vec<String>) -> String {
    let mut parts = Vec::new();
    if missing != 0 {
        parts.push(format!("must be 1 and is 0: {}", name(missing).join(", ")));
    }
    if excess != 0 {
        parts.push(format!("must be 0 and is 1: {}", name(excess).join(", ")));
    }
    parts.join("; ")
}

/// The capability MSR that rules over a word, for sentences.
fn ruling_msr(context: &Context, word: Word) -> String {
    match context.capabilities.word_msr(word) {
        Some(address) => {
            let name = super::capability::msr_name(address).unwrap_or("MSR");
            format!("{name}, MSR {address:#x}")
        }
        None => "this processor does not have these controls".to_string(),
    }
}
