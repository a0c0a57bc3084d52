//! A run without a tracer: sites fail wherever they are reached, and the run as a whole tells what came of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::KernelRunner;
use crate::{
    exit::Result,
    journal::{
        Signature, Verdict,
        record::{Outcome, RunEnd},
    },
    oracle::{Complaint, Kind},
    sweep::{
        clock::TICK,
        hang,
        schedule::{RunResult, RunSpec},
        workload::{self, Watched},
    },
    target,
};

/// What a task waits in, and its kernel stack.
type Stuck = (String, Vec<String>);

impl KernelRunner<'_> {
    pub(super) fn untraced(&mut self, spec: &RunSpec) -> Result<RunResult> {
        let run = self.begin(spec)?;
        let start = Instant::now();
        let deadline = self.deadline(spec);
        let (watched, mut complaints, stuck) = self.watch(spec, deadline)?;
        self.observer.empty_slabs();
        std::thread::sleep(TICK);
        complaints.extend(self.observer.log.flush());
        complaints.extend(self.observer.tainted(!complaints.is_empty()));
        let counts = self.observer.account()?;
        let named = spec.aim.named().unwrap_or_default();
        let times = |site: &Signature| counts.get(site).map_or(0, |counts| counts.failures);
        let fired: Vec<(Signature, u64)> =
            named.iter().map(|site| (*site, times(site))).filter(|(_, times)| *times > 0).collect();

        let status = watched.outcome.map(target::CommandEnd::code);
        let failed = status != Some(workload::STATUS);
        let mut end = match watched.outcome {
            Some(_) => RunEnd::Finished,
            None if watched.unkillable => RunEnd::Unkillable,
            None if self.observer.over().is_some() => RunEnd::Interrupted,
            None => RunEnd::TimedOut,
        };
        if end == RunEnd::TimedOut && complaints.is_empty() {
            let late = format!("the workload did not end within {} s after the last failure", deadline.as_secs());
            let (title, splat) = match stuck {
                Some((waits_in, stack)) => {
                    (format!("task hung in {waits_in}"), format!("{late}:\n{}", stack.join("\n")))
                }
                None => ("the workload does not end".to_owned(), late),
            };
            complaints.push(Complaint { kind: Kind::Hang, title, splat });
        }
        // A warning that a failure is known for is not looked into again: every run with it would be taken apart.
        let suspicion = self.observer.recorder.state().suspicion();
        let is_new = |complaint: &Complaint| {
            Verdict::from(complaint.kind) >= Verdict::Hang || !suspicion.is_confirmed(&complaint.title)
        };
        let bad = complaints.iter().any(is_new) || (failed && self.plan.expect_success);
        // Of several, nobody knows which it was.
        let alone = match fired.as_slice() {
            [(site, _)] => Some((*site, None)),
            _ => None,
        };
        for complaint in complaints {
            if Verdict::from(complaint.kind) == Verdict::Oops
                && let Some(damaged) = self.observer.damaged()
            {
                end = damaged;
            }
            let suspects = fired.iter().map(|(site, _)| *site).filter(|_| alone.is_none()).collect();
            self.observer.complain(run, complaint, alone, suspects)?;
        }
        if (!bad || alone.is_some()) && end != RunEnd::Interrupted {
            for (site, times) in &fired {
                let outcome =
                    if failed { Outcome::ProgramFailed { status: status.unwrap_or(-1) } } else { Outcome::Masked };
                self.failed_anywhere(run, *site, *times, outcome)?;
            }
        }
        let result = RunResult {
            end,
            status,
            failed: fired.iter().map(|(site, _)| *site).collect::<BTreeSet<_>>(),
            reached: self.reached(&counts),
            order: self.observer.injector.order().to_vec(),
            bad,
        };
        self.ended(run, start, &result, BTreeMap::new())?;
        Ok(result)
    }

    /// Runs the workload, and watches the kernel's log meanwhile. If it does not end: what a task of it waits in, with its stack.
    fn watch(&mut self, spec: &RunSpec, deadline: Duration) -> Result<(Watched, Vec<Complaint>, Option<Stuck>)> {
        let Self { plan, observer, workload, cgroup, .. } = self;
        let mut command = workload.start(cgroup)?;
        observer.rearm();
        observer.injector.arm(spec, plan.hit);
        let mut complaints = Vec::new();
        // Each failure may cost the workload a delay, and many add up: it hangs when none has come for long.
        let mut last = Instant::now();
        let mut stuck = None;
        let watched = workload::watch(&mut command, cgroup, Duration::MAX, || {
            observer.injector.heartbeat();
            observer.drain(None)?;
            if !observer.injector.take_failed().is_empty() {
                last = Instant::now();
            }
            complaints.extend(observer.log.poll());
            let broken = complaints.iter().any(|complaint: &Complaint| Verdict::from(complaint.kind) >= Verdict::Hang);
            if last.elapsed() > deadline {
                // Before it is killed.
                stuck = hang::what_hangs(&cgroup.tasks());
                return Ok(true);
            }
            Ok(broken || observer.over().is_some())
        });
        observer.injector.disarm();
        let watched = watched?;
        if watched.unkillable {
            command.give_up();
        }
        Ok((watched, complaints, stuck))
    }
}
