//! The machine is crashed at random moments of a sweep, and the sweep ends as if nothing had been: 4 times, or as many as
//! INJECTOR_TEST_PANICS says; 20 take five minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use injector::journal::{self, Level, Record, Signature, State, Verdict};

use crate::{
    ground::{FOUND, Ground, text, with_twins},
    table::{BAITS, DEFECTS, Defect},
};

/// What does no lasting damage, so that each crash is one of ours: correct code, and defects that only make the kernel complain.
/// Without kvmalloc: behind its failure are more allocations in a row than the depth of a sweep, and how many of them are reached
/// depends on the number of passes.
fn paths() -> String {
    let harmless = ["sleep_atomic", "warn_on", "misreported"];
    let chosen = |defect: &&Defect| harmless.contains(&defect.name);
    let twins: Vec<String> =
        DEFECTS.iter().filter(|defect| !chosen(defect)).map(|defect| format!("{}.twin", defect.name)).collect();
    let baits: Vec<&str> = BAITS.iter().copied().filter(|bait| *bait != "bait.kvmalloc").collect();
    format!("{} {} {}", twins.join(" "), with_twins(DEFECTS.iter().filter(chosen)), baits.join(" "))
}

/// What a sweep says in the end: verdicts by site, with the sites that two failures lead to, and findings by title.
#[derive(Debug, PartialEq)]
struct Said {
    verdicts: BTreeMap<Signature, (Verdict, String)>,
    findings: BTreeSet<String>,
}

impl Said {
    fn by(state: &State) -> Self {
        let mut verdicts = BTreeMap::new();
        for (site, known) in state.sites() {
            let stack = &known.info.as_ref().unwrap().stack;
            // A new slab is needed now and then, whatever the sweep does, and since 6.18 a new sheaf of a CPU's (mm/slub.c).
            if !stack.iter().any(|frame| frame.contains("_slab") || frame.starts_with("__pcs_")) {
                let place = stack.iter().take(3).cloned().collect::<Vec<_>>().join(" < ");
                verdicts.insert(*site, (known.verdict, place));
            }
        }
        let findings = state.findings().into_iter().map(|finding| format!("{} {}", finding.verdict, finding.title));
        Self { verdicts, findings: findings.collect() }
    }

    /// Lines of those that are in one only, or different.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let sites: BTreeSet<_> = self.verdicts.keys().chain(other.verdicts.keys()).collect();
        for site in sites {
            let (ours, theirs) = (self.verdicts.get(site), other.verdicts.get(site));
            if ours != theirs {
                lines.push(format!("{site}: {ours:?} / {theirs:?}"));
            }
        }
        lines.extend(self.findings.symmetric_difference(&other.findings).cloned());
        lines
    }
}

/// A shell command for `--setup`: from outside of the workload it crashes the guest at a random moment of a random run of the
/// workload, or before the first, unless there were `panics` crashes. If the sweep has fewer runs left, it does not.
fn killer(panics: u32, runs: usize) -> String {
    format!(
        ": >>/tmp/runs; mkdir /tmp/killer 2>/dev/null || exit 0; \
         [ $(grep -c '\"type\":\"crash\"' /injector-journal.jsonl) -lt {panics} ] || exit 0; \
         set -- $(od -An -N4 -tu2 /dev/urandom); \
         {{ until [ $(wc -l </tmp/runs) -ge $(($1 % ({runs} + 1))) ]; do sleep 0.02; done; \
            usleep $(($2 % 500 * 1000)); echo c >/proc/sysrq-trigger; }} >/dev/null 2>&1 &"
    )
}

#[test]
#[ignore = "boots guests"]
fn panics_lose_nothing() {
    let ground = Ground::new();
    let panics: u32 = env::var("INJECTOR_TEST_PANICS").map_or(4, |text| text.parse().unwrap());
    let paths = paths();
    let undisturbed = ground.sweep("undisturbed", &["--setup", ": >>/tmp/runs"], &paths, FOUND);
    let expected = Said::by(&undisturbed);
    assert!(expected.verdicts.values().all(|(verdict, _)| *verdict != Verdict::Unreached), "{expected:#?}");
    let runs = levels(&ground, "undisturbed").len();

    // The last crashes of a sweep may come after its end, so it may take several.
    let mut crashed = Vec::new();
    for number in 0.. {
        let left = panics.saturating_sub(crashed.len() as u32);
        if left == 0 {
            break;
        }
        assert!(number < panics + 3, "{} crashes in {number} sweeps", crashed.len());
        let name = format!("panics-{number}");
        let state = sweep_through(&ground, &name, &killer(left, runs), &paths);
        let differences = expected.differences(&Said::by(&state));
        let crashes = ground.crashes(&name);
        println!("sweep {number}: {} crashes, {} sites differ", crashes.len(), differences.len());
        assert!(state.is_complete() && crashes.iter().all(|(crash, _)| crash.is_on_purpose()), "{state:#?}");
        crashed.extend(crashes.into_iter().map(|(_, level)| level));
        assert!(differences.is_empty(), "undisturbed / with panics: {differences:#?}");
    }
    println!("{} crashes in runs of these levels: {crashed:?}", crashed.len());
}

/// A sweep to its end; again and again, if the controller sees too many crashes in a row.
fn sweep_through(ground: &Ground, name: &str, killer: &str, paths: &str) -> State {
    let mut resume = Vec::new();
    for _ in 0..20 {
        let options: Vec<&str> = ["--setup", killer].into_iter().chain(resume.iter().copied()).collect();
        let output = ground.try_sweep(name, &options, paths);
        match output.status.code() {
            Some(FOUND) => return ground.state(name),
            Some(4) => resume = if ground.journal(name).exists() { vec!["--resume"] } else { vec![] },
            _ => panic!("{}", text(&output)),
        }
    }
    panic!("{name} does not end")
}

/// The levels of a journal's runs.
fn levels(ground: &Ground, name: &str) -> Vec<Level> {
    let journal = journal::read(&ground.journal(name)).unwrap();
    let records = journal.sections.iter().flat_map(|section| &section.records);
    let levels = records.filter_map(|record| match record {
        Record::Armed(armed) => Some(armed.level.clone()),
        _ => None,
    });
    levels.collect()
}
