"""Files out of Debian packages, without installing them and without root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

_TOOLS = ("apt-get", "apt-cache", "dpkg-deb")


class PackageError(RuntimeError):
    """A package could not be had; the message is one line that says why and what to do."""


def require() -> None:
    """Raises PackageError where Debian's tools are missing."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise PackageError(f"{', '.join(missing)} not found: packages can be fetched on Debian only")


def dependency(package: str, pattern: str) -> str:
    """The dependency of `package`, as apt knows it now, whose name matches `pattern`."""
    text = _run(["apt-cache", "depends", "--important", package], Path.cwd())
    for name in re.findall(r"^\s*\|?Depends: (\S+)$", text, re.MULTILINE):
        if re.fullmatch(pattern, name):
            return str(name)
    raise PackageError(f"apt knows no package {package} that depends on {pattern}: apt-get update, as root")


def unpack(package: str, directory: Path) -> str:
    """Fetches the newest version of `package` and unpacks it below `directory`. Returns its file's name."""
    before = set(directory.glob("*.deb"))
    _run(["apt-get", "--quiet", "--quiet", "download", package], directory)
    new = sorted(set(directory.glob("*.deb")) - before)
    if not new:
        raise PackageError(f"apt-get download {package}: no file came of it")
    _run(["dpkg-deb", "--extract", str(new[0]), str(directory)], directory)
    name = new[0].name
    new[0].unlink()
    return name


def libraries(program: Path) -> dict[str, Path]:
    """The shared libraries that a program of this machine loads: the name it looks for, and the file."""
    text = _run(["ldd", str(program)], Path.cwd())
    if missing := re.findall(r"^\s*(\S+) => not found", text, re.MULTILINE):
        raise PackageError(f"{program} lacks {', '.join(missing)}: its package is not installed whole")
    names = re.findall(r"(?:^|\s)(/\S+) \(0x", text)
    return {name: Path(name).resolve() for name in names}


def _run(command: list[str], directory: Path) -> str:
    try:
        ran = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise PackageError(f"{command[0]}: {error.strerror}") from error
    if ran.returncode != 0:
        said = [line for line in ran.stderr.splitlines() if line.strip()]
        raise PackageError(f"{' '.join(command)} failed: {said[-1] if said else 'it said nothing'}")
    return ran.stdout
