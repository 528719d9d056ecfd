"""Shows the VMX capabilities of a CPU profile in words: controls that exist, bits that must be 1 or 0.

gdbvmx caps                              the default profile
gdbvmx caps machine.json                 one made from the MSRs of a real machine
gdbvmx caps machine.json --against NAME  only what differs
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from gdbvmx import _core, profiles

from .errors import Status, say

NAME = "caps"
HELP = "VMX capabilities of a CPU profile in words"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE|FILE", nargs="?", help="a built-in one, or a JSON file")
    parser.add_argument("--against", metavar="PROFILE|FILE", help="show what differs from this one")
    parser.add_argument("--list", action="store_true", help="name the built-in profiles")


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        print("\n".join(_core.CpuProfile.names()))
        return Status.OK
    profile = _load(arguments.profile)
    if arguments.against is None:
        print("\n".join(_in_words(profile.name, profile.capabilities())))
    else:
        print("\n".join(_differences(profile, _load(arguments.against))))
    return Status.OK


def _load(name: str | None) -> _core.CpuProfile:
    profile, warnings = profiles.load(name)
    for warning in warnings:
        say(f"{profile.name}: {warning}")
    return profile


def _in_words(title: str, capabilities: Iterable[_core.Capability]) -> Iterator[str]:
    yield f"profile {title}"
    msr = None
    for capability in capabilities:
        if capability["msr"] != msr:
            msr = capability["msr"]
            yield f"\n{capability['msr_name']} ({msr:#x})"
        yield f"  {capability['bits']:>5}  {capability['name']:<56} {capability['setting']}"


def _differences(profile: _core.CpuProfile, other: _core.CpuProfile) -> Iterator[str]:
    ours, theirs = _settings(profile), _settings(other)
    yield f"profile {profile.name} against {other.name}"
    differing = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    for key in differing:
        yield f"  {key[0]}: {key[1]}: {ours.get(key, 'absent')}; there {theirs.get(key, 'absent')}"
    if not differing:
        yield "  the same capabilities"


def _settings(profile: _core.CpuProfile) -> dict[tuple[str, str], str]:
    # The TRUE capability MSRs say of a control what the plain ones do where there are no others.
    return {
        (it["msr_name"].replace("_TRUE_", "_"), it["name"]): it["setting"] for it in profile.capabilities()
    }
