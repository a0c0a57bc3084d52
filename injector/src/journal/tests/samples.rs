//! Records to test with: hand-made ones, and journals made by chance as sweeps write them.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::select};

use crate::{
    events::Context,
    journal::{Journal, Section, Verdict, record::*},
    plan::Hook,
};

pub const A: Signature = Signature(0xa);
pub const B: Signature = Signature(0xb);
pub const C: Signature = Signature(0xc);

pub fn begin(sweep: &str, part: u32) -> Begin {
    Begin {
        schema: SCHEMA,
        sweep: sweep.to_owned(),
        part,
        boot: None,
        version: "0.1.0".to_owned(),
        time: "2026-01-02T03:04:05Z".to_owned(),
        kernel: Kernel {
            release: "6.12.117".to_owned(),
            version: "#1 SMP".to_owned(),
            build_id: Some("ab".repeat(20)),
            config: Some("cd".repeat(32)),
        },
        workload: Workload {
            command: vec!["sh".to_owned(), "ext4.sh".to_owned()],
            setup: None,
            cleanup: None,
            digest: "ef".repeat(32),
            name: None,
        },
        options: Options { depth: 2, hit: 1, persistent: None, kthreads: true, only: vec![], expect_success: false },
        shard: None,
        guests: Vec::new(),
    }
}

pub fn first(sweep: &str) -> Record {
    Record::Begin(Box::new(begin(sweep, 0)))
}

pub fn site(site: Signature) -> Record {
    Record::Site(Site {
        site,
        hook: Hook::Slab,
        context: Context::Task,
        kthread: false,
        module: "ext4".to_owned(),
        place: Place::SystemCall,
        stack: vec!["kmem_cache_alloc_noprof+0x3c".to_owned(), format!("function_{:x}+0x10", site.0)],
        after: None,
        call: None,
    })
}

pub fn armed(run: u32, sites: Option<&[Signature]>) -> Record {
    Record::Armed(Armed { run, level: Level::WHOLE, sites: sites.map(<[_]>::to_vec), first: None })
}

pub fn failed(run: u32, site: Signature, outcome: Outcome) -> Record {
    Record::Failed(Failed {
        run,
        site,
        after: None,
        hit: 1,
        times: 1,
        level: Level::WHOLE,
        call: None,
        syscall: Some(Syscall { name: "mount".to_owned(), result: Some(-12) }),
        outcome,
    })
}

pub fn trouble(run: u32, site: Option<Signature>, verdict: Verdict, title: &str) -> Record {
    Record::Trouble(Trouble {
        run,
        verdict,
        title: title.to_owned(),
        splat: format!("splat of {title}"),
        site,
        after: None,
        suspects: vec![],
    })
}

pub fn ended(run: u32) -> Record {
    Record::Ended(Ended {
        run,
        end: RunEnd::Finished,
        elapsed: 0.5,
        status: Some(0),
        hits: BTreeMap::new(),
        kernel_injected: 0,
    })
}

pub fn crash(run: u32, title: &str) -> Record {
    Record::Crash(Crash {
        run: Some(run),
        kind: CrashKind::Panic,
        title: title.to_owned(),
        splat: format!("splat of {title}"),
    })
}

pub fn journal(sections: Vec<Vec<Record>>) -> Journal {
    let section = |mut lines: Vec<Record>| {
        let Record::Begin(begin) = lines.remove(0) else { panic!("a section starts with a beginning") };
        Section { begin: *begin, records: lines }
    };
    Journal { name: "j".to_owned(), sections: sections.into_iter().map(section).collect(), ..Journal::default() }
}

fn a_site() -> impl Strategy<Value = Signature> {
    (0_u64..6).prop_map(Signature)
}

fn an_outcome() -> impl Strategy<Value = Outcome> {
    let error = || select(vec!["EIO", "EROFS", "ENOMEM"]).prop_map(str::to_owned);
    prop_oneof![
        Just(Outcome::Clean),
        Just(Outcome::Masked),
        error().prop_map(|error| Outcome::Misreported { error }),
        error().prop_map(|error| Outcome::Wedged { error }),
        (error(), error()).prop_map(|(error, then)| Outcome::NotRepeatable { error, then }),
        (1..200).prop_map(|status| Outcome::ProgramFailed { status }),
    ]
}

fn a_title() -> impl Strategy<Value = String> {
    select(vec!["KASAN: slab-use-after-free in f", "WARNING in g", "hung task in h", "ü \"\\\u{1}\n"])
        .prop_map(str::to_owned)
}

