//! `injector sites`: shows the sites of a journal, or those that a workload reaches.

use std::path::Path;

use injector::{
    cli::SitesOf,
    exit::{ExitCode, Result},
    report::{self, Report, Stacks},
    sinks, sweep,
};

use super::{
    journals::read,
    reports::{look_up_lines, search},
};

/// Shows sites by module.
pub fn sites(source: &SitesOf, stacks: bool, vmlinux: Option<&Path>) -> Result<ExitCode> {
    let mut report = match source {
        SitesOf::Journal(path) => Report::of(&read(path)?),
        SitesOf::Workload(plan) => Report::new(&sweep::sweep(plan)?.state, ""),
    };
    let shown = if stacks { Stacks::All } else { Stacks::None };
    look_up_lines(&mut report, shown, &search(vmlinux))?;
    sinks::print(|out| report::sites(&report, stacks, out))?;
    Ok(ExitCode::OK)
}
