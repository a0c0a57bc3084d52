//! `injector check`: says what is there and what is missing.

use std::io::{self, Write as _};

use injector::{
    check::{self, Caller, Needs},
    exit::{ExitCode, Result},
    kernel::{KernelFiles, Survey},
};

/// Prints the list of prerequisites.
pub fn check(files: &KernelFiles, json: bool) -> Result<ExitCode> {
    let report = check::run(files, &Survey::take(files), &Caller::this(files), &Needs::all());
    let text = if json { format!("{}\n", report.to_json()?) } else { report.to_string() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_ok() { ExitCode::OK } else { ExitCode::MISSING })
}
