//! The controller of sweeps in guests, with real guests and a stand-in for the sweep in them: a script that does to the
//! machine and the journal what a sweep may do.
//!
//! These boot guests, so they are asked for by name: `cargo xtask test` does it for each of its kernels, and by hand
//! `INJECTOR_GUEST_KERNEL=path/to/bzImage cargo test -p injector --test guests_controller -- --ignored`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    env, fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use injector::{
    exit::{ExitCode, HasExitCode as _},
    guests::{self, Show, VmEnd, VmError, VmPlan},
    journal::{
        Record,
        record::{Crash, CrashKind, Unreached},
    },
    plan::sweep::{GuestKernel, Guests, Journal, SweepPlan},
};
use injector_guest::{Accelerator, EngineChoice};
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

/// The stand-in. The last word of the workload in its plan file says what to do.
const SWEEP: &str = r#"#!/bin/sh
for port in /sys/class/virtio-ports/*; do
    read name < $port/name
    if [ $name = injector.data ]; then break; fi
done
exec 3<>/dev/${port##*/}
sent=0
say() { # sends a line, and waits until it is stored
    echo "$1" >&3
    sent=$((sent + ${#1} + 1))
    stored=0
    while [ $stored -lt $sent ]; do read stored <&3; done
}
begin='{"type":"begin","schema":1,"sweep":"s","part":0,"boot":null,"version":"0","time":"t","kernel":{"release":"r","version":"v","build_id":null,"config":null},"workload":{"command":[],"setup":null,"cleanup":null,"digest":""},"options":{"depth":1,"hit":1,"persistent":null,"kthreads":true,"only":[],"expect_success":false},"shard":null}'
armed() { say '{"type":"armed","run":'$1',"level":"run","sites":["000000000000000'$2'"],"first":null}'; }
ended() { say '{"type":"ended","run":'$1',"end":"finished","elapsed":1.0,"status":0}'; }
complain() { echo "<1>$1" > /dev/kmsg; sleep 0.1; }
crashes=$(grep -c '"type":"crash"' /injector-journal.jsonl 2>/dev/null)
[ "$1" = execute ] || exit 2
scenario=$(sed 's/.*"command":\["true","\([a-z]*\)"\].*/\1/' "$2")
shard=$(sed 's/.*"shard":{"index":\([0-9]*\),"count":\([0-9]*\)}.*/\1 of \2/' "$2")
echo "scenario $scenario, $((crashes)) crashes before"
case $scenario in
refuses) echo "the journal is of another kernel" >&2; exit 2 ;;
lacks) echo "no error injection here" >&2; exit 3 ;;
esac
say "$begin"
case $scenario in
crashes)
    case $((crashes)) in
    0)
        complain 'WARNING: CPU: 0 PID: 1 at of/an/earlier/run.c:1 f+0x1/0x2'
        armed 0 1
        complain 'BUG: KASAN: slab-use-after-free in fake_put+0x20/0x50'
        echo c > /proc/sysrq-trigger ;;
    1)
        armed 1 2
        echo -n '{"type":"ended","run":' >&3
        echo b > /proc/sysrq-trigger ;;
    2)
        if grep -q '"run":2' /injector-journal.jsonl; then
            say '{"type":"end","complete":true,"elapsed":1.0}'
            exit 1
        fi
        armed 2 3
        ended 2
        exit 75 ;;
    esac ;;
freezes)
    if [ $((crashes)) = 1 ]; then
        say '{"type":"end","complete":true,"elapsed":1.0}'
        exit 0
    fi
    armed 0 1
    # PID 1, whose heartbeat is the guest's, stops.
    mkdir /sys/fs/cgroup/cold
    echo 1 > /sys/fs/cgroup/cold/cgroup.procs
    echo 1 > /sys/fs/cgroup/cold/cgroup.freeze
    sleep 1000 ;;
repeats)
    armed $((crashes)) 1
    echo c > /proc/sysrq-trigger ;;
hangs)
    if [ -s /injector-journal.jsonl ]; then
        say '{"type":"end","complete":true,"elapsed":1.0}'
        exit 0
    fi
    armed 0 1
    say '{"type":"ended","run":0,"end":"damaged","elapsed":1.0,"status":null}'
    while :; do sleep 1000; done ;;
parts)
    say '{"type":"unreached","sites":[],"why":"'"$shard"'"}'
    say '{"type":"end","complete":true,"elapsed":1.0}'
    exit 0 ;;
waits)
    trap 'ended 0; exit 4' INT
    armed 0 1
    while :; do sleep 0.1; done ;;
measures)
    start=$(date +%s)
    number=0
    while [ $number -lt 500 ]; do armed $number 1; number=$((number + 1)); done
    echo "500 records took $(($(date +%s) - start)) s"
    say '{"type":"end","complete":true,"elapsed":1.0}'
    exit 0 ;;
esac
"#;

