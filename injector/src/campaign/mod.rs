//! A campaign: the sweeps of several workloads, one after the other, with one journal each in a directory, and one report.
//!
//! [`decide`] says what is to be done for a workload, [`sweep`] runs a sweep as a process of its own, and
//! [`crate::report::campaign`] puts the journals together. A campaign that is started again goes on where it ended: its state is
//! the journals.

pub mod decide;
pub mod list;
pub mod sweep;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::plan::sweep::Shard;
use crate::plan::workload::WorkloadFile;

/// What a campaign does.
#[derive(Clone, Debug, PartialEq)]
pub struct CampaignPlan {
    /// The workloads, in this order, with the words that name them.
    pub workloads: Vec<(String, WorkloadFile)>,
    /// The directory of the journals and the report.
    pub directory: PathBuf,
    /// Options of each sweep.
    pub options: Vec<OsString>,
    /// How many guests a sweep has at a time.
    pub jobs: u32,
    /// How long all sweeps may take.
    pub budget: Option<Duration>,
    /// How long each may take.
    pub budget_each: Option<Duration>,
    /// Which part of the workloads.
    pub shard: Option<Shard>,
    /// Files of known findings.
    pub known: Vec<PathBuf>,
    /// The report goes to standard output as JSON.
    pub json: bool,
}

impl CampaignPlan {
    /// The workloads of this part: by their place in the list, so that every part has about as many.
    pub fn ours(&self) -> impl Iterator<Item = &(String, WorkloadFile)> {
        let shard = self.shard.unwrap_or(Shard { index: 0, count: 1 });
        self.workloads.iter().enumerate().filter(move |(i, _)| shard.has(*i as u64)).map(|(_, workload)| workload)
    }

    /// A workload's journal.
    #[must_use]
    pub fn journal(&self, file: &WorkloadFile) -> PathBuf {
        journal(&self.directory, &file.name)
    }
}

fn journal(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.jsonl"))
}
