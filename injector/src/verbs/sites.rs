//! `injector sites`: shows the sites of a journal, or those that a workload reaches.

use std::{
    io::{self, BufWriter, Write as _},
    path::Path,
};

use injector::{
    cli::SitesOf,
    exit::{Context as _, ExitCode, Result},
    report::{self, Report, Stacks},
    sweep,
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
    let mut out = BufWriter::new(io::stdout());
    report::sites(&report, stacks, &mut out).and_then(|()| out.flush()).context("can't write the sites")?;
    Ok(ExitCode::OK)
}
