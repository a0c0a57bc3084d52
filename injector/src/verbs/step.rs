//! `injector step`: one step of a script that a sweep repeats.

use std::ffi::OsString;

use anyhow::Result;
use injector::sweep::step;

/// Runs a step of a script.
pub fn step(command: &[OsString]) -> Result<i32> {
    Ok(step::step(command)?)
}
