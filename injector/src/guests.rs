//! `injector sweep --vm`: a controller on the host that has the sweep done in guests, and outlives them.
//!
//! In each guest this same program is `/init` and runs `injector sweep --journal-port`. Its records come through a virtio
//! port, are appended to the journal on the host and synced there, and only then acknowledged ([`book`]). When a guest
//! goes down, the controller says so in the journal ([`witness`] has what its console said last) and boots another one that
//! goes on where the journal ends. What a guest's end means is decided in [`decide`].
//!
//! Several jobs are several guests, each with a part of the sites (`--shard`) and a journal of its own.

mod book;
mod decide;
mod guest;
mod interrupt;
mod job;
mod replay;
mod show;
mod witness;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use injector_guest::{Accelerator, BootError, Machine, root::RootError};

use crate::exit::{ExitCode, HasExitCode};
use crate::journal::{self, Incompatible, Journal, ReadError, WriteError, record::Shard};

use interrupt::Interrupt;
pub use replay::Replays;
pub use show::{Line, Show};

/// Where a sweep in a guest finds the journal so far.
pub const GUEST_JOURNAL: &str = "/injector-journal.jsonl";

/// What to do.
#[derive(Clone, Debug)]
pub struct VmPlan {
    /// The kernel's image (bzImage).
    pub image: PathBuf,
    /// How many guests at a time, from 1. Each does a part of the sites.
    pub jobs: u32,
    /// Memory of each guest, MiB; its root is in it.
    pub memory_mb: u32,
    /// Processors of each guest.
    pub cpus: u32,
    /// Emulation or KVM.
    pub accelerator: Accelerator,
    /// The injector: /init and /usr/bin/injector of the guests.
    pub injector: PathBuf,
    /// Files and directories of this machine, and where they go in the guests.
    pub added: Vec<(PathBuf, String)>,
    /// Programs of this machine that the guests are to have.
    pub programs: Vec<String>,
    /// More words for the kernels' command line.
    pub append: Vec<String>,
    /// Options of the sweep in the guests: neither those for the journal, nor `--shard` and `--budget`.
    pub options: Vec<String>,
    /// When the time is up; each guest is told what is left of it.
    pub until: Option<Instant>,
    /// The workload. If its first word is a file of this machine, the guests get it.
    pub command: Vec<String>,
    /// The journal. With several jobs, each has its own beside it; see [`journals`].
    pub journal: PathBuf,
    /// The part of all sites that this machine does.
    pub shard: Option<Shard>,
    /// How long a guest may show no sign of life.
    pub stall: Duration,
    /// How long a guest may take to boot.
    pub boot_timeout: Duration,
    /// How many times a job may boot again.
    pub reboots_max: u32,
    /// Where the last guest's console goes, for looking at; `{}` stands for the job.
    pub console_log: Option<String>,
}

impl VmPlan {
    /// One guest with two processors and 2 GiB, under KVM where that works; up to 10,000 boots.
    ///
    /// # Errors
    /// This program's file can't be found.
    pub fn new(image: &Path, command: Vec<String>, journal: &Path) -> io::Result<Self> {
        Ok(Self {
            image: image.to_owned(),
            jobs: 1,
            memory_mb: 2048,
            cpus: 2,
            accelerator: Accelerator::Auto(cache_directory()),
            injector: std::env::current_exe()?,
            added: Vec::new(),
            programs: Vec::new(),
            append: Vec::new(),
            options: Vec::new(),
            until: None,
            command,
            journal: journal.to_owned(),
            shard: None,
            // Emulated guests are slow, and several may share a processor of this machine.
            stall: Duration::from_secs(120),
            boot_timeout: Duration::from_secs(300),
            reboots_max: 10_000,
            console_log: None,
        })
    }

    /// What the guests of a job run. Sites are told apart by signature modulo the number of parts, so the parts of
    /// a part are parts too.
    fn shard(&self, job: u32) -> Option<Shard> {
        let Shard { index, count } = self.shard.unwrap_or(Shard { index: 0, count: 1 });
        let all = Shard { index: index + count * job, count: count * self.jobs };
        (all.count > 1).then_some(all)
    }
}

/// As `injector-build` has it, which is not there at run time.
fn cache_directory() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map_or_else(home, PathBuf::from);
    cache.join("injector")
}

/// The journals that these jobs write: the named one, or of several jobs `NAME.0-of-4` and so on.
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

/// How it ended. The journals are whole, whatever happened.
#[derive(Debug)]
pub struct VmEnd {
    /// Each job, in order.
    pub jobs: Vec<JobEnd>,
}

/// How a job ended.
#[derive(Debug)]
pub struct JobEnd {
    /// Its journal.
    pub journal: PathBuf,
    /// How many guests came up, and were not ended by an interrupt.
    pub boots: u32,
    /// How many of them went down.
    pub crashes: u32,
    /// Time spent booting.
    pub booting: Duration,
    /// Whether its sweep came to its end.
    pub result: Result<(), VmError>,
}

impl VmEnd {
    /// The journals.
    #[must_use]
    pub fn journals(&self) -> Vec<PathBuf> {
        self.jobs.iter().map(|job| job.journal.clone()).collect()
    }

