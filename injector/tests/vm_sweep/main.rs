//! Sweeps of the planted defects, in real guests that crash: every defect is found, no twin and no bait is, panics lose
//! nothing, findings can be replayed.
//!
//! These boot guests, so they are asked for by name: `cargo xtask test` does it for each of its kernels, and by hand
//! `INJECTOR_GUEST_KERNEL=path/to/bzImage INJECTOR_GUEST_MODULES=DIR cargo test -p injector --test vm_sweep -- --ignored`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod ground;
mod panics;
mod replay;
mod time;

#[path = "../../../tests/src/defects/table.rs"]
#[allow(dead_code, reason = "the tests in guests use more of it")]
mod table;

use std::time::Instant;

use injector::journal::State;

use ground::{FOUND, Ground, assert_found, by_default, is_wanted, with_twins};
use table::{BAITS, DEFECTS, Defect, Expected, Needs};

fn plain(defect: &Defect) -> Option<Expected> {
    defect.plain
}

#[test]
#[ignore = "boots guests"]
fn defects_are_found_and_twins_are_not() {
    let ground = Ground::new();
    let defects = by_default();
    let paths = format!("{} {}", with_twins(defects.iter().copied()), BAITS.join(" "));
    let state = ground.sweep("default", &[], &paths, FOUND);
    assert_found(&state, &defects, plain);
    assert!(state.is_complete(), "crashed, and went on to the end");

    // Those that need another search, each with the option for it; put together they are one report.
    let of = |needs: Needs| DEFECTS.iter().filter(move |defect| defect.needs == needs && defect.plain.is_some());
    let second: Vec<&Defect> = of(Needs::Hit2).collect();
    assert_found(&ground.sweep("hit2", &["--hit", "2"], &with_twins(second.iter().copied()), FOUND), &second, plain);
    let for_ever: Vec<&Defect> = of(Needs::Persistent).collect();
    let state = ground.sweep("persistent", &["--persistent", "100"], &with_twins(for_ever.iter().copied()), FOUND);
    assert_found(&state, &for_ever, plain);
    let alone: Vec<&Defect> = of(Needs::Alone).collect();
    let state = ground.sweep("alone", &[], &with_twins(alone.iter().copied()), FOUND);
    assert_found(&state, &alone, plain);
    assert!(state.is_complete(), "the next guest went on");
    let leaks: Vec<&Defect> =
        DEFECTS.iter().filter(|defect| defect.plain.is_some_and(|plain| plain.verdict == "leak")).collect();
    let state = ground.sweep("leaks", &["--leaks", "slab"], &with_twins(leaks.iter().copied()), FOUND);
    assert_found(&state, &leaks, plain);
}

#[test]
#[ignore = "boots guests"]
fn two_guests_share_the_sites() {
    let ground = Ground::new();
    let paths = with_twins(by_default().into_iter().take(2));
    let one = ground.sweep("one", &[], &paths, FOUND);
    let two = ground.sweep("two", &["--jobs", "2"], &paths, FOUND);
    let titles = |state: &State| state.findings().iter().map(|finding| finding.title.clone()).collect::<Vec<_>>();
    assert_eq!(titles(&one), titles(&two));
    for part in ["two.jsonl.0-of-2", "two.jsonl.1-of-2"] {
        assert!(ground.journal("two").with_file_name(part).is_file(), "{part}");
    }
}

/// INJECTOR_GUEST_KERNEL must be one with KASAN, kmemleak and the checks for sleeping in atomic context.
/// INJECTOR_TEST_DEFECTS says which (all).
#[test]
#[ignore = "boots guests; by hand, it takes a debug kernel and minutes"]
fn by_hand_all_defects_are_found_on_the_debug_kernel() {
    let ground = Ground::new();
    let debug = |defect: &Defect| defect.debug;
    // Without ACPI's interrupt routing it boots in 11 s instead of 52. All that KASAN has to say must fit into the log.
    let machine = ["--append", "pci=noacpi", "--append", "log_buf_len=4M"];
    let searches: [(&str, &[&str], &[Needs]); 4] = [
        ("default", &[], &[Needs::Default, Needs::Depth2]),
        ("hit2", &["--hit", "2"], &[Needs::Hit2]),
        ("persistent", &["--persistent", "100"], &[Needs::Persistent]),
        ("alone", &[], &[Needs::Alone]),
    ];
    let mut found = 0;
    for (name, options, needs) in searches {
        let shows = |defect: &&Defect| needs.contains(&defect.needs) && defect.debug.is_some() && is_wanted(defect);
        let defects: Vec<&Defect> =
            DEFECTS.iter().filter(shows).filter(|defect| defect.debug.unwrap().verdict != "error").collect();
        if defects.is_empty() {
            continue;
        }
        let paths = format!("{} {}", with_twins(defects.iter().copied()), BAITS.join(" "));
        let started = Instant::now();
        let state = ground.sweep(name, &[&machine, options].concat(), &paths, FOUND);
        let (took, downs) = (started.elapsed().as_secs(), ground.crashes(name).len());
        println!("{name}: {} of {} defects, {took} s, {downs} crashes", state.findings().len(), defects.len());
        for finding in state.findings() {
            println!("  {} {}", finding.verdict, finding.title);
        }
        assert_found(&state, &defects, debug);
        assert!(state.is_complete());
        found += defects.len();
    }
    println!("{found} defects, each found once");
}
