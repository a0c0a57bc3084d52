//! The scheduler against simulated kernels: ten thousand of them, with sites that come and go, sites behind failures, hidden
//! failures, aborting file systems, warnings, oopses, panics, hangs, leaks.

mod kernel;
mod world;

use std::collections::BTreeSet;

use kernel::{Boot, Disk};
use proptest::{prelude::*, test_runner::RngSeed};
use world::{Effect, World, a_world};

use super::{Scheduler, Setting, Tuning};
use crate::{
    journal::{
        Journal, Record, Section, Signature, State, Verdict,
        record::{Crash, CrashKind},
        tests::samples::begin,
    },
    plan::sweep::Leaks,
    sweep::{Stopped, drive::drive, priority::Modules},
};

/// No sweep of these worlds may take more boots.
const BOOTS: u32 = 60;

/// How a boot is cut off that a test cuts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The sweep is killed, and the machine is fine.
    Killed,
    /// Somebody crashes the machine.
    Down,
}

fn setting(world: &World) -> Setting {
    Setting {
        depth: 2,
        persistent: None,
        shard: None,
        failing: true,
        leaks: Leaks::Auto,
        kmemleak: world.kmemleak,
        modules: Modules::default(),
        tuning: Tuning::default(),
        background: BTreeSet::new(),
        order: Vec::new(),
    }
}

/// What a sweep has come to.
struct Swept {
    state: State,
    records: Vec<Record>,
    runs: u64,
    boots: u32,
}

fn state_of(records: &[Record]) -> State {
    let mut state = State::default();
    for record in records {
        state.apply(record);
    }
    state
}

/// Sweeps a world over as many boots as it takes. The boot is cut off before each of these records is written.
fn sweep(world: &World, cuts: &[(usize, Cut)]) -> Result<Swept, String> {
    let mut disk = Disk::default();
    let mut cuts = cuts.iter().copied();
    let mut runs = 0;
    let mut cut = None;
    for part in 0..BOOTS {
        let state = state_of(&disk.records);
        let open = state.open_run();
        let mut boot = Boot::new(world, &mut disk, state, &mut runs);
        // As `sweep` in the runner begins and resumes.
        boot.write(Record::Begin(Box::new(begin("s", part)))).map_err(|error| error.to_string())?;
        if let Some(run) = open.filter(|_| cut == Some(Cut::Down)) {
            let title = "Kernel panic: sysrq triggered crash".to_owned();
            let crash = Crash { run: Some(run), kind: CrashKind::Panic, title, splat: String::new() };
            boot.write(Record::Crash(crash)).map_err(|error| error.to_string())?;
        }
        let next = cuts.next();
        boot.disk.cut = next.map(|(at, _)| boot.disk.records.len() + at);
        let how = next.map(|(_, how)| how);
        let mut scheduler = Scheduler::new(setting(world));
        let ended = drive(&mut scheduler, &mut boot);
        cut = if boot.disk.cut.take().is_none() { how } else { None };
        match ended {
            Ok(None) => {
                let records = disk.records;
                return Ok(Swept { state: state_of(&records), records, runs, boots: part + 1 });
            }
            // The kernel is damaged, or the machine is down: the next boot goes on.
            Ok(Some(Stopped::Damaged)) | Err(_) => {}
            Ok(Some(stopped)) => return Err(format!("stopped: {stopped:?}")),
        }
    }
    Err(format!("no end after {BOOTS} boots:\n{}", story(world, &disk.records)))
}

/// The defects that a sweep of this world must find, and those that it may find.
fn defects(world: &World) -> (BTreeSet<String>, BTreeSet<String>) {
    let found = |effect: Effect| effect.is_defect() && (effect != Effect::Leaks || world.kmemleak);
    let all = (0..world.sites.len()).filter(|site| found(world.sites[*site].effect));
    let may: BTreeSet<usize> = all.collect();
    let must = may.iter().filter(|site| world.must_be_reached(**site));
    (must.map(|site| world.title(*site)).collect(), may.iter().map(|site| world.title(*site)).collect())
}

/// The journal in short, for a test that fails: what was armed, what failed, what came of it.
fn story(world: &World, records: &[Record]) -> String {
    let number = |signature: &Signature| {
        let site = (0..world.sites.len()).find(|site| world.signature(*site) == *signature);
        site.map_or("?".to_owned(), |site| site.to_string())
    };
    let numbers = |sites: &[Signature]| sites.iter().map(number).collect::<Vec<_>>().join(" ");
    let line = |record: &Record| match record {
        Record::Begin(begin) => format!("boot {}", begin.part),
        Record::Armed(armed) => {
            let sites = armed.sites.as_ref().map_or("each".to_owned(), |sites| numbers(sites));
            let first = armed.first.as_ref().map_or(String::new(), |first| format!(" after {}", number(first)));
            format!("  {} {}: {sites}{first}", armed.run, armed.level)
        }
        Record::Failed(failed) => format!("    {} {}", number(&failed.site), failed.outcome.verdict()),
        Record::Trouble(trouble) => {
            let site = trouble.site.as_ref().map_or("?".to_owned(), number);
            format!("    \"{}\" by {site}, suspects {}", trouble.title, numbers(&trouble.suspects))
        }
        Record::Crash(crash) => format!("    crash in {:?}: \"{}\"", crash.run, crash.title),
        Record::Ended(ended) => format!("    {:?} {:?}", ended.end, ended.status),
        Record::Unreached(unreached) => format!("    given up: {}", numbers(&unreached.sites)),
        Record::Site(site) => format!("    new {}", number(&site.site)),
        other => format!("    {other:?}"),
    };
    let first = records.len().saturating_sub(90);
    records[first..].iter().map(line).collect::<Vec<_>>().join("\n")
}

