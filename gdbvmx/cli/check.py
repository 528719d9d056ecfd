"""Says which VM-entry rules a VMCS breaks. FILE holds it as JSON, {"guest_rip": "0x…", …}, or is a kernel log
with the dump that KVM or Xen prints when an entry fails.

Exit status: 0 if it breaks none, 1 if it breaks some.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gdbvmx import _core, explanation, profiles, vmcsfile

from .errors import Status, say

NAME = "check"
HELP = "which VM-entry rules does this VMCS break"

_BROKEN = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--cpu", metavar="PROFILE|FILE", help="the processor that the entry was made on")
    parser.add_argument("--json", action="store_true", help="for scripts")


def run(arguments: argparse.Namespace) -> int:
    known = {field["name"]: field for field in _core.fields()}
    values = vmcsfile.read(arguments.file, known)
    profile, warnings = profiles.load(arguments.cpu)
    for warning in warnings:
        say(f"{profile.name}: {warning}")
    broken = _core.check_vmcs(values, profile)
    # A field that the file does not give is unknown, not 0: what depends on one cannot be decided.
    decided = [rule for rule in broken if all(name in values for name, _ in rule["fields"])]
    undecided = [rule for rule in broken if rule not in decided]

    if arguments.json:
        print(json.dumps({"broken": decided, "undecided": [rule["id"] for rule in undecided]}))
        return _BROKEN if decided else Status.OK
    cpu = f"CPU profile {profile.name}"
    if decided:
        print(f"VM-entry rules broken, by the {len(values)} fields given, on {cpu}: {len(decided)}")
        print("\n".join(explanation.rule_lines(decided)))
    else:
        print(f"no VM-entry rule broken, by the {len(values)} fields given, on {cpu}")
    if undecided:
        absent = sorted({name for rule in undecided for name, _ in rule["fields"] if name not in values})
        print(f"{len(undecided)} more cannot be decided without {', '.join(absent)}")
    return _BROKEN if decided else Status.OK
