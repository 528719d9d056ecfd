"""Reads the fields of a VMCS from a file: JSON, or what KVM and Xen log when an entry fails."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path


def _fred(area: str) -> tuple[str, ...]:
    """KVM tells the stack pointers two a line; that of level 0 is no field of the VMCS."""
    return (
        f"FRED {area}: config={{{area}_ia32_fred_config}}, stack_levels={{{area}_ia32_fred_stklvls}}",
        f"RSP1={{{area}_ia32_fred_rsp1}}",
        f"RSP2={{{area}_ia32_fred_rsp2}}, RSP3={{{area}_ia32_fred_rsp3}}",
    )


def _shadow_stack(area: str) -> tuple[str, ...]:
    return (
        f"S_CET = {{{area}_ia32_s_cet}}",
        f"SSP TABLE = {{{area}_ia32_interrupt_ssp_table_addr}}",
        f"SSP = {{{area}_ssp}}",
    )


# KVM's dump was modelled on Xen's: sections with the same headings, lines with nearly the same words. A row
# is a piece of a line, with the names of fields where their values stand; a piece that was read is taken out
# of the line, so that `RSP =` is not looked for in `Sysenter RSP=`.
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Guest State": (
        "CR0: actual={guest_cr0}, shadow={cr0_read_shadow}, gh_mask={cr0_guest_host_mask}",
        "CR4: actual={guest_cr4}, shadow={cr4_read_shadow}, gh_mask={cr4_guest_host_mask}",
        "CR3 = {guest_cr3}",
        *(f"PDPT[RE]{number} = {{guest_pdpte{number}}}" for number in range(4)),
        "Sysenter RSP={guest_ia32_sysenter_esp} CS:RIP={guest_ia32_sysenter_cs}:{guest_ia32_sysenter_eip}",
        "RSP = {guest_rsp}",
        "RIP = {guest_rip}",
        "RFLAGS={guest_rflags}",
        "DR7 = {guest_dr7}",
        *(
            f"\\b{name.upper()}:(?: sel=)?{{guest_{name}_selector}}"
            f",?(?: attr=)?{{guest_{name}_access_rights}}"
            f",?(?: limit=)?{{guest_{name}_limit}},?(?: base=)?{{guest_{name}_base}}"
            for name in ("cs", "ds", "ss", "es", "fs", "gs", "ldtr", "tr")
        ),
        *(
            f"{name.upper()}:(?: limit=)?{{guest_{name}_limit}},?(?: base=)?{{guest_{name}_base}}"
            for name in ("gdtr", "idtr")
        ),
        "EFER(?:\\(VMCS\\))? = {guest_ia32_efer}(?! \\((?:effective|autoload)\\))",
        "PAT = {guest_ia32_pat}",
        "PreemptionTimer = {guest_preemption_timer_value}",
        "SM Base = {guest_smbase}",
        "DebugCtl = {guest_ia32_debugctl}",
        "DebugExceptions = {guest_pending_debug_exceptions}",
        "PerfGlobCtl = {guest_ia32_perf_global_ctrl}",
        "BndCfgS = {guest_ia32_bndcfgs}",
        *_fred("guest"),
        *_shadow_stack("guest"),
        "Interruptibility = {guest_interruptibility_state}",
        "ActivityState = {guest_activity_state}",
        "InterruptStatus = {guest_interrupt_status}",
    ),
    "Host State": (
        "CS={host_cs_selector} SS={host_ss_selector} DS={host_ds_selector} ES={host_es_selector}"
        " FS={host_fs_selector} GS={host_gs_selector} TR={host_tr_selector}",
        "FSBase={host_fs_base}",
        "GSBase={host_gs_base}",
        "TRBase={host_tr_base}",
        "GDTBase={host_gdtr_base}",
        "IDTBase={host_idtr_base}",
        "CR0={host_cr0} CR3={host_cr3} CR4={host_cr4}",
        "Sysenter RSP={host_ia32_sysenter_esp} CS:RIP={host_ia32_sysenter_cs}:{host_ia32_sysenter_eip}",
        "RIP = {host_rip}",
        "RSP = {host_rsp}",
        "EFER = {host_ia32_efer}",
        "PAT = {host_ia32_pat}",
        "PerfGlobCtl = {host_ia32_perf_global_ctrl}",
        *_fred("host"),
        *_shadow_stack("host"),
    ),
    "Control State": (
        "PinBased={pin_based_controls}",
        "CPUBased={primary_processor_based_controls}",
        "SecondaryExec={secondary_processor_based_controls}",
        "TertiaryExec={tertiary_processor_based_controls}",
        "EntryControls={entry_controls}",
        "SecondaryExitControls={secondary_exit_controls}",
        "ExitControls={exit_controls}",
        "ExceptionBitmap={exception_bitmap}",
        "PFECmask={page_fault_error_code_mask}",
        "PFECmatch={page_fault_error_code_match}",
        "VMEntry: intr_info={entry_interruption_info} errcode={entry_exception_error_code}"
        " ilen={entry_instruction_length}(?: event_data={injected_event_data})?",
        "VMExit: intr_info={exit_interruption_info} errcode={exit_interruption_error_code}"
        " ilen={exit_instruction_length}",
        "reason={exit_reason} qualification={exit_qualification}",
        "IDTVectoring: info={idt_vectoring_info} errcode={idt_vectoring_error_code}"
        "(?: event_data={original_event_data})?",
        "TSC Offset = {tsc_offset}",
        "TSC Multiplier = {tsc_multiplier}",
        "TPR Threshold = {tpr_threshold}",
        "virt-APIC addr = {virtual_apic_address}",
        "APIC-access addr = {apic_access_address}",
        "PostedIntrVec = {posted_interrupt_notification_vector}",
        "EPT pointer = {ept_pointer}",
        "EPTP index = {eptp_index}",
        "PLE Gap={ple_gap} Window={ple_window}",
        "Virtual processor ID = {virtual_processor_identifier}",
        "VMfunc controls = {vm_function_controls}",
        *(f"target{number} = {{cr3_target_value{number}}}" for number in range(4)),
    ),
}
_HEADING = re.compile(r"\*\*\* (.+?) \*\*\*")


class VmcsFileError(Exception):
    """The file holds no VMCS that can be read; the text is one line."""


def read(path: Path, fields: Mapping[str, object]) -> dict[str, int]:
    """The values that the file `path` gives, by field. `fields` are the known ones, by name.

    JSON is an object of names and values, numbers or "0x…" strings. Raises VmcsFileError.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise VmcsFileError(f"{path}: {error.strerror}") from error
    try:
        if text.lstrip().startswith("{"):
            return _from_json(text, fields)
        return _from_log(text)
    except VmcsFileError as error:
        raise VmcsFileError(f"{path}: {error}") from error


