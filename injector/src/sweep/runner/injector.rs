//! The programs that are attached for a sweep: arms them, tells them which sites may fail, and names what they saw.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    slice,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use injector_common::{
    config::{LEVEL_ATTEMPT, LEVEL_MULTI, LEVEL_RECORD, LEVEL_RUN},
    record,
};
use tracing::warn;

use super::telling::Seen;
use crate::{
    check::{self, Needs},
    events::{Context, Record, decode, symbolize},
    exit::{Context as _, Result},
    journal::{
        Signature,
        record::{Call, Place, Shard, Site},
    },
    kernel::{
        Facts, KernelFiles,
        gfp::GfpBits,
        kallsyms::{Addresses, Kallsyms},
    },
    plan::{Filter, Hook, Plan, Policy, Rule, StackFilter, StackPath, StackPattern, Target, sweep::SweepPlan},
    session::{Arming, Attached, Attempts, Hooks, ProgramConfig, Session, Sites, Streams, deadline_in},
    sinks::{self, Teller},
    sweep::{
        classify,
        schedule::{Aim, Mode, RunSpec},
    },
    target::{OwnCgroup, Targets},
};

/// How long failures go on when this process is not heard of any more. The oracle may be busy for a while.
const TTL: Duration = Duration::from_secs(20);

/// Functions in which the kernel's checkers allocate for themselves: kmemleak for each object (mm/kmemleak.c), and switches
/// itself off when that fails; KASAN for stacks (lib/stackdepot.c). And those in which our own program at the end of calls sends a
/// signal (kernel/trace/bpf_trace.c). Both 6.1 and 6.12, as far as each has them.
const OTHERS: [&str; 7] = [
    "__create_object",
    "__alloc_object",
    "stack_depot_save_flags",
    "__stack_depot_save",
    "do_bpf_send_signal",
    "bpf_send_signal_common",
    "bpf_send_signal_thread",
];

/// The attached programs, and the names of what they see.
pub struct Injector {
    session: Attached,
    ring: RingBuf<MapData>,
    symbols: Kallsyms,
    gfp: GfpBits,
    /// All sites that were ever seen, by signature; those of an earlier boot come from the journal.
    sites: HashMap<Signature, Site>,
    /// The hook's table of sites, as of the last account.
    table: HashMap<Signature, Row>,
    /// Which part of the sites may fail at all.
    shard: Option<Shard>,
    /// The last call that was failed, by site.
    calls: HashMap<Signature, Call>,
    /// Sites in the order in which this boot reached them first, without those that were put into the table.
    order: Vec<Signature>,
    /// Failures that the ring told of since it was last asked, in order.
    failed: Vec<Signature>,
    /// The same for the kernel's log, where it is wanted.
    seen: Option<Vec<Seen>>,
}

/// A row of the hook's table of sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    counts: Counts,
    allowance: Allowance,
}

/// How often a site may fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allowance {
    times: u64,
    /// It has failed, and may fail again as the first of an attempt.
    again: bool,
}

/// What is there before anything is attached: the prerequisites, and the workload's cgroup.
pub struct Prepared {
    plan: Plan,
    targets: Targets,
}

impl Prepared {
    /// Checks the prerequisites, and makes the cgroup.
    ///
    /// # Errors
    /// Those of a run: see [`crate::run::run`].
    pub fn new(plan: &SweepPlan, files: &KernelFiles) -> Result<Self> {
        let plan = run_plan(plan, files)?;
        check::prerequisites(files, &Needs::of_sweep(&plan))?;
        let targets = Targets::open(&plan.target)?;
        Ok(Self { plan, targets })
    }

    /// The workload's.
    ///
    /// # Errors
    /// There is none, which would be a defect of ours.
    pub fn cgroup(&self) -> Result<&OwnCgroup> {
        self.targets.own.as_ref().context("the workload has no cgroup: a defect of the injector")
    }
}