struct Run {
    directory: tempfile::TempDir,
    plan: VmPlan,
    shown: Arc<Mutex<Vec<String>>>,
}

impl Run {
    fn new(scenario: &str) -> Self {
        Self::at(tempfile::tempdir().unwrap(), scenario)
    }

    fn at(directory: tempfile::TempDir, scenario: &str) -> Self {
        let kernel = env::var_os("INJECTOR_GUEST_KERNEL").expect("INJECTOR_GUEST_KERNEL names a bzImage");
        let stand_in = directory.path().join("injector");
        fs::write(&stand_in, SWEEP).unwrap();
        fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
        let journal = directory.path().join("journal");
        let sweep = SweepPlan::new(vec!["true".into(), scenario.into()], Journal::New(journal.clone()));
        let guests = Guests::new(EngineChoice::QEMU, Some(kernel.into()));
        let mut plan = VmPlan::new(sweep, guests, &journal).unwrap();
        plan.injector = env!("CARGO_BIN_EXE_injector").into();
        plan.accelerator = Accelerator::Emulation;
        plan.guests.added = vec![(stand_in, "/usr/bin/injector".to_owned())];
        plan.stall = Duration::from_secs(20);
        Self { directory, plan, shown: Arc::default() }
    }

    fn journal(&self) -> PathBuf {
        self.plan.journal.clone()
    }

    fn run(&self) -> Result<VmEnd, VmError> {
        let shown = Arc::clone(&self.shown);
        let show: Show = Arc::new(move |line| {
            println!("{line}");
            shown.lock().unwrap().push(line.to_string());
        });
        guests::run(&self.plan, &show)
    }

