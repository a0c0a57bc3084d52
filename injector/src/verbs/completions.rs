//! `injector completions`: prints a shell's script.

use injector::{
    exit::{ExitCode, Result},
    sinks,
};

/// Prints the script.
pub fn completions(script: &[u8]) -> Result<ExitCode> {
    sinks::print(|out| out.write_all(script))?;
    Ok(ExitCode::OK)
}
