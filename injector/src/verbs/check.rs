//! `injector check`: says what is there and what is missing.

use injector::{
    check::{self, Caller, Needs},
    exit::{ExitCode, Result},
    kernel::{KernelFiles, Survey},
    sinks,
};

/// Prints the list of prerequisites.
pub fn check(files: &KernelFiles, json: bool) -> Result<ExitCode> {
    let report = check::run(files, &Survey::take(files), &Caller::this(files), &Needs::all());
    let text = if json { format!("{}\n", report.to_json()?) } else { report.to_string() };
    sinks::print(|out| out.write_all(text.as_bytes()))?;
    Ok(if report.is_ok() { ExitCode::OK } else { ExitCode::MISSING })
}
