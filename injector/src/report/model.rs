//! What all forms of a report say. The names are those of the JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{known::NotFound, mail, static_sites::StaticSites};
use crate::{
    events::{Context, frames},
    journal::{
        Counts, Finding, Journal, NoFinding, SiteState, State, Verdict, find_finding,
        record::{Begin, Call, Failed, Kernel, Level, Options, Outcome, Place, Shard, Signature, Syscall, Workload},
    },
    plan::Hook,
    symbols::Lines,
};

/// Version of the JSON: it changes when a member changes its meaning or goes; members may be added.
pub const SCHEMA: u32 = 2;

/// The module of sites whose description the journal has lost.
const UNKNOWN: &str = "unknown";

/// All there is to say of a sweep, or of several that were merged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The journal's file.
    pub journal: String,
    /// Of which kernel and workload; none if the journal is empty.
    pub config: Option<Config>,
    /// The sweeps that it is made of.
    pub sweeps: Vec<Sweep>,
    /// They have done all that they could.
    pub complete: bool,
    /// How many sites, by what became of them.
    pub counts: Counts,
    /// The same of those that runs without failures reached; the others were only seen after failures.
    pub inventory: Counts,
    /// How many places in the code these are.
    pub static_sites: StaticSites,
    /// How many sites have each verdict.
    pub verdicts: BTreeMap<Verdict, usize>,
    /// How long it took.
    pub times: Times,
    /// Whether the workload reaches the same sites each time.
    pub unsteady: Option<Unsteady>,
    /// What a maintainer must look at, the worst first; those that are known come last.
    pub findings: Vec<Found>,
    /// Known findings that were not found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_found: Vec<NotFound>,
    /// Allocation failures that user space got as another error.
    pub misreported: Vec<OddFailure>,
    /// Failures after which the same error came again and again.
    pub wedged: Vec<OddFailure>,
    /// Coverage by module.
    pub modules: Vec<Module>,
    /// Pairs of failures in one attempt, by verdict.
    pub pairs: BTreeMap<Verdict, usize>,
    /// Sites that were never failed, by the reason.
    pub left: Vec<Share>,
    /// Every site.
    pub sites: BTreeMap<Signature, SiteRow>,
    /// How many allocations the kernel's own fault injection failed meanwhile, as far as its log said.
    #[serde(skip_serializing_if = "crate::journal::record::is_zero")]
    pub kernel_injected: u64,
    /// Source lines of frames, where they were looked up and found.
    #[serde(skip_serializing_if = "Lines::is_empty")]
    pub lines: Lines,
    /// What is wrong with the journal.
    pub remarks: Vec<String>,
}

/// Whose stacks a report shows, from the fewest to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stacks {
    /// None.
    None,
    /// Those of the sites that lead to findings.
    Findings,
    /// All.
    All,
}

/// Of which kernel and workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The kernel under test.
    pub kernel: Kernel,
    /// The workload.
    pub workload: Workload,
}

/// One sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sweep {
    /// Its name.
    pub sweep: String,
    /// Version of the injector.
    pub version: String,
    /// When it was begun.
    pub time: String,
    /// How often it was resumed.
    pub resumed: u32,
    /// What was asked for.
    pub options: Options,
    /// Which part of all sites it failed.
    pub shard: Option<Shard>,
}

/// How long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// The workload without any failure, seconds: the median.
    pub plain: Option<f64>,
    /// Of so many runs.
    pub plain_runs: usize,
    /// The sweep, seconds; of merged ones: all together.
    pub sweep: f64,
    /// The same in plain times.
    pub factor: Option<f64>,
    /// The same for each site that was failed, milliseconds.
    pub ms_per_site: Option<f64>,
}

/// Sites that came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unsteady {
    /// The number of sites.
    pub sites: usize,
    /// In so many runs without failures.
    pub runs: u32,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What it is.
    #[serde(flatten)]
    pub finding: Finding,
    /// The command that tries it again.
    pub replay: String,
    /// It is known: by this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
}

/// A failure with an odd outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OddFailure {
    /// The error's name.
    pub error: String,
    /// With this one the call failed again when it was repeated without a failure; none: it went well.
    pub then: Option<String>,
    /// The site.
    pub site: Signature,
    /// With this failure before it.
    pub after: Option<Signature>,
    /// At which hit.
    pub hit: u32,
    /// The level of the run.
    pub level: Level,
    /// What was asked for.
    pub call: Option<Call>,
    /// The system call.
    pub syscall: Option<Syscall>,
}

/// A module or subsystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its name.
    pub module: String,
    /// Its sites.
    #[serde(flatten)]
    pub counts: Counts,
    /// Its sites by what is shown of them; adds up to `seen`.
    pub shares: BTreeMap<CoverageClass, usize>,
    /// How often its sites are reached in a run of the workload, at most.
    pub hits: u64,
    /// Findings in it.
    pub findings: usize,
}

