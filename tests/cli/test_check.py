"""`gdbvmx check` and `gdbvmx caps`."""

from __future__ import annotations

import json
from pathlib import Path

KVM_DUMP = Path(__file__).parent.parent / "unit" / "data" / "kvm-dump.txt"


def test_check_names_the_rules_that_a_dump_breaks(gdbvmx, tmp_path):
    # The dump's activity state is HLT, which SDM 26.3.1.5 allows; 7 is none.
    log = tmp_path / "log"
    log.write_text(KVM_DUMP.read_text().replace("ActivityState = 00000001", "ActivityState = 00000007"))
    result = gdbvmx("check", log)
    assert result.returncode == 1, result.stderr
    assert "guest_activity_state = 0x7" in result.stdout


def test_check_for_scripts(gdbvmx, tmp_path):
    file = tmp_path / "vmcs.json"
    file.write_text('{"guest_activity_state": 7}')
    document = json.loads(gdbvmx("check", file, "--json").stdout)
    # One field decides one rule; the rest of the VMCS is unknown, not 0.
    assert all(rule["fields"] == [["guest_activity_state", 7]] for rule in document["broken"])
    assert document["undecided"]


def test_a_rule_is_decided_only_where_it_is_known_to_apply(gdbvmx, tmp_path):
    # Of a log that was cut off nobody knows whether the guest would start in 64-bit mode.
    log = tmp_path / "log"
    log.write_text(KVM_DUMP.read_text().partition("*** Host State ***")[0])
    document = json.loads(gdbvmx("check", log, "--json").stdout)
    assert "guest.rip.upper_half" in document["undecided"]
    assert document["broken"] == []


def test_check_of_what_is_no_vmcs(gdbvmx, tmp_path):
    file = tmp_path / "vmcs.json"
    file.write_text('{"guest_rpi": 1}')
    result = gdbvmx("check", file)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"gdbvmx: {file}: 'guest_rpi' is no field of the VMCS\n"


def test_caps(gdbvmx):
    names = gdbvmx("caps", "--list").stdout.split()
    assert len(names) >= 2
    for name in names:
        result = gdbvmx("caps", name)
        assert result.returncode == 0
        assert "IA32_VMX_BASIC (0x480)" in result.stdout


def test_caps_against(gdbvmx, tmp_path):
    name = gdbvmx("caps", "--list").stdout.split()[0]
    assert "the same capabilities" in gdbvmx("caps", name, "--against", name).stdout
    file = tmp_path / "plain.json"
    file.write_text(json.dumps({"base": name, "msrs": {"0x48c": "0x0"}}))  # IA32_VMX_EPT_VPID_CAP
    result = gdbvmx("caps", file, "--against", name)
    assert result.returncode == 0
    assert "IA32_VMX_EPT_VPID_CAP" in result.stdout


def test_bad_profiles(gdbvmx, tmp_path):
    file = tmp_path / "bad.json"
    for text, complaint in (
        ("[", "no JSON"),
        ("[]", "the profile is []; expected an object"),
        ('{"baze": 1}', "'baze' is no part of a profile"),
        ('{"msrs": {"0x480": "many"}}', "MSR 0x480 is 'many'"),
        ('{"cpuid": {"0x1:0": {"eex": "0x1"}}}', "'eex' is no register of CPUID leaf 0x1:0"),
    ):
        file.write_text(text)
        result = gdbvmx("caps", file)
        assert (result.returncode, result.stdout) == (2, "")
        assert complaint in result.stderr
        assert result.stderr.startswith(f"gdbvmx: {file}: ")
