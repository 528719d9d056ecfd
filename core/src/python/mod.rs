//! The bindings: `gdbvmx._core`. What a method means is said in `gdbvmx/_core.pyi`.

mod machine;
mod profile;
mod tables;
mod views;
mod vmx;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pythonize::pythonize;
use serde::Serialize;

pyo3::create_exception!(_core, Error, PyException, "A request that cannot be carried out.");

/// A Python object of plain dictionaries, lists, numbers and strings.
fn object<T: Serialize>(py: Python<'_>, value: &T) -> PyResult<Py<PyAny>> {
    Ok(pythonize(py, value)?.unbind())
}

fn error(text: impl Into<String>) -> PyErr {
    Error::new_err(text.into())
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Error", module.py().get_type::<Error>())?;
    module.add_class::<machine::PyMachine>()?;
    module.add_class::<machine::Interrupter>()?;
    module.add_class::<profile::CpuProfile>()?;
    tables::register(module)
}
