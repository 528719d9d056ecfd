"""The names that Linux's tracepoints of KVM print for exit reasons. The SDM's own names are in the core."""

from __future__ import annotations

from collections.abc import Mapping

# By number, from 0; a dot for a reason that has no name there.
_IN_ORDER = """
    EXCEPTION_NMI EXTERNAL_INTERRUPT TRIPLE_FAULT INIT_SIGNAL SIPI_SIGNAL . OTHER_SMI INTERRUPT_WINDOW
    NMI_WINDOW TASK_SWITCH CPUID . HLT INVD INVLPG RDPMC RDTSC . VMCALL VMCLEAR VMLAUNCH VMPTRLD
    VMPTRST VMREAD VMRESUME VMWRITE VMOFF VMON CR_ACCESS DR_ACCESS IO_INSTRUCTION MSR_READ MSR_WRITE
    INVALID_STATE MSR_LOAD_FAIL . MWAIT_INSTRUCTION MONITOR_TRAP_FLAG . MONITOR_INSTRUCTION
    PAUSE_INSTRUCTION MCE_DURING_VMENTRY . TPR_BELOW_THRESHOLD APIC_ACCESS EOI_INDUCED GDTR_IDTR
    LDTR_TR EPT_VIOLATION EPT_MISCONFIG INVEPT RDTSCP PREEMPTION_TIMER INVVPID WBINVD XSETBV
    APIC_WRITE RDRAND INVPCID VMFUNC ENCLS RDSEED PML_FULL XSAVES XRSTORS . . UMWAIT TPAUSE
    . . . . . BUS_LOCK NOTIFY
"""

KVM_NAMES: Mapping[int, str] = {number: name for number, name in enumerate(_IN_ORDER.split()) if name != "."}

# Back to numbers, with names of older kernels.
REASONS: Mapping[str, int] = {
    **{name: number for number, name in KVM_NAMES.items()},
    "PENDING_INTERRUPT": 7,
    "VMXOFF": 26,
    "VMXON": 27,
}
