//! What went wrong, and which failures may be the cause.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    runs::{Run, Runs},
    tested::Tested,
};
use crate::journal::{
    Verdict,
    record::{Crash, Level, Outcome, Record, RunEnd, Signature, Trouble},
};

/// Complaints, crashes, and the failures that may be their cause.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    titles: BTreeSet<String>,
    /// Titles that a failure is known for.
    confirmed: BTreeSet<String>,
    /// Titles that no failure is known for, with the failures that may be the cause.
    unresolved: BTreeMap<String, Vec<Signature>>,
    /// What the kernel printed, by title, the first time, and what kind of complaint it is.
    splats: BTreeMap<String, (Verdict, String)>,
    /// Titles of the last run.
    last_titles: Vec<String>,
    /// Sites whose failure damages the kernel.
    harmful: BTreeSet<Signature>,
    /// Two sites that damage the kernel when both fail in one attempt: the first, then the other.
    harmful_pairs: BTreeSet<(Signature, Signature)>,
    /// How many sites may fail in one run together with this one.
    limits: BTreeMap<Signature, usize>,
    /// The machine went down in the last run in which every site could fail, and no failure is known that did it.
    crashed: Option<Crashed>,
    /// What came of the runs in which several suspects failed.
    groups: Vec<Group>,
    /// How often such a run was followed by another one, with no failure known by then: by level.
    unexplained: BTreeMap<Level, u32>,
}

/// A run in which several suspects failed, to find the cause of a complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The sites, sorted.
    pub sites: Vec<Signature>,
    /// Those of them that may be the cause of what happened: they failed. All of them, if the machine went down.
    pub suspects: Vec<Signature>,
    /// What the kernel complained of.
    pub titles: Vec<String>,
}

/// The machine went down in a run in which every site could fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crashed {
    /// The level of that run.
    pub level: Level,
    /// What failed in it, the latest first. The failure that did it is not among them: nobody could write it.
    pub failed: Vec<Signature>,
}

impl Suspicion {
    /// `tested`: before this record.
    pub(super) fn apply(&mut self, record: &Record, runs: &Runs, tested: &Tested) {
        match record {
            Record::Armed(armed) => {
                self.last_titles.clear();
                if armed.sites.is_none()
                    && armed.level != Level::RECORD
                    && let Some(crashed) = self.crashed.take()
                {
                    *self.unexplained.entry(crashed.level).or_default() += 1;
                }
            }
            Record::Trouble(trouble) => self.trouble(trouble, runs),
            Record::Crash(crash) => self.crash(crash, runs, tested),
            Record::Failed(failed) => {
                // One failure that wedges the workload is known. The other suspects would each take a run.
                if let Outcome::Wedged { error } = &failed.outcome {
                    self.confirm(&Outcome::wedged_title(error));
                }
            }
            // A run that was cut off told nothing.
            Record::Ended(ended) if ended.end != RunEnd::Interrupted => {
                if let Some(run) = runs.get(ended.run).filter(|run| is_group(run)) {
                    let failed: BTreeSet<Signature> = run.failed.iter().map(|(site, _)| *site).collect();
                    let titles = self.last_titles.clone();
                    self.groups.push(group(run, |site| failed.contains(site), titles));
                }
            }
            Record::Begin(_)
            | Record::Plain(_)
            | Record::Site(_)
            | Record::Ended(_)
            | Record::Unreached(_)
            | Record::Scanned(_)
            | Record::Replayed(_)
            | Record::End(_) => {}
        }
    }

    fn trouble(&mut self, trouble: &Trouble, runs: &Runs) {
        let Trouble { run, title, verdict, suspects, splat, .. } = trouble;
        self.titles.insert(title.clone());
        self.last_titles.push(title.clone());
        self.splats.entry(title.clone()).or_insert_with(|| (*verdict, splat.clone()));
        match runs.culprit(trouble) {
            Some((site, first)) => {
                if *verdict >= Verdict::Hang {
                    self.harm(site, first);
                }
                self.confirm(title);
            }
            // One failure that leads to it is known. The others would each take a run.
            None if self.confirmed.contains(title) => {}
            None if runs.get(*run).is_some_and(|run| run.armed.level == Level::WHOLE) => self.halve(suspects),
            None => {
                // It may have another cause each time.
                let all = self.unresolved.entry(title.clone()).or_default();
                for suspect in suspects {
                    if !all.contains(suspect) {
                        all.push(*suspect);
                    }
                }
            }
        }
    }

    /// A failure is known that leads to a title.
    fn confirm(&mut self, title: &str) {
        self.unresolved.remove(title);
        self.confirmed.insert(title.to_owned());
    }

