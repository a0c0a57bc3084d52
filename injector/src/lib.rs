//! The injector: makes Linux kernel memory allocations fail, on purpose and selectively.
//!
//! Data goes one way: command line → [`plan`] → [`kernel`] facts → [`session`] (globals and maps) → the eBPF hooks →
//! [`events`] → [`sinks`]. A module uses only what stands before it on this line. [`sweep`] searches with all of it, [`symbols`]
//! finds source lines for frames, [`report`] shows what was found.

pub mod arch;
mod bpf;
pub mod campaign;
pub mod check;
pub mod cli;
pub mod control;
pub mod events;
pub mod exit;
pub mod foreign;
pub mod guests;
pub mod hook_list;
pub mod journal;
pub mod kernel;
pub mod metrics;
pub mod module_setup;
pub mod oracle;
pub mod output;
pub mod plan;
pub mod report;
pub mod run;
pub mod session;
pub mod sinks;
pub mod sweep;
pub mod symbols;
pub mod target;
pub mod workloads;
