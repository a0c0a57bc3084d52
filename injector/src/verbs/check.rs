//! `injector check`: says what is there and what is missing.

use std::io::{self, Write as _};

use anyhow::Result;
use injector::{
    check::{self, Caller, Needs},
    cli::{EXIT_MISSING, EXIT_OK},
    kernel::{KernelFiles, Survey},
};

/// Prints the list of prerequisites.
pub fn check(json: bool) -> Result<i32> {
    let files = KernelFiles::default();
    let report = check::run(&files, &Survey::take(&files), &Caller::this(&files), &Needs::all());
    let text = if json { format!("{}\n", report.to_json()?) } else { report.to_string() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_ok() { EXIT_OK } else { EXIT_MISSING })
}