impl Injector {
    /// Loads the programs, attaches them, and proves that they are called. Modules that are loaded later have coarser
    /// signatures: so the workload has run once before this. The cgroup is the workload's; it must outlive the programs that
    /// look for it.
    ///
    /// # Errors
    /// Those of a run: see [`crate::run::run`].
    pub fn attach(plan: &SweepPlan, files: &KernelFiles, prepared: Prepared) -> Result<(Self, Attempts, OwnCgroup)> {
        let Prepared { plan: mut run_plan, mut targets } = prepared;
        leave_out_unknown(&mut run_plan, &plan.only, files)?;
        // Again: the workload may have loaded modules since the prerequisites were checked.
        let facts = Facts::read(files)?;
        let (mut wires, symbols) = ProgramConfig::resolve(&run_plan, &facts, files, &targets)?;
        let symbols = match symbols {
            Some(symbols) => symbols,
            None => Kallsyms::read(files)?,
        };
        let sites = Sites { kthreads: plan.kthreads, persistent: plan.persistent.is_some(), shard: plan.shard };
        for wire in &mut wires {
            wire.choose_sites(sites, &symbols)?;
        }
        let (session, mut streams) = Session::attach(&wires, false)?;
        let session = session.only()?;
        let streams = streams.pop().context("no streams: a defect of the injector")?;
        let Streams { events, attempts, log: _ } = streams;
        let attempts = attempts.context("no attempts, though sites are chosen: a defect of the injector")?;
        let injector = Self {
            session,
            ring: events,
            symbols,
            gfp: facts.gfp,
            sites: HashMap::new(),
            table: HashMap::new(),
            shard: plan.shard,
            calls: HashMap::new(),
            order: Vec::new(),
            failed: Vec::new(),
            seen: plan.kmsg.then(Vec::new),
        };
        let cgroup = targets.own.take().context("the workload has no cgroup: a defect of the injector")?;
        Ok((injector, attempts, cgroup))
    }

    /// Says which sites may fail in the run that comes next. Between runs only: a system call on a map keeps the programs
    /// off its CPU.
    ///
    /// # Errors
    /// The table of sites is full.
    pub fn aim(&mut self, spec: &RunSpec, hit: u32) -> Result<()> {
        if spec.aim == Aim::Nothing {
            return Ok(());
        }
        // Sets are looked up faster than lists.
        let named: HashSet<Signature> = match &spec.aim {
            Aim::Nothing => HashSet::new(),
            Aim::Each { known, .. } | Aim::Named(known) => known.iter().copied().collect(),
            Aim::Pair { first, then } => HashSet::from([*first, *then]),
        };
        let wanted = |site: Signature| match &spec.aim {
            Aim::Each { again, repeats, .. } if again.contains(&site) => Allowance { times: *repeats, again: true },
            _ if named.contains(&site) => Allowance { times: spec.times, again: false },
            _ => Allowance::default(),
        };
        // What a whole run counts of hits begins anew only where a site's allowance is written.
        let counts_hits = spec.mode == Mode::Untraced && hit > 1;
        let all: HashSet<Signature> = self.sites.keys().chain(self.table.keys()).chain(&named).copied().collect();
        for site in all {
            let now = match self.table.get(&site) {
                Some(row) => row.allowance,
                None => self.by_default(site, &spec.aim),
            };
            let wanted = wanted(site);
            if wanted != now || (counts_hits && named.contains(&site)) {
                self.session.allow(site.0, wanted.times, wanted.again)?;
                self.table.entry(site).or_default().allowance = wanted;
            }
        }
        Ok(())
    }

    /// What the hook allows a site that is not in its table yet, when the run reaches it (injector-ebpf, sites.rs).
    fn by_default(&self, site: Signature, aim: &Aim) -> Allowance {
        let page_fault = self.sites.get(&site).is_some_and(|site| site.place == Place::PageFault);
        let ours = self.shard.is_none_or(|shard| shard.has(site));
        let times = u64::from(matches!(aim, Aim::Each { .. }) && !page_fault && ours);
        Allowance { times, again: false }
    }

