//! The core's tables: fields, exit reasons, errors.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyModule;

use super::profile::CpuProfile;
use super::views::{FieldInfo, ReasonInfo, RuleInfo};
use super::{error, object};
use crate::vmx::controls::exit;
use crate::vmx::describe;
use crate::vmx::entry::environment;
use crate::vmx::errors::instruction_error_text;
use crate::vmx::explain;
use crate::vmx::fields::{field as named, Field};
use crate::vmx::qualification;
use crate::vmx::reasons::{ExitReason, REASONS};
use crate::vmx::rules::{all as all_rules, Context};
use crate::vmx::vmcs::Vmcs;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fields, module)?)?;
    module.add_function(wrap_pyfunction!(field, module)?)?;
    module.add_function(wrap_pyfunction!(reasons, module)?)?;
    module.add_function(wrap_pyfunction!(reason, module)?)?;
    module.add_function(wrap_pyfunction!(error_text, module)?)?;
    module.add_function(wrap_pyfunction!(describe_value, module)?)?;
    module.add_function(wrap_pyfunction!(qualification_parts, module)?)?;
    module.add_function(wrap_pyfunction!(rules, module)?)?;
    module.add_function(wrap_pyfunction!(check_vmcs, module)?)
}

#[derive(FromPyObject)]
pub enum NameOrNumber {
    Number(u64),
    Name(String),
}

/// A field by its name or encoding.
pub fn find_field(key: &NameOrNumber) -> PyResult<Field> {
    let found = match key {
        NameOrNumber::Number(encoding) => Field::by_encoding(*encoding).map(|(field, _)| field),
        NameOrNumber::Name(name) => Field::by_name(&name.to_lowercase()),
    };
    found.ok_or_else(|| match key {
        NameOrNumber::Number(encoding) => error(format!("no VMCS field has the encoding {encoding:#x}")),
        NameOrNumber::Name(name) => error(format!(
            "no VMCS field {name:?}{}",
            nearest(name, Field::all().map(|field| field.name()))
        )),
    })
}

/// A hint at the names that share most with a mistyped one.
fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    let pairs = |text: &str| -> Vec<(char, char)> { text.chars().zip(text.chars().skip(1)).collect() };
    let of_wrong = pairs(&wrong.to_lowercase());
    let mut scored: Vec<_> = names
        .map(|name| {
            let of_name = pairs(name);
            let shared = of_wrong.iter().filter(|pair| of_name.contains(pair)).count();
            (shared * 200 / (of_wrong.len() + of_name.len()).max(1), name)
        })
        .filter(|(score, _)| *score >= 50)
        .collect();
    scored.sort_by(|a, b| b.cmp(a));
    let names: Vec<_> = scored.iter().take(3).map(|(_, name)| *name).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", names.join(" or "))
    }
}

#[pyfunction]
fn fields(py: Python<'_>) -> PyResult<Py<PyAny>> {
    object(py, &Field::all().map(FieldInfo::of).collect::<Vec<_>>())
}

#[pyfunction]
fn field(py: Python<'_>, name_or_encoding: NameOrNumber) -> PyResult<Py<PyAny>> {
    object(py, &FieldInfo::of(find_field(&name_or_encoding)?))
}

#[pyfunction]
fn reasons(py: Python<'_>) -> PyResult<Py<PyAny>> {
    object(py, &REASONS.iter().map(ReasonInfo::of).collect::<Vec<_>>())
}

#[pyfunction]
fn reason(py: Python<'_>, name_or_number: NameOrNumber) -> PyResult<Py<PyAny>> {
    let text = match &name_or_number {
        NameOrNumber::Number(number) => number.to_string(),
        NameOrNumber::Name(name) => name.clone(),
    };
    match ExitReason::parse(&text) {
        Some(reason) => object(py, &ReasonInfo::of(reason)),
        None => Err(error(format!(
            "no exit reason {text:?}{}",
            nearest(&text, REASONS.iter().map(|reason| reason.name))
        ))),
    }
}

#[pyfunction]
fn error_text(number: u64) -> String {
    instruction_error_text(number).map_or(
        format!("VM-instruction error {number}, which the SDM does not list"),
        str::to_string,
    )
}

#[pyfunction(name = "describe")]
fn describe_value(field: NameOrNumber, value: u64) -> PyResult<Vec<String>> {
    Ok(describe::describe(find_field(&field)?, value, &Vmcs::new(0)))
}

#[pyfunction(name = "qualification")]
#[pyo3(signature = (reason, value, interruption=0))]
fn qualification_parts(reason: u16, value: u64, interruption: u64) -> Vec<(&'static str, String)> {
    ExitReason::by_number(reason)
        .map(|reason| qualification::decode(reason.qualification, value, interruption))
        .unwrap_or_default()
        .into_iter()
        .map(|part| (part.name, part.text))
        .collect()
}

#[pyfunction]
fn rules(py: Python<'_>) -> PyResult<Py<PyAny>> {
    object(py, &all_rules().map(RuleInfo::of).collect::<Vec<_>>())
}

/// The rules that a VMCS from anywhere breaks. Memory is not at hand: what lies in it is taken for zeros.
#[pyfunction]
fn check_vmcs(py: Python<'_>, fields: HashMap<String, u64>, profile: &CpuProfile) -> PyResult<Py<PyAny>> {
    let mut vmcs = Vmcs::new(0);
    for (name, value) in fields {
        vmcs.set(find_field(&NameOrNumber::Name(name))?, value);
    }
    let long_mode = vmcs.get(named::EXIT_CONTROLS) & exit::HOST_ADDRESS_SPACE_SIZE != 0;
    let environment = environment(&profile.profile, long_mode, &|_| Some(0));
    let context = Context {
        vmcs: &vmcs,
        capabilities: profile.profile.capabilities(),
        environment: &environment,
    };
    object(py, &explain::broken_in(&context))
}
