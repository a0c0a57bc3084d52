//! `injector step`: one step of a script that a sweep repeats.

use std::ffi::OsString;

use injector::exit::{ExitCode, Result};
use injector::sweep::retry_step;

/// Runs a step of a script.
pub fn step(command: &[OsString]) -> Result<ExitCode> {
    Ok(ExitCode(retry_step::step(command)?))
}
