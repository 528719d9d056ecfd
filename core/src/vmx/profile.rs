//! CPU profiles.

#[derive(Clone, Debug, Default)]
pub struct Profile {}

impl Profile {
    pub fn signature(&self) -> u32 {
        0x000806ec
    }
    pub fn maxphyaddr(&self) -> u32 {
        40
    }
    pub fn has_1g_pages(&self) -> bool {
        true
    }
    pub fn cpuid(&self, _leaf: u32, _subleaf: u32) -> [u32; 4] {
        [0; 4]
    }
}
