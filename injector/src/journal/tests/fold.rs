//! What records add up to.

use std::collections::BTreeMap;

use super::samples::{A, B, C, armed, begin, crash, ended, failed, first, journal, site, trouble};
use crate::journal::{
    Counts, Finding, Level, Record, State, Verdict,
    record::{
        Armed, Begin, Crash, CrashKind, End, Ended, Failed, Options, Outcome, Plain, Replayed, RunEnd, Scanned, Shard,
        Signature, Trouble, Unreached,
    },
};

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
    assert!(state.tested().is_finished(A) && state.suspicion().is_harmful(A));
    let [finding] = &state.findings()[..] else { panic!("one finding") };
    assert_eq!((sites(finding), finding.suspects.len()), (vec![(A, None, 1)], 0));
    assert_eq!((finding.tries, finding.reproduced), (1, 1));
    assert_eq!(finding.splat, "splat of BUG in f");
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
    assert!(!before.tested().is_finished(A) && before.tested().is_finished(C));
    assert_eq!(
        (before.suspicion().limit(A), before.suspicion().limit(C)),
        (Some(1), None),
        "one of two, as C has failed"
    );
    let [finding] = &before.findings()[..] else { panic!("one finding") };
    assert_eq!((&finding.failures[..], &finding.suspects[..]), (&[][..], &[C, A, B][..]));

    records.extend([armed(2, Some(&[A])), failed(2, A, Outcome::Clean), ended(2)]);
    records.extend([armed(3, Some(&[B])), crash(3, "BUG in f")]);
    let after = state(records);
    let [finding] = &after.findings()[..] else { panic!("one finding") };
    assert_eq!((sites(finding), finding.suspects.len()), (vec![(B, None, 1)], 0));
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
        trouble(1, Some(A), Verdict::Warning, "WARNING in f"),
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
}

#[test]
fn a_stuck_workload_is_no_complaint() {
    let stuck = trouble(1, None, Verdict::Wedged, "EIO again and again");
    let state = state(vec![first("s"), armed(1, None), failed(1, A, Outcome::Clean), stuck, ended(1)]);
    assert_eq!(titles(&state), []);
}

#[test]
fn one_failure_that_wedges_the_workload_clears_the_other_suspects() {
    let Record::Trouble(stuck) = trouble(1, None, Verdict::Wedged, "EIO again and again") else {
        panic!("a complaint")
    };
    let stuck = Record::Trouble(Trouble { suspects: vec![A, B, C], ..stuck });
    let all = Record::Armed(Armed { run: 1, level: Level::MULTI, sites: None, first: None });
    let mut records = vec![first("s"), all, stuck, ended(1), armed(2, Some(&[A]))];
    assert_eq!(state(records.clone()).suspicion().unresolved().len(), 1);
    records.push(failed(2, A, Outcome::Wedged { error: "ENOSPC".to_owned() }));
    assert_eq!(state(records.clone()).suspicion().unresolved().len(), 1, "another error");
    records.push(failed(2, A, Outcome::Wedged { error: "EIO".to_owned() }));
    assert!(state(records).suspicion().unresolved().is_empty());
}

#[test]
fn pairs() {
    let Record::Failed(single) = failed(1, B, Outcome::Clean) else { panic!("a failure") };
    let pair = Record::Failed(Failed { after: Some(A), ..single });
    let two = Record::Armed(Armed { run: 2, level: Level::MULTI, sites: Some(vec![C]), first: Some(A) });
    let state = state(vec![first("s"), armed(1, None), pair, ended(1), two, crash(2, "BUG in f")]);
    assert_eq!(state.pairs(), &BTreeMap::from([((A, B), Verdict::Clean), ((A, C), Verdict::Oops)]));
    // Together they bring the machine down; alone nobody knows.
    assert!(state.tested().is_finished(C) && !state.suspicion().is_harmful(C));
    assert!(state.suspicion().is_harmful_pair(A, C) && !state.suspicion().is_harmful_pair(B, C));
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
}

