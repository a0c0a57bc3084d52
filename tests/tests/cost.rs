//! What filters cost that are off: nothing but the question whether they are on; and what the daemon costs while failures come as
//! fast as they can.

use std::{
    mem::offset_of,
    ops::Range,
    time::{Duration, Instant},
};

use injector_common::config::Config;
use injector_tests::{Injector, Worker, bpf};

/// The slab program in a run with some options, after the verifier has removed what is dead.
struct SlabProgram {
    /// How many instructions it has.
    instructions: u32,
    /// Which members of the configuration they read, by offset.
    reads: Vec<usize>,
}

impl SlabProgram {
    fn with(options: &[&str]) -> Self {
        let worker = Worker::start();
        let pid = worker.pid_arg();
        let injector = Injector::start(&[&["--hook", "slab", "--pid", &pid, "--prob", "0"], options].concat());
        let programs = bpf::programs();
        let slab = programs.iter().find(|program| program.is("slab"));
        let slab = slab.unwrap_or_else(|| panic!("no program: {programs:?}"));
        let reads = bpf::config_reads(slab, injector.pid());
        injector.stop();
        Self { instructions: slab.translated / 8, reads }
    }

    fn reads_of(&self, members: &[Range<usize>]) -> usize {
        self.reads.iter().filter(|read| members.iter().any(|member| member.contains(read))).count()
    }
}

/// A filter and the members of the configuration that belong to it, by offset.
struct FilterMembers {
    /// The option that turns it on.
    option: &'static [&'static str],
    /// Whether it is on.
    is_on: Range<usize>,
    /// What it accepts.
    values: Vec<Range<usize>>,
}

macro_rules! member {
    ($($member:tt)+) => {{
        let at = offset_of!(Config, $($member)+);
        at..at + size_of_val(&Config::ZERO.$($member)+)
    }};
}

macro_rules! filters {
    ($([$($option:literal),+], $($is_on:ident).+ => [$($($value:ident).+),*];)*) => {
        [$(FilterMembers {
            option: &[$($option),+],
            is_on: member!($($is_on).+),
            values: vec![$(member!($($value).+)),*],
        }),*]
    };
}

/// The verifier removes what the answer to "is this filter on?" leads to where it is off. It does not remove the question: the address
/// of a constant (an instruction of two) and its load. So what a filter accepts is read where it is on and nowhere else, and nobody
/// asks more than three times.
#[test]
fn of_filters_that_are_off_only_the_question_is_left() {
    let filters = filters! {
        ["--gfp", "NOFS"], gfp_len => [gfp];
        ["--order-lt", "3"], order_on => [order_min, order_max];
        ["--size", "64"], size_on => [size_min, size_max];
        ["--cache", "kmalloc-64"], cache_on => [];
        ["--stack", "injector_test_allocate"], stack_any.len => [stack_any.first];
        ["--not-stack", "injector_test_allocate"], stack_none.len => [stack_none.first];
        ["--caller", "injector_test_allocate"], stack_caller.len => [stack_caller.first, allocator.first];
        ["--stack", "injector_test_loop..injector_test_allocate"], paths_len => [];
        ["--syscall", "openat"], syscalls_on => [];
        ["--comm", "x*"], comm_on => [];
        ["--uid", "1"], uids_len => [uids];
        ["--not-pid", "1"], not_pids_len => [not_pids];
        ["--site", "0123456789abcdef"], signatures_len => [signatures];
        ["--kthreads", "exclude"], kthread_filter => [];
        ["--every", "3"], every => [];
        ["--seed", "1"], seed_on => [seed];
    };
    let bare = SlabProgram::with(&[]);
    let mut report = format!("no filter: {} instructions, {} reads\n", bare.instructions, bare.reads.len());
    let mut wrong = Vec::new();
    let mut questions = 0;
    for FilterMembers { option, is_on, values } in &filters {
        let with = SlabProgram::with(option);
        let (asked, off, on) =
            (bare.reads_of(std::slice::from_ref(is_on)), bare.reads_of(values), with.reads_of(values));
        report += &format!(
            "{option:?}: {} instructions; off: {asked} questions, {off} values; on: {on} values\n",
            with.instructions
        );
        questions += asked;
        if !(1..=3).contains(&asked) {
            wrong.push(format!("whether {option:?} is on is asked {asked} times"));
        }
        if off != 0 {
            wrong.push(format!("{option:?} is off, and its values are read {off} times"));
        }
        // Each value is seen by this test where it is read. (Paths are read through an index, which it does not follow.)
        if (on == 0) != values.is_empty() {
            wrong.push(format!("{option:?} is on, and its values are read {on} times"));
        }
        if with.instructions <= bare.instructions {
            wrong.push(format!("{option:?} adds no instruction"));
        }
    }
    println!("{report}{questions} questions");
    assert!(wrong.is_empty(), "{wrong:#?}\n{report}");
}

/// Two CPUs, ten seconds, every allocation failed: the histogram is exact, what the ring had no room for is counted.
#[test]
fn ten_seconds_as_fast_as_it_can() {
    const BLOCK: u64 = 20_000;
    let (one, two) = (Worker::on_cpu(0), Worker::on_cpu(1));
    let (first, second) = (one.pid_arg(), two.pid_arg());
    let injector = Injector::start(&["--hook", "slab", "--pid", &first, "--pid", &second, "--quiet"]);
    let began = Instant::now();
    let mut failed = 0;
    while began.elapsed() < Duration::from_secs(10) {
        one.send(&format!("kind=slab chain=a count={BLOCK}"));
        two.send(&format!("kind=slab chain=b count={BLOCK}"));
        failed += one.receive().failed + two.receive().failed;
    }
    let seconds = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{}/status", injector.pid())).expect("the daemon runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says VmHWM").trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().expect("a number of kB");
    let report = injector.stop();
    println!(
        "{failed} failures in {seconds:.1} s: {:.0} a second; {} lost; peak RSS {:.1} MiB",
        failed as f64 / seconds,
        report.total("lost"),
        peak as f64 / 1024.0
    );
    assert_eq!(report.total("failures"), failed, "{}", report.summary);
    assert_eq!(report.sites().iter().map(|site| site.count).sum::<u64>(), failed);
    assert_eq!(report.total("delivered") + report.total("lost"), failed);
    assert!(peak < 60 * 1024, "{peak} KiB");
}
