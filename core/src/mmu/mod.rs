//! Address translation: paging, EPT, and the cache in front of them.

pub mod ept;
pub mod memory_type;
pub mod paging;
pub mod sub_page;
pub mod tlb;
