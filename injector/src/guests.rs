//! Sweeps in guests: a controller on the host has an engine boot guests that do the sweep, and outlives them.
//!
//! Each guest runs `injector execute` with a plan file ([`handover`]). Its records come through a port, are appended to the
//! journal on the host and synced there, and only then acknowledged ([`host_journal`]). When a guest goes down, the controller
//! records why ([`console_tail`] has the end of its console) and boots another one, which goes on where the journal ends.
//! [`decide`] says what a guest's end means.
//!
//! Several jobs are several guests, each with a part of the sites (`--shard`) and a journal of its own.

mod console_tail;
mod contents;
mod decide;
mod guard;
pub mod handover;
mod host_journal;
mod interrupt;
mod job;
mod kernel;
mod output;
mod replay;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use injector_guest::{Accelerator, BootError, GuestSpec, root::RootError};

use crate::{
    exit::{ExitCode, HasExitCode},
    journal::{self, Incompatible, Journal, ReadError, WriteError},
    output::{OutputError, replace},
    plan::{
        StackPattern,
        sweep::{self as sweep_plan, GuestKernel, Guests, Shard, SweepPlan},
    },
};

use contents::Contents;
use interrupt::Interrupt;
pub use output::{Line, Show};
pub use replay::Replays;

/// The name of the controller's file with the journal so far.
const JOURNAL_FILE: &str = "journal.jsonl";
/// The name of the controller's file with the plan.
const PLAN_FILE: &str = "plan.json";

/// A sweep in guests.
#[derive(Clone, Debug)]
pub struct VmPlan {
    /// What boots.
    pub guests: Guests,
    /// The sweep: all of it, of which each guest gets a part. A workload that is a file of this machine is put into guests with
    /// a root of their own.
    pub sweep: SweepPlan,
    /// Emulation or KVM.
    pub accelerator: Accelerator,
    /// The injector's file: /init and /usr/bin/injector of guests with a root of their own.
    pub injector: PathBuf,
    /// When the sweep's budget is used up; each guest gets the rest.
    pub until: Option<Instant>,
    /// The journal. With several jobs, each has its own beside it; see [`journals`].
    pub journal: PathBuf,
    /// How long a guest may show no sign of life.
    pub stall: Duration,
    /// How long a guest may take to boot.
    pub boot_timeout: Duration,
    /// How many times a job may boot again.
    pub reboots_max: u32,
    /// A file for the console of the last guest; `{}` in its name stands for the job.
    pub console_log: Option<String>,
}

impl VmPlan {
    /// This sweep in these guests, under KVM where that works, with up to 10,000 boots. The budget starts to run now.
    ///
    /// # Errors
    /// This program's file can't be found.
    pub fn new(sweep: SweepPlan, guests: Guests, journal: &Path) -> io::Result<Self> {
        Ok(Self {
            accelerator: Accelerator::Auto(injector_kernels::cache_dir()),
            injector: std::env::current_exe()?,
            until: sweep.budget.map(|budget| Instant::now() + budget),
            journal: journal.to_owned(),
            // Emulated guests are slow, and several may share a processor of this machine.
            stall: Duration::from_secs(120),
            boot_timeout: Duration::from_secs(300),
            reboots_max: 10_000,
            console_log: None,
            guests,
            sweep,
        })
    }

    /// The part of the sites that a job does. Sites are told apart by signature modulo the number of parts, so a part of a part
    /// is a part, too.
    fn shard(&self, job: u32) -> Option<Shard> {
        let Shard { index, count } = self.sweep.shard.unwrap_or(Shard { index: 0, count: 1 });
        let all = Shard { index: index + count * job, count: count * self.guests.jobs };
        (all.count > 1).then_some(all)
    }

    /// What the next guest of a job does.
    fn for_guest(&self, job: u32, so_far: &str, command: &[OsString]) -> SweepPlan {
        // A guest that is too late still records what is left undone.
        let left = |until: Instant| until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        SweepPlan {
            command: command.to_vec(),
            journal: sweep_plan::Journal::Port { so_far: so_far.into() },
            shard: self.shard(job),
            budget: self.until.map(left),
            spared: self.spared(),
            ..self.sweep.clone()
        }
    }

    /// What must not fail, or the engine's guests cannot go on.
    fn spared(&self) -> Vec<StackPattern> {
        let engine = self.guests.engine.spared().iter().filter_map(|pattern| pattern.parse().ok());
        self.sweep.spared.iter().cloned().chain(engine).collect()
    }

