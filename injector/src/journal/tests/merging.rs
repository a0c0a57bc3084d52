//! Merging and comparing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::samples::{A, B, C, a_journal, armed, begin, crash, ended, failed, first, journal};
use crate::journal::{
    Difference, Incompatible, Journal, Record, Section, Signature, State, Verdict, What, differences, merge, read_from,
    record::{Begin, Outcome, Shard},
};

fn merged(journals: &[Journal]) -> Vec<Section> {
    let all = merge(journals).expect("the same kernel and workload");
    let mut bytes = Vec::new();
    all.write(&mut bytes).expect("written");
    let read = read_from(&bytes[..], "j").expect("a journal");
    assert_eq!(read.sections, all.sections, "it reads as it was written");
    all.sections
}

fn of(sections: Vec<Section>) -> Journal {
    Journal { name: "m".to_owned(), sections, ..Journal::default() }
}

fn verdicts(journal: &Journal) -> BTreeMap<Signature, Verdict> {
    State::of(journal).sites().iter().map(|(site, state)| (*site, state.verdict)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn associative(a in a_journal(), b in a_journal(), c in a_journal()) {
        let left = merged(&[of(merged(&[a.clone(), b.clone()])), c.clone()]);
        let right = merged(&[a.clone(), of(merged(&[b.clone(), c.clone()]))]);
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(&left, &merged(&[a, b, c]));
    }

    #[test]
    fn commutative(a in a_journal(), b in a_journal()) {
        prop_assert_eq!(merged(&[a.clone(), b.clone()]), merged(&[b, a]));
    }

    #[test]
    fn idempotent(a in a_journal(), b in a_journal()) {
        let once = merged(&[a.clone(), b.clone()]);
        prop_assert_eq!(&merged(&[of(once.clone()), of(once.clone())]), &once);
        prop_assert_eq!(&merged(&[of(once.clone()), a]), &once);
        prop_assert_eq!(&merged(&[of(once.clone())]), &once);
    }

    /// Every line of every part is in the whole.
    #[test]
    fn lossless(a in a_journal(), b in a_journal()) {
        let all = merged(&[a.clone(), b.clone()]);
        for section in a.sections.iter().chain(&b.sections) {
            let kept = all.iter().any(|other| {
                let mut lines = other.lines();
                section.lines().all(|line| lines.any(|other| other == line))
            });
            prop_assert!(kept);
        }
    }

    #[test]
    fn the_worst_verdict_counts(a in a_journal(), b in a_journal()) {
        let mut expected = verdicts(&a);
        for (site, verdict) in verdicts(&b) {
            let known = expected.entry(site).or_default();
            *known = verdict.max(*known);
        }
        let all = of(merged(&[a, b]));
        prop_assert_eq!(verdicts(&all), expected);
    }

    /// A sweep folds its records one by one; a report folds the journal.
    #[test]
    fn one_by_one(journal in a_journal()) {
        let section = &journal.sections[0];
        let whole = State::of(&of(vec![section.clone()]));
        let mut state = State::default();
        for record in section.lines() {
            state.apply(&record);
        }
        prop_assert_eq!(format!("{whole:?}"), format!("{state:?}"));
    }

    #[test]
    fn counts_add_up(journal in a_journal()) {
        let counts = State::of(&journal).counts();
        prop_assert_eq!(counts.seen, counts.failed + counts.masked + counts.unreached + counts.left + counts.elsewhere);
    }
}

fn sharded(sweep: &str, index: u32) -> Record {
    Record::Begin(Box::new(Begin { shard: Some(Shard { index, count: 2 }), ..begin(sweep, 0) }))
}

#[test]
fn shards() {
    let a = journal(vec![vec![sharded("a", 0), armed(1, Some(&[A])), failed(1, A, Outcome::Clean), ended(1)]]);
    let b = journal(vec![vec![sharded("b", 1), armed(1, Some(&[B])), crash(1, "oops in f")]]);
    let state = State::of(&merge(&[a, b]).expect("shards of a sweep"));
    assert_eq!(state.site(A).expect("known").verdict, Verdict::Clean);
    assert_eq!(state.site(B).expect("known").verdict, Verdict::Oops);
}

/// A copy from an earlier time adds nothing; copies that went on apart are both kept, and what they share counts once.
#[test]
fn copies() {
    let early = vec![first("s"), armed(1, Some(&[A])), failed(1, A, Outcome::Clean), ended(1)];
    let late = [early.clone(), vec![armed(2, Some(&[B])), failed(2, B, Outcome::Masked), ended(2)]].concat();
    let apart = [early.clone(), vec![armed(2, Some(&[C])), crash(2, "oops in f")]].concat();
    let all = [journal(vec![early]), journal(vec![late.clone()])];
    assert_eq!(merged(&all), journal(vec![late.clone()]).sections);

    let both = of(merged(&[journal(vec![late]), journal(vec![apart])]));
    assert_eq!(both.sections.len(), 2);
    let state = State::of(&both);
    assert_eq!(state.site(A).expect("known").failures.len(), 1);
    assert_eq!((state.site(C).expect("known").verdict, state.spent_time()), (Verdict::Oops, 1.0));
}

#[test]
fn different_kernels_are_not_merged() {
    let a = Journal { name: "a.jsonl".to_owned(), ..journal(vec![vec![first("a")]]) };
    let mut b = Journal { name: "b.jsonl".to_owned(), ..journal(vec![vec![first("b")]]) };
    b.sections[0].begin.kernel.release = "6.1.192".to_owned();
    b.sections[0].begin.kernel.build_id = Some("12".repeat(20));
    b.sections[0].begin.options.depth = 1;
    let error = merge(&[a, b]).expect_err("different kernels");
    assert_eq!(
        error.to_string(),
        "a.jsonl and b.jsonl can't be merged: kernel: 6.12.117 (build id abababababab…) in a.jsonl, 6.1.192 (build id 121212121212…) in b.jsonl"
    );
    let Incompatible { differences, .. } = error;
    assert_eq!(differences.iter().map(|difference| difference.what).collect::<Vec<_>>(), [What::Kernel]);
}

fn changed(change: impl FnOnce(&mut Begin)) -> Vec<String> {
    let mut other = begin("another", 3);
    other.time = "2027-01-02T03:04:05Z".to_owned();
    change(&mut other);
    let lines: Vec<Difference> = differences(&begin("s", 0), &other);
    lines.iter().map(ToString::to_string).collect()
}

#[test]
fn what_differs() {
    let none: [&str; 0] = [];
    assert_eq!(changed(|_| {}), none);
    assert_eq!(
        changed(|other| {
            other.kernel.release = "6.1.192".to_owned();
            other.kernel.build_id = None;
        }),
        ["kernel: 6.12.117 (build id abababababab…) in the journal, 6.1.192 here"]
    );
    assert_eq!(
        changed(|other| {
            other.kernel.version = "#2 SMP".to_owned();
            other.kernel.build_id = Some("ac".repeat(20));
            other.kernel.config = Some("ce".repeat(32));
        }),
        [
            "kernel: 6.12.117 #1 SMP (build id abababababab…) in the journal, 6.12.117 #2 SMP (build id acacacacacac…) here",
            "kernel configuration: cdcdcdcdcdcd… in the journal, cececececece… here"
        ]
    );
    // What can't be compared is no difference.
    assert_eq!(changed(|other| other.kernel.config = None), none);
    assert_eq!(
        changed(|other| other.workload.digest = "00".repeat(32)),
        ["content of the workload's files: efefefefefef… in the journal, 000000000000… here"]
    );
    assert_eq!(
        changed(|other| {
            other.workload.command = vec!["sh".to_owned(), "xfs.sh".to_owned()];
            other.workload.digest = "00".repeat(32);
            other.workload.setup = Some("mkfs".to_owned());
            other.workload.cleanup = Some("umount".to_owned());
        }),
        [
            "workload: `sh ext4.sh` in the journal, `sh xfs.sh` here",
            "--setup: none in the journal, `mkfs` here",
            "--cleanup: none in the journal, `umount` here"
        ]
    );
    assert_eq!(
        changed(|other| {
            other.options.depth = 1;
            other.options.hit = 2;
            other.options.persistent = Some(100);
            other.options.kthreads = false;
            other.options.only = vec!["xfs".to_owned(), "ext4".to_owned()];
            other.options.expect_success = true;
            other.shard = Some(Shard { index: 0, count: 4 });
        }),
        [
            "--depth: 2 in the journal, 1 here",
            "--hit: 1 in the journal, 2 here",
            "--persistent: not given in the journal, 100 here",
            "kernel threads: failed too in the journal, left alone here",
            "--only: all in the journal, xfs,ext4 here",
            "--expect-success: not given in the journal, given here",
            "--shard: none in the journal, 0/4 here"
        ]
    );
    // The arguments differ, though they look alike.
    assert_eq!(changed(|other| other.workload.command = vec!["sh ext4.sh".to_owned()]).len(), 1);
}