    /// What all jobs found. Of several, the united journal is also written to the name that the plan has for it.
    ///
    /// # Errors
    /// A journal can't be read, or the united one not be written.
    pub fn unite(&self, plan: &VmPlan) -> Result<Journal, VmError> {
        let written = self.jobs.iter().map(|job| &job.journal).filter(|journal| journal.exists());
        let mut journals = written.map(|journal| journal::read(journal)).collect::<Result<Vec<_>, _>>()?;
        if self.jobs.len() == 1 {
            return Ok(journals.pop().unwrap_or_default());
        }
        let mut united = journal::merge(&journals).map_err(VmError::Apart)?;
        united.name = plan.journal.display().to_string();
        united.remarks = journals.into_iter().flat_map(|journal| journal.remarks).collect();
        replace(&plan.journal, |out| united.write(out)).map_err(|source| {
            let path = plan.journal.clone();
            VmError::Journal(WriteError::Io { path, action: "write", error: source })
        })?;
        Ok(united)
    }

    /// The gravest error, if any job has one. Those of jobs that were ended because another one failed come last.
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
    /// The guests' root can't be put together.
    #[error("the guest's root: {0}")]
    Root(#[from] RootError),
    /// A program that the user named.
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
    /// The journal can't be gone on with.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The journal can't be written.
    #[error(transparent)]
    Journal(#[from] WriteError),
    /// What a guest wrote could not be stored; the guest was ended.
    #[error("{0}; the guest was ended, and the journal is whole up to there")]
    NotStored(io::Error),
    /// The jobs' journals are not of one sweep.
    #[error(transparent)]
    Apart(Incompatible),
    /// This machine can't boot a guest at all.
    #[error(transparent)]
    Boot(BootError),
    /// The kernel does not come up, or is none.
    #[error("{0}")]
    NotBooted(String),
    /// The sweep in the guest said that something is missing.
    #[error("the guest lacks what a sweep needs; its own messages say what{}", said(.0))]
    Prerequisites(String),
    /// The sweep in the guest refused what it was given.
    #[error("the sweep in the guest refused to start; its own messages say why{}", said(.0))]
    Usage(String),
    /// By the user, or because another job failed.
    #[error("interrupted; the journal is whole, and --resume goes on")]
    Interrupted,
    /// It does not get any further.
    #[error("{boots} guests in a row added nothing to the journal, the last one because {last}; the journal is whole")]
    NoProgress {
        /// How many.
        boots: u32,
        /// What became of the last one.
        last: String,
    },
    /// The bound was reached.
    #[error(
        "{0} guests went down or asked for another one, which is the bound; the journal is whole, and --resume goes on"
    )]
    TooManyBoots(u32),
}

/// The last thing that a guest's sweep said.
fn said(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

impl HasExitCode for VmError {
    /// A sweep that began and stopped early, with its journal whole, was interrupted.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Image { .. }
            | Self::Root(RootError::NoSuchFile { .. } | RootError::RelativePath { .. } | RootError::Hidden { .. })
            | Self::NoProgram(_)
            | Self::OtherJobs { .. }
            | Self::Unreadable(_)
            | Self::Apart(_)
            | Self::Journal(WriteError::Exists(_) | WriteError::Locked(_) | WriteError::Changed(_))
            | Self::Usage(_) => ExitCode::USAGE,
            Self::Root(_) | Self::Boot(_) | Self::NotBooted(_) | Self::Prerequisites(_) => ExitCode::MISSING,
            Self::Journal(_)
            | Self::NotStored(_)
            | Self::Interrupted
            | Self::NoProgress { .. }
            | Self::TooManyBoots(_) => ExitCode::INTERRUPTED,
        }
    }
}

impl VmError {
    /// The other jobs would meet the same.
    fn concerns_all(&self) -> bool {
        !matches!(self, Self::NoProgress { .. } | Self::TooManyBoots(_))
    }
}

/// Sweeps in guests until all jobs are done. SIGINT and SIGTERM end the guests in order, the second at once.
///
/// A journal that has something in it is gone on with; whether that was wanted is the caller's to check.
///
/// # Errors
/// Nothing was booted. What became of the jobs later is in the [`VmEnd`].
pub fn run(plan: &VmPlan, show: &Show) -> Result<VmEnd, VmError> {
    let file = fs::File::open(&plan.image).and_then(|file| file.metadata());
    match file {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(VmError::Image { path: plan.image.clone(), source: io::Error::other("it is no file") }),
        Err(source) => return Err(VmError::Image { path: plan.image.clone(), source }),
    }
    other_jobs(&plan.journal, plan.jobs)?;
    let guest = guest::Guest::new(plan, show)?;
    let interrupt = Interrupt::watch();
    let journals = journals(&plan.journal, plan.jobs);
    let jobs = thread::scope(|scope| {
        let started: Vec<_> = (0..plan.jobs.max(1))
            .zip(&journals)
            .map(|(job, journal)| {
                let (guest, interrupt) = (&guest, &interrupt);
                scope.spawn(move || {
                    let end = job::Job::new(plan, guest, interrupt, show, job, journal).run();
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

/// Writes a file as a whole: what was there before stays until the new one is on the disk.
fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = io::BufWriter::new(fs::File::create(&new)?);
    write(&mut file)?;
    file.into_inner()?.sync_all()?;
    fs::rename(new, path)
}

/// Refuses to begin anew beside what other jobs have done.
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

/// How a guest is made, for those who boot one.
fn machine(plan: &VmPlan, root: &Path, job: u32) -> Machine {
    let mut machine = Machine::new(&plan.image, vec![root.to_owned()]);
    machine.cpus = plan.cpus;
    machine.memory_mb = plan.memory_mb;
    machine.accelerator = plan.accelerator.clone();
    machine.append = plan.append.clone();
    machine.stall = plan.stall;
    machine.boot_timeout = plan.boot_timeout;
    machine.console_log = plan.console_log.as_ref().map(|path| PathBuf::from(path.replace("{}", &job.to_string())));
    machine
}

#[cfg(test)]
mod tests;
