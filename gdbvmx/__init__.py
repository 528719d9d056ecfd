"""gdbvmx: an emulated x86-64 machine with VMX, made for debugging hypervisors from gdb."""

__version__ = "0.1.0"
