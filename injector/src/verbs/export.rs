//! `injector export`: a finding as a script that needs no injector.

use std::path::Path;

use injector::{
    exit::{ExitCode, Result},
    output,
    report::{Report, export},
    sinks,
};

use super::journals::read;

/// Writes a finding as a script.
pub fn export(journal: &Path, finding: &str, file: Option<&Path>) -> Result<ExitCode> {
    output::distinct(&[journal], file.as_slice())?;
    let mut report = Report::of(&read(journal)?);
    let finding = report.select(finding)?;
    let script = export::script(&report, &finding)?;
    match file {
        Some(path) => output::replace(path, |out| out.write_all(script.as_bytes()))?,
        None => sinks::print(|out| out.write_all(script.as_bytes()))?,
    }
    Ok(ExitCode::OK)
}
