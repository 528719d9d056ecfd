"""VMCS fields from JSON and from the dumps in the kernel logs of KVM and Xen."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdbvmx import vmcsfile
from gdbvmx.vmcsfile import VmcsFileError

DATA = Path(__file__).parent / "data"
FIELDS = dict.fromkeys(("guest_rip", "guest_cr0"))


def test_kvm_dump():
    values = vmcsfile.read(DATA / "kvm-dump.txt", FIELDS)
    expected = {
        "guest_cr0": 0x80050033,
        "cr4_guest_host_mask": 0xFFFFFFFFFFFEF871,
        "guest_rsp": 0xFFFFC90000003F50,  # and not the one of Sysenter
        "guest_ia32_sysenter_esp": 0xFFFFFE0000002200,
        "guest_ldtr_access_rights": 0x10000,
        "guest_tr_limit": 0x206F,
        "guest_gdtr_base": 0xFFFFFE0000001000,
        "guest_activity_state": 1,
        "host_rip": 0xFFFFFFFFC0A21F60,
        "host_tr_selector": 0x40,
        "secondary_processor_based_controls": 0x021237EB,
        "entry_controls": 0xD1FF,
        "exit_reason": 0x80000021,
        "ept_pointer": 0x105B5E05E,
    }
    assert {name: values.get(name) for name in expected} == expected
    assert "guest_es_selector" not in values


def test_xen_dump():
    values = vmcsfile.read(DATA / "xen-dump.txt", FIELDS)
    expected = {
        "guest_rip": 0x10A000,
        "guest_cs_access_rights": 0xC09B,
        "guest_gdtr_limit": 0xFFFF,
        "guest_tr_base": 0x2000,
        "guest_ia32_efer": 0x500,
        "host_rsp": 0xFFFF83023F0FFF70,
        "ple_window": 0x1000,
    }
    assert {name: values.get(name) for name in expected} == expected


def test_what_newer_and_older_kernels_add(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        """\
[   12.345678] kvm_intel: *** Guest State ***
[   12.345679] kvm_intel: CR3 = 0x0000000001234000
[   12.345680] kvm_intel: S_CET = 0x0000000000000001, SSP = 0x0000700000001ff8, SSP TABLE = 0x0000000000456000
[   12.345681] kvm_intel: *** Host State ***
[   12.345682] kvm_intel: RIP = 0xffffffffc0a21f60  RSP = 0xffffc900012b7d18
[   12.345683] kvm_intel: S_CET = 0x0000000000000002, SSP = 0x0000000000000ff0, SSP TABLE = 0x0000000000000000
[   12.345684] kvm_intel: *** Control State ***
[   12.345685] kvm_intel: PinBased=0x0000007f EntryControls=0000d1ff ExitControls=002befff
[   12.345686] kvm_intel: CR3 target0=0000000000111000 target1=0000000000222000
"""
    )
    assert vmcsfile.read(log, FIELDS) == {
        "guest_cr3": 0x1234000,
        "guest_ia32_s_cet": 1,
        "guest_ssp": 0x7000_0000_1FF8,
        "guest_ia32_interrupt_ssp_table_addr": 0x456000,
        "host_rip": 0xFFFFFFFFC0A21F60,
        "host_rsp": 0xFFFFC900012B7D18,
        "host_ia32_s_cet": 2,
        "host_ssp": 0xFF0,
        "host_ia32_interrupt_ssp_table_addr": 0,
        "pin_based_controls": 0x7F,
        "entry_controls": 0xD1FF,
        "exit_controls": 0x2BEFFF,
        "cr3_target_value0": 0x111000,
        "cr3_target_value1": 0x222000,
    }


def test_event_data_and_fred(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        """\
kvm_intel: *** Guest State ***
kvm_intel: RSP = 0xffffc90000003f50  RIP = 0xffffffff81a00000
kvm_intel: FRED guest: config=0xffffffff81a00000, stack_levels=0x0000000000000005
RSP0=0x0000000000001000, RSP1=0x0000000000002000
RSP2=0x0000000000003000, RSP3=0x0000000000004000
kvm_intel: *** Host State ***
kvm_intel: FRED host: config=0xffffffff82000000, stack_levels=0x0000000000000007
RSP0=0x0000000000005000, RSP1=0x0000000000006000
RSP2=0x0000000000007000, RSP3=0x0000000000008000
kvm_intel: *** Control State ***
kvm_intel: PinBased=0x000000ff EntryControls=0x0080d1ff
kvm_intel: ExitControls=0x802befff SecondaryExitControls=0x0000000000000003
kvm_intel: VMEntry: intr_info=80000301 errcode=00000000 ilen=00000002 event_data=0000000000004000
kvm_intel: IDTVectoring: info=80000b0e errcode=00000002 event_data=00007f0000001000
"""
    )
    assert vmcsfile.read(log, FIELDS) == {
        "guest_rsp": 0xFFFF_C900_0000_3F50,
        "guest_rip": 0xFFFF_FFFF_81A0_0000,
        "guest_ia32_fred_config": 0xFFFF_FFFF_81A0_0000,
        "guest_ia32_fred_stklvls": 5,
        "guest_ia32_fred_rsp1": 0x2000,
        "guest_ia32_fred_rsp2": 0x3000,
        "guest_ia32_fred_rsp3": 0x4000,
        "host_ia32_fred_config": 0xFFFF_FFFF_8200_0000,
        "host_ia32_fred_stklvls": 7,
        "host_ia32_fred_rsp1": 0x6000,
        "host_ia32_fred_rsp2": 0x7000,
        "host_ia32_fred_rsp3": 0x8000,
        "pin_based_controls": 0xFF,
        "entry_controls": 0x80D1FF,
        "exit_controls": 0x802BEFFF,
        "secondary_exit_controls": 3,
        "entry_interruption_info": 0x8000_0301,
        "entry_exception_error_code": 0,
        "entry_instruction_length": 2,
        "injected_event_data": 0x4000,
        "idt_vectoring_info": 0x8000_0B0E,
        "idt_vectoring_error_code": 2,
        "original_event_data": 0x7F00_0000_1000,
    }


def test_the_second_dump_of_a_log_is_another_entrys(tmp_path):
    log = tmp_path / "log"
    text = (DATA / "kvm-dump.txt").read_text()
    log.write_text(text + text.replace("CR3 = 0x00000000bee20000", "CR3 = 0x0000000000001000"))
    assert vmcsfile.read(log, FIELDS)["guest_cr3"] == 0xBEE20000


def test_json(tmp_path):
    file = tmp_path / "vmcs.json"
    file.write_text('{"guest_rip": "0x1000", "guest_cr0": 49}')
    assert vmcsfile.read(file, FIELDS) == {"guest_rip": 0x1000, "guest_cr0": 0x31}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "neither JSON nor a VMCS dump"),
        ("[1] all is well\n", "neither JSON nor a VMCS dump"),
        ("{", "no JSON"),
        ("{}", "no fields"),
        ('{"guest_rip": -1}', "guest_rip is -1; expected a number of at most 64 bits"),
        ('{"guest_rip": true}', "guest_rip is True"),
        ('{"guest_rip": "0xz"}', "guest_rip is '0xz'"),
        ('{"guest_rip": [1]}', "guest_rip is [1]"),
        ('{"guest_rpi": 1}', "'guest_rpi' is no field of the VMCS"),
    ],
)
def test_what_is_no_vmcs(tmp_path, text, complaint):
    file = tmp_path / "vmcs"
    file.write_text(text)
    with pytest.raises(VmcsFileError) as caught:
        vmcsfile.read(file, FIELDS)
    assert str(caught.value).startswith(f"{file}: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
