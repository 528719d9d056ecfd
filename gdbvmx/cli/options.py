"""The options that describe a machine and its run, for all the commands that run one."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

DEFAULT_MEMORY = "512M"


def memory_size(text: str) -> int:
    """A size in bytes: a number with K, M or G; without, MiB, as QEMU has it."""
    match = re.fullmatch(r"(\d+)([KMG]?)i?B?", text, re.IGNORECASE | re.ASCII)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; expected one such as 512M or 4G")
    return int(match[1]) * _UNITS[match[2].upper()]


def address(text: str) -> tuple[str, int]:
    """HOST and port of `[HOST:]PORT`; the host is the loopback address unless it is named."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no [HOST:]PORT with a port up to 65535")
    return host.strip("[]") or "127.0.0.1", int(port)


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number")
    return int(text)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number of seconds")
    return value


def add_image(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """IMAGE, what it is given, and the size of the machine."""
    add = parser.add_argument
    number = "?" if optional else None
    kinds = "Multiboot, Linux bzImage or PVH image, or flat binary *.bin"
    add("image", metavar="IMAGE", type=Path, nargs=number, help=kinds)
    add("--append", metavar="CMDLINE", default="", help="its command line")
    module = "a module, or Linux's initial RAM disk (repeat for more)"
    add("--initrd", metavar="FILE", type=Path, action="append", default=[], help=module)
    add("--memory", metavar="SIZE", type=memory_size, default=DEFAULT_MEMORY, help="RAM [%(default)s]")
    add("--cpus", metavar="N", type=count, default=1, help="processors [%(default)s]")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """IMAGE and the options of `run` that `debug` shares."""
    add_image(parser)
    add = parser.add_argument
    add(
        "--cpu",
        metavar="PROFILE|FILE",
        help="what CPUID and the VMX capabilities say (gdbvmx caps), as gdbvmx,-pku",
    )
    add("--serial", metavar="stdio|FILE|none", default="stdio", help="the guest's COM1 [%(default)s]")
    add("--debugcon", metavar="stderr|FILE|none", default="none", help="its port 0xE9 [%(default)s]")
    add("--trace", metavar="FILE", type=Path, help="record VM entries, exits and failures")
    add("--max-instructions", metavar="N", type=count, help="end after N instructions, with status 124")
    add("--timeout", metavar="SECONDS", type=seconds, help="end after that time, with status 124")


def add_server(parser: argparse.ArgumentParser) -> None:
    """The options of a machine that waits for gdb."""
    parser.add_argument("--gdb", metavar="[HOST:]PORT", type=address, help="serve gdb there")
    parser.add_argument("--freeze", action="store_true", help="wait for gdb before the first instruction")