/// What happens in a run, without its number.
fn an_event() -> impl Strategy<Value = Record> {
    let level = || select(vec![Level::RETRY, Level::WHOLE]);
    let call = || {
        proptest::option::of((any::<u64>(), 0_u32..4).prop_map(|(size, order)| Call {
            gfp: "GFP_KERNEL|__GFP_ZERO".to_owned(),
            order,
            size,
            cache: None,
            comm: "sh".to_owned(),
        }))
    };
    let failed = (a_site(), proptest::option::of(a_site()), 1_u32..3, level(), call(), an_outcome()).prop_map(
        |(site, after, hit, level, call, outcome)| {
            let syscall = Some(Syscall { name: "openat".to_owned(), result: Some(-12) });
            Record::Failed(Failed { run: 0, site, after, hit, times: 1, level, call, syscall, outcome })
        },
    );
    let verdict = select(vec![Verdict::Leak, Verdict::Warning, Verdict::Hang, Verdict::Oops]);
    let trouble = (verdict, a_title(), proptest::option::of(a_site()), proptest::collection::vec(a_site(), 0..3))
        .prop_map(|(verdict, title, site, suspects)| {
            Record::Trouble(Trouble {
                run: 0,
                verdict,
                splat: format!("{title}\nCall Trace:"),
                title,
                site,
                after: None,
                suspects,
            })
        });
    prop_oneof![
        4 => failed,
        1 => trouble,
        1 => a_site().prop_map(site),
        1 => proptest::collection::vec(a_site(), 1..3)
            .prop_map(|sites| Record::Unreached(Unreached { sites, why: "they did not come up again".to_owned() })),
        1 => any::<f64>().prop_filter("a time", |x| x.is_finite()).prop_map(|elapsed| Record::Plain(Plain { elapsed, status: 0 })),
        1 => (a_title(), a_site()).prop_map(|(title, site)| {
            Record::Replayed(Replayed { title, site, after: None, tries: 20, reproduced: 19 })
        }),
    ]
}

/// How a run comes to its end; `None`: it doesn't.
fn an_end() -> impl Strategy<Value = Option<Record>> {
    let hits = proptest::collection::btree_map(a_site(), 1_u64..9, 0..4);
    let ended = (hits, 0.0..9.0_f64).prop_map(|(hits, elapsed)| {
        Some(Record::Ended(Ended { run: 0, end: RunEnd::Finished, elapsed, status: Some(0), hits, kernel_injected: 0 }))
    });
    let kind = select(vec![CrashKind::Panic, CrashKind::Stall, CrashKind::Unknown]);
    let crash = (kind, a_title()).prop_map(|(kind, title)| {
        Some(Record::Crash(Crash { run: Some(0), kind, title, splat: "Kernel panic".to_owned() }))
    });
    prop_oneof![4 => ended, 2 => crash, 1 => Just(None)]
}

fn number(record: &mut Record, number: u32) {
    match record {
        Record::Failed(failed) => failed.run = number,
        Record::Trouble(trouble) => trouble.run = number,
        Record::Ended(ended) => ended.run = number,
        Record::Crash(crash) => crash.run = Some(number),
        _ => {}
    }
}

/// What a sweep may write, of the first `n` runs.
pub fn a_section() -> impl Strategy<Value = Section> {
    let sites = proptest::option::of(proptest::collection::vec(a_site(), 1..3));
    let run = (any::<bool>(), sites, proptest::collection::vec(an_event(), 0..4), an_end());
    let shard = proptest::option::of((0_u32..2).prop_map(|index| Shard { index, count: 2 }));
    let head = (select(vec!["s1", "s2", "s3"]), 1_u32..3, shard, 0_u32..2);
    (head, proptest::collection::vec(run, 0..5)).prop_map(|((sweep, hit, shard, second), runs)| {
        let mut begin = begin(sweep, 0);
        begin.time = format!("2026-01-02T03:04:0{second}Z");
        begin.options.hit = hit;
        begin.shard = shard;
        let mut section = Section { begin: begin.clone(), records: vec![] };
        for (i, (resumed, sites, events, end)) in runs.into_iter().enumerate() {
            if resumed {
                begin.part += 1;
                section.records.push(Record::Begin(Box::new(begin.clone())));
            }
            let run = u32::try_from(i).expect("few") + 1;
            section.records.push(armed(run, sites.as_deref()));
            section.records.extend(events.into_iter().chain(end).map(|mut record| {
                number(&mut record, run);
                record
            }));
        }
        section
    })
}

/// Sections, some of them copies from an earlier time, some with a line lost, some that went on apart.
pub fn a_journal() -> impl Strategy<Value = Journal> {
    proptest::collection::vec((a_section(), any::<prop::sample::Index>(), 0..4), 1..4).prop_map(|made| {
        let mut sections: Vec<Section> = Vec::new();
        for (section, index, how) in made {
            let mut copy = section.clone();
            let n = copy.records.len();
            match how {
                0 => copy.records.truncate(index.index(n + 1)),
                1 if n > 0 => drop(copy.records.remove(index.index(n))),
                2 => copy.records.push(armed(99, None)),
                _ => {}
            }
            sections.extend([section, copy]);
        }
        Journal { name: "j".to_owned(), sections, ..Journal::default() }
    })
}
