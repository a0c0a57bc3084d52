//! A run: prerequisites, targets, session, then events until something ends it, then the summary.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use injector_common::counters::Counters;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinHandle, yield_now},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    check::{self, Caller, Needs},
    events::{End, Event, HookSummary, Record, RuleSummary, SiteSummary, Start, Summary, Symbolizer, decode},
    kernel::{Facts, KernelFiles, Survey, gfp::GfpBits},
    plan::{Limits, Plan},
    session::{self, Loader, Session, Streams, Wire, monotonic_ns},
    sinks::{self, Sink},
    target::{Command, Outcome, Targets},
};

/// A prerequisite is missing: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MissingPrerequisites(pub String);

/// How often the daemon looks after what nobody tells it of: heartbeat, budget, cgroups.
const TICK: Duration = Duration::from_millis(200);
/// How many records are handled before the heartbeat gets its turn.
const BATCH: usize = 1024;
/// How long an interrupted command may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a plan. Returns the exit code: that of the command, if there is one.
///
/// # Errors
/// See the error types that callers look for: [`MissingPrerequisites`], [`crate::target::TargetError`],
/// [`crate::session::ResolveError`], [`sinks::OpenError`]; anything else is an error of ours or of the kernel.
pub async fn run(plan: &Plan, ebpf_log: bool) -> Result<i32> {
    let started = Instant::now();
    let files = KernelFiles::default();
    let loader = Loader::prepare()?;
    let facts = prerequisites(&files, plan)?;
    debug!("the kernel's facts are known");
    let targets = Targets::open(&plan.target)?;
    let (wire, symbols) = Wire::resolve(plan, &facts, &files, &targets)?;
    debug!("the plan is resolved");
    // Truncates what an earlier run wrote there: only when nothing in the plan can be wrong any more.
    let mut sink = sinks::open(&plan.output, plan.target.command.is_some())?;
    let mut interrupts = Interrupts::new()?;
    let (session, streams) = Session::attach(loader, &plan.first().hooks, &wire, ebpf_log)?;

    let start = Start {
        version: env!("CARGO_PKG_VERSION"),
        kernel: facts.release.as_str().to_owned(),
        build_id: files.build_id(),
        time: rfc3339_now(),
        time_ns: monotonic_ns(),
        dry_run: plan.dry_run,
        hooks: &plan.first().hooks,
        plan,
    };
    // Written at once: an output that can't take it is found out before anything fails.
    sink.start(&start).and_then(|()| sink.flush()).context("can't write the output")?;

    let symbolizer = symbols.map_or_else(|| Symbolizer::load(files), Symbolizer::new);
    let mut run = Run {
        plan,
        names: GfpNames { bits: &facts.gfp, known: HashMap::new() },
        rule: "default".into(),
        session,
        targets,
        command: None,
        sink,
        symbolizer,
        delivered: 0,
        armed: Instant::now(),
        output_error: None,
    };
    run.arm(started)?;
    let Streams { events, attempts: _, log } = streams;
    let log = log.map(forward_log).transpose()?;
    let mut events = watch(events).context("can't watch the ring buffer")?;
    let end = run.stream(&mut events, &mut interrupts).await?;
    let code = run.finish(end, events.into_inner(), &mut interrupts).await;
    if let Some(log) = log {
        // Its last records get their turn.
        yield_now().await;
        log.abort();
    }
    code
}

/// Reads the kernel's facts and refuses to go on when something that the plan needs is missing.
pub(crate) fn prerequisites(files: &KernelFiles, plan: &Plan) -> Result<Facts> {
    let survey = Survey::take(files);
    let report = check::run(files, &survey, &Caller::this(files), &Needs::of(plan));
    if !report.is_ok() {
        return Err(MissingPrerequisites(report.complaint()).into());
    }
    survey.into_facts().map_err(|error| MissingPrerequisites(error.to_string()).into())
}

/// Ctrl-C, and what init sends.
struct Interrupts {
    int: Signal,
    term: Signal,
}

impl Interrupts {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("can't handle signals");
        Ok(Self { int: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

/// GFP flags by name; runs see few combinations, many times.
struct GfpNames<'a> {
    bits: &'a GfpBits,
    known: HashMap<u32, Rc<str>>,
}

impl GfpNames<'_> {
    fn get(&mut self, gfp: u32) -> Rc<str> {
        self.known.entry(gfp).or_insert_with(|| self.bits.format(gfp).into()).clone()
    }
}

/// Everything that is undone in the end. The fields are dropped in this order: the command first, so that nothing of it
/// is left when its cgroup goes; the session before the cgroups that it looks for.
struct Run<'a> {
    plan: &'a Plan,
    names: GfpNames<'a>,
    rule: Rc<str>,
    command: Option<Command>,
    session: Session,
    targets: Targets,
    sink: Box<dyn Sink>,
    symbolizer: Symbolizer,
    delivered: u64,
    armed: Instant,
    output_error: Option<io::Error>,
}

