"""A bootable CD: GRUB, its menu and the files that it loads. Bochs boots images from nothing simpler."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

GRUB_MODULES = Path("/usr/lib/grub/i386-pc")

# What is needed, and the Debian package that has it.
PROGRAMS = {"grub-mkrescue": "grub-common", "xorriso": "xorriso", "mformat": "mtools"}
FILES = {GRUB_MODULES: "grub-pc-bin"}


class MediumError(RuntimeError):
    """The boot medium could not be made; the message holds what the tool said."""


def make(work: Path, menu: str, loader: str, files: Mapping[str, Path], output: Path) -> None:
    """Writes the CD `output`: `files` by their paths on it, and `menu` as GRUB's configuration.

    `loader` is the module of GRUB that the menu's command takes (`multiboot`, `linux`). `work` is a
    directory for what is needed meanwhile. Raises MediumError.
    """
    tree = work / "iso"
    for name, path in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tree / name)
    (tree / "boot" / "grub").mkdir(parents=True, exist_ok=True)
    (tree / "boot" / "grub" / "grub.cfg").write_text(menu)
    made = subprocess.run(
        [
            "grub-mkrescue",
            f"--directory={GRUB_MODULES}",
            f"--install-modules={loader} normal",
            "--locales=",
            "--fonts=",
            "--themes=",
            f"--output={output}",
            str(tree),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise MediumError(f"grub-mkrescue failed: {made.stderr.strip()}")
    shutil.rmtree(tree)
