//! `injector workloads`, and the option of other verbs that names a workload.

use std::path::PathBuf;

use clap::Args;

use crate::plan::workload::WorkloadFile;
use crate::workloads::{self, WorkloadsError};

/// List the workloads of the catalogue, and what is missing here
///
/// The catalogue is a directory with a file NAME.toml, or a directory NAME with a file workload.toml, for each workload. It is
/// looked for in --workloads, $INJECTOR_WORKLOADS, `workloads` beside the program, /usr/share/injector/workloads, and in the
/// checkout.
#[derive(Args)]
#[command(after_help = "Exit codes: 0 listed; 2 wrong input: no such workload, a file that is none of a workload")]
pub(super) struct WorkloadsArgs {
    /// Show all about this one: a name, or the path of a file
    #[arg(value_name = "NAME", conflicts_with = "tag")]
    pub(super) name: Option<String>,

    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    pub(super) tag: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,

    /// The catalogue
    #[arg(long, value_name = "DIR")]
    pub(super) workloads: Option<PathBuf>,
}

/// The workload, by name.
#[derive(Args)]
pub(super) struct WorkloadArgs {
    /// A workload of the catalogue, or the path of a workload's file; injector workloads lists them
    ///
    /// The file says what runs, how it is prepared and taken down, and which programs, modules and devices the guests get. Options
    /// that are given as well add to its lists, and win over its other values.
    #[arg(long, value_name = "NAME|PATH", help_heading = super::sweep::WORKLOAD)]
    pub(super) workload: Option<String>,

    /// The directory with the catalogue of workloads [default: $INJECTOR_WORKLOADS, or where it is installed]
    #[arg(long, value_name = "DIR", requires = "workload", help_heading = super::sweep::WORKLOAD)]
    pub(super) workloads: Option<PathBuf>,
}

impl WorkloadArgs {
    /// The workload, if one is named. This machine has the programs that it needs.
    pub(super) fn find(&self) -> Result<Option<WorkloadFile>, WorkloadsError> {
        let Some(name) = &self.workload else { return Ok(None) };
        let file = workloads::find(name, self.workloads.as_deref())?;
        match workloads::missing(&file) {
            Some(missing) => Err(WorkloadsError::Missing(missing)),
            None => Ok(Some(file)),
        }
    }
}
