//! A run: it checks the prerequisites, attaches the hooks, passes events to the sink until something ends it, and writes the summary.

mod live;
mod unmatched;
mod watch;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, btree_map::Entry},
    io,
    num::NonZeroU64,
    rc::Rc,
    time::{Duration, Instant},
};

use injector_common::{
    counters::Counters,
    record::{OUTCOME_ENOMEM, OUTCOME_ERROR, OUTCOME_MASKED, OUTCOME_OUTSIDE, OUTCOME_SIGNAL, SiteRecord},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::yield_now,
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    check::{self, Needs},
    control,
    events::{
        End, Event, HookSummary, Outcomes, Record, Rings, RuleSummary, SiteSummary, Start, Summary, Symbolizer,
        Unmatched, decode,
    },
    exit::{Context as _, ExitCode, Result},
    kernel::{KernelFiles, gfp::GfpBits, hooks::Attach},
    metrics,
    plan::{Hook, Limits, Plan, Policy},
    session::{self, Attached, ProgramConfig, RuleArming, Session, Streams, monotonic_ns},
    sinks::{self, Kmsg, RunFile, Sink, Status, Teller, Told},
    target::{Command, CommandEnd, Targets},
};

use watch::{Gone, LateModules, exited, forward_log, watch_process};

use live::{Listeners, Live};
pub use live::{LiveOptions, SocketPlace};

/// How often the run polls what does not wake it: heartbeat, budget, cgroups.
const TICK: Duration = Duration::from_millis(200);
/// How often it looks for modules that were loaded after the start.
const TICKS_TO_LATE_MODULES: u32 = 10;
/// How many records of a rule are handled before the next heartbeat.
const BATCH: usize = 1024;
/// How long a command may take to end after a SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a plan. Returns the exit code: that of the command, if there is one.
///
/// # Errors
/// What is wrong, with the exit code.
pub async fn run(files: &KernelFiles, plan: &Plan, ebpf_log: bool, live: &LiveOptions) -> Result<ExitCode> {
    let started = Instant::now();
    let status = if live.no_status { None } else { Status::wanted(plan) };
    let stage = |what| status.iter().for_each(|status| status.stage(what));
    stage("looking at the kernel");
    let facts = check::prerequisites(files, &Needs::of(plan))?;
    debug!("the kernel's facts are known");
    let targets = Targets::open(&plan.target)?;
    stage("resolving the plan: kernel symbols");
    let (wires, symbols) = ProgramConfig::resolve(plan, &facts, files, &targets)?;
    debug!("the plan is resolved");
    let listeners = Listeners::open(live)?;
    // Beside what an earlier run wrote there, which stays until this run begins.
    let (mut sink, file) = sinks::open(&plan.output, plan.target.command.is_some())?;
    let kmsg = plan.output.kmsg.then(|| Kmsg::open(files)).transpose()?;
    let mut interrupts = Interrupts::new()?;
    stage("loading and attaching the programs");
    let (session, streams) = Session::attach(&wires, ebpf_log)?;
    let hooks = session.hooks();

    let start = Start {
        version: env!("CARGO_PKG_VERSION"),
        kernel: facts.release.as_str().to_owned(),
        build_id: files.build_id(),
        time: rfc3339_now(),
        time_ns: monotonic_ns(),
        dry_run: plan.dry_run,
        hooks: &hooks,
        fmod_ret: &session.hooks_by_fmod_ret(),
        module: &session.hooks_by_module(),
        plan,
    };
    // Written at once: an output that can't take it is found out before anything fails.
    sink.start(&start).and_then(|()| sink.flush()).context("can't write the output")?;

    let (sender, receiver) = control::requests();
    let build = metrics::Build { version: start.version, kernel: start.kernel.clone() };
    let served = listeners.serve(build, &sender)?;
    let symbolizer = symbols.map_or_else(|| Symbolizer::load(files.clone()), Symbolizer::new);
    let mut run = Run {
        files,
        plan,
        names: GfpNames { bits: &facts.gfp, known: HashMap::new() },
        rules: plan.rules.iter().map(|rule| rule.name.as_str().into()).collect(),
        session,
        targets,
        command: None,
        sink,
        kmsg,
        symbolizer,
        delivered: 0,
        late_modules: plan
            .rules
            .iter()
            .any(|rule| !rule.filter.stack.is_all())
            .then(|| LateModules::since(&facts.modules)),
        armed: Instant::now(),
        output_error: None,
        live: Live::new(plan, receiver, status),
    };
    run.arm(started, file.as_ref())?;
    let mut rings = Vec::with_capacity(streams.len());
    let mut logs = Vec::new();
    for Streams { events, attempts: _, log } in streams {
        rings.push(events);
        logs.extend(log.map(forward_log).transpose()?);
    }
    let mut rings = Rings::watch(rings).context("can't watch the ring buffers")?;
    let end = run.stream(&mut rings, &mut interrupts).await?;
    let code = run.finish(end, rings, &mut interrupts).await;
    served.close().await;
    for log in logs {
        // Its last records get their turn.
        yield_now().await;
        log.abort();
    }
    code
}

