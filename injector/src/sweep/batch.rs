//! Runs for what a pass can't reach: kernel threads, interrupts, exec, page faults, sites that come and go. Several sites are
//! failed in one run; where that goes wrong, they are taken apart by halves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    Verdict, clock,
    journal::{
        Record, Signature,
        record::{Ended, Level, Outcome, RunEnd, Trouble},
    },
    oracle::Complaint,
    search::{Choice, Ill, Search, Stopped},
    workload,
};
use crate::exit::Result;
use crate::target;

/// How many sites may be failed in one run. What is left by then comes up seldom, or not at all.
const BATCH: usize = 512;
/// So often what is left is looked up anew.
const ROUNDS: u32 = 2;
/// So many times a site may be missed before it is given up. A run that ended well, and brought little ([`is_poor`]), counts for
/// all of them: most sites were looked for in each pass before it, too.
const MISSES: u32 = 2;
/// Few are fewer than one in so many.
const FEW: usize = 20;

/// Whether a run that reached `fired` of its sites says that the others don't come up any more: it reached none, or, when it came to
/// its end as the workload does by itself, few. Slab refills come up by chance, one or two a run, for as long as one likes to look;
/// but a failure that ends the workload early hides what would have come after it.
fn is_poor(fired: usize, sites: usize, well: bool) -> bool {
    fired == 0 || (well && fired * FEW < sites)
}

