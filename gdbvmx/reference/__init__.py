"""Machines that the project did not write, to hold the emulator's answers against."""
