//! Runs test binaries in guests, two at a time: an emulated guest keeps one processor of the host busy.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use injector_guest::engines::Qemu;
use injector_guest::root::{self, Image};
use injector_guest::{Engine, GuestEnd, GuestRun, Initramfs, Streams};

use super::libtest::{Tally, failed_names};
use super::{Row, heading};
use crate::dist::kselftest::{self, Runner};
use crate::kernel::selftests;
use crate::process;
use crate::tee::Tee;
use crate::vm::{self, Guest};

/// How long one test binary may take in an emulated guest.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Enough for a million failures' events and the workloads' disks, which are in memory.
const MEMORY_MB: u32 = 3072;

/// How many guests run at a time, if this machine has as many processors.
const WORKERS: usize = 2;

/// Tests that measure by chance or by the clock may fail beside another guest that keeps the machine busy. So many files get a
/// second try, alone, and the run says which tests they were. More than that is no chance.
const SECOND_TRIES: usize = 2;

/// Those that take longest, started first lest one of them runs alone at the end. Any other order works too.
const LONGEST: [&str; 9] = ["stress", "lifetime", "nfs", "gfp", "events", "stack", "target", "policy", "hooks"];

/// Programs of this machine that only one test needs. With its libraries bpftrace has 200 MB, too much for every guest.
const PROGRAMS: [(&str, &str); 2] = [
    ("inventory", "bpftrace"),
    // kselftest's runner calls it with an option that busybox's does not have.
    ("kselftest", "timeout"),
];

/// Tests that get the kselftest package: with the kernel's own runner, or without.
const PACKAGES: [(&str, bool); 2] = [("kselftest", true), ("stock", false)];

/// Where it is in the guest.
const PACKAGE_PLACE: &str = "/kselftest.tar.gz";

/// What a test needs on its guest's command line. The guest kernels tell caches apart unless they are told not to.
const WORDS: [(&str, &str); 1] = [("merged", "slab_merge")];

/// How the injector attaches its hooks in a guest, where a test does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// As it does of itself: on our preemptible guests by kprobes
    Auto,
    /// By kprobes
    Kprobe,
    /// As it does of itself in a guest that is not preempted: by fmod_ret, but for hooks that return NULL
    FmodRet,
    /// By the module injector_hooks
    Module,
}

impl Backend {
    /// What the guest has on its command line for it (Documentation/admin-guide/kernel-parameters.txt). Without overrides
    /// there is nothing but fmod_ret, which misses calls where tasks are preempted in the kernel.
    fn word(self, kernel: &str) -> Option<&'static str> {
        (self == Self::FmodRet || kernel.ends_with("-no-override")).then_some("preempt=voluntary")
    }

    /// What the injector is told.
    fn setting(self) -> &'static str {
        match self {
            Self::Auto | Self::FmodRet => "auto",
            Self::Kprobe => "kprobe",
            Self::Module => "module",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kprobe => "kprobe",
            Self::FmodRet => "fmod-ret",
            Self::Module => "module",
        })
    }
}

/// A test binary to run in a guest.
pub struct Job {
    pub guest: Arc<Guest>,
    /// What its root has beyond the guest's.
    pub overlays: Vec<Arc<Image>>,
    pub kernel: String,
    /// How the injector attaches.
    pub backend: Backend,
    pub binary: String,
    /// Only the tests whose name contains this.
    pub filter: Option<String>,
}

/// The programs that only these binaries need, each on top of the root of its binary's guest.
pub fn programs<'a>(binaries: impl Iterator<Item = &'a str>) -> Result<Vec<(&'a str, Arc<Image>)>> {
    let mut images = Vec::new();
    for binary in binaries {
        let Some((_, program)) = PROGRAMS.iter().find(|(name, _)| *name == binary) else { continue };
        let path = process::find_program(program).with_context(|| format!("{binary}: there is no {program}"))?;
        let mut overlay = Initramfs::overlay();
        root::add(&mut overlay, &path, &format!("/usr/bin/{program}"))?;
        images.push((binary, Arc::new(Image::new(&overlay)?)));
    }
    Ok(images)
}