#[test]
fn the_open_run() {
    let begun = state(vec![first("s"), armed(4, None), failed(4, A, Outcome::Clean)]);
    assert_eq!((begun.open_run(), begun.next_run()), (Some(4), 5));
    let resumed = Record::Begin(Box::new(begin("s", 1)));
    let records = vec![first("s"), armed(4, None), resumed];
    assert_eq!(state(records.clone()).open_run(), Some(4));
    assert_eq!(state([records.clone(), vec![ended(4)]].concat()).open_run(), None);
    assert_eq!(state([records, vec![crash(4, "f")]].concat()).open_run(), None);
    assert_eq!(State::default().next_run(), 1);
}

#[test]
fn times_and_hits() {
    let plain = |elapsed| Record::Plain(Plain { elapsed, status: 0 });
    let record = |run, hits: &[(Signature, u64)]| {
        let hits = hits.iter().copied().collect();
        [
            Record::Armed(Armed { run, level: Level::RECORD, sites: None, first: None }),
            Record::Ended(Ended {
                run,
                end: RunEnd::Finished,
                elapsed: 1.0,
                status: Some(0),
                hits,
                kernel_injected: 0,
            }),
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

/// Each run says what the kernel's own fault injection failed; a journal of before that says nothing.
#[test]
fn what_the_kernel_itself_failed_adds_up() {
    let run = |run, kernel_injected| {
        let Record::Ended(ended) = ended(run) else { panic!("an end") };
        [armed(run, None), Record::Ended(Ended { kernel_injected, ..ended })]
    };
    assert_eq!(state([&[first("s")][..], &run(1, 2), &run(2, 0), &run(3, 1)].concat()).kernel_injected(), 3);
    let none = serde_json::to_string(&run(1, 0)[1]).expect("a record");
    assert!(!none.contains("kernel_injected"), "{none}");
    assert_eq!(serde_json::from_str::<Record>(&none).expect("one of before"), run(1, 0)[1]);
}

#[test]
fn a_failing_workload_is_a_finding_where_success_is_expected() {
    let run = |level| {
        let Record::Armed(armed) = armed(1, Some(&[A])) else { panic!("a run") };
        let end = Ended {
            run: 1,
            end: RunEnd::Finished,
            elapsed: 0.5,
            status: Some(3),
            hits: BTreeMap::new(),
            kernel_injected: 0,
        };
        [Record::Armed(Armed { level, ..armed }), Record::Ended(end)]
    };
    assert_eq!(titles(&state([&[first("s")][..], &run(Level::WHOLE)].concat())), []);
    let options = Options { expect_success: true, ..begin("s", 0).options };
    let begin = Record::Begin(Box::new(Begin { options, ..begin("s", 0) }));
    let found = titles(&state([&[begin.clone()][..], &run(Level::WHOLE)].concat()));
    assert_eq!(found, [("the workload failed with status 3".to_owned(), Verdict::Error)]);
    assert_eq!(titles(&state([&[begin][..], &run(Level::RECORD)].concat())), []);
}

fn pass(run: u32, level: Level) -> Record {
    Record::Armed(Armed { run, level, sites: None, first: None })
}

#[test]
fn what_kmemleak_did_not_see_fails_again() {
    let boot = || first("s");
    let oops = trouble(1, Some(C), Verdict::Oops, "BUG in f");
    let fail = |site| failed(1, site, Outcome::Clean);
    let mut state = state(vec![boot(), pass(1, Level::RETRY), fail(A), fail(B), fail(C), oops]);
    assert!(state.unscanned().missed().is_empty(), "this boot is not over");
    state.apply(&boot());
    let missed = |state: &State| state.unscanned().missed().iter().copied().collect::<Vec<_>>();
    assert_eq!(missed(&state), [A, B, C]);
    assert!(state.suspicion().is_harmful(C));
    let mut scanned = state.clone();
    scanned.apply(&Record::Scanned(Scanned { leaks: 0 }));
    scanned.apply(&boot());
    assert_eq!(missed(&scanned), []);
    // What failed in two runs that ended the boot does not fail again, if nobody knows what ended it.
    let again = |run| Record::Armed(Armed { run, level: Level::MULTI, sites: Some(vec![A, B, C]), first: None });
    let mut known = state.clone();
    for (run, left) in [(2, &[A, B, C][..]), (3, &[B, C])] {
        for record in [again(run), failed(run, A, Outcome::Clean), crash(run, "panic"), boot()] {
            state.apply(&record);
        }
        assert_eq!(missed(&state), left);
    }
    let oops = trouble(2, Some(B), Verdict::Oops, "BUG in g");
    for record in [again(2), failed(2, A, Outcome::Clean), oops, crash(2, "panic"), boot()] {
        known.apply(&record);
    }
    assert_eq!(missed(&known), [A, B, C]);
}

#[test]
fn what_comes_again_has_more_suspects() {
    let oops = |run, suspects: &[Signature]| {
        let Record::Trouble(oops) = trouble(run, None, Verdict::Oops, "BUG in f") else { panic!("a complaint") };
        Record::Trouble(Trouble { suspects: suspects.to_vec(), ..oops })
    };
    let multi = |run| pass(run, Level::MULTI);
    let state = state(vec![first("s"), multi(1), oops(1, &[A, B]), multi(2), oops(2, &[B, C])]);
    assert_eq!(state.suspicion().unresolved()["BUG in f"], [A, B, C]);
    assert_eq!(state.suspicion().limit(A), None, "they fail alone, not fewer at a time");
}

#[test]
fn a_complaint_that_names_no_failure_blames_none() {
    // The only site of the run was not reached before the kernel complained.
    let state = state(vec![first("s"), armed(1, Some(&[A])), trouble(1, None, Verdict::Warning, "w"), ended(1)]);
    assert!(!state.tested().is_finished(A) && !state.suspicion().is_confirmed("w"));
    assert!(state.findings()[0].failures.is_empty());
}

#[test]
fn a_crash_in_a_run_of_each_site_has_suspects_until_the_next() {
    let fail = |site| failed(1, site, Outcome::Clean);
    let mut state =
        state(vec![first("s"), pass(1, Level::RETRY), fail(A), fail(B), fail(C), fail(B), crash(1, "panic")]);
    assert_eq!(state.suspicion().crashed().map(|crashed| crashed.failed.clone()), Some(vec![B, C, A]));
    assert_eq!(state.suspicion().unexplained(&Level::RETRY), 1);
    state.apply(&armed(2, Some(&[Signature(9)])));
    assert!(state.suspicion().crashed().is_some(), "one site alone");
    state.apply(&pass(3, Level::RETRY));
    assert_eq!((state.suspicion().crashed(), state.suspicion().unexplained(&Level::RETRY)), (None, 1));
    // A failure that does it explains it.
    state.apply(&crash(3, "panic"));
    state.apply(&armed(4, Some(&[C])));
    state.apply(&crash(4, "panic"));
    assert_eq!((state.suspicion().crashed(), state.suspicion().unexplained(&Level::RETRY)), (None, 1));
}

#[test]
fn a_crash_on_purpose_blames_nobody() {
    let state =
        state(vec![first("s"), armed(1, Some(&[A])), crash(1, "Kernel panic - not syncing: sysrq triggered crash")]);
    assert!(!state.tested().is_finished(A) && state.findings().is_empty());
    assert_eq!(state.open_run(), None);
}

#[test]
fn going_down_in_the_same_run_again_is_no_news() {
    let mut state = State::default();
    let mut boot = |records: &[Record]| {
        let before = state.news().count();
        for record in records {
            state.apply(record);
        }
        state.news().count() > before
    };
    assert!(boot(&[armed(1, Some(&[A, B])), crash(1, "p")]));
    assert!(!boot(&[armed(2, Some(&[A, B])), crash(2, "p")]));
    assert!(boot(&[armed(3, Some(&[A])), crash(3, "p")]), "narrowing down is news");
    assert!(!boot(&[pass(4, Level::RECORD), ended(4)]), "nothing fails in it");
}
