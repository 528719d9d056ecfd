"""How a gdb gets the plugin."""

from __future__ import annotations

from pathlib import Path

# gdb's Python is not the one that gdbvmx is installed into: the file finds the package by its own place.
LOAD_COMMAND = f"source {Path(__file__).resolve().parent / 'plugin' / 'load.py'}"
