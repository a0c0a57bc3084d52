//! A sweep from its plan to its end: the journal is opened, the workload runs without injection, the programs are attached.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::{Duration, Instant},
};

use injector_guest::{
    port::DataPort,
    protocol::{BUDGET_SIGNAL, VIRTUAL_TIME},
};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{
    KernelRunner,
    injector::{Injector, Prepared},
};
use crate::{
    exit::{Context as _, Result},
    journal::{
        self, Begin, Journal, Record, Recorder, State, Writer, differences,
        record::{Crash, CrashKind, Options, Plain, SCHEMA},
    },
    kernel::KernelFiles,
    plan::sweep::{self as plan, SweepPlan},
    session::Attempts,
    sinks,
    sweep::{
        Stopped, drive, identity,
        workload::{self, Workload},
    },
    target::OwnCgroup,
};

/// A journal that does not belong here: bad input.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JournalError(pub String);

crate::exit::has_exit_code!(JournalError => USAGE);

/// How a sweep ended.
#[derive(Debug)]
pub struct Ended {
    /// None: it came to its end.
    pub stopped: Option<Stopped>,
    /// What is known now, from before it was resumed too.
    pub state: State,
}

/// Sweeps.
///
/// # Errors
/// [`JournalError`], [`crate::sweep::WorkloadError`]: bad input; those of [`crate::run::run`]; anything else is an error of
/// the injector or of the kernel.
pub fn sweep(plan: &SweepPlan) -> Result<Ended> {
    let start = Instant::now();
    let files = KernelFiles::default();
    let mut begin = begin(plan, &files)?;

    // All that can be wrong with the journal comes before anything is attached, all that can be wrong with the machine or the
    // workload before the journal is touched.
    let earlier = earlier(&plan.journal)?;
    if let Some(journal) = &earlier {
        adopt(journal, &mut begin)?;
    }
    let context = SweepContext::new(plan, files)?;

    let writer = writer(&plan.journal, earlier.as_ref())?;
    let state = earlier.as_ref().map(State::of).unwrap_or_default();
    let open = state.open_run();
    let mut recorder = Recorder::new(writer, state);
    let rebooted = earlier.as_ref().is_some_and(|journal| last_boot(journal) != begin.boot.as_deref());
    // The crash was in the boot before this one.
    if let Some(run) = open.filter(|_| rebooted) {
        let title = "the machine went down".to_owned();
        let splat = String::new();
        recorder.sync(&Record::Crash(Crash { run: Some(run), kind: CrashKind::Unknown, title, splat }))?;
    }
    recorder.sync(&Record::Begin(Box::new(begin)))?;
    recorder.sync(&Record::Plain(Plain { elapsed: context.plain.as_secs_f64(), status: workload::STATUS }))?;
    let mut runner = KernelRunner::new(plan, context, recorder, start)?;
    let mut scheduler = runner.scheduler();
    let stopped = drive::drive(&mut scheduler, &mut runner);
    let stopped = runner.end(stopped)?;
    Ok(Ended { stopped, state: runner.into_state() })
}

/// What the runs of a sweep work with, once the workload was seen to work without injection.
pub struct SweepContext {
    /// The files of the kernel.
    pub files: KernelFiles,
    /// The attached programs.
    pub injector: Injector,
    /// Where attempts are opened.
    pub attempts: Attempts,
    /// The workload's.
    pub cgroup: OwnCgroup,
    /// What is run.
    pub workload: Workload,
    /// How long it takes without injection.
    pub plain: Duration,
    /// SIGINT and SIGTERM set it.
    pub interrupted: Arc<AtomicBool>,
    /// The controller's signal sets it: the budget is used up.
    pub spent: Arc<AtomicBool>,
}

