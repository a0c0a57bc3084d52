//! `injector export`: a finding as a script that needs no injector.

use std::{
    io::{self, Write as _},
    path::Path,
};

use injector::{
    exit::{Context as _, ExitCode, Result},
    report::{Report, export},
};

use super::{journals::read, reports::write_file};

/// Writes a finding as a script.
pub fn export(journal: &Path, finding: &str, output: Option<&Path>) -> Result<ExitCode> {
    let mut report = Report::of(&read(journal)?);
    let finding = report.select(finding)?;
    let script = export::script(&report, &finding)?;
    match output {
        Some(path) => write_file(path, |file| file.write_all(script.as_bytes()))?,
        None => io::stdout().write_all(script.as_bytes()).context("can't write the script")?,
    }
    Ok(ExitCode::OK)
}
