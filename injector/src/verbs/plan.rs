//! `injector plan`: prints the options as a plan file.

use std::io::{self, Write as _};

use anyhow::Result;
use injector::cli::EXIT_OK;

/// Prints the plan file.
pub fn plan(text: &str) -> Result<i32> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(EXIT_OK)
}
