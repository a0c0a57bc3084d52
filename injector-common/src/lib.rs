//! The contract between the injector's eBPF programs and its user side.
//!
//! Everything that crosses the boundary lies here, once: fixed-size integers, `repr(C)`, explicit padding,
//! no `bool`, `Option`, enum or `usize`. [`decide`] holds the pure decisions, which the host can test and
//! the hook calls.
#![cfg_attr(not(test), no_std)]

pub mod arch;
pub mod attempt;
pub mod automaton;
pub mod config;
pub mod counters;
pub mod decide;
pub mod hooks;
pub mod record;
pub mod site;

/// Version of the layout of everything in this crate. Both sides are built from one tree and the object is
/// embedded in the binary, so a mismatch means a broken build; the user side refuses it.
pub const ABI_VERSION: u32 = 7;
