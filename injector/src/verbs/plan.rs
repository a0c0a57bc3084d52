//! `injector plan`: prints the options as a plan file.

use injector::{
    exit::{ExitCode, Result},
    sinks,
};

/// Prints the plan file.
pub fn plan(text: &str) -> Result<ExitCode> {
    sinks::print(|out| out.write_all(text.as_bytes()))?;
    Ok(ExitCode::OK)
}
