//! CPU profiles.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;

use super::{error, object, views};
use crate::vmx::capability::{FIRST_MSR, LAST_MSR};
use crate::vmx::cpuid_features::{Feature, Register, ALL};
use crate::vmx::profile::Profile;

#[pyclass(frozen, module = "gdbvmx._core")]
pub struct CpuProfile {
    #[pyo3(get)]
    name: String,
    pub profile: Arc<Profile>,
}

impl CpuProfile {
    /// With what it promises and the core does not honour.
    fn judged(name: String, profile: Profile) -> (CpuProfile, Vec<String>) {
        let warnings = profile.unhonoured();
        let profile = Arc::new(profile);
        (CpuProfile { name, profile }, warnings)
    }
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
        Ok(CpuProfile::judged(name, profile))
    }

    fn with_features(
        &self,
        name: String,
        features: Vec<(String, bool)>,
    ) -> PyResult<(CpuProfile, Vec<String>)> {
        let mut profile = Profile::clone(&self.profile);
        for (wanted, there) in features {
            let Some(feature) = Feature::by_name(&wanted) else {
                let names: Vec<_> = ALL.iter().map(|feature| feature.name).collect();
                return Err(error(format!(
                    "no CPUID feature {wanted:?}; there are {}",
                    names.join(", ")
                )));
            };
            profile.set_feature(feature, there);
        }
        Ok(CpuProfile::judged(name, profile))
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
