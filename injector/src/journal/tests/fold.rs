//! What records add up to.

use std::collections::BTreeMap;

use super::samples::{A, B, C, armed, begin, crash, ended, failed, first, journal, site, trouble};
use crate::sweep::{
    Verdict,
    journal::{
        Attempt, Counts, Finding, Record, State,
        record::{
            Armed, Begin, Crash, CrashKind, End, Ended, Failed, Level, Options, Outcome, Plain, Replayed, RunEnd,
            Shard, Signature, Unreached,
        },
    },
};

const ONCE: Attempt = Attempt { level: Level::Run, hit: 1, persistent: None, after: None };

fn state(records: Vec<Record>) -> State {
    State::of(&journal(vec![records]))
}

fn verdict(state: &State, site: Signature) -> Verdict {
    state.site(site).expect("it is known").verdict
}

fn titles(state: &State) -> Vec<(String, Verdict)> {
    state.findings().into_iter().map(|finding| (finding.title, finding.verdict)).collect()
}

fn sites(finding: &Finding) -> Vec<(Signature, Option<Signature>, u32)> {
    finding.failures.iter().map(|failure| (failure.site, failure.after, failure.hit)).collect()
}

#[test]
fn counting() {
    let io = || Outcome::Misreported { error: "EIO".to_owned() };
    let all = (1..=6).map(|n| site(Signature(n)));
    let mut records = vec![first("s")];
    records.extend(all);
    records.extend([
        armed(1, None),
        failed(1, Signature(1), Outcome::Clean),
        failed(1, Signature(2), Outcome::Masked),
        failed(1, Signature(3), io()),
        failed(1, Signature(3), io()),
        Record::Unreached(Unreached { sites: vec![Signature(4), Signature(1)], why: "gone".to_owned() }),
        ended(1),
    ]);
    let state = state(records);
    let expected = Counts { seen: 6, failed: 2, masked: 1, unreached: 1, left: 2, elsewhere: 0 };
    assert_eq!(state.counts(), expected);
    let misreported: Vec<_> = state.misreported().into_iter().map(|m| (m.error.to_owned(), m.failed.site)).collect();
    assert_eq!(misreported, [("EIO".to_owned(), Signature(3))]);
    assert_eq!(titles(&state), []);
}

#[test]
fn other_shards_sites_are_not_left() {
    let shard = Some(Shard { index: 0, count: 2 });
    let begin = Record::Begin(Box::new(Begin { shard, ..begin("s", 0) }));
    let counts = state(vec![begin, site(Signature(2)), site(Signature(3)), site(Signature(5))]).counts();
    assert_eq!((counts.left, counts.elsewhere), (1, 2));
}

#[test]
fn the_worst_counts() {
    let run = |n| [armed(n, None), failed(n, A, Outcome::Clean), ended(n)];
    let warned = trouble(2, Some(A), Verdict::Warning, "w");
    let state = state([&[first("s")][..], &run(1), &[warned], &run(2)].concat());
    assert_eq!(verdict(&state, A), Verdict::Warning);
}

#[test]
fn a_crash_of_a_single_site() {
    let state = state(vec![first("s"), site(A), armed(1, Some(&[A])), crash(1, "BUG in f")]);
    assert_eq!(verdict(&state, A), Verdict::Oops);
    assert!(state.is_barred(A, None) && state.is_barred(A, Some(B)) && state.is_done(A, &ONCE));
    let [finding] = &state.findings()[..] else { panic!("one finding") };
    assert_eq!((sites(finding), finding.suspects.len()), (vec![(A, None, 1)], 0));
    assert_eq!((finding.tries, finding.reproduced), (1, 1));
    assert_eq!(finding.splat, "splat of BUG in f");
    assert_eq!(state.unattributed().count(), 0);
}

#[test]
fn a_stall_is_a_hang() {
    let stall = Record::Crash(Crash {
        run: Some(1),
        kind: CrashKind::Stall,
        title: "no sign of life".to_owned(),
        splat: String::new(),
    });
    let state = state(vec![first("s"), armed(1, Some(&[A])), stall]);
    assert_eq!(titles(&state), [("no sign of life".to_owned(), Verdict::Hang)]);
    assert_eq!(verdict(&state, A), Verdict::Hang);
}

