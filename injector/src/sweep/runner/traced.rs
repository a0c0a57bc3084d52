//! A run under the tracer, from the workload's first instruction to what it leaves behind.

use std::{collections::BTreeMap, time::Instant};

use tracing::debug;

use super::{
    KernelRunner,
    monitor::{RunMode, RunMonitor},
    tracer::{self, TraceMode},
};
use crate::{
    exit::Result,
    journal::{
        Level, Signature,
        record::{Outcome, RunEnd},
    },
    sweep::{
        drive::Runner as _,
        schedule::{RunResult, RunSpec, Traced},
    },
    target,
};

impl KernelRunner<'_> {
    pub(super) fn traced(&mut self, spec: &RunSpec, traced: Traced) -> Result<RunResult> {
        let run = self.begin(spec)?;
        let start = Instant::now();
        let mode = self.trace_mode(spec, traced);
        let Self { plan, tuning, observer, attempts, workload, normal, cgroup, .. } = self;
        let mut command = workload.start(cgroup)?;
        observer.injector.arm(spec, plan.hit);
        let mut monitor = RunMonitor::new(observer, RunMode::new(run, spec, plan.persistent), tuning, normal);
        let traced = tracer::run(&mut command, cgroup, attempts, &mut monitor, mode);
        // What the slab caches show then is this run's, and the next run reaches the sites of new slabs.
        monitor.empty_slabs();
        let settled = monitor.settle();
        let stuck = traced.as_ref().is_ok_and(|traced| traced.end == RunEnd::Stuck);
        let wedged = if stuck { monitor.wedged() } else { Ok(()) };
        let mut stats = monitor.into_stats();
        observer.injector.disarm();
        let (traced, settled) = (traced?, settled?);
        wedged?;
        if traced.end == RunEnd::Unkillable {
            command.give_up();
        }
        if traced.late {
            debug!("signals come late, so tasks stop at each system call");
            self.signals = false;
        }

        let recording = spec.level == Level::RECORD;
        let counts = self.observer.account()?;
        let mut hits: BTreeMap<Signature, u64> = BTreeMap::new();
        let reached = self.reached(&counts);
        for (site, counts) in counts {
            if recording && counts.hits > 0 && !self.background.contains(&site) {
                hits.insert(site, counts.hits);
            }
            // A failure that no attempt told of.
            if counts.failures > 0 && stats.failed.insert(site) {
                self.failed_anywhere(run, site, counts.failures, Outcome::Masked)?;
            }
        }
        if recording {
            self.normal = stats.errors;
        }
        let result = RunResult {
            end: settled.unwrap_or(traced.end),
            status: traced.outcome.map(target::CommandEnd::code),
            failed: stats.failed,
            reached,
            order: self.observer.injector.order().to_vec(),
            bad: false,
        };
        self.ended(run, start, &result, hits)?;
        debug!(level = %spec.level, failures = result.failed.len(), done = self.state().tested().finished(), end = ?result.end, "run");
        Ok(result)
    }

    fn trace_mode(&self, spec: &RunSpec, traced: Traced) -> TraceMode {
        let Traced { limit, depth, several, copies, growth: _ } = traced;
        // Only at the entry of a system call can copies make it.
        let signals = self.signals && !copies;
        let (hang, deadline) = (self.plan.hang, self.deadline(spec));
        TraceMode { limit, depth, several, copies, signals, hang, deadline }
    }
}
