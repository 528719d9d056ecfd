"""The commands: one module a family. `COMMANDS` has them by name."""

from __future__ import annotations

from . import bitmap, caps, catch, exits, explain, force, info, symbols, trace, translate, vmcs
from .base import Command

_MODULES = (info, vmcs, explain, exits, catch, force, trace, translate, bitmap, caps, symbols)

COMMANDS: dict[str, Command] = {command.name: command for module in _MODULES for command in module.COMMANDS}
