"""The system that Bochs boots: Debian's kernel with KVM, and QEMU with all that it loads, on a CD.

It is built once from Debian's packages, kept in the user's cache directory, and built anew when it is
damaged, or when QEMU or this file's recipe is no longer what it was built from.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gdbvmx.reference import medium

from . import cpio, packages

KERNEL = "linux-image-cloud-amd64"
_KERNEL_IMAGE = r"linux-image-\d\S*"  # what that package stands for at the time
BUSYBOX = "busybox-static"

# In the order in which they have to be loaded: KVM, the disk, the CD's file system.
_MODULES = (
    "virt/lib/irqbypass",
    "arch/x86/kvm/kvm",
    "arch/x86/kvm/kvm-intel",
    "drivers/scsi/scsi_common",
    "drivers/scsi/scsi_mod",
    "drivers/scsi/sd_mod",
    "drivers/ata/libata",
    "drivers/ata/ata_piix",
    "drivers/cdrom/cdrom",
    "fs/isofs/isofs",
)

# QEMU looks for them in /usr/share/qemu and /usr/share/seabios.
_FIRMWARE = (
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/seabios/bios-microvm.bin",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/multiboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
)

# Self-tests and certificates are a third of the boot, so they are left out. iomem=relaxed lets init program
# the I/O APIC and the HPET. The kernel's own messages go to COM3, which Bochs writes to a file.
_MENU = """\
set timeout=0
menuentry system {
    linux /boot/vmlinuz console=ttyS2,115200 loglevel=4 nokaslr mitigations=off nopti tsc=reliable \
        no_timer_check iomem=relaxed cryptomgr.notests \
        initcall_blacklist=load_system_certificate_list
    initrd /boot/initrd
    boot
}
"""

_INIT = Path(__file__).with_name("init")
_BUILDING = "building-"
_MEDIUM, _MANIFEST, _LOCK = "system.iso", "manifest.json", "lock"

Say = Callable[[str], None]


class BuildError(RuntimeError):
    """The system cannot be built here; the message is one line that says why and what to do."""


def directory() -> Path:
    """Where the system is kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "gdbvmx" / "inside-bochs"


def ensure(qemu: Path, say: Say) -> Path:
    """The boot medium with the QEMU `qemu` of this machine on it; built now if there is none that is whole.

    `say` is told what goes on. Raises BuildError.
    """
    cache = directory()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / _LOCK):
            made_from = _made_from(qemu)
            found = _fault(cache, made_from)
            if found is not None:
                say(f"{found}; building it in {cache} from Debian packages")
                _build(cache, qemu, made_from, say)
    except (packages.PackageError, medium.MediumError) as error:
        raise BuildError(str(error)) from error
    except OSError as error:
        raise BuildError(f"{error.filename or cache}: {error.strerror}") from error
    return cache / _MEDIUM


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made_from(qemu: Path) -> str:
    """A digest of all that decides what the system is, but for the versions that apt would give today."""
    known = qemu.stat()
    parts = [_INIT.read_text(), _MENU, *_MODULES, *_FIRMWARE, str(qemu), known.st_size, known.st_mtime_ns]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def _fault(cache: Path, made_from: str) -> str | None:
    """Why the system in `cache` cannot be used, or None."""
    try:
        manifest = json.loads((cache / _MANIFEST).read_text())
        if manifest["made_from"] != made_from:
            return "QEMU or the recipe of the system for Bochs has changed"
        with (cache / _MEDIUM).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == manifest["sha256"]:
                return None
    except FileNotFoundError:
        return "there is no system for Bochs to boot yet"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return "the system for Bochs is damaged"


def _build(cache: Path, qemu: Path, made_from: str, say: Say) -> None:
    packages.require()
    for left in cache.glob(f"{_BUILDING}*"):
        shutil.rmtree(left, ignore_errors=True)  # by one that was killed; nobody else builds now
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=cache) as name:
        work = Path(name)
        fetched = work / "packages"
        fetched.mkdir()
        kernel = packages.dependency(KERNEL, _KERNEL_IMAGE)
        versions = []
        for package in (kernel, BUSYBOX):
            say(f"fetching {package}")
            versions.append(packages.unpack(package, fetched))
        say("packing kernel, KVM and QEMU")
        with (work / "initrd").open("wb") as file:
            cpio.write(file, _initramfs(fetched))
        vmlinuz = _only(fetched / "boot", "vmlinuz-*")
        files = {"boot/vmlinuz": vmlinuz, "boot/initrd": work / "initrd"}
        files |= {f"system{path}": source for path, source in _qemu_files(qemu).items()}
        medium.make(work, _MENU, "linux", files, work / _MEDIUM)
        with (work / _MEDIUM).open("rb") as made:
            digest = hashlib.file_digest(made, "sha256").hexdigest()
        manifest: dict[str, Any] = {"made_from": made_from, "sha256": digest, "packages": versions}
        (work / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        # The manifest last: without it, or with an old one, the medium does not count.
        for made_file in (_MEDIUM, _MANIFEST):
            (work / made_file).replace(cache / made_file)


def _initramfs(fetched: Path) -> Iterator[cpio.Entry]:
    kernel = _only(fetched / "lib" / "modules", "*") / "kernel"
    yield cpio.Entry("/init", _INIT)
    yield cpio.Entry("/bin/busybox", fetched / "bin" / "busybox")
    for number, module in enumerate(_MODULES):
        source = kernel / f"{module}.ko"
        yield cpio.Entry(f"/modules/{number:02}-{source.name}", source, 0o644)
    for name in ("proc", "sys", "dev", "run", "medium"):
        yield cpio.Entry(f"/{name}")


def _qemu_files(qemu: Path) -> dict[str, Path]:
    """QEMU, its libraries and its firmware, by the absolute names under which it looks for them."""
    files = {"/usr/bin/qemu-system-x86_64": qemu.resolve(), **packages.libraries(qemu)}
    for name in _FIRMWARE:
        if Path(name).exists():  # which of them there are depends on QEMU's version
            files[f"/usr/share/qemu/{Path(name).name}"] = Path(name).resolve()
    return files


def _only(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        raise packages.PackageError(f"{directory}: expected one {pattern}, found {len(found)}")
    return found[0]
