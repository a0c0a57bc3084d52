//! Findings are replayed, each by the command that the report has for it.

use std::env;

use injector::journal::Verdict;

use crate::{
    ground::{FOUND, Ground, is_wanted, text},
    table::{DEFECTS, Defect, Needs},
};

#[test]
#[ignore = "boots guests"]
fn a_finding_is_replayed() {
    let ground = Ground::new();
    let state = ground.sweep("replay", &[], "missing_check missing_check.twin", FOUND);
    let finding = state.findings().remove(0);
    let journal = ground.journal("replay");
    let output = ground.injector(&["replay", "--tries", "2", journal.to_str().unwrap(), &finding.id]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("2 of 2 tries"), "{}", text(&output));
}

/// INJECTOR_TEST_TRIES says how often (20), INJECTOR_TEST_DEFECTS which (all that a plain kernel shows). With
/// INJECTOR_TEST_KEEP_GOING a guest whose kernel has crashed a task makes the next try too, which saves most of the boots.
#[test]
#[ignore = "boots guests; by hand, it takes half an hour"]
fn by_hand_every_finding_is_replayed() {
    let tries: u32 = env::var("INJECTOR_TEST_TRIES").map_or(20, |text| text.parse().unwrap());
    let shown = |defect: &&Defect| defect.plain.is_some_and(|plain| plain.verdict != "error");
    let ground = Ground::new();
    let mut short = Vec::new();
    for defect in DEFECTS.iter().filter(shown).filter(|defect| is_wanted(defect)) {
        let reproduced = replays(&ground, defect, tries);
        println!("{:<16} {reproduced:>3}/{tries}", defect.name);
        // 19 of 20.
        if reproduced * 20 < tries * 19 {
            short.push(defect.name);
        }
    }
    assert!(short.is_empty(), "{short:?}");
}

/// Sweeps a defect, and replays its finding.
fn replays(ground: &Ground, defect: &Defect, tries: u32) -> u32 {
    let mut options = match defect.needs {
        Needs::Default | Needs::Depth2 | Needs::Alone => vec![],
        Needs::Hit2 => vec!["--hit", "2"],
        Needs::Persistent => vec!["--persistent", "100"],
    };
    let leak = defect.plain.is_some_and(|plain| plain.verdict == Verdict::Leak.name());
    options.extend(if leak { &["--leaks", "slab"][..] } else { &[] });
    let state = ground.sweep(defect.name, &options, &format!("{0} {0}.twin", defect.name), FOUND);
    let finding = state.findings().remove(0);
    let journal = ground.journal(defect.name);
    let tries = tries.to_string();
    let mut arguments = vec!["replay", "--hang", "10s", "--tries", &tries];
    arguments.extend(env::var_os("INJECTOR_TEST_KEEP_GOING").map(|_| "--keep-going"));
    arguments.extend([journal.to_str().unwrap(), &finding.id]);
    let output = ground.injector(&arguments);
    let said = text(&output);
    let (reproduced, _) =
        said.split_once(&format!(" of {tries} tries reproduced it")).unwrap_or_else(|| panic!("{said}"));
    println!("{}: {}", defect.name, finding.title);
    if reproduced != tries {
        println!("{said}");
    }
    reproduced.lines().last().unwrap().parse().unwrap()
}
