//! Which processors hold which VMCSs. Software must not let two of them hold one at a time (SDM vol. 3, 25.11.1); no
//! processor notices, so it is noted here for those who ask.

#[derive(Clone, Default)]
pub struct Holders {
    /// Processor, and the address of an active VMCS.
    held: Vec<(usize, u64)>,
}

impl Holders {
    pub fn hold(&mut self, cpu: usize, vmcs: u64) {
        self.release(cpu, vmcs);
        self.held.push((cpu, vmcs));
    }

    pub fn release(&mut self, cpu: usize, vmcs: u64) {
        self.held.retain(|&it| it != (cpu, vmcs));
    }

    pub fn release_all(&mut self, cpu: usize) {
        self.held.retain(|it| it.0 != cpu);
    }

    /// The processors but `cpu` on which the VMCS is active, the one that took it first at the head.
    pub fn others(&self, cpu: usize, vmcs: u64) -> impl Iterator<Item = usize> + '_ {
        let others = self.held.iter().filter(move |it| it.0 != cpu && it.1 == vmcs);
        others.map(|it| it.0)
    }
}
