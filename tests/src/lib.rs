//! What the guest tests need: the test module, processes that allocate, the injector as users start it.
//!
//! The tests run as root in the guest (`cargo xtask test`), one at a time, against `/usr/bin/injector` and
//! the modules in `/lib/modules`. Each one narrows its run down (`--pid` of a [`worker::Worker`], or
//! `--stack` with the module's functions), so that numbers are exact and the guest survives.
//!
//! A test panics with what it saw: the injector's diagnostics are part of every message.

pub mod bpf;
pub mod bpftrace;
pub mod cgroup;
pub mod daemon;
pub mod defects;
pub mod hooks_module;
pub mod inventory;
pub mod kernel_log;
pub mod kselftest;
pub mod ktap;
pub mod module;
pub mod one_cpu;
pub mod place;
pub mod report;
pub mod shell;
pub mod small_probe;
pub mod steps;
pub mod terminal;
pub mod verifier;
pub mod worker;

pub use cgroup::Cgroup;
pub use daemon::{Finished, Injector, refused, run};
pub use kernel_log::KernelLog;
pub use module::{Outcome, RunFile};
pub use one_cpu::OnOneCpu;
pub use report::Report;
pub use small_probe::{SmallProbe, SmallProgram};
pub use steps::Steps;
pub use worker::Worker;

/// Makes the requests one after the other, from this thread.
pub fn run_requests(requests: &[&str]) -> Vec<Outcome> {
    let run = RunFile::open();
    requests.iter().map(|request| run.run(request)).collect()
}
