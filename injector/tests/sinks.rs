//! What people and tools read of a run, as golden files: tests/golden. `UPDATE_GOLDEN=1 cargo test -p injector --test sinks`
//! writes them anew; look at the difference before you commit it.

use std::{path::Path, rc::Rc, time::Duration};

use injector::{
    events::{
        Context, End, Event, HookSummary, Outcome, OutcomeKind, Outcomes, RuleSummary, SiteSummary, Start, Summary,
        Unmatched,
    },
    plan::{Filter, Hook, Plan, Policy, Probability, Rule, Target},
    sinks::{Json, Sink, Text},
};
use injector_common::counters::Counters;

fn stack(frames: &[&str]) -> Rc<[String]> {
    frames.iter().map(|frame| (*frame).to_owned()).collect()
}

fn slab_stack() -> Rc<[String]> {
    stack(&[
        "kmem_cache_alloc_noprof+0x3c",
        "rpc_malloc+0x89 [sunrpc]",
        "call_allocate+0x82 [sunrpc]",
        "__rpc_execute+0xb0 [sunrpc]",
        "rpc_execute+0x84 [sunrpc]",
        "do_syscall_64+0x4c",
    ])
}

fn failure() -> Event {
    Event {
        time_ns: 5_251_622_000,
        rule: "default".into(),
        hook: Hook::Slab,
        error: -12,
        gfp: "GFP_KERNEL".into(),
        gfp_bits: 0xcc0,
        effective_gfp: "GFP_NOFS".into(),
        effective_gfp_bits: 0xc40,
        order: 0,
        size: 2048,
        cache: Some("rpc_buffers".to_owned()),
        pid: 168,
        tid: 169,
        comm: "mkdir \"\x1b\"".to_owned(),
        cgroup: 42,
        cpu: 1,
        context: Context::Task,
        site: 0x87c8_e6b2_420e_92dc,
        stack: slab_stack(),
    }
}

fn page_failure() -> Event {
    let gfp: Rc<str> = "GFP_ATOMIC|__GFP_COMP".into();
    Event {
        time_ns: 65_000_001_000,
        rule: "softirqs".into(),
        hook: Hook::Page,
        error: 1,
        gfp: gfp.clone(),
        gfp_bits: 0x4_0820,
        effective_gfp: gfp,
        effective_gfp_bits: 0x4_0820,
        order: 3,
        size: 32768,
        cache: None,
        context: Context::Softirq,
        site: 0xff,
        stack: stack(&["__alloc_pages_noprof+0xca", "0xffffffffc0001234"]),
        ..failure()
    }
}

fn outcomes() -> [Outcome; 5] {
    let of = |is: OutcomeKind, syscall: Option<&'static str>, result| Outcome {
        time_ns: 5_251_700_000,
        site: 0x87c8_e6b2_420e_92dc,
        pid: 168,
        tid: 169,
        comm: "mkdir \"\x1b\"".to_owned(),
        syscall: syscall.map(Into::into),
        result,
        is,
        count: if is == OutcomeKind::Masked { 2 } else { 1 },
    };
    [
        of(OutcomeKind::Enomem, Some("mkdir"), Some(-12)),
        of(OutcomeKind::Error, Some("openat"), Some(-512)),
        of(OutcomeKind::Masked, Some("write"), Some(4096)),
        of(OutcomeKind::Signal, Some("execve"), None),
        of(OutcomeKind::Outside, None, None),
    ]
}

fn summary() -> Summary {
    let counters = Counters {
        calls: 40_943,
        matches: 15_847,
        failures: 6,
        lost: 4,
        passed: 6_958,
        suppressed_nofail: 8_883,
        ..Counters::default()
    };
    let page = Counters { calls: 13_163, matches: 1, failures: 1, unreadable: 7, ..Counters::default() };
    let hooks = vec![HookSummary { hook: Hook::Slab, counters }, HookSummary { hook: Hook::Page, counters: page }];
    let rule = |name: &str, i: usize| RuleSummary { name: name.into(), hooks: vec![hooks[i]] };
    Summary {
        elapsed: Duration::from_millis(34_000),
        end: End::Command,
        command_status: Some(1),
        rules: vec![rule("default", 0), rule("softirqs", 1)],
        hooks,
        calls: 54_106,
        matches: 15_848,
        failures: 7,
        delivered: 3,
        lost: 4,
        suppressed: 8_883,
        unmatched: vec![
            Unmatched {
                rule: "default".into(),
                option: "--stack".to_owned(),
                pattern: Some("getname_flags".to_owned()),
                calls: 5_312,
            },
            Unmatched { rule: "softirqs".into(), option: "--gfp".to_owned(), pattern: None, calls: 13_163 },
        ],
        sites: vec![
            SiteSummary {
                site: 0x87c8_e6b2_420e_92dc,
                hook: Hook::Slab,
                count: 6,
                stack: slab_stack(),
                outcomes: Some(Outcomes { enomem: 1, error: 1, masked: 2, signal: 1, outside: 1, open: 0 }),
            },
            SiteSummary { site: 0xff, hook: Hook::Page, count: 1, stack: page_failure().stack, outcomes: None },
        ],
    }
}

fn write(sink: &mut dyn Sink) {
    let policy = Policy { probability: Probability::new(0.01).expect("a probability"), ..Policy::default() };
    let plan = Plan::of(
        Rule::new(Hook::MEMORY.to_vec(), Filter::default(), policy),
        Target { all: true, ..Target::default() },
    )
    .expect("a plan");
    let start = Start {
        version: "0.1.0",
        kernel: "6.12.117".to_owned(),
        build_id: Some("2f1e".to_owned()),
        time: "2026-01-02T03:04:05Z".to_owned(),
        time_ns: 5_000_000_000,
        dry_run: false,
        hooks: &plan.first().hooks,
        fmod_ret: &[Hook::Slab],
        module: &[],
        plan: &plan,
    };
    sink.start(&start).expect("it can be written");
    sink.failure(&failure()).expect("it can be written");
    sink.failure(&page_failure()).expect("it can be written");
    // Its stack stands there already.
    sink.failure(&failure()).expect("it can be written");
    for outcome in outcomes() {
        sink.outcome(&outcome).expect("it can be written");
    }
    sink.summary(&summary()).expect("it can be written");
    sink.flush().expect("it can be written");
}

fn compare(name: &str, got: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let got = std::str::from_utf8(got).expect("UTF-8");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).expect("it can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, expected, "{} differs", path.display());
}

#[test]
fn text() {
    let mut written = Vec::new();
    write(&mut Text::new(&mut written, 10));
    compare("run.txt", &written);
}

#[test]
fn text_with_one_site() {
    let mut written = Vec::new();
    Text::new(&mut written, 1).summary(&summary()).expect("it can be written");
    compare("summary-top-1.txt", &written);
}

#[test]
fn nothing_happened() {
    let mut written = Vec::new();
    let nothing = Summary { end: End::Signal, command_status: None, failures: 0, sites: vec![], ..summary() };
    Text::new(&mut written, 10).summary(&nothing).expect("it can be written");
    compare("summary-nothing.txt", &written);
}

#[test]
fn json() {
    let mut written = Vec::new();
    write(&mut Json::new(&mut written));
    for line in std::str::from_utf8(&written).expect("it can be written").lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("it can be written");
        assert_eq!(value["schema"], 2, "{line}");
    }
    compare("run.jsonl", &written);
}
