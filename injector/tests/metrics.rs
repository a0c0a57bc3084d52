//! The metrics' text: a golden file (see tests/sinks.rs), and what another program reads from it.

use std::{num::NonZeroU64, path::Path, time::Duration};

use injector::{
    control::{RuleState, Snapshot},
    events::HookSummary,
    metrics::{Build, text},
    plan::{Hook, Probability},
};
use injector_common::counters::{Counters, DESCRIPTIONS};
use openmetrics_parser::openmetrics::parse_openmetrics;

fn snapshot() -> Snapshot {
    let counters = |calls| Counters {
        calls,
        matches: calls / 2,
        failures: calls / 4,
        lost: 3,
        suppressed_nofail: u64::MAX >> 12,
        ..Counters::default()
    };
    let hooks = vec![
        HookSummary { hook: Hook::Slab, counters: counters(40943) },
        HookSummary { hook: Hook::Page, counters: counters(13163) },
    ];
    let rule = RuleState {
        name: "default".into(),
        probability: Probability::NEVER,
        rate: NonZeroU64::new(100),
        left: None,
        hooks: hooks[..1].to_vec(),
    };
    Snapshot {
        paused: false,
        dry_run: false,
        elapsed: Duration::from_secs(34),
        left: None,
        delivered: 13520,
        rules: vec![rule.clone(), RuleState { name: "a \"b\\\n".into(), hooks, ..rule }],
    }
}

fn build() -> Build {
    Build { version: "0.1.0", kernel: "6.12.117".to_owned() }
}

#[test]
fn the_text_is_as_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    let text = text(&build(), &snapshot()).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
}

#[test]
fn another_program_reads_what_was_meant() {
    let read = parse_openmetrics(&text(&build(), &snapshot()).unwrap()).unwrap();
    for description in DESCRIPTIONS {
        let family = &read.families[&format!("injector_{}", description.name)];
        assert_eq!(family.help, description.help.trim());
        assert_eq!(family.iter_samples().count(), 3, "{}", description.name);
    }
    let value = |family: &str, labels: &[&str]| {
        let family = &read.families[family];
        let sample = family.iter_samples().find(|sample| {
            let set = sample.get_labelset().unwrap();
            labels.iter().all(|label| set.iter_values().any(|value| value == label))
        });
        format!("{:?}", sample.unwrap().value)
    };
    assert!(value("injector_calls", &["slab", "default"]).contains("40943"));
    assert!(value("injector_matches", &["page"]).contains("6581"));
    assert!(value("injector_events_delivered", &[]).contains("13520"));
    assert!(value("injector_armed", &[]).contains('1'));
    assert!(read.families.contains_key("injector_build"));
}

#[test]
fn a_paused_run_is_not_armed() {
    let paused = Snapshot { paused: true, ..snapshot() };
    assert!(text(&build(), &paused).unwrap().contains("\ninjector_armed 0\n"));
}