    fn crash(&mut self, crash: &Crash, runs: &Runs, tested: &Tested) {
        if crash.is_on_purpose() {
            return;
        }
        self.titles.insert(crash.title.clone());
        if let Some((site, first)) = runs.crashed_alone(crash) {
            self.harm(site, first);
            self.confirmed.insert(crash.title.clone());
            self.crashed = None;
        }
        let Some(run) = crash.run.and_then(|run| runs.get(run)) else { return };
        match run.armed.sites.as_deref() {
            Some([_]) => {}
            Some(sites) if is_group(run) => {
                let titles = self.last_titles.iter().chain([&crash.title]).cloned().collect();
                self.groups.push(group(run, |_| true, titles));
                if !self.confirmed.contains(&crash.title) {
                    self.unresolved.entry(crash.title.clone()).or_insert_with(|| sites.to_vec());
                }
            }
            Some(sites) => {
                let left: Vec<Signature> = sites.iter().copied().filter(|site| !tested.is_finished(*site)).collect();
                self.halve(&left);
            }
            None if run.is_recording() => {}
            None => self.crashed = Some(Crashed { level: run.armed.level.clone(), failed: latest(run) }),
        }
    }

    /// A failure damages the kernel, alone or with another one before it.
    fn harm(&mut self, site: Signature, first: Option<Signature>) {
        match first {
            None => self.harmful.insert(site),
            Some(first) => self.harmful_pairs.insert((first, site)),
        };
    }

    /// One of these is the cause: at most half as many of them fail together next time.
    fn halve(&mut self, sites: &[Signature]) {
        for site in sites {
            let limit = self.limits.entry(*site).or_insert(usize::MAX);
            *limit = (*limit).min(sites.len() / 2).max(1);
        }
    }

    /// How many different titles there were.
    #[must_use]
    pub fn titles(&self) -> usize {
        self.titles.len()
    }

    /// The titles that came up in the last run.
    #[must_use]
    pub fn last_titles(&self) -> &[String] {
        &self.last_titles
    }

    /// Whether a failure is known that leads to this title.
    #[must_use]
    pub fn is_confirmed(&self, title: &str) -> bool {
        self.confirmed.contains(title)
    }

    /// The runs in which several suspects failed.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Titles that no failure is known for, with the failures that may be the cause.
    #[must_use]
    pub fn unresolved(&self) -> &BTreeMap<String, Vec<Signature>> {
        &self.unresolved
    }

    /// What the kernel printed under a title, the first time.
    #[must_use]
    pub fn splat(&self, title: &str) -> Option<&str> {
        self.splats.get(title).map(|(_, splat)| splat.as_str())
    }

    /// What kind of complaint a title is.
    #[must_use]
    pub fn verdict(&self, title: &str) -> Option<Verdict> {
        self.splats.get(title).map(|(verdict, _)| *verdict)
    }

    /// How many failures are known to damage the kernel, alone or in pairs.
    pub(super) fn harmful(&self) -> usize {
        self.harmful.len() + self.harmful_pairs.len()
    }

    /// Whether the failure of a site damages the kernel.
    #[must_use]
    pub fn is_harmful(&self, site: Signature) -> bool {
        self.harmful.contains(&site)
    }

    /// Whether the kernel is damaged when two sites fail in one attempt, as far as that is known.
    #[must_use]
    pub fn is_harmful_pair(&self, one: Signature, other: Signature) -> bool {
        let pairs = &self.harmful_pairs;
        let pair = pairs.contains(&(one, other)) || pairs.contains(&(other, one));
        pair || self.is_harmful(one) || self.is_harmful(other)
    }

    /// Whether the failure of a site damages the kernel when another one fails before it.
    #[must_use]
    pub fn is_harmful_second(&self, site: Signature) -> bool {
        self.harmful_pairs.iter().any(|(_, then)| *then == site)
    }

    /// How many sites may fail in one run together with this one; none: any number.
    #[must_use]
    pub fn limit(&self, site: Signature) -> Option<usize> {
        self.limits.get(&site).copied()
    }

    /// The machine went down in the last run in which every site could fail, and no failure is known that did it.
    #[must_use]
    pub fn crashed(&self) -> Option<&Crashed> {
        self.crashed.as_ref()
    }

    /// How many runs of a level in which every site could fail brought the machine down, and no failure became known that did
    /// it.
    #[must_use]
    pub fn unexplained(&self, level: &Level) -> u32 {
        let now = self.crashed.as_ref().is_some_and(|crashed| crashed.level == *level);
        self.unexplained.get(level).copied().unwrap_or(0) + u32::from(now)
    }
}

/// Whether a run is one of several suspects.
fn is_group(run: &Run) -> bool {
    run.armed.level == Level::GROUP && run.armed.sites.as_ref().is_some_and(|sites| sites.len() > 1)
}

fn group(run: &Run, is_suspect: impl Fn(&Signature) -> bool, titles: Vec<String>) -> Group {
    let mut sites = run.armed.sites.clone().unwrap_or_default();
    sites.sort_unstable();
    Group { suspects: sites.iter().copied().filter(is_suspect).collect(), sites, titles }
}

/// The sites that failed in a run, the latest first.
fn latest(run: &Run) -> Vec<Signature> {
    let mut all: Vec<Signature> = Vec::new();
    for (site, _) in run.failed.iter().rev() {
        if !all.contains(site) {
            all.push(*site);
        }
    }
    all
}