/// Several were armed: none is blamed, none is done, until a run with one of them ends the same way.
#[test]
fn narrowing_down() {
    let mut records = vec![first("s"), armed(1, Some(&[A, B, C])), failed(1, C, Outcome::Clean), crash(1, "BUG in f")];
    let before = state(records.clone());
    assert_eq!(before.site(A).map(|site| site.verdict), None);
    assert!(!before.is_done(A, &ONCE) && !before.is_barred(A, None));
    let [finding] = &before.findings()[..] else { panic!("one finding") };
    assert_eq!((&finding.failures[..], &finding.suspects[..]), (&[][..], &[C, A, B][..]));
    let downs: Vec<_> = before.unattributed().collect();
    assert_eq!((downs.len(), &downs[0].failed[..]), (1, &[(C, None)][..]));

    records.extend([armed(2, Some(&[A])), failed(2, A, Outcome::Clean), ended(2)]);
    records.extend([armed(3, Some(&[B])), crash(3, "BUG in f")]);
    let after = state(records);
    let [finding] = &after.findings()[..] else { panic!("one finding") };
    assert_eq!((sites(finding), finding.suspects.len()), (vec![(B, None, 1)], 0));
    assert_eq!(after.unattributed().count(), 0);
    assert_eq!((verdict(&after, A), verdict(&after, B)), (Verdict::Clean, Verdict::Oops));
}

#[test]
fn one_defect_at_many_sites_is_one_finding() {
    let title = "KASAN: slab-use-after-free in f";
    let mut records = vec![first("s")];
    for (run, site) in [(1, B), (2, A), (3, B)] {
        records.extend([
            armed(run, None),
            failed(run, site, Outcome::Clean),
            trouble(run, Some(site), Verdict::Oops, title),
            ended(run),
        ]);
    }
    // Another try that came to nothing.
    records.extend([armed(4, None), failed(4, A, Outcome::Clean), ended(4)]);
    records.extend([Record::Replayed(Replayed {
        title: title.to_owned(),
        site: B,
        after: None,
        tries: 20,
        reproduced: 19,
    })]);
    let state = state(records);
    let [finding] = &state.findings()[..] else { panic!("one finding") };
    assert_eq!(sites(finding), [(B, None, 1), (A, None, 1)]);
    assert_eq!((finding.failures[0].tries, finding.failures[0].reproduced), (22, 21));
    assert_eq!((finding.failures[1].tries, finding.failures[1].reproduced), (2, 1));
    assert_eq!((finding.tries, finding.reproduced), (24, 22));
    assert_eq!(finding.failures[0].syscall.as_ref().map(|call| call.name.as_str()), Some("mount"));
    assert_eq!(finding.id, Finding::id_of(title));
}

/// The first splat names the defect; what follows from the same failure is no finding of its own.
#[test]
fn consequences() {
    let state = state(vec![
        first("s"),
        armed(1, Some(&[A])),
        trouble(1, None, Verdict::Warning, "WARNING in f"),
        crash(1, "general protection fault in g"),
        armed(2, None),
        failed(2, B, Outcome::Clean),
        trouble(2, Some(B), Verdict::Leak, "leak in h"),
        failed(2, C, Outcome::Clean),
        trouble(2, Some(C), Verdict::Warning, "WARNING in i"),
        ended(2),
    ]);
    let found: Vec<_> = titles(&state);
    let expected = [("WARNING in f", Verdict::Oops), ("WARNING in i", Verdict::Warning), ("leak in h", Verdict::Leak)];
    assert_eq!(found, expected.map(|(title, verdict)| (title.to_owned(), verdict)));
    let finding = &state.findings()[0];
    assert_eq!(finding.followed_by, ["general protection fault in g"]);
    assert_eq!((finding.tries, finding.reproduced), (1, 1));
    assert_eq!(state.unattributed().count(), 0);
}

#[test]
fn a_hang_that_the_kernel_does_not_mention() {
    let hang = |run, site| [armed(run, None), failed(run, site, Outcome::Hang), ended(run)];
    let with_message = [
        armed(3, None),
        failed(3, C, Outcome::Hang),
        trouble(3, Some(C), Verdict::Hang, "hung task in mount"),
        ended(3),
    ];
    let state = state([&[first("s"), site(A)][..], &hang(1, A), &hang(2, B), &with_message].concat());
    assert_eq!(
        titles(&state).into_iter().map(|(title, _)| title).collect::<Vec<_>>(),
        [
            "hung task in mount",
            "mount() does not return after a failure in 000000000000000b",
            "mount() does not return after a failure in function_a",
        ]
    );
}

#[test]
fn a_stuck_workload_is_no_complaint() {
    let stuck = trouble(1, None, Verdict::Wedged, "EIO again and again");
    let state = state(vec![first("s"), armed(1, None), failed(1, A, Outcome::Clean), stuck, ended(1)]);
    assert_eq!(titles(&state), []);
}

#[test]
fn pairs() {
    let Record::Failed(single) = failed(1, B, Outcome::Clean) else { panic!("a failure") };
    let pair = Record::Failed(Failed { after: Some(A), ..single });
    let two = |run| Record::Armed(Armed { run, level: Level::Run, sites: Some(vec![C]), first: Some(A) });
    let state = state(vec![first("s"), armed(1, None), pair, ended(1), two(2), crash(2, "BUG in f")]);
    assert_eq!(state.pairs(), &BTreeMap::from([((A, B), Verdict::Clean), ((A, C), Verdict::Oops)]));
    assert!(!state.is_done(B, &ONCE) && state.is_done(B, &Attempt { after: Some(A), ..ONCE }));
    // Together they bring the machine down; alone nobody knows.
    assert!(state.is_barred(C, Some(A)) && !state.is_barred(C, None) && !state.is_barred(C, Some(B)));
    assert_eq!(sites(&state.findings()[0]), [(C, Some(A), 1)]);
}