    /// Begins a run. A site that is not in the table may fail once if the run takes each site that comes up.
    pub fn arm(&self, spec: &RunSpec, hit: u32) {
        let level = match spec.mode {
            _ if spec.aim == Aim::Nothing => LEVEL_RECORD,
            Mode::Traced(traced) if traced.several => LEVEL_MULTI,
            Mode::Traced(_) => LEVEL_ATTEMPT,
            Mode::Untraced => LEVEL_RUN,
        };
        let allowed = u64::from(!spec.aim.is_named());
        self.session.arm_sites(Arming { level, allowed, hit }, deadline_in(TTL));
    }

    /// Begins to record sites, without a workload.
    pub fn arm_recording(&self, hit: u32) {
        self.session.arm_sites(Arming { level: LEVEL_RECORD, allowed: 1, hit }, deadline_in(TTL));
    }

    /// Says that this process is alive.
    pub fn heartbeat(&self) {
        self.session.heartbeat(deadline_in(TTL));
    }

    /// Ends a run.
    pub fn disarm(&self) {
        self.session.disarm();
    }

    /// Remembers a site of an earlier boot.
    pub fn remember(&mut self, site: Site) {
        self.sites.insert(site.site, site);
    }

    /// A site that was seen.
    #[must_use]
    pub fn site(&self, site: Signature) -> Option<&Site> {
        self.sites.get(&site)
    }

    /// Sites in the order in which this boot reached them first, without those that [`Self::aim`] named before.
    #[must_use]
    pub fn order(&self) -> &[Signature] {
        &self.order
    }

    /// The last call that was failed at a site.
    #[must_use]
    pub fn call(&self, site: Signature) -> Option<&Call> {
        self.calls.get(&site)
    }

    /// Takes what the hook has sent: returns the sites that are new.
    pub fn drain(&mut self, after: Option<Signature>) -> Vec<Site> {
        let mut new = Vec::new();
        while let Some(bytes) = self.ring.next() {
            match decode(&bytes, self.session.numbers()) {
                Ok(Record::NewSite(site)) => {
                    self.order.push(Signature(site.signature));
                    let site = describe(&self.symbols, &site, after);
                    if let Entry::Vacant(entry) = self.sites.entry(site.site) {
                        entry.insert(site.clone());
                        new.push(site);
                    }
                }
                Ok(Record::Failure(decoded)) => {
                    let record = decoded.record;
                    if let Some(seen) = &mut self.seen {
                        let task = Teller { cpu: record.cpu, tid: record.tid, comm: decoded.comm.clone() };
                        let (hook, context) = (decoded.hook, decoded.context);
                        seen.push(Seen { site: Signature(record.site), hook, context, task });
                    }
                    let call = Call {
                        gfp: self.gfp.format(record.effective_gfp),
                        order: record.order,
                        size: record.size,
                        cache: decoded.cache,
                        comm: decoded.comm,
                    };
                    self.failed.push(Signature(record.site));
                    self.calls.insert(Signature(record.site), call);
                }
                // A sweep's tracer sees for itself what becomes of calls.
                Ok(Record::Outcome(_)) => {}
                Err(error) => warn!("the ring buffer holds {error}"),
            }
        }
        new
    }

    /// The failures that [`Self::drain`] saw since this was last asked.
    pub fn take_failed(&mut self) -> Vec<Signature> {
        std::mem::take(&mut self.failed)
    }