impl SweepContext {
    /// Checks the prerequisites, runs the workload without injection, and attaches the programs: in this order, since modules
    /// that the workload loads must be there before.
    ///
    /// # Errors
    /// Prerequisites are missing, the workload does not work, or the kernel refuses the programs.
    pub fn new(plan: &SweepPlan, files: KernelFiles) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("can't handle signals")?;
        }
        let spent = Arc::new(AtomicBool::new(false));
        if is_virtual() {
            signal_hook::flag::register(BUDGET_SIGNAL, Arc::clone(&spent)).context("can't handle signals")?;
        }
        let prepared = Prepared::new(plan, &files)?;
        let mut workload = Workload::new(plan)?;
        workload.clean_up()?;
        workload.set_up()?;
        let is_interrupted = || interrupted.load(Ordering::Relaxed);
        let plain = workload.uninjected(prepared.cgroup()?, plan.patience(), is_interrupted)?;
        sinks::announce(format_args!("the workload takes {:.2} s without injection", plain.as_secs_f64()));
        let (injector, attempts, cgroup) = Injector::attach(plan, &files, prepared)?;
        Ok(Self { files, injector, attempts, cgroup, workload, plain, interrupted, spent })
    }
}

/// Whether this machine's clock is virtual: where a user's time is meant, it is of no use.
pub fn is_virtual() -> bool {
    std::env::var_os(VIRTUAL_TIME).is_some()
}

/// The first line of a new journal.
pub fn begin(plan: &SweepPlan, files: &KernelFiles) -> Result<Begin> {
    let boot = files.read_text("proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned());
    let name = files.read_text("proc/sys/kernel/random/uuid").context("the kernel has no random names")?;
    Ok(Begin {
        schema: SCHEMA,
        sweep: name.trim().replace('-', ""),
        part: 0,
        boot,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        kernel: identity::kernel(files)?,
        workload: journal::record::Workload {
            name: plan.workload.clone(),
            ..identity::workload(&plan.command, plan.setup.as_deref(), plan.cleanup.as_deref())
        },
        options: Options {
            depth: plan.depth,
            hit: plan.hit,
            persistent: plan.persistent,
            kthreads: plan.kthreads,
            only: plan.only.iter().map(ToString::to_string).collect(),
            expect_success: plan.expect_success,
        },
        shard: plan.shard,
        guests: plan.guests.clone(),
    })
}

/// Reads the journal that is to be gone on with; none where a new one begins.
fn earlier(journal: &plan::Journal) -> Result<Option<Journal>> {
    let journal = match journal {
        plan::Journal::New(path) if path.exists() => {
            return Err(journal::WriteError::Exists(path.clone()).into());
        }
        plan::Journal::New(_) | plan::Journal::None => return Ok(None),
        plan::Journal::Resume(path) | plan::Journal::Port { so_far: path } => journal::read(path)?,
    };
    for remark in &journal.remarks {
        sinks::announce(format_args!("{}: {remark}", journal.name));
    }
    Ok((!journal.sections.is_empty()).then_some(journal))
}

/// Goes on with what a journal knows, if it is of this kernel and workload.
fn adopt(journal: &Journal, begin: &mut Begin) -> Result<(), JournalError> {
    let [section] = journal.sections.as_slice() else {
        let message = format!("{} holds several sweeps; only the journal of one can be resumed", journal.name);
        return Err(JournalError(message));
    };
    same(journal, &section.begin, begin).map_err(|differences| JournalError(format!("can't resume: {differences}")))?;
    begin.sweep.clone_from(&section.begin.sweep);
    begin.part = section.begins().map(|begin| begin.part).max().unwrap_or(0) + 1;
    Ok(())
}

/// Whether a journal's sweep is of the kernel and workload that are here; else what is different.
pub fn same(journal: &Journal, begin: &Begin, here: &Begin) -> Result<(), String> {
    let there = format!("in {}", journal.name);
    let lines: Vec<String> =
        differences(begin, here).iter().map(|difference| difference.line(&there, "here")).collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("; ")) }
}

/// The boot in which a journal was last written to.
fn last_boot(journal: &Journal) -> Option<&str> {
    journal.sections.last()?.begins().last()?.boot.as_deref()
}

fn writer(journal: &plan::Journal, earlier: Option<&Journal>) -> Result<Writer> {
    Ok(match journal {
        plan::Journal::New(path) => Writer::create(path)?,
        plan::Journal::Resume(path) => Writer::resume(path, &earlier.map(|journal| journal.tail).unwrap_or_default())?,
        plan::Journal::None => Writer::port(Box::new(io::sink())),
        plan::Journal::Port { .. } => {
            Writer::port(Box::new(DataPort::open().context("can't open the port to the host's journal")?))
        }
    })
}
