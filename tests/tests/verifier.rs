//! The verifier takes all programs, and has no more work with them than is written down in tests/verifier.json:
//! `cargo xtask verify --update` writes it anew.

use injector_tests::{
    place,
    verifier::{self, Baseline},
};

#[test]
fn no_program_has_grown_unnoticed() {
    let release = place::release();
    let kernel = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let baseline = Baseline::parse(include_str!("../verifier.json"));
    let mut complaints = Vec::new();
    for (plan, programs) in verifier::measure() {
        for program in programs {
            println!("{kernel} {plan}: {program:?}");
            complaints.extend(baseline.complaint(&kernel, plan, &program));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The test can fail.
#[test]
fn growth_is_noticed() {
    let row = r#"{"kernel":"6.12","plan":"small","program":"slab","instructions":100,"states":10,"translated":50}"#;
    let baseline = Baseline::parse(&format!("[{row}]"));
    let with = |instructions, states, translated| {
        let program = injector::session::Verified { program: "slab".to_owned(), instructions, states, translated };
        baseline.complaint("6.12", "small", &program)
    };
    assert_eq!(with(110, 11, 55), None);
    assert!(with(111, 10, 50).is_some_and(|complaint| complaint.contains("instructions grew from 100 to 111")));
    assert!(with(100, 12, 50).is_some());
    assert!(with(100, 10, 56).is_some());
    let unknown = injector::session::Verified { program: "page".into(), instructions: 1, states: 1, translated: 1 };
    assert!(baseline.complaint("6.12", "small", &unknown).is_some_and(|complaint| complaint.contains("not in")));
}
