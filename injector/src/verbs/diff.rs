//! `injector diff`: shows what two runs differ in.

use std::{
    io::{self, BufWriter, Write as _},
    path::Path,
};

use injector::{
    exit::{Context as _, ExitCode, Result},
    report::run::{self, Diff, Run},
    sinks,
};

/// Shows what two runs differ in.
pub fn diff(a: &Path, b: &Path, json: bool) -> Result<ExitCode> {
    let read = |path: &Path| -> Result<Run> {
        let run = run::read(path)?;
        for remark in &run.remarks {
            sinks::announce(format_args!("{}: {remark}", path.display()));
        }
        Ok(run)
    };
    let diff = Diff::new(&read(a)?, &read(b)?);
    let mut out = BufWriter::new(io::stdout());
    let written = if json { run::json(&diff, &mut out) } else { diff.text(&mut out) };
    written.and_then(|()| out.flush()).context("can't write what they differ in")?;
    Ok(if diff.has_other_sites() { ExitCode::FINDINGS } else { ExitCode::OK })
}
