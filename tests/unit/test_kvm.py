"""What is said of a host whose KVM cannot give a guest VMX."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gdbvmx.reference import kvm

INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx sse2\n"
HIDDEN = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu sse2 hypervisor\n"
AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n"


@pytest.fixture
def host(tmp_path: Path) -> kvm.Host:
    """An Intel host with everything in place: a file stands for the device."""
    host = kvm.Host(tmp_path / "kvm", tmp_path / "cpuinfo", tmp_path / "modules")
    host.device.touch()
    host.cpuinfo.write_text(INTEL)
    parameters = host.modules / "kvm_intel" / "parameters"
    parameters.mkdir(parents=True)
    (parameters / "nested").write_text("Y\n")
    return host


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "supported_cpuid", lambda _: {0: 0x6C65746E, 1: 1 << 5 | 1})


@pytest.mark.usefixtures("offers")
def test_nothing_is_in_the_way(host: kvm.Host) -> None:
    assert host.obstacle() is None


@pytest.mark.usefixtures("offers")
def test_amd(host: kvm.Host) -> None:
    host.cpuinfo.write_text(AMD)
    assert "AMD's, whose KVM gives guests SVM" in str(host.obstacle())


@pytest.mark.usefixtures("offers")
@pytest.mark.parametrize(
    ("cpuinfo", "remedy"), [(INTEL, "sudo modprobe kvm_intel"), (HIDDEN, "turn VT-x on in the firmware")]
)
def test_no_device(host: kvm.Host, cpuinfo: str, remedy: str) -> None:
    host.device.unlink()
    host.cpuinfo.write_text(cpuinfo)
    said = str(host.obstacle())
    assert f"there is no {host.device}" in said
    assert remedy in said


@pytest.mark.usefixtures("offers")
def test_no_right_to_open_it(host: kvm.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert "sudo usermod -aG kvm $USER" in str(host.obstacle())


@pytest.mark.usefixtures("offers")
@pytest.mark.parametrize("value", ["N", "0"])
def test_nested_is_off(host: kvm.Host, value: str) -> None:
    (host.modules / "kvm_intel" / "parameters" / "nested").write_text(f"{value}\n")
    said = str(host.obstacle())
    assert f"nested is {value}" in said
    assert "modprobe kvm_intel nested=1" in said


def test_kvm_offers_no_vmx(host: kvm.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.modules / "kvm_intel" / "parameters" / "nested").unlink()
    monkeypatch.setattr(kvm, "supported_cpuid", lambda _: {1: 0xFFFFFFDF})
    said = str(host.obstacle())
    assert "CPUID.1:ECX bit 5 is 0" in said
    assert "loaded is kvm_intel" in said


def test_a_device_that_is_no_kvm(host: kvm.Host) -> None:
    assert "KVM does not tell what it offers" in str(host.obstacle())


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm that can be opened")
def test_the_request_is_understood_by_a_real_kvm() -> None:
    descriptor = os.open("/dev/kvm", os.O_RDWR)
    try:
        leaves = kvm.supported_cpuid(descriptor)
    finally:
        os.close(descriptor)
    assert leaves[0] in (int.from_bytes(b"ntel", "little"), int.from_bytes(b"cAMD", "little"))
    assert {1, 0x80000000} <= leaves.keys()