/// What became of a site, in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CoverageClass {
    /// It has a part in a finding.
    Finding,
    /// Another error came back, or came again and again.
    Error,
    /// ENOMEM came back.
    Clean,
    /// Nothing was noticed.
    Masked,
    /// Could not be failed.
    Unreached,
    /// Not failed yet, or not here.
    Left,
}

impl CoverageClass {
    /// All of them, in the order of a bar.
    pub const ALL: [Self; 6] = [Self::Finding, Self::Error, Self::Clean, Self::Masked, Self::Unreached, Self::Left];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::Error => "error",
            Self::Clean => "clean",
            Self::Masked => "masked",
            Self::Unreached => "unreached",
            Self::Left => "left",
        }
    }
}

/// A reason with its sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The reason.
    pub why: String,
    /// How many sites.
    pub sites: usize,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteRow {
    /// Its hook; none, like all that describes it, if the journal has lost that line.
    pub hook: Option<Hook>,
    /// In what kind of code it was first seen.
    pub context: Option<Context>,
    /// In what part of a task's life.
    pub place: Option<Place>,
    /// In a kernel thread.
    pub kthread: bool,
    /// Its module or subsystem.
    pub module: String,
    /// The worst that came of its failures.
    pub verdict: Verdict,
    /// The same in fewer words.
    pub kept: CoverageClass,
    /// How often it is reached in a run of the workload, at most.
    pub hits: u64,
    /// How often it was failed.
    pub failures: usize,
    /// How many of the failures by itself came to the verdict, and how many there were, where not all did: it depends on chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreeing: Option<(usize, usize)>,
    /// Why it was never failed.
    pub unreached: Option<String>,
    /// It first appeared while this site's failure was being handled.
    pub after: Option<Signature>,
    /// Frames, innermost first.
    pub stack: Vec<String>,
}

impl SiteRow {
    /// The function that asked the allocator.
    #[must_use]
    pub fn function(&self) -> &str {
        frames::callers(&self.stack).first().map_or("?", |frame| frames::function(frame))
    }

    /// The hook's name.
    #[must_use]
    pub fn hook(&self) -> &'static str {
        self.hook.map_or("?", Hook::name)
    }
}

impl Report {
    /// The report of a journal that was read.
    #[must_use]
    pub fn of(journal: &Journal) -> Self {
        let mut report = Self::new(&State::of(journal), &journal.name);
        report.remarks = journal.remarks.iter().map(ToString::to_string).collect();
        report
    }

    /// The report of what a journal adds up to; `journal` is its file, for the commands that replay.
    #[must_use]
    pub fn new(state: &State, journal: &str) -> Self {
        let begin = state.begins().first();
        let findings: Vec<Found> = state
            .findings()
            .into_iter()
            .map(|finding| Found { replay: replay(journal, &finding, begin), finding, known: None })
            .collect();
        let involved: BTreeSet<Signature> =
            findings.iter().flat_map(|found| &found.finding.failures).map(|failure| failure.site).collect();
        let sites: BTreeMap<Signature, SiteRow> = state
            .sites()
            .iter()
            .map(|(signature, site)| (*signature, row(site, involved.contains(signature))))
            .collect();
        let mut verdicts = BTreeMap::new();
        for site in sites.values() {
            *verdicts.entry(site.verdict).or_default() += 1;
        }
        let mut pairs = BTreeMap::new();
        for verdict in state.pairs().values() {
            *pairs.entry(*verdict).or_default() += 1;
        }
        let first = state.begins().first();
        let (unsteady, runs) = state.unsteady();
        let counts = state.counts();
        Self {
            schema: SCHEMA,
            journal: journal.to_owned(),
            config: first.map(|begin| Config { kernel: begin.kernel.clone(), workload: begin.workload.clone() }),
            sweeps: sweeps(state),
            complete: state.is_complete(),
            counts,
            inventory: state.inventory(),
            static_sites: StaticSites::of(sites.values()),
            verdicts,
            times: times(state, &counts),
            unsteady: (runs > 0).then_some(Unsteady { sites: unsteady, runs }),
            modules: modules(state, &sites, &findings),
            findings,
            not_found: Vec::new(),
            misreported: state.misreported().iter().map(|odd| odd_of(odd.error, odd.then, odd.failed)).collect(),
            wedged: wedged(state),
            pairs,
            left: left(state),
            sites,
            kernel_injected: state.kernel_injected(),
            lines: Lines::new(),
            remarks: Vec::new(),
        }
    }

