//! The machine.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::profile::CpuProfile;
use super::tables::{find_field, NameOrNumber};
use super::views::{world_key, FieldView, TraceEvent, WorldInfo};
use super::{error, object};
use crate::cpu::Cpu;
use crate::debug::breakpoints::{Breakpoint, Scope, Watch, WatchKind, World};
use crate::debug::catch::{Catch, Filter};
use crate::debug::registers::{Register, TABLE};
use crate::machine::{Machine, Run, Stopped};
use crate::platform::{firmware, Request};
use crate::vmx::fields::Field;
use crate::vmx::profile::{Profile, DEFAULT};
use crate::vmx::vmcs::Vmcs;

/// The most RAM a machine may have: enough for any test, and an address space that every host has.
const MOST_MEMORY: u64 = 64 << 30;
const MOST_CPUS: usize = 64;

#[pyclass(frozen, module = "gdbvmx._core")]
pub struct Interrupter(Arc<AtomicBool>);

#[pymethods]
impl Interrupter {
    fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[pyclass(name = "Machine", module = "gdbvmx._core")]
pub struct PyMachine {
    machine: Machine,
    features: Vec<String>,
    profile: Py<CpuProfile>,
    interrupt: Arc<AtomicBool>,
    /// Field values when a debugger last looked, by processor and VMCS.
    seen: HashMap<(usize, u64), Vec<u64>>,
}

fn world(vmcs: Option<u64>) -> World {
    vmcs.map_or(World::Host, World::Guest)
}

fn scope(vcpu: Option<usize>, vmcs: Option<u64>, host: bool) -> Scope {
    let world = if host {
        Some(World::Host)
    } else {
        vmcs.map(World::Guest)
    };
    Scope { vcpu, world }
}

fn watch_kind(kind: &str) -> PyResult<WatchKind> {
    match kind {
        "write" => Ok(WatchKind::Write),
        "read" => Ok(WatchKind::Read),
        "access" => Ok(WatchKind::Access),
        other => Err(error(format!(
            "no kind of watchpoint {other:?}; there are write, read and access"
        ))),
    }
}

fn kind_name(kind: WatchKind) -> &'static str {
    match kind {
        WatchKind::Write => "write",
        WatchKind::Read => "read",
        WatchKind::Access => "access",
    }
}

fn register_named(name: &str) -> PyResult<&'static Register> {
    Register::by_name(name).ok_or_else(|| error(format!("no register {name:?}")))
}

impl PyMachine {
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn build(memory: u64, cpus: usize, features: &[String], profile: Arc<Profile>) -> Machine {
        let mut machine = Machine::new(memory, cpus, profile);
        if features.iter().any(|feature| feature == "debugcon") {
            machine.bus.add_debugcon();
        }
        machine
    }

    pub fn cpu(&self, vcpu: usize) -> PyResult<&Cpu> {
        let count = self.machine.cpus.len();
        self.machine
            .cpus
            .get(vcpu)
            .ok_or_else(|| error(format!("no vCPU {vcpu}: there are {count}, from 0 on")))
    }

    /// A VMCS that the processor holds: the named one, or the current one.
    pub fn held_vmcs(&self, vcpu: usize, vmcs: Option<u64>) -> PyResult<&Vmcs> {
        let vmx = &self.cpu(vcpu)?.vmx;
        let found = match vmcs {
            Some(address) => vmx.active.iter().find(|held| held.address == address),
            None => vmx.current(),
        };
        found.ok_or_else(|| match (vmcs, vmx.vmxon) {
            (Some(address), _) => error(format!(
                "vCPU {vcpu} holds no VMCS {address:#x}; it holds {}",
                if vmx.active.is_empty() {
                    "none".to_string()
                } else {
                    vmx.active
                        .iter()
                        .map(|held| format!("{:#x}", held.address))
                        .collect::<Vec<_>>()
                        .join(", ")
                }
            )),
            (None, Some(_)) => error(format!(
                "vCPU {vcpu} has no current VMCS: VMPTRLD has not loaded one"
            )),
            (None, None) => error(format!(
                "vCPU {vcpu} is not in VMX operation: VMXON was not executed"
            )),
        })
    }

    pub fn with_view<T>(&self, vcpu: usize, vmcs: Option<u64>, f: impl FnOnce(&Cpu) -> T) -> PyResult<T> {
        self.cpu(vcpu)?;
        match self.machine.view(vcpu, world(vmcs)) {
            Some(view) => Ok(f(&view)),
            None => {
                self.held_vmcs(vcpu, vmcs)?;
                Err(error(format!("vCPU {vcpu} has no such world")))
            }
        }
    }
}

