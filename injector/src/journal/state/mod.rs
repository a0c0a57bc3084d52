//! What the records of a journal add up to: for the reports, for the sweep that decides what to do next, and for the
//! controller that watches its guests. There is no other fold over a journal.

mod news;
mod runs;
mod suspicion;
mod tested;
mod unscanned;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use news::News;
use runs::{Run, Runs};
pub use suspicion::Suspicion;
pub use tested::Tested;
pub use unscanned::Unscanned;

use super::{
    Journal, Verdict,
    record::{
        Begin, Crash, CrashKind, Ended, Failed, Level, Outcome, Record, Replayed, RunEnd, Shard, Signature, Site,
        Trouble, WORKS_NO_MORE,
    },
};

/// The fold over a journal's records. It only ever grows, so it serves a report as well as a sweep that goes on.
#[derive(Clone, Debug, Default)]
pub struct State {
    begins: Vec<Begin>,
    sites: BTreeMap<Signature, SiteState>,
    pairs: BTreeMap<(Signature, Signature), Verdict>,
    pub(super) events: Vec<Event>,
    pub(super) replayed: Vec<Replayed>,
    plain: Vec<f64>,
    sections: Vec<Progress>,
    /// Runs that recorded hits.
    recorded: u32,
    kernel_injected: u64,
    /// The beginning, and the runs, of the section that is being folded: the last of `sections`.
    begin: Option<Begin>,
    runs: Runs,
    tested: Tested,
    suspicion: Suspicion,
    unscanned: Unscanned,
    news: News,
}

/// How far a section got.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Seconds that it says it took.
    said: f64,
    /// Seconds of its runs since then.
    runs: f64,
    complete: bool,
}

/// What is known of a site.
#[derive(Clone, Debug, Default)]
pub struct SiteState {
    /// Where it is. None if the journal lost that line.
    pub info: Option<Site>,
    /// How often it was reached in a run without failures, at most.
    pub hits: u64,
    /// In how many of these runs it came up.
    pub seen_in: u32,
    /// The worst that came of its failures.
    pub verdict: Verdict,
    /// How often it was failed where nothing else could be.
    pub alone: u32,
    /// Its failures, with the section that each is of.
    pub failures: Vec<(usize, Failed)>,
    /// Why it was given up without a failure.
    pub given_up: Option<String>,
}

/// How many sites, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All. The others add up to it.
    pub seen: usize,
    /// A failure was noticed.
    pub failed: usize,
    /// A failure was not noticed.
    pub masked: usize,
    /// Could not be failed.
    pub unreached: usize,
    /// Not failed yet.
    pub left: usize,
    /// Belong to shards whose journals aren't here.
    pub elsewhere: usize,
}

/// An allocation failure that came back as something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Misreport<'a> {
    /// The error's name: `EIO`.
    pub error: &'a str,
    /// With this error the call failed again without any failure in it; else it went well when repeated.
    pub then: Option<&'a str>,
    /// The failure.
    pub failed: &'a Failed,
}

/// Something that may be a finding, with its place in the journal.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub section: usize,
    pub run: Option<u32>,
    pub verdict: Verdict,
    pub title: String,
    pub splat: String,
    /// The failure that it is the consequence of, if that is known.
    pub culprit: Option<(Signature, Option<Signature>)>,
    pub suspects: Vec<Signature>,
    /// How the run failed sites.
    pub level: Option<Level>,
    pub hit: u32,
}

impl State {
    /// The state after a whole journal.
    #[must_use]
    pub fn of(journal: &Journal) -> Self {
        let mut state = Self::default();
        for (i, section) in journal.sections.iter().enumerate() {
            // Copies of a journal that went on apart begin with the same lines: these count once.
            let earlier = journal.sections[..i].iter().filter(|other| other.begin == section.begin);
            let common = |other: &super::Section| {
                other.records.iter().zip(&section.records).take_while(|(theirs, ours)| theirs == ours).count()
            };
            let known = earlier.map(common).max();
            match known {
                None => state.apply(&Record::Begin(Box::new(section.begin.clone()))),
                Some(_) => state.enter(Some(&section.begin)),
            }
            let known = known.unwrap_or(0);
            for record in &section.records[..known] {
                state.runs.apply(record);
            }
            for record in &section.records[known..] {
                state.apply(record);
            }
        }
        state
    }