    /// The frames that are shown.
    #[must_use]
    pub fn frames(&self, shown: Stacks) -> BTreeSet<String> {
        let failures = self.findings.iter().flat_map(|found| &found.finding.failures);
        let sites: Vec<&SiteRow> = match shown {
            Stacks::None => Vec::new(),
            Stacks::Findings => failures.filter_map(|failure| self.site(failure.site)).collect(),
            Stacks::All => self.sites.values().collect(),
        };
        let stacks = sites.iter().flat_map(|site| &site.stack).cloned();
        // What the kernel complained of has a stack, too.
        let splats = self.findings.iter().filter(|_| shown != Stacks::None).map(|found| &found.finding.splat);
        stacks.chain(splats.flat_map(|splat| splat.lines().filter_map(mail::frame_of))).collect()
    }

    /// Leaves one finding: by its id, or by the beginning of its title.
    ///
    /// # Errors
    /// There is no such finding, or several.
    pub fn select(&mut self, name: &str) -> Result<Finding, NoFinding> {
        let finding = find_finding(self.findings.iter().map(|found| &found.finding), name, &self.journal)?.clone();
        self.findings.retain(|found| found.finding.id == finding.id);
        Ok(finding)
    }

    /// Whether there is something that a maintainer must look at, and that is not known.
    #[must_use]
    pub fn has_new_findings(&self) -> bool {
        self.findings.iter().any(|found| found.known.is_none())
    }

    /// A site; every signature that the report names has one.
    #[must_use]
    pub fn site(&self, site: Signature) -> Option<&SiteRow> {
        self.sites.get(&site)
    }

    /// Findings that one can only suspect sites of.
    pub(super) fn without_site(&self) -> impl Iterator<Item = &Found> {
        self.findings.iter().filter(|found| found.finding.failures.is_empty())
    }

    /// The findings that a site's failure leads to.
    pub(super) fn findings_at(&self, site: Signature) -> impl Iterator<Item = &Found> {
        self.findings.iter().filter(move |found| found.finding.failures.iter().any(|failure| failure.site == site))
    }

    /// The sites of a module.
    pub(super) fn sites_of<'a>(&'a self, module: &'a str) -> impl Iterator<Item = (Signature, &'a SiteRow)> {
        self.sites.iter().filter(move |(_, site)| site.module == module).map(|(signature, site)| (*signature, site))
    }
}

/// The command that tries a finding again. One whose failure isn't known must be narrowed down first.
fn replay(journal: &str, finding: &Finding, begin: Option<&Begin>) -> String {
    let verb = if finding.failures.is_empty() { "minimize" } else { "replay" };
    // A NUL can't be in a file's name.
    let quoted = |text| shlex::try_quote(text).unwrap_or_default();
    let mut command = format!("injector {verb} {} {}", quoted(journal), finding.id);
    if let Some(Begin { workload, guests, .. }) = begin {
        let name = workload.name.iter().flat_map(|name| ["--workload", name]);
        for word in name.chain(guests.iter().map(String::as_str)) {
            command += " ";
            command += &quoted(word);
        }
    }
    command
}

/// How many failures of a site by itself came to its verdict, and of how many, where others did not. A verdict that no failure
/// has is that of a complaint.
fn agreeing(site: &SiteState) -> Option<(usize, usize)> {
    let by_itself: Vec<Verdict> = site
        .failures
        .iter()
        .filter(|(_, failed)| failed.after.is_none())
        .map(|(_, failed)| failed.outcome.verdict())
        .collect();
    let agree = by_itself.iter().filter(|verdict| **verdict == site.verdict).count();
    (0 < agree && agree < by_itself.len()).then_some((agree, by_itself.len()))
}

fn row(site: &SiteState, involved: bool) -> SiteRow {
    let info = site.info.as_ref();
    let kept = match site.verdict {
        _ if involved => CoverageClass::Finding,
        verdict if verdict.is_finding() => CoverageClass::Finding,
        Verdict::Unreached if site.given_up.is_some() => CoverageClass::Unreached,
        Verdict::Unreached => CoverageClass::Left,
        Verdict::Clean => CoverageClass::Clean,
        Verdict::Masked => CoverageClass::Masked,
        _ => CoverageClass::Error,
    };
    SiteRow {
        hook: info.map(|info| info.hook),
        context: info.map(|info| info.context),
        place: info.map(|info| info.place),
        kthread: info.is_some_and(|info| info.kthread),
        module: info.map_or_else(|| UNKNOWN.to_owned(), |info| info.module.clone()),
        verdict: site.verdict,
        kept,
        hits: site.hits,
        failures: site.failures.len(),
        agreeing: agreeing(site),
        unreached: site.given_up.clone().filter(|_| site.verdict == Verdict::Unreached),
        after: info.and_then(|info| info.after),
        stack: info.map(|info| info.stack.clone()).unwrap_or_default(),
    }
}

