//! `injector plan`: prints the options as a plan file.

use std::io::{self, Write as _};

use injector::exit::{ExitCode, Result};

/// Prints the plan file.
pub fn plan(text: &str) -> Result<ExitCode> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::OK)
}