    fn was_shown(&self, text: &str) -> bool {
        self.shown.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

fn records(path: &Path) -> Vec<Record> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn crashes(path: &Path) -> Vec<Crash> {
    let crash = |record| match record {
        Record::Crash(crash) => Some(crash),
        _ => None,
    };
    records(path).into_iter().filter_map(crash).collect()
}

fn error(run: &Run) -> VmError {
    let end = run.run().unwrap();
    assert_eq!(end.jobs.len(), 1);
    end.jobs.into_iter().next().unwrap().result.unwrap_err()
}

#[test]
#[ignore = "boots guests"]
fn it_goes_on_across_a_panic_a_reset_and_a_damaged_kernel() {
    let run = Run::new("crashes");
    let end = run.run().unwrap();
    let job = &end.jobs[0];
    assert!(job.result.is_ok(), "{:?}", job.result);
    assert_eq!((job.boots, job.crashes), (4, 2));
    let crashes = crashes(&run.journal());
    let facts: Vec<_> = crashes.iter().map(|crash| (crash.run, crash.kind)).collect();
    assert_eq!(facts, [(Some(0), CrashKind::Panic), (Some(1), CrashKind::Reset)]);
    assert!(crashes[0].title.contains("KASAN: slab-use-after-free in fake_put"), "{}", crashes[0].title);
    assert!(crashes[0].splat.contains("sysrq triggered crash"), "{}", crashes[0].splat);
    assert!(!crashes[0].splat.contains("of/an/earlier/run.c"), "{}", crashes[0].splat);
    assert_eq!(crashes[1].title, "the machine was gone without a word");
    assert!(run.was_shown("torn and was left out (22 bytes)"));
    let records = records(&run.journal());
    let count = |what: fn(&Record) -> bool| records.iter().filter(|record| what(record)).count();
    assert_eq!(count(|record| matches!(record, Record::Begin(_))), 4);
    assert_eq!(count(|record| matches!(record, Record::Armed(_))), 3);
    assert!(matches!(records.last(), Some(Record::End(_))));
}

#[test]
#[ignore = "boots guests"]
fn a_guest_that_shows_no_sign_of_life_went_down() {
    let run = Run::new("freezes");
    let end = run.run().unwrap();
    assert!(end.error().is_none(), "{:?}", end.error());
    let crashes = crashes(&run.journal());
    assert_eq!((crashes.len(), crashes[0].kind), (1, CrashKind::Stall));
}

/// An oops under a lock may keep the sweep from ending, with all said that it has to say.
#[test]
#[ignore = "boots guests"]
fn a_damaged_guest_that_does_not_end_is_replaced() {
    let run = Run::new("hangs");
    let end = run.run().unwrap();
    assert!(end.error().is_none(), "{:?}", end.error());
    assert_eq!((end.jobs[0].boots, end.jobs[0].crashes), (2, 0));
    assert!(run.was_shown("its sweep can't end"));
}

#[test]
#[ignore = "boots guests"]
fn guests_that_get_no_further_end_it() {
    let run = Run::new("repeats");
    let error = error(&run);
    assert_eq!(error.exit_code(), ExitCode::INTERRUPTED);
    assert!(error.to_string().starts_with("3 guests in a row added nothing"), "{error}");
    // The first one did: it armed something new.
    assert_eq!(crashes(&run.journal()).len(), 4);
}

#[test]
#[ignore = "boots guests"]
fn what_the_sweep_refuses_leaves_no_journal() {
    for (scenario, code, said) in [
        ("refuses", ExitCode::USAGE, "the journal is of another kernel"),
        ("lacks", ExitCode::MISSING, "no error injection here"),
    ] {
        let run = Run::new(scenario);
        let error = error(&run);
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().ends_with(said) && run.was_shown(said), "{error}");
        assert!(!run.journal().exists());
    }
}

#[test]
#[ignore = "boots guests"]
fn an_image_that_does_not_boot_leaves_the_journal_alone() {
    let mut run = Run::new("parts");
    let image = run.directory.path().join("bzImage");
    run.plan.guests.kernel = Some(GuestKernel::Image { image: image.clone(), modules: None });
    fs::write(&image, vec![7; 100_000]).unwrap();
    run.plan.boot_timeout = Duration::from_secs(10);
    let content = SWEEP.lines().find_map(|line| line.strip_prefix("begin='")?.strip_suffix('\'')).unwrap();
    fs::write(run.journal(), format!("{content}\n")).unwrap();
    let error = error(&run);
    assert_eq!(error.exit_code(), ExitCode::MISSING, "{error}");
    assert!(error.to_string().starts_with("the guest did not boot: "), "{error}");
    assert_eq!(fs::read_to_string(run.journal()).unwrap(), format!("{content}\n"));
}

#[test]
#[ignore = "boots guests"]
fn two_jobs_have_their_parts_and_journals() {
    let mut run = Run::new("parts");
    run.plan.guests.jobs = 2;
    let end = run.run().unwrap();
    assert!(end.error().is_none(), "{:?}", end.error());
    for (job, path) in end.journals().iter().enumerate() {
        assert_eq!(*path, PathBuf::from(format!("{}.{job}-of-2", run.journal().display())));
        let told = records(path).into_iter().find_map(|record| match record {
            Record::Unreached(Unreached { why, .. }) => Some(why),
            _ => None,
        });
        assert_eq!(told.unwrap(), format!("{job} of 2"));
        assert!(run.was_shown(&format!("[{job}] scenario parts")));
    }
}

#[test]
#[ignore = "boots guests"]
fn the_sweep_itself_goes_through_a_guest() {
    let mut run = Run::new("");
    run.plan.guests.added.clear();
    let workload = "mkdir /root/a; echo b > /root/a/b; ln -s b /root/a/c; rm -r /root/a";
    run.plan.sweep.command = ["sh", "-c", workload].map(Into::into).into();
    run.plan.stall = Duration::from_secs(120);
    let end = run.run().unwrap();
    assert!(end.error().is_none(), "{:?}", end.error());
    let records = records(&run.journal());
    assert!(matches!(records.first(), Some(Record::Begin(_))));
    assert!(matches!(records.last(), Some(Record::End(end)) if end.complete));
    assert!(records.iter().filter(|record| matches!(record, Record::Failed(_))).count() > 10);
}

/// 500 records that are waited for: how long that takes.
#[test]
#[ignore = "boots guests"]
fn records_are_stored_at_a_fair_rate() {
    let run = Run::new("measures");
    let start = Instant::now();
    assert!(run.run().unwrap().error().is_none());
    assert_eq!(records(&run.journal()).len(), 502);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
#[ignore = "boots guests"]
fn an_interrupt_ends_the_guest_in_order() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join("journal");
        let mut child = Command::new(env::current_exe().unwrap());
        child
            .args(["--ignored", "--exact", "the_one_that_is_interrupted", "--nocapture"])
            .env("INJECTOR_TEST_DIRECTORY", directory.path())
            .stdout(Stdio::null());
        // The test harness has a thread that would take the signal, and the program's main has none.
        // SAFETY: a system call that is async-signal-safe, and nothing is allocated.
        unsafe {
            child.pre_exec(|| {
                let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
                signals.thread_block().map_err(io::Error::from)
            });
        }
        let mut child = child.spawn().unwrap();
        let start = Instant::now();
        while !fs::read_to_string(&journal).is_ok_and(|text| text.contains("armed")) {
            assert!(start.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
            thread::sleep(Duration::from_millis(100));
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let asked = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(4));
        assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
        assert!(matches!(records(&journal).last(), Some(Record::Ended(_))));
    }
}

#[test]
#[ignore = "run by the test above; alone it does nothing"]
fn the_one_that_is_interrupted() {
    let Some(directory) = env::var_os("INJECTOR_TEST_DIRECTORY") else { return };
    let mut run = Run::new("waits");
    run.plan.journal = Path::new(&directory).join("journal");
    let ExitCode(code) = error(&run).exit_code();
    drop(run);
    std::process::exit(code);
}