    /// What the engine boots for a job.
    fn spec(&self, contents: &Contents, job: u32) -> GuestSpec {
        let mut spec = GuestSpec::new(contents.kernel.image(), contents.images());
        spec.cpus = self.guests.cpus;
        spec.memory_mb = self.guests.memory_mb;
        spec.accelerator = self.accelerator.clone();
        spec.devices.clone_from(&self.guests.devices);
        spec.append = contents.kernel.words();
        spec.append.extend(self.guests.append.iter().cloned());
        // Without it KASAN reports the first error only.
        spec.append.push("kasan_multi_shot".to_owned());
        spec.clock = self.guests.clock;
        spec.stall = self.stall;
        spec.boot_timeout = self.boot_timeout;
        spec.console_log = self.console_log.as_ref().map(|path| PathBuf::from(path.replace("{}", &job.to_string())));
        spec
    }
}

/// The journals that these jobs write: the named one, or `NAME.0-of-4` and so on if there are several jobs.
#[must_use]
pub fn journals(journal: &Path, jobs: u32) -> Vec<PathBuf> {
    if jobs <= 1 {
        return vec![journal.to_owned()];
    }
    let part = |job| {
        let mut name = journal.as_os_str().to_owned();
        name.push(format!(".{job}-of-{jobs}"));
        PathBuf::from(name)
    };
    (0..jobs).map(part).collect()
}

/// How a sweep in guests ended. The journals are whole in any case.
#[derive(Debug)]
pub struct VmEnd {
    /// The jobs, in order.
    pub jobs: Vec<JobEnd>,
}

/// How a job ended.
#[derive(Debug)]
pub struct JobEnd {
    /// Its journal.
    pub journal: PathBuf,
    /// How many guests booted, without those that an interrupt ended.
    pub boots: u32,
    /// How many of them went down.
    pub crashes: u32,
    /// How long the boots took together.
    pub booting: Duration,
    /// Why its sweep did not come to its end.
    pub result: Result<(), VmError>,
}

impl VmEnd {
    /// The journals.
    #[must_use]
    pub fn journals(&self) -> Vec<PathBuf> {
        self.jobs.iter().map(|job| job.journal.clone()).collect()
    }

    /// Unites the jobs' journals. If there are several, the united journal is also written to the plan's journal file.
    ///
    /// # Errors
    /// A journal can't be read, or the united one can't be written.
    pub fn unite(&self, plan: &VmPlan) -> Result<Journal, VmError> {
        let written = self.jobs.iter().map(|job| &job.journal).filter(|journal| journal.exists());
        let mut journals = written.map(|journal| journal::read(journal)).collect::<Result<Vec<_>, _>>()?;
        if self.jobs.len() == 1 {
            return Ok(journals.pop().unwrap_or_default());
        }
        let mut united = journal::merge(&journals).map_err(VmError::Apart)?;
        united.name = plan.journal.display().to_string();
        united.remarks = journals.into_iter().flat_map(|journal| journal.remarks).collect();
        replace(&plan.journal, |out| united.write(out)).map_err(VmError::United)?;
        Ok(united)
    }

    /// The first error of a job that failed. An error of a job that was ended because another one failed comes last.
    pub fn error(&self) -> Option<&VmError> {
        let errors = self.jobs.iter().filter_map(|job| job.result.as_ref().err());
        errors.min_by_key(|error| matches!(error, VmError::Interrupted))
    }
}

/// Why a sweep in guests did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// There is no such kernel.
    #[error("kernel image {path}: {source}", path = .path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The kernel can't be had, or its modules can't.
    #[error(transparent)]
    Kernel(#[from] kernel::KernelError),
    /// The guests' root can't be put together.
    #[error("the guest's root: {0}")]
    Root(#[from] RootError),
    /// A program that the user named is missing.
    #[error("there is no program {0} on this machine, nor in the guest")]
    NoProgram(String),
    /// The parts of a journal are those of another number of jobs.
    #[error("{found} is of a sweep with another number of --jobs than {jobs}; give the same, or name another --journal", found = .found.display())]
    OtherJobs {
        /// What is there.
        found: PathBuf,
        /// What was asked for.
        jobs: u32,
    },
    /// The journal can't be resumed.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The journal can't be written.
    #[error(transparent)]
    Journal(#[from] WriteError),
    /// What a guest sent could not be stored, so the guest was ended.
    #[error("{0}; the guest was ended, and the journal is whole up to there")]
    NotStored(io::Error),
    /// The jobs' journals are not of one sweep.
    #[error(transparent)]
    Apart(Incompatible),
    /// The engine can't boot a guest on this machine.
    #[error(transparent)]
    Boot(BootError),
    /// The kernel does not boot.
    #[error("{0}")]
    NotBooted(String),
    /// The guest lacks something.
    #[error("the guest lacks what a sweep needs; its own messages say what{}", said(.0))]
    Prerequisites(String),
    /// The sweep in the guest refused its input.
    #[error("the sweep in the guest refused to start; its own messages say why{}", said(.0))]
    Usage(String),
    /// The user or a job that failed ended it.
    #[error("interrupted; the journal is whole, and --resume goes on")]
    Interrupted,
    /// The last guests made no progress.
    #[error("{boots} guests in a row added nothing to the journal, the last one because {last}; the journal is whole")]
    NoProgress {
        /// How many.
        boots: u32,
        /// How the last one ended.
        last: String,
    },
    /// The bound of boots was reached.
    #[error(
        "{0} guests went down or asked for another one, which is the bound; the journal is whole, and --resume goes on"
    )]
    TooManyBoots(u32),
    /// The kernel is damaged, and it is this machine's own.
    #[error("the kernel is damaged: boot this machine again, and go on with --resume")]
    Damaged,
    /// The jobs' journals can't be united.
    #[error(transparent)]
    United(OutputError),
    /// The plan can't be written as a file.
    #[error("can't write the plan for the guests: {0}")]
    Handover(serde_json::Error),
}