impl Search<'_> {
    /// Runs until every site that is left was failed, or does not come up any more.
    pub(super) fn batches(&mut self) -> Result<Option<Stopped>> {
        // Runs reach sites that were not seen before: these get a turn too.
        for round in 0..ROUNDS {
            if let Some(stopped) = self.round(round > 0)? {
                return Ok(Some(stopped));
            }
        }
        let left = self.left();
        self.give_up(left, "was only seen after other failures, in the last runs")?;
        Ok(None)
    }

    /// `latecomers`: what is left was not seen when the first such round began; each has one turn.
    fn round(&mut self, latecomers: bool) -> Result<Option<Stopped>> {
        let mut left = self.left();
        let mut misses: BTreeMap<Signature, u32> = BTreeMap::new();
        while !left.is_empty() {
            if self.experiment.is_over() {
                self.give_up(left, "the time was up")?;
                return Ok(Some(self.over()));
            }
            let batch = self.next_batch(&left);
            let (end, fired, status) = self.batch(&batch)?;
            if let Some(stopped) = self.stopped(end)? {
                return Ok(Some(stopped));
            }
            if end == RunEnd::Finished
                && let Some(stopped) =
                    self.check_up(status, if fired.is_empty() { Ill::Surely } else { Ill::Perhaps })?
            {
                return Ok(Some(stopped));
            }
            let finished: BTreeSet<Signature> = self.experiment.notebook.finished_sites().into_iter().collect();
            left.retain(|site| !finished.contains(site));
            let well = end == RunEnd::Finished && status == Some(workload::STATUS);
            let poor = latecomers || is_poor(fired.len(), batch.len(), well);
            for site in &batch {
                // One that was there when something went wrong is looked for until it does not come up at all.
                let suspect = self.experiment.notebook.batch_limit(*site).is_some();
                let missed = match (suspect, poor) {
                    (true, _) => u32::from(fired.is_empty()),
                    (false, false) => 0,
                    (false, true) if fired.contains(site) => 0,
                    (false, true) if well => MISSES,
                    (false, true) => 1,
                };
                let misses = misses.entry(*site).or_default();
                *misses = if missed > 0 { *misses + missed } else { 0 };
            }
            let (given_up, others) =
                left.into_iter().partition(|site| misses.get(site).is_some_and(|misses| *misses >= MISSES));
            left = others;
            self.give_up(given_up, "did not come up again")?;
        }
        Ok(None)
    }

    /// The next sites in order, as many as the most suspicious of them may have beside it.
    fn next_batch(&self, left: &[Signature]) -> Vec<Signature> {
        let limit = |site: Signature| self.experiment.notebook.batch_limit(site).unwrap_or(BATCH);
        let smallest = left.iter().map(|site| limit(*site)).min().unwrap_or(BATCH);
        left.iter().copied().filter(|site| limit(*site) == smallest).take(smallest).collect()
    }

    /// A run in which these sites are failed, each once. Says which were, and with what status it ended.
    pub(super) fn batch(&mut self, sites: &[Signature]) -> Result<(RunEnd, BTreeSet<Signature>, Option<i32>)> {
        self.choose(Choice::Named)?;
        for site in sites {
            self.experiment.lab.allow(*site, u64::from(self.plan.persistent.unwrap_or(1)))?;
        }
        let run = self.begin_run(Level::Run, Some(sites.to_vec()), None)?;
        let start = Instant::now();
        let deadline = self.deadline();
        let mut command = self.workload.start(&self.cgroup)?;
        self.experiment.rearm();
        self.experiment.lab.arm(Level::Run, 0, self.plan.hit);
        let mut complaints = Vec::new();
        // Each failure may cost the workload a delay, of which many add up: it hangs when none has come for long.
        let mut last = start;
        let watched = {
            let Self { experiment, cgroup, .. } = self;
            workload::watch(&mut command, cgroup, Duration::MAX, || {
                experiment.lab.heartbeat();
                experiment.drain(None)?;
                if !experiment.lab.take_failed().is_empty() {
                    last = Instant::now();
                }
                complaints.extend(experiment.oracle.poll());
                let broken =
                    complaints.iter().any(|complaint: &Complaint| Verdict::from(complaint.kind) >= Verdict::Hang);
                Ok(broken || last.elapsed() > deadline || experiment.is_over())
            })?
        };
        if watched.unkillable {
            command.give_up();
        }
        self.experiment.lab.disarm();
        self.experiment.empty_slabs();
        std::thread::sleep(clock::TICK);
        complaints.extend(self.experiment.oracle.flush());
        complaints.extend(self.experiment.tainted(!complaints.is_empty()));
        let counts = self.experiment.account()?;
        let times = |site: &Signature| counts.get(site).map_or(0, |counts| counts.failures);
        let fired: Vec<(Signature, u64)> =
            sites.iter().map(|site| (*site, times(site))).filter(|(_, times)| *times > 0).collect();
        for site in sites {
            self.experiment.lab.allow(*site, 0)?;
        }

        let status = watched.outcome.map(target::CommandEnd::code);
        let interrupted = self.experiment.is_over();
        let failed = status != Some(workload::STATUS);
        let mut end = match watched.outcome {
            Some(_) => RunEnd::Finished,
            None if watched.unkillable => RunEnd::Unkillable,
            None if interrupted => RunEnd::Interrupted,
            None => RunEnd::TimedOut,
        };
        if end == RunEnd::TimedOut && complaints.is_empty() {
            let splat = format!("the workload did not end within {} s after the last failure", deadline.as_secs());
            let title = "the workload does not end".to_owned();
            complaints.push(Complaint { kind: super::oracle::Kind::Hang, title, splat });
        }
        // A warning that a failure is known for is not looked into again: every run with it would be taken apart.
        let news = |complaint: &Complaint| {
            Verdict::from(complaint.kind) >= Verdict::Hang || !self.experiment.notebook.is_confirmed(&complaint.title)
        };
        let bad = complaints.iter().any(news) || (failed && self.plan.expect_success);
        let alone = fired.len() == 1;
        for complaint in complaints {
            let Complaint { kind, title, splat } = complaint;
            let verdict = Verdict::from(kind);
            if verdict == Verdict::Oops
                && let Some(damaged) = self.experiment.damaged()
            {
                end = damaged;
            }
            let site = if alone { Some(fired[0].0) } else { None };
            let suspects = fired.iter().map(|(site, _)| *site).filter(|_| !alone).collect();
            self.experiment.note(Record::Trouble(Trouble {
                run,
                verdict,
                title,
                splat,
                site,
                after: None,
                suspects,
            }))?;
        }
        // Of several, nobody knows which it was: they come again, fewer at a time.
        let reached: BTreeSet<Signature> = fired.iter().map(|(site, _)| *site).collect();
        if bad && !alone {
            self.experiment.notebook.suspect(&reached.iter().copied().collect::<Vec<_>>());
        }
        if (!bad || alone) && end != RunEnd::Interrupted {
            for (site, times) in &fired {
                let outcome =
                    if failed { Outcome::ProgramFailed { status: status.unwrap_or(-1) } } else { Outcome::Masked };
                self.whole_run_failure(run, *site, *times, outcome)?;
            }
        }
        let elapsed = start.elapsed().as_secs_f64();
        let hits = BTreeMap::new();
        self.experiment.sync(Record::Ended(Ended { run, end, elapsed, status, hits }))?;
        self.experiment.progress();
        Ok((end, reached, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_ended_early_says_nothing_of_what_it_did_not_reach() {
        assert!(!is_poor(1, 512, false));
        assert!(is_poor(1, 512, true) && is_poor(25, 512, true));
        assert!(!is_poor(26, 512, true));
        assert!(is_poor(0, 1, true) && is_poor(0, 1, false));
        assert!(!is_poor(1, 20, true) && is_poor(1, 21, true));
    }
}