/// The kselftest packages that these binaries need, likewise.
pub fn packages<'a>(binaries: impl Iterator<Item = &'a str>, injector: &Path) -> Result<Vec<(&'a str, Arc<Image>)>> {
    let mut images = Vec::new();
    for binary in binaries {
        let Some((_, with_runner)) = PACKAGES.iter().find(|(name, _)| *name == binary) else { continue };
        let runner = if *with_runner { Some(kselftest_runner()?) } else { None };
        let directory = tempfile::tempdir().context("can't make a temporary directory")?;
        let package = directory.path().join("package");
        kselftest::pack(injector, runner.as_ref(), &package)?;
        let mut overlay = Initramfs::overlay();
        overlay.file(&package, PACKAGE_PLACE)?;
        images.push((binary, Arc::new(Image::new(&overlay)?)));
    }
    Ok(images)
}

fn kselftest_runner() -> Result<Runner> {
    let source = selftests::source().context("kselftest's runner, out of a kernel's source")?;
    Runner::in_tree(&source.to_string_lossy()).map_err(anyhow::Error::msg)
}

/// A job that was run.
struct Done {
    place: usize,
    job: Job,
    row: Row,
    /// The tests that failed, if the guest ended in order.
    failed: Vec<String>,
}

/// Runs all jobs; the rows are in the jobs' order, whatever the order in which they ended.
pub fn run(jobs: Vec<Job>) -> Result<Vec<Row>> {
    let mut queue: VecDeque<(usize, Job)> = jobs.into_iter().enumerate().collect();
    queue.make_contiguous().sort_by_key(|(_, job)| rank(&job.binary));
    let queue = Mutex::new(queue);
    let done = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(WORKERS));
    let work = || -> Result<()> {
        loop {
            // A statement of its own, so that the queue is free while the job runs.
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((place, job)) = next else { return Ok(()) };
            let (row, failed) = job.run()?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push(Done { place, job, row, failed });
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|one| one.place);
    if gets_second_try(done.iter().filter(|one| !one.failed.is_empty()).count()) {
        for one in done.iter_mut().filter(|one| !one.failed.is_empty()) {
            try_again(one)?;
        }
    }
    Ok(done.into_iter().map(|one| one.row).collect())
}

fn gets_second_try(failed_files: usize) -> bool {
    failed_files <= SECOND_TRIES
}

/// Runs a file once more, with no other guest beside it.
fn try_again(one: &mut Done) -> Result<()> {
    let names = one.failed.join(", ");
    println!("\n{} {}: {names} failed; the file gets a second try, alone", one.row.group, one.row.name);
    let (mut row, _) = one.job.run()?;
    row.elapsed += one.row.elapsed;
    row.failed_before = Some(names);
    one.row = row;
    Ok(())
}

fn rank(binary: &str) -> usize {
    LONGEST.iter().position(|name| *name == binary).unwrap_or(LONGEST.len())
}

fn words(binary: &str) -> impl Iterator<Item = &'static str> {
    WORDS.iter().filter(move |(name, _)| *name == binary).map(|(_, word)| *word)
}

