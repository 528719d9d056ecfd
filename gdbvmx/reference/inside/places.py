"""Where keepers have their files: a directory that is the user's alone."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

_PREFIX = "inside-"


def runtime_directory() -> Path:
    """The directory, made if need be. Raises OSError if it is there and somebody else's."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if Path(base).is_absolute() and Path(base).is_dir():
        path = Path(base) / "gdbvmx"
    else:
        path = Path(tempfile.gettempdir()) / f"gdbvmx-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{path} belongs to somebody else")
    return path


def kept_socket() -> Path:
    """Where a keeper that is kept takes clients."""
    return runtime_directory() / "kept"


def work_prefix() -> str:
    """How the name of this process's directory of files begins."""
    return f"{_PREFIX}{os.getpid()}-"


def sweep() -> None:
    """Removes what keepers that were killed have left."""
    for path in runtime_directory().glob(f"{_PREFIX}*"):
        match = re.match(rf"{_PREFIX}(\d+)-", path.name)
        if match and not _runs(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Whether the process is there, and not only as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