/// SIGINT and SIGTERM.
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

/// Names of GFP flags, cached: a run sees few combinations many times.
struct GfpNames<'a> {
    bits: &'a GfpBits,
    known: HashMap<u32, Rc<str>>,
}

impl GfpNames<'_> {
    fn get(&mut self, gfp: u32) -> Rc<str> {
        self.known.entry(gfp).or_insert_with(|| self.bits.format(gfp).into()).clone()
    }
}

/// A run in progress. Fields are dropped in this order: first the command, so that none of its processes is left when its cgroup is
/// removed; the session before the cgroups that it looks for.
struct Run<'a> {
    files: &'a KernelFiles,
    plan: &'a Plan,
    names: GfpNames<'a>,
    rules: Vec<Rc<str>>,
    command: Option<Command>,
    session: Session,
    targets: Targets,
    sink: Box<dyn Sink>,
    kmsg: Option<Kmsg>,
    symbolizer: Symbolizer,
    delivered: u64,
    late_modules: Option<LateModules>,
    armed: Instant,
    output_error: Option<io::Error>,
    live: Live,
}

impl Run<'_> {
    /// Starts the command, arms the hooks, then lets the command run: failures start with its first instruction.
    fn arm(&mut self, started: Instant, file: Option<&RunFile>) -> Result<()> {
        if let (Some(command), Some(cgroup)) = (&self.plan.target.command, &self.targets.own) {
            self.command = Some(Command::start(command, cgroup, None)?);
        }
        if let Some(file) = file {
            file.take_place()?;
        }
        self.armed = Instant::now();
        let armings: Vec<RuleArming> = self.plan.rules.iter().map(|rule| arming(&rule.policy)).collect();
        self.session.arm(&armings, self.deadline());
        let hooks = by_way(&self.session);
        let until = if self.command.is_some() { "the command ends" } else { "Ctrl-C" };
        let dry = if self.plan.dry_run { " (a dry run: nothing fails)" } else { "" };
        let target = &self.plan.target;
        sinks::announce(format_args!("armed: {hooks}, for {target}, until {until}{dry}"));
        info!("start to armed took {:?}", started.elapsed());
        if let Some(command) = &mut self.command {
            command.go().context("the command is gone before it began")?;
        }
        Ok(())
    }

    /// When the hooks stop without a further heartbeat.
    fn deadline(&self) -> u64 {
        let Limits { duration, ttl } = self.plan.limits;
        let left = duration.map_or(ttl, |duration| duration.saturating_sub(self.armed.elapsed()).min(ttl));
        session::deadline_in(left)
    }

    /// Passes events to the sink until something ends the run.
    async fn stream(&mut self, rings: &mut Rings, interrupts: &mut Interrupts) -> Result<End> {
        let mut tick = interval(TICK.min(self.plan.limits.ttl / 4));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = self.plan.limits.duration.map(|duration| tokio::time::Instant::from_std(self.armed + duration));
        let command = self.command.as_ref().map(watch_process).transpose().context("can't watch the command")?;
        let mut gone = Gone::default();
        let mut ticks = 0_u32;
        let mut draw = interval(Live::DRAW);
        draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = interrupts.next() => return Ok(End::Signal),
                () = exited(command.as_ref()) => return Ok(End::Command),
                () = sleep_until(over.unwrap_or_else(tokio::time::Instant::now)), if over.is_some() => return Ok(End::Duration),
                _ = tick.tick() => {
                    let deadline = self.deadline();
                    self.session.heartbeat(deadline);
                    if ticks.is_multiple_of(TICKS_TO_LATE_MODULES) {
                        self.say_late_modules();
                    }
                    ticks += 1;
                    if self.command.is_none() {
                        if self.session.is_spent() {
                            return Ok(End::Budget);
                        }
                        if gone.is_everything(&self.targets) && !self.has_children() {
                            return Ok(End::TargetGone);
                        }
                    }
                }
                ask = self.live.asked() => {
                    if let Some(end) = self.answer(ask) {
                        return Ok(end);
                    }
                }
                _ = draw.tick(), if self.live.has_status() => self.draw(),
                ready = rings.ready() => {
                    ready.context("can't watch the ring buffers")?;
                    if rings.drain(BATCH, |rule, record| self.take(rule, record))
                        && let Err(error) = self.sink.flush()
                    {
                        self.output_error = Some(error);
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

    /// Passes a record of a rule to the sink.
    fn take(&mut self, rule: usize, record: &[u8]) {
        let decoded = match decode(record, self.session.rules()[rule].numbers()) {
            Ok(Record::NewSite(site)) => {
                // A quiet run names sites once, in the end, from the histogram itself.
                if !self.plan.output.quiet || self.kmsg.is_some() {
                    self.symbolizer.remember(site);
                }
                return;
            }
            Ok(Record::Outcome(outcome)) => {
                if !self.plan.output.quiet && self.output_error.is_none() {
                    self.output_error = self.sink.outcome(&outcome).err();
                }
                return;
            }
            Ok(Record::Failure(decoded)) => decoded,
            Err(error) => {
                warn!("the ring buffer holds {error}");
                return;
            }
        };
        self.delivered += 1;
        let record = decoded.record;
        let attached = &self.session.rules()[rule];
        if let Some(kmsg) = &mut self.kmsg {
            let task = Teller { cpu: record.cpu, tid: record.tid, comm: decoded.comm.clone() };
            let told = Told { hook: decoded.hook, site: record.site, context: decoded.context, task: Some(task) };
            kmsg.tell(&told, || {
                let stack = self.symbolizer.stack(record.site, || attached.site(record.site));
                self.symbolizer.with_lengths(&stack)
            });
        }
        if self.plan.output.quiet || self.output_error.is_some() {
            return;
        }
        let event = Event {
            time_ns: record.time,
            rule: self.rules[rule].clone(),
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
            stack: self.symbolizer.stack(record.site, || attached.site(record.site)),
        };
        if let Some(status) = self.live.status() {
            status.count(&event);
        }
        if let Err(error) = self.sink.failure(&event) {
            self.output_error = Some(error);
        }
    }

    fn say_late_modules(&mut self) {
        if let Some(late) = &mut self.late_modules {
            late.say(self.files);
        }
    }

    /// Whether children of target processes that are gone are still targets. Only asked when those are: a system call on a
    /// map keeps the programs off its CPU.
    fn has_children(&self) -> bool {
        self.plan.target.follow && self.session.rules().iter().any(Attached::has_targets)
    }

    /// Stops failures, then ends the command, then writes the summary.
    async fn finish(mut self, end: End, rings: Rings, interrupts: &mut Interrupts) -> Result<ExitCode> {
        let elapsed = self.armed.elapsed();
        self.live.end();
        self.session.detach();
        self.say_late_modules();
        let command_status = self.end_command(end, interrupts).await?;
        // Nobody writes to the ring any more.
        rings.finish(|rule, record| self.take(rule, record));
        if let Some(summary) = self.kmsg.as_ref().and_then(Kmsg::summary) {
            sinks::announce(format_args!("{summary}"));
        }

        let rules: Vec<RuleSummary> = self.rules.iter().zip(self.session.rules()).map(rule_summary).collect();
        let mut by_hook: BTreeMap<Hook, Counters> = BTreeMap::new();
        for HookSummary { hook, counters } in rules.iter().flat_map(|rule| &rule.hooks) {
            by_hook.entry(*hook).or_default().add(counters);
        }
        let hooks: Vec<_> = by_hook.into_iter().map(|(hook, counters)| HookSummary { hook, counters }).collect();
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
            unmatched: self.unmatched(&rules)?,
            sites: self.histogram()?,
            rules,
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
        // A reader of standard output that has seen enough is no error.
        match self.output_error.take().filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            None => Ok(command_status.map_or(ExitCode::OK, ExitCode)),
            Some(error) => {
                // What was counted is not lost with the output.
                sinks::last_resort(&summary, self.plan.output.top);
                Err(error).context("can't write the output; the summary above is all that is left of it")
            }
        }
    }

    /// Waits for the command to end. If the run ends first, it ends the command.
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
        Ok(command.outcome().context("can't wait for the command")?.map(CommandEnd::code))
    }

    /// The filters that let no call through, in the plan's order.
    fn unmatched(&self, rules: &[RuleSummary]) -> Result<Vec<Unmatched>> {
        let mut all = Vec::new();
        for ((rule, summary), attached) in self.plan.rules.iter().zip(rules).zip(self.session.rules()) {
            let mut counters = Counters::default();
            summary.hooks.iter().for_each(|hook| counters.add(&hook.counters));
            let stacks = attached.stack_patterns()?;
            let stacks: Vec<_> =
                stacks.iter().map(|(armed, none)| (armed.option, armed.pattern.as_str(), *none)).collect();
            all.extend(unmatched::of_rule(&summary.name, &rule.filter, &counters, &stacks));
        }
        Ok(all)
    }

    /// All sites that were failed, over all rules, most frequent first.
    fn histogram(&mut self) -> Result<Vec<SiteSummary>> {
        let mut sites: BTreeMap<u64, (Hook, SiteRecord)> = BTreeMap::new();
        for rule in self.session.rules() {
            for (signature, site) in rule.sites()? {
                // A row without a count was made for a failure that the policy did not allow.
                let Some(hook) = rule.numbers().get(site.hook).filter(|_| site.count > 0) else { continue };
                match sites.entry(signature) {
                    Entry::Vacant(entry) => {
                        entry.insert((hook, site));
                    }
                    Entry::Occupied(mut entry) => {
                        let (_, sum) = entry.get_mut();
                        sum.count += site.count;
                        sum.outcomes.iter_mut().zip(site.outcomes).for_each(|(sum, count)| *sum += count);
                    }
                }
            }
        }
        let mut summaries = Vec::with_capacity(sites.len());
        for (signature, (hook, site)) in sites {
            let count = site.count;
            summaries.push(SiteSummary {
                site: signature,
                hook,
                count,
                stack: self.symbolizer.stack(signature, || Some(site)),
                outcomes: self.plan.outcome.then(|| outcomes(&site)),
            });
        }
        summaries.sort_by_key(|site| (Reverse(site.count), site.site));
        Ok(summaries)
    }
}