    fn enter(&mut self, begin: Option<&Begin>) {
        self.sections.push(Progress::default());
        self.begin = begin.cloned();
        self.runs = Runs::default();
    }

    /// Number of the section that is being folded.
    fn section(&self) -> usize {
        self.sections.len().saturating_sub(1)
    }

    fn progress(&mut self) -> &mut Progress {
        if self.sections.is_empty() {
            self.sections.push(Progress::default());
        }
        let last = self.sections.len() - 1;
        &mut self.sections[last]
    }

    /// Adds a record, the next one of its journal.
    pub fn apply(&mut self, record: &Record) {
        self.runs.apply(record);
        self.suspicion.apply(record, &self.runs, &self.tested);
        self.tested.apply(record, &self.runs);
        self.unscanned.apply(record, &self.runs, &self.suspicion);
        self.news.apply(record, &self.runs);
        match record {
            Record::Begin(begin) => {
                if begin.part == 0 || self.sections.is_empty() {
                    self.enter(None);
                }
                self.progress().complete = false;
                self.begin = Some((**begin).clone());
                self.begins.push((**begin).clone());
            }
            Record::Plain(plain) => {
                self.plain.push(plain.elapsed);
                self.progress().runs += plain.elapsed;
            }
            Record::Site(site) => {
                let state = self.sites.entry(site.site).or_default();
                state.info.get_or_insert_with(|| site.clone());
            }
            Record::Armed(_) => {}
            Record::Failed(failed) => {
                let alone = self.runs.get(failed.run).is_some_and(|run| matches!(run.culprit(), Some((_, None))));
                self.sites.entry(failed.site).or_default().alone += u32::from(alone);
                self.failed(failed);
            }
            // That the workload got stuck is no complaint of the kernel: the failure that did it has it as its outcome. But that
            // it never works again is one.
            Record::Trouble(trouble) if trouble.verdict == Verdict::Wedged && trouble.title != WORKS_NO_MORE => {}
            Record::Trouble(trouble) => self.trouble(trouble),
            Record::Ended(ended) => self.ended(ended),
            Record::Crash(crash) => self.crash(crash),
            Record::Unreached(unreached) => {
                for site in &unreached.sites {
                    self.sites.entry(*site).or_default().given_up = Some(unreached.why.clone());
                }
            }
            Record::Scanned(_) => {}
            Record::Replayed(replayed) => self.replayed.push(replayed.clone()),
            Record::End(end) => {
                *self.progress() = Progress { said: end.elapsed, runs: 0.0, complete: end.complete };
            }
        }
    }

    /// At which hit sites fail in this section.
    fn hit(&self) -> u32 {
        self.begin.as_ref().map_or(1, |begin| begin.options.hit)
    }

    /// The worst counts, for the site and for the pair.
    fn judge(&mut self, (site, after): (Signature, Option<Signature>), verdict: Verdict) -> &mut SiteState {
        if let Some(after) = after {
            let pair = self.pairs.entry((after, site)).or_default();
            *pair = verdict.max(*pair);
        }
        let state = self.sites.entry(site).or_default();
        state.verdict = verdict.max(state.verdict);
        state
    }

    fn failed(&mut self, failed: &Failed) {
        let section = self.section();
        let state = self.judge((failed.site, failed.after), failed.outcome.verdict());
        state.failures.push((section, failed.clone()));
    }

    fn trouble(&mut self, trouble: &Trouble) {
        let Trouble { run, verdict, ref title, ref splat, ref suspects, .. } = *trouble;
        let culprit = self.runs.culprit(trouble);
        if let Some(culprit) = culprit {
            self.judge(culprit, verdict);
        }
        let event = self.event(Some(run), verdict, title, splat, culprit);
        self.events.push(Event { suspects: suspects.clone(), ..event });
    }

