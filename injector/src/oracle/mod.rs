//! What the kernel has to say about a failed allocation: its log, its taint flags, its checkers.
//!
//! | sensor | sees | needs |
//! |---|---|---|
//! | [`kmsg`] | splats of all kinds, as they come | /dev/kmsg |
//! | [`splat`] | the same in any text: a crashed guest's console | nothing |
//! | [`taint`] | that something was wrong, when its text was lost | proc |
//! | [`kmemleak`] | memory that nothing points to any more | CONFIG_DEBUG_KMEMLEAK |
//! | [`slabs`] | caches that grow with every repeat of a failure | /proc/slabinfo |
//! | [`rearm`] | nothing: it makes checks that speak only once speak again | debugfs |
//!
//! Each turns what it saw into a [`Complaint`]: its title is the same for the same defect, whatever the addresses, times,
//! processes and CPUs were, so that one defect found at ten sites is one finding.
//!
//! What counts as a complaint is said in [`injector_log`].

pub mod kmemleak;
pub mod kmsg;
pub mod rearm;
pub mod slabs;
pub mod taint;

pub use injector_log::{Complaint, Kind, splat};