    /// The same for the kernel's log.
    pub fn take_seen(&mut self) -> Vec<Seen> {
        self.seen.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A site's stack as the kernel prints it.
    #[must_use]
    pub fn kernel_stack(&self, site: Signature) -> Vec<String> {
        self.site(site).map(|site| self.symbols.with_lengths(&site.stack)).unwrap_or_default()
    }

    /// What has come of a run, from the table of sites, which is read once: it holds those that the ring had no room for,
    /// too. Between runs only.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn account(&mut self) -> Result<Account> {
        let mut new = self.drain(None);
        let mut since = BTreeMap::new();
        for (signature, site) in self.session.sites()? {
            let signature = Signature(signature);
            // Without frames it was put there by us.
            if site.frames_len > 0 && !self.sites.contains_key(&signature) {
                let site = describe(&self.symbols, &site, None);
                self.sites.insert(signature, site.clone());
                new.push(site);
            }
            let counts = Counts { hits: site.hits, failures: site.count };
            let allowance = Allowance { times: site.allowed, again: site.flags & record::SITE_AGAIN != 0 };
            let before = self.table.insert(signature, Row { counts, allowance }).unwrap_or_default().counts;
            if counts != before {
                let (hits, failures) = (counts.hits - before.hits, counts.failures - before.failures);
                since.insert(signature, Counts { hits, failures });
            }
        }
        // Those of this run were told by its attempts, and are in the table.
        self.failed.clear();
        Ok(Account { new, since })
    }
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Account {
    /// Sites that nothing was heard of before.
    pub new: Vec<Site>,
    /// Sites that were reached since the last account, and how often.
    pub since: BTreeMap<Signature, Counts>,
}

/// How often a site was reached and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reached.
    pub hits: u64,
    /// Failed.
    pub failures: u64,
}

/// A site by names.
fn describe(symbols: &Kallsyms, site: &record::SiteRecord, after: Option<Signature>) -> Site {
    let length = (site.frames_len as usize).min(site.frames.len());
    let frames = &site.frames[..length];
    let stack: Vec<String> = frames.iter().map(|address| symbolize::name(Some(symbols), *address)).collect();
    Site {
        site: Signature(site.signature),
        hook: Hooks::default().get(site.hook).unwrap_or(Hook::Slab),
        context: decode::context(site.context).unwrap_or(Context::Unknown),
        kthread: site.flags & record::SITE_KTHREAD != 0,
        module: classify::module(&stack),
        place: classify::place(site.context, site.flags, &stack),
        after: after.filter(|_| site.flags & record::SITE_AFTER_FAILURE != 0),
        call: None,
        stack,
    }
}

/// Leaves out patterns of `--only` that no function matches, as long as one matches another: what is inlined differs from kernel
/// to kernel. If none matches anything, the error is that of a run.
fn leave_out_unknown(run_plan: &mut Plan, only: &[StackPattern], files: &KernelFiles) -> Result<()> {
    if only.len() < 2 {
        return Ok(());
    }
    let symbols = Kallsyms::read(files)?;
    let mut known: Vec<StackPath> = Vec::new();
    let mut unknown = Vec::new();
    for pattern in only {
        match symbols.ranges(slice::from_ref(pattern)) {
            Ok(_) => known.push(pattern.clone().into()),
            Err(error) => unknown.push(error),
        }
    }
    if known.is_empty() {
        return Ok(());
    }
    for error in unknown {
        sinks::announce(format_args!("--only: {error}; left out"));
    }
    for rule in &mut run_plan.rules {
        rule.filter.stack.any_of.clone_from(&known);
    }
    Ok(())
}

/// The same as a plan of a run: what the hook is told of filters and target.
fn run_plan(plan: &SweepPlan, files: &KernelFiles) -> Result<Plan> {
    let backend = plan.backend;
    let addresses = Addresses::ask(files, &OTHERS, &[], |_| false)?;
    let there = OTHERS.iter().filter(|function| addresses.get(function).is_some());
    let mut none_of: Vec<_> = there.map(|function| function.parse()).collect::<Result<_, _>>()?;
    none_of.extend(plan.spared.iter().cloned());
    let any_of = plan.only.iter().cloned().map(StackPath::from).collect();
    let stack = StackFilter { any_of, none_of, ..StackFilter::default() };
    let filter = Filter { stack, ..Filter::default() };
    let target = Target { command: Some(plan.command.clone()), ..Target::default() };
    let rule = Rule::new(Hook::MEMORY.to_vec(), filter, Policy::default());
    let mut plan = Plan::of(rule, target)?;
    plan.limits.ttl = TTL;
    plan.backend = backend;
    Ok(plan)
}
