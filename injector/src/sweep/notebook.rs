//! What the search must know of what was: written to the journal, and folded from it, so that a sweep that is resumed
//! goes on where it stopped.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Verdict,
    journal::{
        Record, Signature, State, Writer,
        record::{Armed, Crash, Failed, Level, Outcome, Site, Trouble, Unreached},
    },
};
use crate::exit::Result;

/// How many failures before a crash may have been its cause.
const RECENT: usize = 2;

/// What is known, and where it is written.
#[derive(Debug)]
pub struct Notebook {
    writer: Writer,
    known: Known,
    /// What the records add up to, for the reports and for the search.
    state: State,
}

/// What only the search must know: what the records add up to is in [`State`].
#[derive(Debug, Default)]
pub struct Known {
    next_run: u32,
    /// Sites that are not failed by themselves any more: they were, or they brought the machine down.
    finished: BTreeSet<Signature>,
    given_up: BTreeSet<Signature>,
    /// Sites whose failure came back as an error of a call that was then made again.
    repeatable: BTreeSet<Signature>,
    failures: u64,
    titles: BTreeSet<String>,
    /// The run that has not ended.
    open: Option<Armed>,
    /// Failures of the last run, latest first.
    recent: Vec<Signature>,
    /// The machine went down in a pass: what had been failed last.
    crashed: Option<Vec<Signature>>,
    /// Complaints that nobody knows the site of: by title, with the failures that may have been it.
    unresolved: BTreeMap<String, Vec<Signature>>,
    /// Failed since kmemleak was last asked.
    unscanned: BTreeSet<Signature>,
    /// Failed in boots that ended before kmemleak was asked.
    missed: BTreeSet<Signature>,
    /// They damage the kernel.
    harmful: BTreeSet<Signature>,
    /// Complaints that a site is known of.
    confirmed: BTreeSet<String>,
    /// What came up in the last run.
    last_titles: Vec<String>,
    /// What the kernel said, by title.
    splats: BTreeMap<String, String>,
    /// Sites that were failed in a run of their own.
    alone: BTreeSet<Signature>,
    /// How many sites may be failed together with these: they were among those of a run that went wrong.
    limits: HashMap<Signature, usize>,
}

impl Known {
    /// Takes note of a record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Begin(_) => {
                self.given_up.clear();
                self.missed.append(&mut self.unscanned);
            }
            Record::Armed(armed) => {
                self.next_run = self.next_run.max(armed.run + 1);
                self.recent.clear();
                self.last_titles.clear();
                match armed.sites.as_deref() {
                    None if armed.level != Level::Record => self.crashed = None,
                    Some([site]) => {
                        self.alone.insert(*site);
                    }
                    // Not again and again, if that is what ends the boot.
                    Some(sites) if armed.level == Level::Crowd => self.missed.retain(|site| !sites.contains(site)),
                    _ => {}
                }
                self.open = Some(armed.clone());
            }
            Record::Failed(Failed { site, after, outcome, .. }) => {
                if after.is_none() && matches!(outcome, Outcome::Clean | Outcome::Misreported { .. }) {
                    self.repeatable.insert(*site);
                }
                self.failures += 1;
                self.unscanned.insert(*site);
                self.finished.insert(*site);
                self.recent.insert(0, *site);
                self.recent.truncate(RECENT);
            }
            Record::Trouble(Trouble { title, verdict, site, suspects, splat, .. }) => {
                self.titles.insert(title.clone());
                self.last_titles.push(title.clone());
                self.splats.entry(title.clone()).or_insert_with(|| splat.clone());
                match site {
                    Some(site) => {
                        if *verdict >= Verdict::Hang {
                            self.harmful.insert(*site);
                        }
                        self.finished.insert(*site);
                        self.unresolved.remove(title);
                        self.confirmed.insert(title.clone());
                    }
                    // One failure that leads to it is known; the others would take runs of their own.
                    None if self.confirmed.contains(title) => {}
                    None => {
                        let batch = self.open.as_ref().is_some_and(|armed| armed.level == Level::Run);
                        if batch {
                            self.suspect(suspects);
                        } else {
                            // Each time it may have been one of others.
                            let all = self.unresolved.entry(title.clone()).or_default();
                            all.extend(suspects.iter().filter(|site| !all.contains(site)).copied().collect::<Vec<_>>());
                        }
                    }
                }
            }
            Record::Ended(_) => self.open = None,
            Record::Scanned(_) => {
                self.unscanned.clear();
                self.missed.clear();
            }
            Record::Crash(crash) => self.crash(crash),
            Record::Unreached(Unreached { sites, .. }) => self.given_up.extend(sites),
            Record::Plain(_) | Record::Site(_) | Record::Replayed(_) | Record::End(_) => {}
        }
    }

    fn crash(&mut self, crash: &Crash) {
        if crash.is_on_purpose() {
            // Somebody crashed it; no site did.
            self.open = None;
            return;
        }
        self.titles.insert(crash.title.clone());
        let Some(armed) = self.open.take_if(|open| crash.run.is_none_or(|run| run == open.run)) else { return };
        match armed.sites.as_deref() {
            Some([site]) => {
                self.harmful.insert(*site);
                self.finished.insert(*site);
            }
            Some(sites) => {
                let left: Vec<Signature> = sites.iter().copied().filter(|site| !self.finished.contains(site)).collect();
                self.suspect(&left);
            }
            None if armed.level != Level::Record => self.crashed = Some(self.recent.clone()),
            None => {}
        }
    }

    /// One of these did it: next time half as many of them together.
    fn suspect(&mut self, sites: &[Signature]) {
        for site in sites {
            let limit = self.limits.entry(*site).or_insert(usize::MAX);
            *limit = (*limit).min(sites.len() / 2).max(1);
        }
    }
}