def _from_json(text: str, fields: Mapping[str, object]) -> dict[str, int]:
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise VmcsFileError(f"no JSON: {error}") from error
    values = {}
    for name, value in document.items():
        if name not in fields:
            raise VmcsFileError(f"'{name}' is no field of the VMCS")
        values[name] = _number(name, value)
    if not values:
        raise VmcsFileError("no fields")
    return values


def _number(name: str, value: object) -> int:
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        number = None
    if type(number) is not int or not 0 <= number < 1 << 64:
        raise VmcsFileError(f'{name} is {value!r}; expected a number of at most 64 bits, or a "0x…" string')
    return number


def _from_log(text: str) -> dict[str, int]:
    """The first dump of the log: a second one would be another entry's."""
    values: dict[str, int] = {}
    rows: list[re.Pattern[str]] = []
    for line in text.splitlines():
        heading = _HEADING.search(line)
        if heading:
            if heading[1] == "Guest State" and values:
                break
            rows = _PATTERNS.get(heading[1], [])
        for pattern in rows:
            match = pattern.search(line)
            if match:
                found = match.groupdict().items()
                values.update((name, int(digits, 16)) for name, digits in found if digits is not None)
                line = line[: match.start()] + line[match.end() :]
    if not values:
        raise VmcsFileError(
            "neither JSON nor a VMCS dump of KVM or Xen (no *** Guest State *** in it);"
            " KVM prints one with kvm_intel.dump_invalid_vmcs=1"
        )
    return values


def _compiled(rows: tuple[str, ...]) -> Iterator[re.Pattern[str]]:
    for row in rows:
        flexible = row.replace(" = ", "=").replace("=", r"\s*=\s*").replace(" ", r"\s+")
        yield re.compile(re.sub(r"\{(\w+)\}", r"\\s*(?:0x)?(?P<\1>[0-9a-fA-F]+)", flexible))


_PATTERNS = {section: list(_compiled(rows)) for section, rows in _SECTIONS.items()}