#[pymethods]
impl PyMachine {
    #[new]
    #[pyo3(signature = (memory, cpus=1, profile=None, features=Vec::new()))]
    fn new(
        py: Python<'_>,
        memory: u64,
        cpus: usize,
        profile: Option<Py<CpuProfile>>,
        features: Vec<String>,
    ) -> PyResult<PyMachine> {
        if !(1 << 20..=MOST_MEMORY).contains(&memory) {
            return Err(error(format!(
                "a machine has from 1 MiB to 64 GiB of memory, not {memory} bytes"
            )));
        }
        if !(1..=MOST_CPUS).contains(&cpus) {
            return Err(error(format!(
                "a machine has 1 to {MOST_CPUS} processors, not {cpus}"
            )));
        }
        if let Some(unknown) = features.iter().find(|feature| *feature != "debugcon") {
            return Err(error(format!(
                "no optional device {unknown:?}; there is debugcon"
            )));
        }
        let profile = match profile {
            Some(profile) => profile,
            None => Py::new(py, CpuProfile::builtin(DEFAULT)?)?,
        };
        let machine = PyMachine::build(memory, cpus, &features, profile.get().profile.clone());
        let interrupt = Arc::new(AtomicBool::new(false));
        Ok(PyMachine {
            machine,
            features,
            profile,
            interrupt,
            seen: HashMap::new(),
        })
    }

    #[getter]
    fn memory(&self) -> u64 {
        self.machine.bus.ram.size()
    }

    #[getter]
    fn cpus(&self) -> usize {
        self.machine.cpus.len()
    }

    #[getter]
    fn profile(&self, py: Python<'_>) -> Py<CpuProfile> {
        self.profile.clone_ref(py)
    }

    // Running.