impl Run<'_> {
    /// Starts the command, arms the hooks, and lets the command go: it is hit from its first instruction on.
    fn arm(&mut self, started: Instant) -> Result<()> {
        let policy = &self.plan.first().policy;
        if let (Some(command), Some(cgroup)) = (&self.plan.target.command, &self.targets.own) {
            self.command = Some(Command::start(command, cgroup, None)?);
        }
        self.armed = Instant::now();
        self.session.arm(policy.probability.threshold(), policy.times, self.deadline())?;
        let hooks = self.plan.first().hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(", ");
        let until = if self.command.is_some() { "the command ends" } else { "Ctrl-C" };
        sinks::announce(format_args!("armed: {hooks}; until {until}"));
        info!("start to armed took {:?}", started.elapsed());
        if let Some(command) = &mut self.command {
            command.go().context("the command is gone before it began")?;
        }
        Ok(())
    }

    /// Until when the hooks may go on without hearing from us.
    fn deadline(&self) -> u64 {
        let Limits { duration, ttl } = self.plan.limits;
        let left = duration.map_or(ttl, |duration| duration.saturating_sub(self.armed.elapsed()).min(ttl));
        session::deadline_in(left)
    }

    /// Hands over events until something ends the run.
    async fn stream(&mut self, events: &mut AsyncFd<RingBuf<MapData>>, interrupts: &mut Interrupts) -> Result<End> {
        let mut tick = interval(TICK.min(self.plan.limits.ttl / 4));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = self.plan.limits.duration.map(|duration| tokio::time::Instant::from_std(self.armed + duration));
        let command = self.command.as_ref().map(watch_process).transpose().context("can't watch the command")?;
        let mut gone = Gone::default();
        loop {
            tokio::select! {
                biased;
                () = interrupts.next() => return Ok(End::Signal),
                () = exited(command.as_ref()) => return Ok(End::Command),
                () = sleep_until(over.unwrap_or_else(tokio::time::Instant::now)), if over.is_some() => return Ok(End::Duration),
                _ = tick.tick() => {
                    let deadline = self.deadline();
                    self.session.heartbeat(deadline);
                    if self.command.is_none() {
                        if self.session.is_spent() {
                            return Ok(End::Budget);
                        }
                        if gone.is_everything(&self.targets) {
                            return Ok(End::TargetGone);
                        }
                    }
                }
                ready = events.readable_mut() => {
                    let mut ready = ready.context("can't watch the ring buffer")?;
                    if self.take(ready.get_inner_mut(), BATCH) < BATCH {
                        ready.clear_ready();
                        if let Err(error) = self.sink.flush() {
                            self.output_error = Some(error);
                        }
                    }
                    if self.output_error.is_some() {
                        return Ok(End::Output);
                    }
                    // A ring that is never empty must not keep timers and signals waiting: tokio looks after them only
                    // when we do.
                    yield_now().await;
                }
            }
        }
    }

    /// Hands at most `limit` records to the sink, and says how many there were.
    fn take(&mut self, events: &mut RingBuf<MapData>, limit: usize) -> usize {
        for taken in 0..limit {
            let Some(record) = events.next() else { return taken };
            let decoded = match decode(&record) {
                Ok(Record::NewSite(site)) => {
                    // A quiet run names sites once, in the end, from the histogram itself.
                    if !self.plan.output.quiet {
                        self.symbolizer.remember(site);
                    }
                    continue;
                }
                Ok(Record::Failure(decoded)) => decoded,
                Err(error) => {
                    warn!("the ring buffer holds {error}");
                    continue;
                }
            };
            self.delivered += 1;
            if self.plan.output.quiet || self.output_error.is_some() {
                continue;
            }
            let record = decoded.record;
            let event = Event {
                time_ns: record.time,
                rule: self.rule.clone(),
                hook: decoded.hook,
                error: record.error,
                gfp: self.names.get(record.gfp),
                gfp_bits: record.gfp,
                effective_gfp: self.names.get(record.effective_gfp),
                effective_gfp_bits: record.effective_gfp,
                order: record.order,
                size: record.size,
                cache: decoded.cache,
                pid: record.pid,
                tid: record.tid,
                comm: decoded.comm,
                cgroup: record.cgroup,
                cpu: record.cpu,
                context: decoded.context,
                site: record.site,
                stack: self.symbolizer.stack(record.site, || self.session.site(record.site)),
            };
            if let Err(error) = self.sink.failure(&event) {
                self.output_error = Some(error);
            }
        }
        limit
    }

    /// Ends the failures first, then sees to the command, then says what was.
    async fn finish(mut self, end: End, mut events: RingBuf<MapData>, interrupts: &mut Interrupts) -> Result<i32> {
        let elapsed = self.armed.elapsed();
        self.session.detach();
        let command_status = self.end_command(end, interrupts).await?;
        // Nobody writes to the ring any more.
        self.take(&mut events, usize::MAX);

        let mut hooks = Vec::with_capacity(self.plan.first().hooks.len());
        for hook in &self.plan.first().hooks {
            hooks.push(HookSummary { hook: *hook, counters: self.session.counters(*hook)? });
        }
        let sum = |count: fn(&Counters) -> u64| hooks.iter().map(|hook| count(&hook.counters)).sum();
        let summary = Summary {
            elapsed,
            end,
            command_status,
            calls: sum(|counters| counters.calls),
            matches: sum(|counters| counters.matches),
            failures: sum(|counters| counters.failures),
            delivered: self.delivered,
            lost: sum(|counters| counters.lost),
            suppressed: sum(Counters::suppressed),
            sites: self.histogram()?,
            rules: vec![RuleSummary { name: self.rule.clone(), hooks: hooks.clone() }],
            hooks,
        };
        if summary.delivered + summary.lost != summary.failures {
            warn!(
                "{} failures, but {} events and {} lost: a defect of the injector",
                summary.failures, summary.delivered, summary.lost
            );
        }
        if self.output_error.is_none() {
            self.output_error = self.sink.summary(&summary).and_then(|()| self.sink.flush()).err();
        }
        match self.output_error.take() {
            None => Ok(command_status.unwrap_or(0)),
            Some(error) => {
                // What was counted is not lost with the output.
                sinks::last_resort(&summary, self.plan.output.top);
                Err(error).context("can't write the output; the summary above is all that is left of it")
            }
        }
    }

    /// Waits for a command that ends, and makes an interrupted one end.
    async fn end_command(&mut self, end: End, interrupts: &mut Interrupts) -> Result<Option<i32>> {
        let Some(command) = &mut self.command else { return Ok(None) };
        if end != End::Command {
            let watch = watch_process(command).context("can't watch the command")?;
            // From a terminal it got the Ctrl-C too, and may be cleaning up.
            command.signal(nix::sys::signal::Signal::SIGTERM);
            let ended = tokio::select! {
                () = exited(Some(&watch)) => true,
                () = interrupts.next() => false,
                () = tokio::time::sleep(PATIENCE) => false,
            };
            if !ended {
                warn!("the command does not end; killing it");
            }
            if let Some(cgroup) = &self.targets.own {
                cgroup.kill();
            }
            exited(Some(&watch)).await;
        }
        Ok(command.outcome().context("can't wait for the command")?.map(Outcome::code))
    }

    /// All sites that were failed, most frequent first.
    fn histogram(&mut self) -> Result<Vec<SiteSummary>> {
        let mut sites = self.session.sites()?;
        // A row without a count was made for a failure that the budget did not allow.
        sites.retain(|(_, site)| site.count > 0);
        sites.sort_by_key(|(signature, site)| (Reverse(site.count), *signature));
        let mut summaries = Vec::with_capacity(sites.len());
        for (signature, site) in sites {
            let Some(hook) = session::hook(site.hook) else { continue };
            let count = site.count;
            summaries.push(SiteSummary {
                site: signature,
                hook,
                count,
                stack: self.symbolizer.stack(signature, || Some(site)),
                outcomes: None,
            });
        }
        Ok(summaries)
    }
}