impl Notebook {
    /// Writes to `writer`, with what is known already.
    #[must_use]
    pub fn new(writer: Writer, known: Known, state: State) -> Self {
        Self { writer, known, state }
    }

    /// What is known, for a report.
    #[must_use]
    pub fn into_state(self) -> State {
        self.state
    }

    /// Writes a record; `sync`: and returns when it can't be lost any more.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&mut self, record: Record, sync: bool) -> Result<()> {
        if sync {
            self.writer.sync(&record)?;
        } else {
            self.writer.write(&record)?;
        }
        self.known.apply(&record);
        self.state.apply(&record);
        Ok(())
    }

    /// The number of the next run.
    #[must_use]
    pub fn next_run(&self) -> u32 {
        self.known.next_run
    }

    /// The run that began and did not end.
    #[must_use]
    pub fn open_run(&self) -> Option<u32> {
        self.known.open.as_ref().map(|armed| armed.run)
    }

    /// How many sites were seen.
    #[must_use]
    pub fn sites(&self) -> usize {
        self.state.sites().len()
    }

    /// Sites that were seen.
    pub fn known_sites(&self) -> impl Iterator<Item = &Site> {
        self.state.sites().values().filter_map(|site| site.info.as_ref())
    }

    /// Sites that are not failed by themselves any more.
    #[must_use]
    pub fn finished_sites(&self) -> Vec<Signature> {
        self.known.finished.union(&self.known.given_up).copied().collect()
    }

    /// Whether a site was failed.
    #[must_use]
    pub fn was_failed(&self, site: Signature) -> bool {
        self.known.finished.contains(&site)
    }

    /// Sites whose failure came back as an error of a call that was then made again.
    #[must_use]
    pub fn repeatable_sites(&self) -> Vec<Signature> {
        self.known.repeatable.iter().copied().collect()
    }

    /// What the sweep has taken so far, seconds; of this part only runs that have ended count.
    #[must_use]
    pub fn spent_time(&self) -> f64 {
        self.state.spent_time()
    }

    /// How often a site was reached in a run, at most.
    #[must_use]
    pub fn hits(&self, site: Signature) -> u64 {
        self.state.site(site).map_or(0, |site| site.hits)
    }

    /// How many sites the workload reaches by itself.
    #[must_use]
    pub fn recorded_sites(&self) -> usize {
        self.state.sites().values().filter(|site| site.hits > 0).count()
    }

    /// How many failures were injected.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.known.failures
    }

    /// How many sites are done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.known.finished.len()
    }

    /// How many different complaints there were.
    #[must_use]
    pub fn findings(&self) -> usize {
        self.known.titles.len()
    }

    /// Of how many sites a batch with this one may be; none: as many as one likes.
    #[must_use]
    pub fn batch_limit(&self, site: Signature) -> Option<usize> {
        self.known.limits.get(&site).copied()
    }

    /// Has these sites come up in fewer and fewer at a time: one of them did something, and nobody knows which.
    pub fn suspect(&mut self, sites: &[Signature]) {
        self.known.suspect(sites);
    }

    /// Sites that damage the kernel when they are failed.
    #[must_use]
    pub fn is_harmful(&self, site: Signature) -> bool {
        self.known.harmful.contains(&site)
    }

    /// How many of the sites that may be the cause of a complaint were failed by themselves.
    #[must_use]
    pub fn tried_suspects(&self, title: &str) -> usize {
        let all = self.known.unresolved.get(title).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|site| self.known.alone.contains(site)).count()
    }

    /// Sites that may be the cause of a complaint and were not failed by themselves yet, with its title.
    #[must_use]
    pub fn suspects(&self) -> Vec<(String, Vec<Signature>)> {
        let not_alone = |sites: &[Signature]| -> Vec<Signature> {
            sites.iter().copied().filter(|site| !self.known.alone.contains(site)).collect()
        };
        let unresolved = self.known.unresolved.iter().map(|(title, sites)| (title.clone(), not_alone(sites)));
        unresolved.filter(|(_, sites)| !sites.is_empty()).collect()
    }

    /// What the kernel said under a title, the first time.
    #[must_use]
    pub fn splat(&self, title: &str) -> Option<&str> {
        self.known.splats.get(title).map(String::as_str)
    }

    /// The titles of what came up in the last run.
    #[must_use]
    pub fn last_titles(&self) -> &[String] {
        &self.known.last_titles
    }

    /// Sites that were failed in boots that ended before kmemleak was asked, and did not end them.
    #[must_use]
    pub fn missed_by_kmemleak(&self) -> Vec<Signature> {
        self.known.missed.difference(&self.known.harmful).copied().collect()
    }

    /// Whether a failure is known that leads to a complaint with this title.
    #[must_use]
    pub fn is_confirmed(&self, title: &str) -> bool {
        self.known.confirmed.contains(title)
    }

    /// Whether a complaint has no site yet.
    #[must_use]
    pub fn is_unresolved(&self, title: &str) -> bool {
        self.known.unresolved.contains_key(title)
    }

    /// After the machine went down in a pass: what had been failed last.
    #[must_use]
    pub fn crashed(&self) -> Option<&[Signature]> {
        self.known.crashed.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::journal::{
        record::{CrashKind, Scanned},
        tests::samples::begin,
    };

    fn sites(numbers: &[u64]) -> Vec<Signature> {
        numbers.iter().copied().map(Signature).collect()
    }

    fn armed(run: u32, level: Level, sites: Option<Vec<Signature>>) -> Record {
        Record::Armed(Armed { run, level, sites, first: None })
    }

    fn failed(run: u32, site: u64) -> Record {
        Record::Failed(Failed {
            run,
            site: Signature(site),
            after: None,
            hit: 1,
            times: 1,
            level: Level::SystemCall,
            call: None,
            syscall: None,
            outcome: Outcome::Clean,
        })
    }

    fn crash(run: u32) -> Record {
        Record::Crash(Crash { run: Some(run), kind: CrashKind::Panic, title: "panic".into(), splat: String::new() })
    }

    fn known(records: &[Record]) -> Known {
        let mut known = Known::default();
        for record in records {
            known.apply(record);
        }
        known
    }

    #[test]
    fn a_crash_of_one_site_finishes_it() {
        let known = known(&[armed(3, Level::SystemCall, Some(sites(&[7]))), crash(3)]);
        assert!(known.finished.contains(&Signature(7)));
        assert_eq!((known.next_run, known.crashed, known.open), (4, None, None));
    }

    #[test]
    fn what_kmemleak_did_not_see_is_done_again_once() {
        let boot = || Record::Begin(Box::new(begin("s", 0)));
        let oops = Record::Trouble(Trouble {
            run: 0,
            verdict: Verdict::Oops,
            title: "BUG in f".to_owned(),
            splat: String::new(),
            site: Some(Signature(3)),
            after: None,
            suspects: Vec::new(),
        });
        let fail = |site| failed(0, site);
        let mut known = known(&[boot(), armed(0, Level::SystemCall, None), fail(1), fail(2), fail(3), oops]);
        assert!(known.missed.is_empty(), "this boot is not over");
        known.apply(&boot());
        assert_eq!(known.missed.difference(&known.harmful).copied().collect::<Vec<_>>(), sites(&[1, 2]));
        known.apply(&fail(4));
        known.apply(&Record::Scanned(Scanned { leaks: 0 }));
        known.apply(&boot());
        assert!(known.missed.is_empty());
    }

    #[test]
    fn what_ends_the_boot_again_is_not_done_a_third_time() {
        let boot = || Record::Begin(Box::new(begin("s", 0)));
        let again = armed(1, Level::Crowd, Some(sites(&[1, 2])));
        let known = known(&[boot(), failed(0, 1), failed(0, 2), boot(), again, boot()]);
        assert!(known.missed.is_empty());
    }

    #[test]
    fn a_crash_of_many_makes_smaller_batches() {
        let known = known(&[armed(0, Level::Run, Some(sites(&[1, 2, 3, 4, 5]))), crash(0)]);
        assert!(known.finished.is_empty());
        assert_eq!(known.limits[&Signature(5)], 2);
        let smaller = [armed(0, Level::Run, Some(sites(&[1, 2]))), crash(0)];
        let known = self::known(&smaller);
        assert_eq!(known.limits[&Signature(1)], 1, "the next crash names it");
    }

    #[test]
    fn what_comes_again_has_more_suspects() {
        let oops = |run, suspects: &[u64]| {
            let title = "BUG in f".to_owned();
            let (verdict, suspects) = (Verdict::Oops, sites(suspects));
            Record::Trouble(Trouble { run, verdict, title, splat: String::new(), site: None, after: None, suspects })
        };
        let crowd = |run| armed(run, Level::Crowd, None);
        let known = known(&[crowd(0), oops(0, &[1, 2]), crowd(1), oops(1, &[2, 3])]);
        assert_eq!(known.unresolved["BUG in f"], sites(&[1, 2, 3]));
    }

    #[test]
    fn a_crash_in_a_pass_has_suspects_until_the_next() {
        let mut known = known(&[armed(0, Level::SystemCall, None), failed(0, 1), failed(0, 2), failed(0, 3), crash(0)]);
        assert_eq!(known.crashed, Some(sites(&[3, 2])));
        known.apply(&armed(1, Level::SystemCall, Some(sites(&[9]))));
        assert!(known.crashed.is_some(), "one site by itself");
        known.apply(&armed(2, Level::SystemCall, None));
        assert_eq!(known.crashed, None);
    }
}
