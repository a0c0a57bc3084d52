//! Runs of the workload under the tracer: what may be failed in one, from its first instruction to what it leaves behind.

use std::{collections::BTreeMap, time::Instant};

use tracing::debug;

use super::{
    journal::{
        Record, Signature,
        record::{Armed, Ended, Failed, Level, Outcome, RunEnd},
    },
    pass::{Pass, Terms, Yield},
    search::{Choice, Search},
    tracer::{self, Manner},
};
use crate::exit::Result;
use crate::target;

/// How many failures there may be in one call, in a pass that fails several.
pub(super) const CROWD: u32 = 32;

/// How a run under the tracer went.
pub(super) struct Ran {
    pub end: RunEnd,
    /// Of the workload.
    pub status: Option<i32>,
    pub found: Yield,
    /// How many sites were failed that were not before.
    pub new: usize,
    /// How many of the sites were reached that the workload reaches by itself.
    pub reached: usize,
}

impl Search<'_> {
    /// A run in which only these sites may be failed, each once. Says what the kernel complained of.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn trial(&mut self, sites: &[Signature], level: Level) -> Result<(RunEnd, Vec<String>)> {
        let end = match level {
            Level::Run => self.batch(sites)?.0,
            Level::Copy => self.machinery(sites)?.end,
            Level::Record | Level::SystemCall | Level::Crowd => {
                let times = self.plan.persistent.unwrap_or(1);
                let limit = times.max(u32::try_from(sites.len()).unwrap_or(CROWD));
                let crowd = self.plan.persistent.is_none();
                let manner = Manner { limit, depth: 1, crowd, ..self.watching() };
                self.only(sites, manner, Level::Crowd)?.end
            }
        };
        if !matches!(end, RunEnd::Damaged | RunEnd::Unkillable) {
            self.leaks_of_run()?;
        }
        Ok((end, self.experiment.notebook.last_titles().to_vec()))
    }

    /// A run under the tracer in which only these sites may be failed, each once.
    pub(super) fn only(&mut self, sites: &[Signature], manner: Manner, level: Level) -> Result<Ran> {
        self.choose(Choice::Named)?;
        for site in sites {
            self.experiment.lab.allow(*site, 1)?;
        }
        let run = self.begin_run(level, Some(sites.to_vec()), None)?;
        let ran = self.traced(run, manner, Terms::named(level))?;
        for site in sites {
            self.experiment.lab.allow(*site, 0)?;
        }
        Ok(ran)
    }

    /// Writes down that a run begins.
    pub(super) fn begin_run(
        &mut self,
        level: Level,
        sites: Option<Vec<Signature>>,
        first: Option<Signature>,
    ) -> Result<u32> {
        let run = self.experiment.notebook.next_run();
        self.experiment.sync(Record::Armed(Armed { run, level, sites, first }))?;
        Ok(run)
    }

    /// A run under the tracer, from its first instruction to what it leaves behind.
    pub(super) fn traced(&mut self, run: u32, manner: Manner, terms: Terms) -> Result<Ran> {
        let start = Instant::now();
        let before = self.experiment.notebook.done();
        let Self { plan, experiment, attempts, workload, normal, cgroup, .. } = self;
        let mut command = workload.start(cgroup)?;
        experiment.lab.arm(terms.level, terms.allowed, plan.hit);
        let mut pass = Pass::new(experiment, run, terms, normal);
        let traced = tracer::run(&mut command, cgroup, attempts, &mut pass, manner);
        // What that shows is this run's, and the next one comes to the sites of new slabs.
        pass.empty_slabs();
        let settled = pass.settle();
        if let Ok(traced) = &traced
            && traced.end == RunEnd::Stuck
        {
            pass.wedged()?;
        }
        let mut found = pass.into_yield();
        experiment.lab.disarm();
        let (traced, settled) = (traced?, settled?);
        if traced.end == RunEnd::Unkillable {
            command.give_up();
        }
        if traced.late {
            debug!("signals come late, so tasks stop at each call");
            self.signals = false;
        }
        let end = settled.unwrap_or(traced.end);
        let (hits, reached) = self.account(run, terms.level, &mut found)?;
        let status = traced.outcome.map(target::CommandEnd::code);
        let elapsed = start.elapsed().as_secs_f64();
        self.experiment.sync(Record::Ended(Ended { run, end, elapsed, status, hits }))?;
        let new = self.experiment.notebook.done() - before;
        Ok(Ran { end, status, found, new, reached })
    }

    /// After a run: how often each site was reached, if that was its purpose; how many of those that the workload reaches by
    /// itself. And the failures that no attempt told of.
    fn account(&mut self, run: u32, level: Level, found: &mut Yield) -> Result<(BTreeMap<Signature, u64>, usize)> {
        let mut hits = BTreeMap::new();
        let mut reached = 0;
        for (site, counts) in self.experiment.account()? {
            reached += usize::from(counts.hits > 0 && self.experiment.notebook.hits(site) > 0);
            if level == Level::Record && counts.hits > 0 && !self.background.contains(&site) {
                hits.insert(site, counts.hits);
            }
            if counts.failures > 0 && !found.sites.contains(&site) {
                found.failures += 1;
                self.whole_run_failure(run, site, counts.failures, Outcome::Masked)?;
            }
        }
        Ok((hits, reached))
    }

    /// Writes down a failure that belongs to no system call.
    pub(super) fn whole_run_failure(&mut self, run: u32, site: Signature, times: u64, outcome: Outcome) -> Result<()> {
        let failed = Failed {
            run,
            site,
            after: None,
            hit: self.plan.hit,
            times: u32::try_from(times).unwrap_or(u32::MAX),
            level: Level::Run,
            call: self.experiment.lab.call(site).cloned(),
            syscall: None,
            outcome,
        };
        self.experiment.note(Record::Failed(failed))
    }

    /// Watches, and fails nothing.
    pub(super) fn watching(&self) -> Manner {
        let (hang, deadline) = (self.plan.hang, self.deadline());
        Manner { limit: 0, depth: 0, crowd: false, copies: false, signals: self.signals, hang, deadline }
    }
}
