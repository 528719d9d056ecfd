#!/usr/bin/env python3
"""A debugging session that runs by itself: a hypervisor that works, and one that does not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

GUESTS = Path(__file__).resolve().parent.parent / "guests" / "build"


@dataclass(frozen=True)
class Scene:
    """An image, and what is typed in gdb: remarks and commands."""

    title: str
    image: str
    append: str
    script: str


SCENES = (
    Scene(
        "minivisor, a small hypervisor with two guests",
        "minivisor.elf",
        "",
        """
        # Stop when a guest executes CPUID.
        vmx catch exit cpuid
        continue
        # Each world of the processor is a thread: the hypervisor, and the guest of each VMCS.
        info threads
        # In the guest: where is it, and how does its code get to memory?
        thread 2
        backtrace
        vmx walk $pc --access execute
        thread 1
        # The VMCS, decoded.
        vmx vmcs guest_cr0 pin_based_controls ept_pointer
        # Record what happens up to the first VMCALL.
        vmx trace start
        vmx catch delete 1
        vmx catch exit vmcall
        continue
        vmx exits 4
        vmx trace stats
        # Make an exit happen that no instruction of the guest causes.
        vmx force external-interrupt vector=0x20
        vmx catch exit external-interrupt
        continue
        vmx why
        """,
    ),
    Scene(
        "brokenvisor, the same with a mistake: VMLAUNCH fails",
        "brokenvisor.elf",
        "mistake=tr-type",
        """
        vmx catch fail
        continue
        # Hardware says 0x80000021. Which of the rules of VM entry was it?
        vmx why
        # Would it be the only one?
        vmx check
        # Where in the hypervisor that is.
        backtrace
        """,
    ),
)


def play(scene: Scene) -> int:
    print(f"\n=== {scene.title} ===", flush=True)
    options = []
    for line in map(str.strip, scene.script.strip().splitlines()):
        if line.startswith("#"):
            options += ["-ex", f"echo \\n{line}\\n"]
        else:
            options += ["-ex", f"echo (gdb) {line}\\n", "-ex", line]
    debug = ["debug", str(GUESTS / scene.image), "--append", scene.append, "--serial", "none"]
    gdb = ["--", "-nx", "-batch", *options]
    return subprocess.run([sys.executable, "-m", "gdbvmx", *debug, *gdb], check=False).returncode


def main() -> int:
    return max([play(scene) for scene in SCENES])


if __name__ == "__main__":
    sys.exit(main())