/// The last line that a guest's sweep printed, to end an error with.
fn said(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

impl HasExitCode for VmError {
    /// A sweep that began and stopped early, with its journal whole, was interrupted.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Kernel(error) => error.exit_code(),
            Self::United(error) => error.exit_code(),
            Self::Image { .. }
            | Self::Root(RootError::NoSuchFile { .. } | RootError::RelativePath { .. } | RootError::Hidden { .. })
            | Self::NoProgram(_)
            | Self::OtherJobs { .. }
            | Self::Unreadable(_)
            | Self::Apart(_)
            | Self::Journal(WriteError::Exists(_) | WriteError::Locked(_) | WriteError::Changed(_))
            | Self::Handover(_)
            | Self::Usage(_) => ExitCode::USAGE,
            Self::Root(_) | Self::Boot(_) | Self::NotBooted(_) | Self::Prerequisites(_) => ExitCode::MISSING,
            Self::Journal(_)
            | Self::NotStored(_)
            | Self::Interrupted
            | Self::NoProgress { .. }
            | Self::TooManyBoots(_) => ExitCode::INTERRUPTED,
            Self::Damaged => ExitCode::REBOOT,
        }
    }
}

impl VmError {
    /// Whether the other jobs would fail, too.
    fn concerns_all(&self) -> bool {
        !matches!(self, Self::NoProgress { .. } | Self::TooManyBoots(_))
    }
}

/// Boots guests until all jobs are done. SIGINT and SIGTERM ask the sweeps in the guests to end; the second signal kills them.
///
/// A journal that exists is resumed. The caller checks whether the user wants that.
///
/// # Errors
/// No guest was booted. Later errors of jobs are in the [`VmEnd`].
pub fn run(plan: &VmPlan, show: &Show) -> Result<VmEnd, VmError> {
    if let Some(image) = plan.guests.kernel.as_ref().and_then(GuestKernel::image) {
        let failed = |source| VmError::Image { path: image.to_owned(), source };
        let metadata = fs::File::open(image).and_then(|file| file.metadata()).map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is not a file")));
        }
    }
    other_jobs(&plan.journal, plan.guests.jobs)?;
    let contents = Contents::new(plan, show)?;
    let interrupt = Interrupt::watch();
    let journals = journals(&plan.journal, plan.guests.jobs);
    let jobs = thread::scope(|scope| {
        let started: Vec<_> = (0..plan.guests.jobs.max(1))
            .zip(&journals)
            .map(|(job, journal)| {
                let (contents, interrupt) = (&contents, &interrupt);
                scope.spawn(move || {
                    let end = job::Job::new(plan, contents, interrupt, show, job, journal).run();
                    if end.result.as_ref().is_err_and(VmError::concerns_all) {
                        interrupt.end_all();
                    }
                    end
                })
            })
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    Ok(VmEnd { jobs })
}

/// Refuses to begin beside journals of another number of jobs.
fn other_jobs(journal: &Path, jobs: u32) -> Result<(), VmError> {
    let ours = journals(journal, jobs);
    let name = journal.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let directory = match journal.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        let part = found.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.')?.split_once("-of-"));
        let is_part = part.is_some_and(|(index, count)| index.parse::<u32>().is_ok() && count.parse::<u32>().is_ok());
        if is_part && !ours.iter().any(|path| path.file_name().is_some_and(|name| name.to_string_lossy() == found)) {
            return Err(VmError::OtherJobs { found: entry.path(), jobs });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
