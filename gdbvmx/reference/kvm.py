"""Looks whether KVM on this host can give a guest VMX, and says what is in the way and what to do."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

# <linux/kvm.h>: _IOWR(KVMIO, 0x05, struct kvm_cpuid2), a count and entries of function, index, flags, four
# registers and padding.
_KVM_GET_SUPPORTED_CPUID = 0xC008AE05
_ENTRIES = 256
_HEADER = struct.Struct("=II")
_ENTRY = struct.Struct("=IIIIIII12x")
_LEAF_FEATURES = 1
_ECX_VMX = 1 << 5  # SDM vol. 2, CPUID, table of leaf 01H's ECX


@dataclass(frozen=True)
class Host:
    """Where to look."""

    device: Path = Path("/dev/kvm")
    cpuinfo: Path = Path("/proc/cpuinfo")
    modules: Path = Path("/sys/module")

    def obstacle(self) -> str | None:
        """What keeps KVM from giving a guest VMX, with the remedy, in one line; None if nothing does."""
        vendor, flags = self._processor()
        if vendor == "AuthenticAMD":
            return "this host's processor is AMD's, whose KVM gives guests SVM, never VMX"
        if not self.device.exists():
            if "vmx" in flags:
                return f"there is no {self.device}, though the processor has VMX: sudo modprobe kvm_intel"
            return (
                f"there is no {self.device}, and the processor shows no VMX: turn VT-x on in the firmware's"
                " set-up or, where this host is itself a virtual machine, nested virtualization in its host"
            )
        try:
            descriptor = os.open(self.device, os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            return (
                f"{self.device} is there, but you may not open it:"
                " sudo usermod -aG kvm $USER, and log in again"
            )
        except OSError as error:
            return f"{self.device} cannot be opened: {error.strerror}"
        try:
            return self._offer(descriptor)
        finally:
            os.close(descriptor)

    def _processor(self) -> tuple[str, set[str]]:
        """Vendor and feature flags, as Linux tells them; empty where it does not."""
        try:
            lines = self.cpuinfo.read_text().splitlines()
        except OSError:
            return "", set()
        values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return values.get("vendor_id", ""), set(values.get("flags", "").split())

    def _offer(self, descriptor: int) -> str | None:
        nested = self.modules / "kvm_intel" / "parameters" / "nested"
        if nested.exists() and nested.read_text().strip() not in ("Y", "1"):
            return (
                f"nested virtualization is off ({nested} is {nested.read_text().strip()}):"
                " sudo qemu/nested-vt.sh, or modprobe -r kvm_intel and modprobe kvm_intel nested=1"
            )
        try:
            leaves = supported_cpuid(descriptor)
        except OSError as error:
            return f"KVM does not tell what it offers (KVM_GET_SUPPORTED_CPUID: {error.strerror})"
        if not leaves.get(_LEAF_FEATURES, 0) & _ECX_VMX:
            loaded = sorted(path.name for path in self.modules.glob("kvm_*"))
            return (
                "KVM is there but offers its guests no VMX (KVM_GET_SUPPORTED_CPUID: CPUID.1:ECX bit 5 is 0):"
                f" it takes kvm_intel on a host with VT-x, loaded is {', '.join(loaded) or 'none'}"
            )
        return None


def supported_cpuid(descriptor: int) -> dict[int, int]:
    """ECX of each CPUID leaf that KVM can give a guest; of a leaf's subleaves, the first. Raises OSError."""
    request = bytearray(_HEADER.pack(_ENTRIES, 0) + bytes(_ENTRY.size * _ENTRIES))
    fcntl.ioctl(descriptor, _KVM_GET_SUPPORTED_CPUID, request)
    count, _ = _HEADER.unpack_from(request)
    leaves: dict[int, int] = {}
    for number in range(count):
        leaf, _index, _flags, _eax, _ebx, ecx, _edx = _ENTRY.unpack_from(
            request, _HEADER.size + number * _ENTRY.size
        )
        leaves.setdefault(leaf, ecx)
    return leaves