/// Which targets are gone; each is said once.
#[derive(Default)]
struct Gone {
    pids: HashSet<u32>,
    cgroups: HashSet<u64>,
}

impl Gone {
    /// Whether there were targets, and none is left.
    fn is_everything(&mut self, targets: &Targets) -> bool {
        for process in &targets.processes {
            if process.has_ended() && self.pids.insert(process.pid()) {
                sinks::announce(format_args!("process {} has ended", process.pid()));
            }
        }
        for cgroup in &targets.cgroups {
            if !cgroup.exists() && self.cgroups.insert(cgroup.id()) {
                sinks::announce(format_args!("cgroup {} was removed", cgroup.path().display()));
            }
        }
        let all = targets.processes.len() + targets.cgroups.len();
        all > 0 && self.pids.len() + self.cgroups.len() == all
    }
}

/// Has tokio watch a descriptor that becomes readable.
fn watch<T: AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: every source here owns its one descriptor, and gives it up when it is dropped, not before.
    Ok(unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) }?)
}

/// Has tokio watch for the end of a command.
fn watch_process(command: &Command) -> io::Result<AsyncFd<OwnedFd>> {
    watch(command.as_fd().try_clone_to_owned()?)
}

/// Waits for a pidfd to say that its process has ended; for ever without one.
async fn exited(pidfd: Option<&AsyncFd<OwnedFd>>) {
    match pidfd {
        Some(pidfd) => {
            // An error here would be one of epoll itself; then other ends of the run remain.
            if pidfd.readable().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Passes the eBPF side's diagnostics on to the log.
fn forward_log(log: EbpfLogger<&'static dyn log::Log>) -> Result<JoinHandle<()>> {
    let mut log = watch(log).context("can't watch the eBPF log")?;
    Ok(tokio::task::spawn_local(async move {
        while let Ok(mut ready) = log.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }))
}

fn rfc3339_now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}