fn check(world: &World, swept: &Swept) -> Result<(), TestCaseError> {
    judge(world, swept).map_err(|why| TestCaseError::fail(format!("{why}\n{}", story(world, &swept.records))))
}

fn judge(world: &World, swept: &Swept) -> Result<(), TestCaseError> {
    let state = &swept.state;
    for (signature, site) in state.sites() {
        let accounted = site.verdict != Verdict::Unreached || site.given_up.is_some();
        prop_assert!(accounted, "site {signature} has neither a verdict nor a reason: {site:?}");
    }
    let (must, may) = defects(world);
    let findings = state.findings();
    let titles: Vec<String> = findings.iter().map(|finding| finding.title.clone()).collect();
    let found: BTreeSet<String> = titles.iter().cloned().collect();
    prop_assert_eq!(titles.len(), found.len(), "each defect is one finding");
    let missed: Vec<_> = must.difference(&found).collect();
    prop_assert!(missed.is_empty(), "missed: {:?}; found: {:?}", missed, titles);
    let invented: Vec<_> = found.difference(&may).collect();
    prop_assert!(invented.is_empty(), "nobody planted: {:?}", invented);
    for finding in findings.iter().filter(|finding| must.contains(&finding.title)) {
        prop_assert!(!finding.failures.is_empty(), "no failure is known for {}: {:?}", finding.title, finding.suspects);
    }
    Ok(())
}

/// The same worlds each time, so that a change is to blame for a test that fails; `PROPTEST_RNG_SEED` brings others.
fn config(cases: u32) -> ProptestConfig {
    let given = std::env::var_os("PROPTEST_RNG_SEED").is_some();
    let rng_seed = if given { ProptestConfig::default().rng_seed } else { RngSeed::Fixed(2017) };
    ProptestConfig { cases, rng_seed, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() }
}

/// The bound on runs: the levels' own, and for each defect or crash a handful, and for each site that a whole run takes apart
/// the halves.
fn bound(world: &World, swept: &Swept) -> u64 {
    let tuning = Tuning::default();
    let sites = world.sites.len() as u64;
    let levels = u64::from(tuning.record_runs + tuning.retry_runs + tuning.multi_runs + tuning.copy_runs) + 4;
    let per_boot = u64::from(tuning.record_runs) + 4;
    levels + u64::from(swept.boots) * per_boot + 6 * sites
}

proptest! {
    #![proptest_config(config(10_000))]

    /// It ends; every site has a verdict or is listed with the reason; every planted defect that one or two failures reach is
    /// found, once; the number of runs is bounded.
    #[test]
    fn every_world_is_swept_to_its_end(world in a_world(24)) {
        let swept = sweep(&world, &[]).map_err(TestCaseError::fail)?;
        check(&world, &swept)?;
        prop_assert!(swept.runs <= bound(&world, &swept), "{} runs in {} boots", swept.runs, swept.boots);
    }
}

proptest! {
    #![proptest_config(config(500))]

    /// Cut off before any record, killed or down, and resumed: it comes to the same.
    #[test]
    fn cut_anywhere_and_resumed_it_finds_the_same(
        world in a_world(16),
        cuts in proptest::collection::vec((0..120_usize, prop_oneof![Just(Cut::Killed), Just(Cut::Down)]), 1..20),
    ) {
        let swept = sweep(&world, &cuts).map_err(TestCaseError::fail)?;
        check(&world, &swept)?;
    }

    /// The journal of a sweep is read back as it was folded.
    #[test]
    fn the_journal_says_what_the_sweep_knew(world in a_world(12)) {
        let swept = sweep(&world, &[]).map_err(TestCaseError::fail)?;
        let Some((Record::Begin(first), rest)) = swept.records.split_first() else {
            return Err(TestCaseError::fail("no beginning"));
        };
        let section = Section { begin: (**first).clone(), records: rest.to_vec() };
        let state = State::of(&Journal { sections: vec![section], ..Journal::default() });
        prop_assert_eq!(state.findings(), swept.state.findings());
        prop_assert_eq!(state.counts(), swept.state.counts());
        prop_assert_eq!(state.next_run(), swept.state.next_run());
    }
}
