//! `injector` without a verb: injects failures until something ends the run.

use injector::{
    cli::RunOptions,
    exit::{ExitCode, Result},
    kernel::KernelFiles,
    plan::Plan,
    run::{self, LiveOptions},
};
use tokio::{runtime, task::LocalSet};

/// Runs a plan.
pub fn run(files: &KernelFiles, plan: &Plan, options: RunOptions, live: &LiveOptions) -> Result<ExitCode> {
    // One thread: what the daemon does is wait. And one tracer, since the command stops for the thread that started it.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run::run(files, plan, options.ebpf_log, live))
}
