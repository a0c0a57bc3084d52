//! `injector step`: one step of a script that a sweep repeats.

use std::ffi::OsString;

use injector::exit::{ExitCode, Result};
use injector::sweep::step;

/// Runs a step of a script.
pub fn step(command: &[OsString]) -> Result<ExitCode> {
    Ok(ExitCode(step::step(command)?))
}