fn sweeps(state: &State) -> Vec<Sweep> {
    let mut all: Vec<Sweep> = Vec::new();
    for begin in state.begins() {
        match all.last_mut().filter(|sweep| begin.part > 0 && sweep.sweep == begin.sweep) {
            Some(sweep) => sweep.resumed += 1,
            None => all.push(Sweep {
                sweep: begin.sweep.clone(),
                version: begin.version.clone(),
                time: begin.time.clone(),
                resumed: 0,
                options: begin.options.clone(),
                shard: begin.shard,
            }),
        }
    }
    all
}

fn times(state: &State, counts: &Counts) -> Times {
    let sweep = state.spent_time();
    let plain = state.plain_time();
    let done = counts.failed + counts.masked;
    Times {
        plain,
        plain_runs: state.plain_runs(),
        sweep,
        factor: plain.filter(|plain| *plain > 0.0).map(|plain| sweep / plain),
        ms_per_site: (done > 0).then(|| sweep * 1000.0 / done as f64),
    }
}

fn modules(state: &State, sites: &BTreeMap<Signature, SiteRow>, findings: &[Found]) -> Vec<Module> {
    let mut all: BTreeMap<&str, Module> = BTreeMap::new();
    for (signature, site) in sites {
        let module = all.entry(&site.module).or_default();
        module.module.clone_from(&site.module);
        if let Some(known) = state.site(*signature) {
            state.count(*signature, known, &mut module.counts);
        }
        *module.shares.entry(site.kept).or_default() += 1;
        module.hits += site.hits;
    }
    for found in findings {
        let failures = found.finding.failures.iter();
        let within: BTreeSet<&str> =
            failures.filter_map(|failure| sites.get(&failure.site)).map(|site| site.module.as_str()).collect();
        for name in within {
            if let Some(module) = all.get_mut(name) {
                module.findings += 1;
            }
        }
    }
    let mut all: Vec<Module> = all.into_values().collect();
    all.sort_by(|a, b| (b.findings, b.counts.seen, &a.module).cmp(&(a.findings, a.counts.seen, &b.module)));
    all
}

fn odd_of(error: &str, then: Option<&str>, failed: &Failed) -> OddFailure {
    OddFailure {
        error: error.to_owned(),
        then: then.map(str::to_owned),
        site: failed.site,
        after: failed.after,
        hit: failed.hit,
        level: failed.level.clone(),
        call: failed.call.clone(),
        syscall: failed.syscall.clone(),
    }
}

fn wedged(state: &State) -> Vec<OddFailure> {
    let mut seen = BTreeSet::new();
    let failures = state.sites().values().flat_map(|site| &site.failures);
    let odd = failures.filter_map(|(_, failed)| match &failed.outcome {
        Outcome::Wedged { error } => Some(odd_of(error, None, failed)),
        _ => None,
    });
    odd.filter(|odd| seen.insert((odd.site, odd.after, odd.error.clone()))).collect()
}

/// Sites that were never failed, the commonest reason first.
fn left(state: &State) -> Vec<Share> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for (signature, site) in state.sites() {
        if site.verdict != Verdict::Unreached {
            continue;
        }
        let why = match &site.given_up {
            _ if !state.is_ours(*signature) => "of other shards".to_owned(),
            Some(why) => why.clone(),
            None => "not failed yet".to_owned(),
        };
        *reasons.entry(why).or_default() += 1;
    }
    let mut all: Vec<Share> = reasons.into_iter().map(|(why, sites)| Share { why, sites }).collect();
    all.sort_by(|a, b| b.sites.cmp(&a.sites).then_with(|| a.why.cmp(&b.why)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::samples;

    #[test]
    fn a_replay_has_the_guests_of_the_sweep() {
        let finding = Finding {
            id: "0123abcd".to_owned(),
            title: "BUG".to_owned(),
            verdict: Verdict::Oops,
            splat: String::new(),
            followed_by: Vec::new(),
            failures: Vec::new(),
            suspects: Vec::new(),
            tries: 0,
            reproduced: 0,
        };
        let mut begin = samples::begin("s", 0);
        assert_eq!(replay("a.jsonl", &finding, Some(&begin)), "injector minimize a.jsonl 0123abcd");
        begin.workload.name = Some("nvmet".to_owned());
        begin.guests = ["--vm", "debian:7.3", "--add", "/a b:/c"].map(str::to_owned).into();
        assert_eq!(
            replay("my journal", &finding, Some(&begin)),
            "injector minimize 'my journal' 0123abcd --workload nvmet --vm debian:7.3 --add '/a b:/c'"
        );
    }
}