    #[pyo3(signature = (count, *, vcpu=None, leave_breakpoint=false, mask_interrupts=false, timeout=None, patient_until=None))]
    // The keywords of Python's method.
    #[allow(clippy::too_many_arguments)]
    fn run(
        &mut self,
        py: Python<'_>,
        count: u64,
        vcpu: Option<usize>,
        leave_breakpoint: bool,
        mask_interrupts: bool,
        timeout: Option<f64>,
        patient_until: Option<u64>,
    ) -> PyResult<Py<PyAny>> {
        if let Some(vcpu) = vcpu {
            self.cpu(vcpu)?;
        }
        let timeout = timeout.map(|seconds| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| error(format!("{seconds} is no time to run for")))
        });
        let deadline = timeout
            .transpose()?
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let run = Run {
            count,
            only: vcpu,
            leave_breakpoint,
            mask_interrupts,
            deadline,
            patient_until,
        };
        let (machine, interrupt) = (&mut self.machine, &*self.interrupt);
        let stopped = py.detach(|| machine.run(run, interrupt));

        let id = self.machine.current();
        let stop = PyDict::new(py);
        let kind = match stopped {
            Stopped::Count => "count",
            Stopped::Idle => "idle",
            Stopped::Waiting => "waiting",
            Stopped::Shutdown => "shutdown",
            Stopped::Breakpoint => "breakpoint",
            Stopped::Attention => "attention",
            Stopped::Interrupted => "interrupted",
            Stopped::Watch(watch) => {
                stop.set_item("address", watch.address)?;
                stop.set_item("watch", kind_name(watch.kind))?;
                "watch"
            }
            Stopped::Catch(number) => {
                stop.set_item("catch", number)?;
                "catch"
            }
            Stopped::Request(Request::Exit(value)) => {
                stop.set_item("status", value)?;
                "exit"
            }
            Stopped::Request(Request::PowerOff) => "poweroff",
            Stopped::Request(Request::Reset) => "reset",
        };
        stop.set_item("kind", kind)?;
        stop.set_item("vcpu", id)?;
        stop.set_item("vmcs", world_key(self.machine.cpus[id].world()))?;
        Ok(stop.into_any().unbind())
    }

    fn interrupter(&self) -> Interrupter {
        Interrupter(self.interrupt.clone())
    }

    /// A machine as it was made: RAM is empty too.
    fn reset(&mut self) {
        let (memory, cpus) = (self.machine.bus.ram.size(), self.machine.cpus.len());
        let debug = self.machine.bus.debug.clone();
        let profile = self.profile.get().profile.clone();
        self.machine = PyMachine::build(memory, cpus, &self.features, profile);
        self.machine.bus.debug = debug;
    }

    #[pyo3(signature = (vcpu=None))]
    fn instructions(&self, vcpu: Option<usize>) -> PyResult<u64> {
        match vcpu {
            Some(vcpu) => Ok(self.cpu(vcpu)?.icount),
            None => Ok(self.machine.instructions()),
        }
    }

    fn clock(&self) -> u64 {
        self.machine.bus.clock
    }

    // Physical memory.

    fn ram_ranges(&self) -> Vec<(u64, u64)> {
        self.machine.bus.ram.ranges()
    }

    fn acpi_root<'py>(&self, py: Python<'py>) -> (u64, Bound<'py, PyBytes>) {
        let (address, bytes) = firmware::acpi_root(self.machine.cpus.len());
        (address, PyBytes::new(py, &bytes))
    }

    fn read_physical<'py>(
        &self,
        py: Python<'py>,
        address: u64,
        length: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        match self.machine.read_physical(address, length) {
            Some(bytes) => Ok(PyBytes::new(py, bytes)),
            None => Err(self.no_ram(address, length)),
        }
    }

    fn write_physical(&mut self, address: u64, data: &[u8]) -> PyResult<()> {
        if self.machine.write_physical(address, data) {
            Ok(())
        } else {
            Err(self.no_ram(address, data.len()))
        }
    }

    // Worlds.

    fn worlds(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut worlds = Vec::new();
        for vcpu in 0..self.machine.cpus.len() {
            let current = self.machine.cpus[vcpu].world();
            worlds.extend(
                self.machine
                    .worlds(vcpu)
                    .into_iter()
                    .map(|world| WorldInfo::new(vcpu, world, world == current)),
            );
        }
        object(py, &worlds)
    }

    fn current_world(&self, vcpu: usize) -> PyResult<Option<u64>> {
        Ok(world_key(self.cpu(vcpu)?.world()))
    }

    fn register_names(&self) -> Vec<(&'static str, u32)> {
        let profile = &self.machine.cpus[0].profile;
        TABLE
            .iter()
            .filter(|register| register.feature.is_none_or(|feature| profile.has(feature)))
            .map(|register| (register.name.as_str(), register.bits))
            .chain([("cr8", 64)])
            .collect()
    }

    #[pyo3(signature = (name, vcpu=0, vmcs=None))]
    fn read_register(&self, name: &str, vcpu: usize, vmcs: Option<u64>) -> PyResult<u128> {
        if name == "cr8" {
            self.cpu(vcpu)?;
            return Ok((self.machine.bus.tpr(vcpu) >> 4) as u128);
        }
        let register = register_named(name)?;
        self.with_view(vcpu, vmcs, |view| register.get(view))
    }

    #[pyo3(signature = (name, value, vcpu=0, vmcs=None))]
    fn write_register(&mut self, name: &str, value: u128, vcpu: usize, vmcs: Option<u64>) -> PyResult<()> {
        self.cpu(vcpu)?;
        if name == "cr8" {
            self.machine.bus.set_tpr(vcpu, (value as u8) << 4);
            return Ok(());
        }
        let register = register_named(name)?;
        if register.bits < 128 && value >> register.bits > 0 {
            return Err(error(format!(
                "{name} has {} bits: {value:#x} does not fit",
                register.bits
            )));
        }
        if self.machine.set_register(vcpu, world(vmcs), register, value) {
            return Ok(());
        }
        self.with_view(vcpu, vmcs, |_| ())?;
        Err(error(format!(
            "{name} of a world that is not running is nowhere held, so it cannot be set"
        )))
    }

    #[pyo3(signature = (vcpu=0, vmcs=None))]
    fn code_bits(&self, vcpu: usize, vmcs: Option<u64>) -> PyResult<u32> {
        self.with_view(vcpu, vmcs, |view| view.code_size.bitness())
    }

    #[pyo3(signature = (address, vcpu=0, vmcs=None))]
    fn translate(&self, address: u64, vcpu: usize, vmcs: Option<u64>) -> PyResult<Option<u64>> {
        self.with_view(vcpu, vmcs, |view| self.machine.translate(view, address))
    }

    #[pyo3(signature = (address, length, vcpu=0, vmcs=None))]
    fn read_memory<'py>(
        &self,
        py: Python<'py>,
        address: u64,
        length: usize,
        vcpu: usize,
        vmcs: Option<u64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        match self.with_view(vcpu, vmcs, |view| self.machine.read_linear(view, address, length))? {
            Ok(bytes) => Ok(PyBytes::new(py, &bytes)),
            Err(at) => Err(error(format!("the linear address {at:#x} is not mapped to RAM"))),
        }
    }

    #[pyo3(signature = (address, data, vcpu=0, vmcs=None))]
    fn write_memory(&mut self, address: u64, data: &[u8], vcpu: usize, vmcs: Option<u64>) -> PyResult<()> {
        // All places are found before anything is written.
        let mut parts = Vec::new();
        let mut done = 0;
        while done < data.len() {
            let at = address.wrapping_add(done as u64);
            let length = (data.len() - done).min(0x1000 - (at & 0xfff) as usize);
            let physical = self
                .with_view(vcpu, vmcs, |view| {
                    self.machine.translate(view, at & view.linear_mask)
                })?
                .filter(|physical| self.machine.read_physical(*physical, length).is_some())
                .ok_or_else(|| error(format!("the linear address {at:#x} is not mapped to RAM")))?;
            parts.push((physical, done..done + length));
            done += length;
        }
        for (physical, range) in parts {
            self.machine.write_physical(physical, &data[range]);
        }
        Ok(())
    }

    // Breakpoints.

    #[pyo3(signature = (address, vcpu=None, vmcs=None, host=false))]
    fn add_breakpoint(&mut self, address: u64, vcpu: Option<usize>, vmcs: Option<u64>, host: bool) {
        self.machine.bus.debug.breakpoints.insert(Breakpoint {
            address,
            scope: scope(vcpu, vmcs, host),
        });
    }

    #[pyo3(signature = (address, vcpu=None, vmcs=None, host=false))]
    fn remove_breakpoint(
        &mut self,
        address: u64,
        vcpu: Option<usize>,
        vmcs: Option<u64>,
        host: bool,
    ) -> bool {
        self.machine.bus.debug.breakpoints.remove(Breakpoint {
            address,
            scope: scope(vcpu, vmcs, host),
        })
    }

    #[pyo3(signature = (address, length, kind, vcpu=None, vmcs=None, host=false))]
    fn add_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: &str,
        vcpu: Option<usize>,
        vmcs: Option<u64>,
        host: bool,
    ) -> PyResult<()> {
        let watch = Watch {
            address,
            bytes: length,
            kind: watch_kind(kind)?,
            scope: scope(vcpu, vmcs, host),
        };
        self.machine.add_watch(watch);
        Ok(())
    }

    #[pyo3(signature = (address, length, kind, vcpu=None, vmcs=None, host=false))]
    fn remove_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: &str,
        vcpu: Option<usize>,
        vmcs: Option<u64>,
        host: bool,
    ) -> PyResult<bool> {
        let watch = Watch {
            address,
            bytes: length,
            kind: watch_kind(kind)?,
            scope: scope(vcpu, vmcs, host),
        };
        Ok(self.machine.bus.debug.watches.remove(watch))
    }

    fn clear_breakpoints(&mut self) {
        self.machine.bus.debug.breakpoints.clear();
        self.machine.bus.debug.watches.clear();
    }

    // Catchpoints.

    #[pyo3(signature = (kind, numbers=None))]
    fn add_catch(&mut self, kind: &str, numbers: Option<Vec<u32>>) -> PyResult<u32> {
        let filter = |numbers: Option<Vec<u32>>| numbers.map_or(Filter::Any, Filter::Numbers);
        let catch = match (kind, numbers) {
            ("entry", None) => Catch::Entry,
            ("exit", numbers) => Catch::Exit(filter(numbers)),
            ("fail", numbers) => Catch::Fail(filter(numbers)),
            ("field", Some(numbers)) if numbers.len() == 1 => Catch::Field(numbers[0]),
            ("field", _) => return Err(error("a field catchpoint needs the encoding of one field")),
            ("entry", _) => return Err(error("a VM entry has no reason to filter by")),
            (other, _) => {
                return Err(error(format!(
                    "no kind of catchpoint {other:?}; there are entry, exit, fail, field"
                )))
            }
        };
        Ok(self.machine.bus.debug.catches.add(catch))
    }

    fn delete_catch(&mut self, number: u32) -> bool {
        self.machine.bus.debug.catches.delete(number)
    }

    fn catches<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let list = self.machine.bus.debug.catches.list().iter();
        list.map(|(number, catch)| {
            let row = PyDict::new(py);
            let (kind, numbers) = match catch {
                Catch::Entry => ("entry", None),
                Catch::Exit(filter) => ("exit", filter.numbers()),
                Catch::Fail(filter) => ("fail", filter.numbers()),
                Catch::Field(encoding) => ("field", Some(vec![*encoding])),
            };
            row.set_item("number", number)?;
            row.set_item("kind", kind)?;
            row.set_item("numbers", numbers)?;
            Ok(row)
        })
        .collect()
    }

    // The VMCS.

    #[pyo3(signature = (vcpu=0, vmcs=None))]
    fn vmcs(&self, py: Python<'_>, vcpu: usize, vmcs: Option<u64>) -> PyResult<Py<PyAny>> {
        let held = self.held_vmcs(vcpu, vmcs)?;
        let seen = self.seen.get(&(vcpu, held.address));
        let fields = self.profile.get().profile.capabilities().fields();
        let views: Vec<_> = fields
            .iter()
            .map(|field| FieldView::of(field, held, seen.map(|seen| seen[field.index()])))
            .collect();
        object(py, &views)
    }

    #[pyo3(signature = (vcpu=0, vmcs=None))]
    fn vmcs_seen(&mut self, vcpu: usize, vmcs: Option<u64>) -> PyResult<()> {
        let held = self.held_vmcs(vcpu, vmcs)?;
        let (address, values) = (held.address, Field::all().map(|field| held.get(field)).collect());
        self.seen.insert((vcpu, address), values);
        Ok(())
    }

    #[pyo3(signature = (field, vcpu=0, vmcs=None))]
    fn read_vmcs(&self, field: NameOrNumber, vcpu: usize, vmcs: Option<u64>) -> PyResult<u64> {
        let field = find_field(&field)?;
        Ok(self.held_vmcs(vcpu, vmcs)?.get(field))
    }

    #[pyo3(signature = (field, value, vcpu=0, vmcs=None))]
    fn write_vmcs(
        &mut self,
        field: NameOrNumber,
        value: u64,
        vcpu: usize,
        vmcs: Option<u64>,
    ) -> PyResult<()> {
        let field = find_field(&field)?;
        if value & !field.mask() != 0 {
            return Err(error(format!(
                "{} holds values up to {:#x}, not {value:#x}",
                field.name(),
                field.mask()
            )));
        }
        let address = self.held_vmcs(vcpu, vmcs)?.address;
        let active = &mut self.machine.cpus[vcpu].vmx.active;
        if let Some(held) = active.iter_mut().find(|held| held.address == address) {
            held.set(field, value);
        }
        Ok(())
    }

    // Events.

    #[pyo3(signature = (since=0))]
    fn events(&self, py: Python<'_>, since: u64) -> PyResult<Py<PyAny>> {
        let events: Vec<_> = self
            .machine
            .bus
            .debug
            .events
            .since(since)
            .map(TraceEvent::of)
            .collect();
        object(py, &events)
    }

    #[pyo3(signature = (count, kinds=Vec::new()))]
    fn last_events(&self, py: Python<'_>, count: usize, kinds: Vec<String>) -> PyResult<Py<PyAny>> {
        let wanted = |kind: &str| kinds.is_empty() || kinds.iter().any(|it| it == kind);
        let events = self
            .machine
            .bus
            .debug
            .events
            .last(count, |event| wanted(event.kind.name()));
        object(py, &events.into_iter().map(TraceEvent::of).collect::<Vec<_>>())
    }

    fn event_count(&self) -> u64 {
        self.machine.bus.debug.events.count()
    }

    fn start_trace(&mut self) {
        self.machine.bus.debug.events.start_trace();
    }

    fn drain_trace(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let events = self.machine.bus.debug.events.drain();
        object(py, &events.into_iter().map(TraceEvent::of).collect::<Vec<_>>())
    }

    fn stop_trace(&mut self) {
        self.machine.bus.debug.events.tracing = false;
    }

    // Devices.

    fn take_serial<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.machine.bus.take_serial())
    }

    fn take_debugcon<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.machine.bus.take_debugcon())
    }

    fn serial_input(&mut self, data: &[u8]) -> usize {
        self.machine.bus.serial_input(data)
    }

    fn serial_interrupts_on_input(&self) -> bool {
        self.machine.bus.serial_interrupts_on_input()
    }
}

impl PyMachine {
    fn no_ram(&self, address: u64, length: usize) -> PyErr {
        let ranges: Vec<_> = self
            .machine
            .bus
            .ram
            .ranges()
            .iter()
            .map(|(start, length)| format!("{start:#x} to {:#x}", start + length - 1))
            .collect();
        let last = address.saturating_add((length as u64).saturating_sub(1));
        error(format!(
            "physical {address:#x} to {last:#x} is not all RAM, which is {}",
            ranges.join(" and ")
        ))
    }
}
