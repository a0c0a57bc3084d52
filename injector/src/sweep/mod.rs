//! The search for code paths that don't survive a failed allocation: reaches every site, fails it, watches the kernel.

pub mod journal;
mod verdict;
pub mod vm;

pub use verdict::Verdict;
