//! CPU profiles.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;

use super::{error, object, views};
use crate::vmx::capability::{FIRST_MSR, LAST_MSR};
use crate::vmx::cpuid_features::Register;
use crate::vmx::profile::Profile;

#[pyclass(frozen, module = "gdbvmx._core")]
pub struct CpuProfile {
    #[pyo3(get)]
    name: String,
    pub profile: Arc<Profile>,
}

#[pymethods]
impl CpuProfile {
    #[staticmethod]
    fn names() -> Vec<&'static str> {
        Profile::builtin_names()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    #[staticmethod]
    pub fn builtin(name: &str) -> PyResult<CpuProfile> {
        match Profile::builtin(name) {
            Some(profile) => Ok(CpuProfile {
                name: name.into(),
                profile: Arc::new(profile),
            }),
            None => Err(error(format!(
                "no CPU profile {name:?}; there are {}",
                CpuProfile::names().join(", ")
            ))),
        }
    }

    fn with_changes(
        &self,
        name: String,
        msrs: HashMap<u32, u64>,
        cpuid: HashMap<(u32, u32), HashMap<String, u32>>,
    ) -> PyResult<(CpuProfile, Vec<String>)> {
        let mut profile = Profile::clone(&self.profile);
        for (address, value) in msrs {
            profile.set_msr(address, value).map_err(error)?;
        }
        for ((leaf, subleaf), registers) in cpuid {
            for (register, value) in registers {
                let Some(register) = Register::by_name(&register) else {
                    return Err(error(format!(
                        "CPUID leaf {leaf:#x}:{subleaf} has no register {register:?}; there are eax, ebx, ecx, edx"
                    )));
                };
                profile.set_cpuid(leaf, subleaf, register, value);
            }
        }
        let warnings = profile.unhonoured();
        Ok((
            CpuProfile {
                name,
                profile: Arc::new(profile),
            },
            warnings,
        ))
    }

    fn vmx_msrs(&self) -> HashMap<u32, u64> {
        let capabilities = self.profile.capabilities();
        (FIRST_MSR..=LAST_MSR)
            .filter_map(|address| Some((address, capabilities.read_msr(address)?)))
            .collect()
    }

    #[pyo3(signature = (leaf, subleaf=0))]
    fn cpuid(&self, leaf: u32, subleaf: u32) -> (u32, u32, u32, u32) {
        self.profile.cpuid(leaf, subleaf).into()
    }

    fn capabilities(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let lines: Vec<_> = self
            .profile
            .capabilities()
            .in_words()
            .iter()
            .map(views::Capability::of)
            .collect();
        object(py, &lines)
    }
}