impl Job {
    /// Its row, and the tests that failed if the guest ended in order.
    fn run(&self) -> Result<(Row, Vec<String>)> {
        let Self { guest, overlays, kernel, backend, binary, filter } = self;
        let started = Instant::now();
        println!("guest {kernel} {backend}: {binary} starts");
        let mut machine = guest.machine(&format!("{kernel}-{backend}-{binary}"))?;
        machine.images.extend(overlays.iter().map(|image| image.path().to_owned()));
        machine.append.extend(words(binary).chain(backend.word(kernel)).map(str::to_owned));
        machine.memory_mb = MEMORY_MB;
        machine.timeout = Some(TIMEOUT);
        let mut arguments = vec![format!("/tests/{binary}"), "--test-threads=1".to_owned()];
        arguments.extend(filter.clone());
        // Shown as a whole at the end: lines of two guests, one among the other, would be of little use.
        let mut shown = Tee::quiet();
        let stdout = shown.branch();
        let streams = Streams::to(Box::new(stdout.clone()), Box::new(shown.clone()));
        let command = injector_guest::Command::new(arguments)
            .env("RUST_BACKTRACE", "1")
            .env("INJECTOR_BACKEND", backend.setting());
        let mut failed = Vec::new();
        let tally = match Qemu.run(&machine, &command, streams) {
            Ok(outcome) => {
                writeln!(shown, "{}", vm::account(&machine, &outcome).join("\n"))?;
                if matches!(outcome.end, GuestEnd::Exited(_)) {
                    failed = failed_names(&stdout.text()).into_iter().map(str::to_owned).collect();
                }
                guest_tally(&stdout.text(), &outcome)
            }
            Err(error) => {
                writeln!(shown, "guest: {error}")?;
                Tally { note: Some("did not boot".to_owned()), ..Tally::of_check(false) }
            }
        };
        let title = format!("guest {kernel} {backend}");
        heading(&format!("{title}: {binary}\n{}", shown.text()));
        Ok((Row::new(&title, binary, tally, started), failed))
    }
}

/// What the guest's tests say, unless the way it ended says otherwise.
fn guest_tally(text: &str, outcome: &GuestRun) -> Tally {
    let mut tally = Tally::read(text);
    match &outcome.end {
        GuestEnd::Exited(0) => {}
        GuestEnd::Exited(_) if tally.failed > 0 => {}
        verdict => {
            // The test during which it happened has no line of its own.
            tally.failed += 1;
            tally.note = Some(verdict.to_string());
        }
    }
    if !tally.ran() {
        tally.failed = 1;
        tally.note = Some("ran no test".to_owned());
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ones_go_first() {
        assert!(rank("lifetime") < rank("nfs"));
        assert!(rank("hooks") < rank("order"));
        assert_eq!(rank("order"), rank("guards"));
    }

    #[test]
    fn named_tests_exist() {
        let named = PROGRAMS
            .iter()
            .chain(&WORDS)
            .map(|(name, _)| name)
            .chain(&LONGEST)
            .chain(PACKAGES.iter().map(|(name, _)| name));
        for name in named {
            let file = process::workspace().join(format!("tests/tests/{name}.rs"));
            assert!(file.is_file(), "{}", file.display());
        }
    }

    #[test]
    fn few_files_get_a_second_try() {
        assert!(gets_second_try(1) && gets_second_try(SECOND_TRIES));
        assert!(!gets_second_try(SECOND_TRIES + 1));
    }

    #[test]
    fn words_are_for_one_test() {
        assert_eq!(words("merged").collect::<Vec<_>>(), ["slab_merge"]);
        assert_eq!(words("size").count(), 0);
    }

    fn outcome(verdict: GuestEnd) -> GuestRun {
        GuestRun {
            end: verdict,
            boot: Duration::ZERO,
            run: Duration::ZERO,
            complaints: Vec::new(),
            console: String::new(),
        }
    }

    const GOOD: &str = "running 2 tests\ntest a ... ok\ntest b ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";

    #[test]
    fn a_panic_after_good_tests_is_a_failure() {
        let text = "running 2 tests\ntest a ... ok\ntest b ... ";
        let tally = guest_tally(text, &outcome(GuestEnd::Panic("Kernel panic - not syncing: x".to_owned())));
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert!(tally.note.unwrap().contains("Kernel panic"));
    }

    #[test]
    fn a_status_that_no_test_explains_is_a_failure() {
        let tally = guest_tally(GOOD, &outcome(GuestEnd::Exited(101)));
        assert_eq!((tally.passed, tally.failed), (2, 1));
        let tally = guest_tally(GOOD, &outcome(GuestEnd::Exited(0)));
        assert_eq!((tally.passed, tally.failed), (2, 0));
    }
}
