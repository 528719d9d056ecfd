//! The machine's VMX views: what the processor's VMX state is, why things happened, and what a debugger asks of it.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::machine::PyMachine;
use super::tables::{find_field, NameOrNumber};
use super::views::{Bitmaps, VmxInfo};
use super::{error, object};
use crate::debug::catch::Forced;
use crate::machine::Machine;
use crate::mmu::paging::Kind;
use crate::vmx::adopt::{adopt, Last};
use crate::vmx::errors::instruction_error_text;
use crate::vmx::explain;
use crate::vmx::force;
use crate::vmx::reasons::ExitReason;
use crate::vmx::vmcs::Vmcs;

fn access_kind(access: &str) -> PyResult<Kind> {
    match access {
        "read" => Ok(Kind::Read),
        "write" => Ok(Kind::Write),
        "execute" => Ok(Kind::Fetch),
        other => Err(error(format!(
            "no kind of access {other:?}; there are read, write and execute"
        ))),
    }
}

#[pymethods]
impl PyMachine {
    #[pyo3(signature = (vcpu=0))]
    fn vmx_info(&self, py: Python<'_>, vcpu: usize) -> PyResult<Py<PyAny>> {
        let cpu = self.cpu(vcpu)?;
        object(py, &VmxInfo::of(cpu, &self.machine().bus))
    }

    #[pyo3(signature = (vcpu=0, vmcs=None))]
    fn check_entry(&self, py: Python<'_>, vcpu: usize, vmcs: Option<u64>) -> PyResult<Py<PyAny>> {
        let held = self.held_vmcs(vcpu, vmcs)?;
        object(
            py,
            &explain::broken_rules(self.cpu(vcpu)?, &self.machine().bus, held),
        )
    }

    #[pyo3(signature = (vcpu=0))]
    fn why(&self, py: Python<'_>, vcpu: usize) -> PyResult<Option<Py<PyAny>>> {
        let explanation = explain::why(self.cpu(vcpu)?, &self.machine().bus);
        let hints = self.machine().hints(vcpu);
        let explanation = match explanation {
            Some(explanation) => Some(explanation.with_hints(hints)),
            None if hints.is_empty() => None,
            None => Some(explain::Explanation::of_hints(hints)),
        };
        explanation
            .map(|explanation| object(py, &explanation))
            .transpose()
    }

    #[pyo3(signature = (address, vcpu=0, vmcs=None, access="read"))]
    fn walk(
        &self,
        py: Python<'_>,
        address: u64,
        vcpu: usize,
        vmcs: Option<u64>,
        access: &str,
    ) -> PyResult<Py<PyAny>> {
        let kind = access_kind(access)?;
        let walk = self.with_view(vcpu, vmcs, |view| {
            self.machine().explain_walk(view, address, kind)
        })?;
        object(py, &walk)
    }

    #[pyo3(signature = (address, vcpu=0, vmcs=None, access="read"))]
    fn walk_ept(
        &self,
        py: Python<'_>,
        address: u64,
        vcpu: usize,
        vmcs: Option<u64>,
        access: &str,
    ) -> PyResult<Py<PyAny>> {
        let kind = access_kind(access)?;
        let held = self.held_vmcs(vcpu, vmcs)?;
        let (vmcs, has_ept) = (
            held.address,
            crate::vmx::state::Controls::of(held).ept_pointer(held).is_some(),
        );
        if !has_ept {
            return Err(error(format!(
                "VMCS {vmcs:#x} does not enable EPT: guest-physical addresses are the host's"
            )));
        }
        let walk = self.with_view(vcpu, Some(vmcs), |view| {
            self.machine().explain_ept(view, address, kind)
        })?;
        object(py, &walk)
    }

    #[pyo3(signature = (which, vcpu=0, vmcs=None))]
    fn bitmap(&self, py: Python<'_>, which: &str, vcpu: usize, vmcs: Option<u64>) -> PyResult<Py<PyAny>> {
        let held = self.held_vmcs(vcpu, vmcs)?;
        let bitmaps = match which {
            "msr" => Bitmaps::msr(self.machine(), held),
            "io" => Bitmaps::io(self.machine(), held),
            other => return Err(error(format!("no bitmap {other:?}; there are msr and io"))),
        };
        object(py, &bitmaps.map_err(error)?)
    }

    #[pyo3(signature = (address, fields, last=None, rip=0, vcpu=0))]
    fn adopt_vmcs(
        &mut self,
        address: u64,
        fields: HashMap<String, u64>,
        last: Option<&str>,
        rip: u64,
        vcpu: usize,
    ) -> PyResult<()> {
        let last = match last {
            None => Last::Nothing,
            Some("exit") => Last::Exit,
            Some("fail") => Last::Fail,
            Some(other) => return Err(error(format!("no last event {other:?}; there are exit and fail"))),
        };
        let mut vmcs = Vmcs::new(address);
        for (name, value) in fields {
            vmcs.set(find_field(&NameOrNumber::Name(name))?, value);
        }
        self.cpu(vcpu)?;
        let Machine { cpus, bus, .. } = self.machine_mut();
        adopt(&mut cpus[vcpu], bus, vmcs, last, rip);
        Ok(())
    }

    // Forcing.

    #[pyo3(signature = (reason, **fields))]
    fn force(&mut self, reason: u32, fields: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let row = ExitReason::by_number(reason as u16).filter(|_| reason <= u16::MAX as u32);
        if row.is_none() {
            return Err(error(format!("no exit reason {reason}")));
        }
        let mut forced = Forced {
            reason: Some(reason),
            ..Forced::default()
        };
        for (name, value) in fields.into_iter().flat_map(|fields| fields.iter()) {
            let (name, value): (String, u64) = (name.extract()?, value.extract()?);
            force::set(&mut forced, &name, value).map_err(error)?;
        }
        self.machine_mut().bus.debug.catches.forced = Some(forced);
        Ok(())
    }

    fn force_vmfail(&mut self, number: u32) -> PyResult<()> {
        if instruction_error_text(number as u64).is_none() {
            return Err(error(format!("the SDM lists no VM-instruction error {number}")));
        }
        self.machine_mut().bus.debug.catches.forced = Some(Forced {
            error: number,
            ..Forced::default()
        });
        Ok(())
    }

    fn forced<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(forced) = &self.machine().bus.debug.catches.forced else {
            return Ok(None);
        };
        let row = PyDict::new(py);
        match forced.reason {
            Some(reason) => row.set_item("reason", reason)?,
            None => row.set_item("error", forced.error)?,
        }
        for (name, value) in force::settings(forced) {
            row.set_item(name, value)?;
        }
        Ok(Some(row))
    }
}