    fn ended(&mut self, ended: &Ended) {
        let Ended { run, end, elapsed, status, ref hits, kernel_injected } = *ended;
        self.progress().runs += elapsed;
        self.kernel_injected += kernel_injected;
        if !hits.is_empty() {
            self.recorded += 1;
        }
        for (site, hits) in hits {
            let state = self.sites.entry(*site).or_default();
            state.hits = state.hits.max(*hits);
            state.seen_in += 1;
        }
        let expect_success = self.begin.as_ref().is_some_and(|begin| begin.options.expect_success);
        let armed = self.runs.get(run);
        if let Some(status) = status
            && status != 0
            && expect_success
            && end == RunEnd::Finished
            && armed.is_some_and(|run| !run.is_recording())
        {
            let culprit = armed.and_then(Run::culprit);
            let suspects = armed.map(Run::suspects).unwrap_or_default();
            let title = format!("the workload failed with status {status}");
            let event = self.event(Some(run), Verdict::Error, &title, "", culprit);
            self.events.push(Event { suspects, ..event });
        }
    }

    fn crash(&mut self, crash: &Crash) {
        let run = crash.run.and_then(|run| self.runs.get(run));
        let verdict = match crash.kind {
            CrashKind::Stall => Verdict::Hang,
            CrashKind::Panic | CrashKind::Reset | CrashKind::Unknown => Verdict::Oops,
        };
        if !crash.is_on_purpose() {
            let culprit = self.runs.crashed_alone(crash);
            let suspects = run.map(Run::suspects).unwrap_or_default();
            if let Some(culprit) = culprit {
                self.judge(culprit, verdict);
            }
            let event = self.event(crash.run, verdict, &crash.title, &crash.splat, culprit);
            self.events.push(Event { suspects, ..event });
        }
    }

    fn event(
        &self,
        run: Option<u32>,
        verdict: Verdict,
        title: &str,
        splat: &str,
        culprit: Option<(Signature, Option<Signature>)>,
    ) -> Event {
        Event {
            section: self.section(),
            run,
            verdict,
            title: title.to_owned(),
            splat: splat.to_owned(),
            culprit,
            suspects: Vec::new(),
            level: run.and_then(|run| self.runs.get(run)).map(|run| run.armed.level.clone()),
            hit: self.hit(),
        }
    }

    /// The beginnings of all sections and of all their resumptions.
    #[must_use]
    pub fn begins(&self) -> &[Begin] {
        &self.begins
    }

    /// Sites by signature.
    #[must_use]
    pub fn sites(&self) -> &BTreeMap<Signature, SiteState> {
        &self.sites
    }

    /// A site.
    #[must_use]
    pub fn site(&self, site: Signature) -> Option<&SiteState> {
        self.sites.get(&site)
    }

    /// Verdicts of two failures in one attempt: the first, then the second.
    #[must_use]
    pub fn pairs(&self) -> &BTreeMap<(Signature, Signature), Verdict> {
        &self.pairs
    }

    /// The run that began and has no end: where a journal stops, the machine went down in it, or the sweep was killed.
    #[must_use]
    pub fn open_run(&self) -> Option<u32> {
        self.runs.open().map(|run| run.armed.run)
    }

    /// A number that no run of the last section has.
    #[must_use]
    pub fn next_run(&self) -> u32 {
        self.runs.next()
    }

    /// Which sites the sweep is done with.
    #[must_use]
    pub fn tested(&self) -> &Tested {
        &self.tested
    }

    /// What went wrong, and which failures may be the cause.
    #[must_use]
    pub fn suspicion(&self) -> &Suspicion {
        &self.suspicion
    }

    /// Failures whose leaks nobody has looked for.
    #[must_use]
    pub fn unscanned(&self) -> &Unscanned {
        &self.unscanned
    }

