//! Model-specific registers.

/// Those that the processor itself stores; the rest belong to the LAPIC, the clock or VMX.
#[derive(Clone, Debug)]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub fmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    /// Added to the clock to give the TSC.
    pub tsc_adjust: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub feature_control: u64,
    pub debugctl: u64,
    pub misc_enable: u64,
    pub pkru: u32,
    pub pkrs: u64,
    pub spec_ctrl: u64,
    pub mtrr: Mtrrs,
}

#[derive(Clone, Debug, Default)]
pub struct Mtrrs {
    pub default_type: u64,
    pub fixed: [u64; 11],
    pub variable: [(u64, u64); 8],
}

impl Msrs {
    /// After RESET.
    pub fn reset() -> Msrs {
        Msrs {
            star: 0,
            lstar: 0,
            cstar: 0,
            fmask: 0,
            kernel_gs_base: 0,
            tsc_aux: 0,
            tsc_adjust: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            pat: 0x0007_0406_0007_0406,
            feature_control: 0,
            debugctl: 0,
            misc_enable: 1,
            pkru: 0,
            pkrs: 0,
            spec_ctrl: 0,
            mtrr: Mtrrs::default(),
        }
    }
}