/// The live settings that a policy begins with.
fn arming(policy: &Policy) -> RuleArming {
    RuleArming {
        threshold: policy.probability.threshold(),
        budget: policy.times,
        interval: policy.rate.map(interval_of),
    }
}

/// Hooks with how they are attached: `slab, page by fmod_ret; page-pool by kprobe`.
fn by_way(session: &Session) -> String {
    let names = |hooks: Vec<Hook>| hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(", ");
    let ways = [
        (names(session.hooks_by_fmod_ret()), "fmod_ret"),
        (names(session.hooks_by(|attach| attach == Attach::Kprobe)), "kprobe"),
        (names(session.hooks_by_module()), "module"),
    ];
    let ways: Vec<String> =
        ways.iter().filter(|(hooks, _)| !hooks.is_empty()).map(|(hooks, by)| format!("{hooks} by {by}")).collect();
    ways.join("; ")
}

/// Nanoseconds from one failure to the next.
fn interval_of(rate: NonZeroU64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    (SECOND / rate).max(1)
}

fn rule_summary((name, rule): (&Rc<str>, &Attached)) -> RuleSummary {
    let hooks = rule.hooks().map(|hook| HookSummary { hook, counters: rule.counters(hook) });
    RuleSummary { name: name.clone(), hooks: hooks.collect() }
}

/// The outcomes of a site's failures.
fn outcomes(site: &SiteRecord) -> Outcomes {
    let of = |kind: u32| site.outcomes[kind as usize];
    Outcomes {
        enomem: of(OUTCOME_ENOMEM),
        error: of(OUTCOME_ERROR),
        masked: of(OUTCOME_MASKED),
        signal: of(OUTCOME_SIGNAL),
        outside: of(OUTCOME_OUTSIDE),
        open: site.count.saturating_sub(site.outcomes.iter().sum()),
    }
}

fn rfc3339_now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}