    /// What the records since an earlier moment brought.
    #[must_use]
    pub fn news(&self) -> &News {
        &self.news
    }

    /// How many sites uninjected runs reach.
    #[must_use]
    pub fn recorded_sites(&self) -> usize {
        self.sites.values().filter(|site| site.hits > 0).count()
    }

    /// How often a site was reached in an uninjected run, at most.
    #[must_use]
    pub fn hits(&self, site: Signature) -> u64 {
        self.site(site).map_or(0, |site| site.hits)
    }

    /// The sweep has said that it is over, with everything done that could be; of a merged journal: all of them have.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.sections.is_empty() && self.sections.iter().all(|section| section.complete)
    }

    /// How long the workload takes without injection, in seconds: the median.
    #[must_use]
    pub fn plain_time(&self) -> Option<f64> {
        let mut times = self.plain.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }

    /// How many uninjected runs were timed.
    #[must_use]
    pub fn plain_runs(&self) -> usize {
        self.plain.len()
    }

    /// All sections together took so long, in seconds: what they say at their end, and the runs since.
    #[must_use]
    pub fn spent_time(&self) -> f64 {
        self.sections.iter().fold(0.0, |sum, section| sum + section.said + section.runs)
    }

    /// How many allocations the kernel's own fault injection failed meanwhile, as far as its log said.
    #[must_use]
    pub fn kernel_injected(&self) -> u64 {
        self.kernel_injected
    }

    /// Sites that came up in some of the runs that recorded, but not in all, and how many runs did.
    #[must_use]
    pub fn unsteady(&self) -> (usize, u32) {
        let came_and_went = |state: &&SiteState| state.seen_in > 0 && state.seen_in < self.recorded;
        (self.sites.values().filter(came_and_went).count(), self.recorded)
    }

    /// Whether a site belongs to one of the shards whose journals these are.
    #[must_use]
    pub fn is_ours(&self, site: Signature) -> bool {
        let has = |shard: &Option<Shard>| shard.is_none_or(|shard| shard.has(site));
        self.begins.is_empty() || self.begins.iter().any(|begin| has(&begin.shard))
    }

    /// What became of a site, for the counts.
    pub(crate) fn count(&self, signature: Signature, site: &SiteState, counts: &mut Counts) {
        counts.seen += 1;
        match site.verdict {
            Verdict::Unreached if !self.is_ours(signature) => counts.elsewhere += 1,
            Verdict::Unreached if site.given_up.is_some() => counts.unreached += 1,
            Verdict::Unreached => counts.left += 1,
            Verdict::Masked => counts.masked += 1,
            _ => counts.failed += 1,
        }
    }

    /// How many sites, by what became of them.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts_of(|_| true)
    }

    /// The same of the sites that runs without failures reached; the others were only seen after failures.
    #[must_use]
    pub fn inventory(&self) -> Counts {
        self.counts_of(|site| site.seen_in > 0)
    }

    fn counts_of(&self, which: impl Fn(&SiteState) -> bool) -> Counts {
        let mut counts = Counts::default();
        for (signature, site) in self.sites.iter().filter(|(_, site)| which(site)) {
            self.count(*signature, site, &mut counts);
        }
        counts
    }

    /// Allocation failures that user space got as something else than ENOMEM, each site, call and error once.
    #[must_use]
    pub fn misreported(&self) -> Vec<Misreport<'_>> {
        let failures = self.sites.values().flat_map(|site| &site.failures);
        let mut seen = BTreeSet::new();
        let misreport = failures.filter_map(|(_, failed)| match &failed.outcome {
            Outcome::Misreported { error } => Some(Misreport { error, then: None, failed }),
            Outcome::NotRepeatable { error, then } if error != "ENOMEM" => {
                Some(Misreport { error, then: Some(then), failed })
            }
            _ => None,
        });
        misreport
            .filter(|misreport| {
                let call = misreport.failed.syscall.as_ref().map(|call| call.name.as_str());
                seen.insert((misreport.failed.site, call, misreport.error))
            })
            .collect()
    }
}