#[test]
fn hits_are_failures_of_their_own() {
    let options = Options { hit: 2, ..begin("s", 0).options };
    let mut records = vec![first("s"), armed(1, Some(&[A])), failed(1, A, Outcome::Clean), ended(1)];
    records.push(Record::Begin(Box::new(Begin { options, ..begin("second", 0) })));
    records.extend([armed(1, Some(&[A])), crash(1, "BUG in f")]);
    let Record::Begin(head) = records.remove(4) else { panic!("a beginning") };
    let second = records.split_off(4);
    let state = State::of(&journal(vec![records, [vec![Record::Begin(head)], second].concat()]));
    let [finding] = &state.findings()[..] else { panic!("one finding") };
    assert_eq!((sites(finding), finding.tries, finding.reproduced), (vec![(A, None, 2)], 1, 1));
    assert!(state.is_done(A, &ONCE) && state.is_done(A, &Attempt { hit: 2, ..ONCE }));
    assert!(!state.is_done(A, &Attempt { hit: 3, ..ONCE }));
}

#[test]
fn unfinished() {
    let begun = state(vec![first("s"), armed(4, None), failed(4, A, Outcome::Clean)]);
    assert_eq!(begun.unfinished().map(|armed| armed.run), Some(4));
    assert_eq!((begun.next_run(), begun.next_part(), begun.failed_in(4)), (5, 1, &[(A, None)][..]));
    let resumed = Record::Begin(Box::new(begin("s", 1)));
    let records = vec![first("s"), armed(4, None), resumed];
    assert_eq!(state(records.clone()).unfinished().map(|armed| armed.run), Some(4));
    assert!(state([records.clone(), vec![ended(4)]].concat()).unfinished().is_none());
    assert!(state([records, vec![crash(4, "f")]].concat()).unfinished().is_none());
    assert_eq!((State::default().next_run(), State::default().next_part()), (1, 0));
}

#[test]
fn times_and_hits() {
    let plain = |elapsed| Record::Plain(Plain { elapsed, status: 0 });
    let record = |run, hits: &[(Signature, u64)]| {
        let hits = hits.iter().copied().collect();
        [
            Record::Armed(Armed { run, level: Level::Record, sites: None, first: None }),
            Record::Ended(Ended { run, end: RunEnd::Finished, elapsed: 1.0, status: Some(0), hits }),
        ]
    };
    let mut records = vec![first("s"), plain(0.5), plain(3.0), plain(0.75)];
    records.extend(record(1, &[(A, 3), (B, 1)]));
    records.extend(record(2, &[(A, 5)]));
    let begun = state(records.clone());
    assert_eq!((begun.plain_time(), begun.plain_runs(), begun.spent_time()), (Some(0.75), 3, 6.25));
    assert_eq!((begun.site(A).expect("known").hits, begun.site(B).expect("known").seen_in), (5, 1));
    assert_eq!(begun.unsteady(), (1, 2));
    assert!(!begun.is_complete());

    records.push(Record::End(End { complete: true, elapsed: 7.5 }));
    assert_eq!((state(records.clone()).spent_time(), state(records.clone()).is_complete()), (7.5, true));
    // It went on all the same.
    records.extend([Record::Begin(Box::new(begin("s", 1))), armed(3, None), ended(3)]);
    assert_eq!((state(records.clone()).spent_time(), state(records).is_complete()), (8.0, false));
}

#[test]
fn a_failing_workload_is_a_finding_where_success_is_expected() {
    let run = |level| {
        let Record::Armed(armed) = armed(1, Some(&[A])) else { panic!("a run") };
        let end = Ended { run: 1, end: RunEnd::Finished, elapsed: 0.5, status: Some(3), hits: BTreeMap::new() };
        [Record::Armed(Armed { level, ..armed }), Record::Ended(end)]
    };
    assert_eq!(titles(&state([&[first("s")][..], &run(Level::Run)].concat())), []);
    let options = Options { expect_success: true, ..begin("s", 0).options };
    let begin = Record::Begin(Box::new(Begin { options, ..begin("s", 0) }));
    let found = titles(&state([&[begin.clone()][..], &run(Level::Run)].concat()));
    assert_eq!(found, [("the workload failed with status 3".to_owned(), Verdict::Error)]);
    assert_eq!(titles(&state([&[begin][..], &run(Level::Record)].concat())), []);
}
