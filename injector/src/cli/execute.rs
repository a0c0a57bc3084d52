//! `injector execute`: what the controller of a sweep in guests runs in them.

use std::path::PathBuf;

use clap::Args;

use super::{Command, Exit, Reports, RunOptions, refuse};
use crate::guests::handover::Handover;

/// Carry out a plan file that the controller of guests has written
#[derive(Args)]
#[command(hide = true)]
pub(super) struct ExecuteArgs {
    /// The plan file
    file: PathBuf,
}

impl ExecuteArgs {
    pub(super) fn into_command(self) -> Result<Command, Exit> {
        match Handover::read(&self.file).map_err(|error| refuse(&error.to_string()))? {
            Handover::Sweep(plan) => {
                Ok(Command::Sweep { plan, guests: None, reports: Reports::default(), options: RunOptions::default() })
            }
            Handover::Replay(plan) => Ok(Command::Replay(*plan, None)),
        }
    }
}
