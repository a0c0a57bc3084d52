//! The search for code paths that don't survive a failed allocation.

pub mod oracle;
