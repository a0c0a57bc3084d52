//! One sweep of a campaign: a process of its own, whose report goes to a file, and whose messages are passed on.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::CampaignPlan;
use super::decide::Found;
use crate::exit::ExitCode;
use crate::guests;
use crate::journal::{self, State};
use crate::plan::duration;
use crate::plan::workload::WorkloadFile;

/// How a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepEnd {
    /// Its exit code.
    pub code: ExitCode,
    /// Its last message.
    pub said: String,
}

/// What there is of a workload's journal. One that can't be read is begun: the sweep says what is wrong with it.
#[must_use]
pub fn found(plan: &CampaignPlan, file: &WorkloadFile) -> Found {
    let path = plan.journal(file);
    if !guests::journals(&path, plan.jobs).iter().chain([&path]).any(|part| part.exists()) {
        return Found::Nothing;
    }
    match journal::read(&path) {
        Ok(journal) if State::of(&journal).is_complete() => Found::Finished,
        _ => Found::Begun,
    }
}

/// The arguments of a sweep.
#[must_use]
pub fn arguments(
    plan: &CampaignPlan,
    (word, file): &(String, WorkloadFile),
    resume: bool,
    budget: Option<Duration>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["sweep".into(), "--workload".into(), word.into()];
    arguments.extend(["--journal".into(), plan.journal(file).into_os_string()]);
    if resume {
        arguments.push("--resume".into());
    }
    if let Some(budget) = budget {
        // Its grammar has no fractions; a millisecond more or less is no matter.
        let budget = Duration::from_millis(u64::try_from(budget.as_millis()).unwrap_or(u64::MAX));
        arguments.extend(["--budget".into(), duration::format(budget).into()]);
    }
    for known in &plan.known {
        arguments.extend(["--known".into(), known.into()]);
    }
    arguments.extend(plan.options.iter().cloned());
    arguments
}

/// Ctrl-C and SIGTERM of a campaign: the sweep that runs is asked to end, and no other begins. A second signal is passed on, too,
/// and ends the sweep's guests at once.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Pid>>>,
}

impl Interrupt {
    /// Handles the signals from here on.
    ///
    /// # Errors
    /// The handlers can't be installed.
    pub fn watch() -> io::Result<Self> {
        let this = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let watcher = this.clone();
        thread::spawn(move || {
            for _ in signals.forever() {
                watcher.asked.store(true, Ordering::SeqCst);
                if let Some(child) = *watcher.child() {
                    // It may have ended by itself.
                    let _ = kill(child, Signal::SIGINT);
                }
            }
        });
        Ok(this)
    }

    /// Whether somebody wants the campaign to end.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    fn child(&self) -> MutexGuard<'_, Option<Pid>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process, which gets the signals from then on. A signal that came before it is not lost.
    fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut running = self.child();
        let child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        *running = Some(pid);
        if self.is_asked() {
            let _ = kill(pid, Signal::SIGINT);
        }
        Ok(child)
    }
}

/// Runs a sweep to its end. `report` gets what it prints on standard output; `say` gets each line of its messages.
///
/// # Errors
/// It can't be started, or the file can't be written.
pub fn run(
    program: &Path,
    arguments: &[OsString],
    report: &Path,
    interrupt: &Interrupt,
    say: &dyn Fn(&str),
) -> io::Result<SweepEnd> {
    let out = File::create(report)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
    // A terminal's Ctrl-C goes to this process only, which passes it on.
    command.process_group(0);
    let mut child = interrupt.start(&mut command)?;
    let mut said = String::new();
    if let Some(messages) = child.stderr.take() {
        let mut messages = BufReader::new(messages);
        let mut line = Vec::new();
        while messages.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            say(text);
            if !text.trim().is_empty() {
                text.clone_into(&mut said);
            }
            line.clear();
        }
    }
    // While it is not waited for, its number is no other process's.
    *interrupt.child() = None;
    let status = child.wait()?;
    // A sweep that a signal killed is not over.
    let code = status.code().map_or(ExitCode::INTERRUPTED, ExitCode);
    Ok(SweepEnd { code, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(directory: &Path) -> CampaignPlan {
        CampaignPlan {
            workloads: Vec::new(),
            directory: directory.to_owned(),
            options: vec!["--vm".into(), "debian:7.3".into()],
            jobs: 1,
            budget: None,
            budget_each: None,
            shard: None,
            known: vec!["known.txt".into()],
            json: false,
        }
    }

    fn file(name: &str) -> WorkloadFile {
        let path = format!("{name}.toml");
        WorkloadFile::parse(path.as_ref(), "description = \"x\"\nrun = \"true\"\n").unwrap()
    }

    #[test]
    fn a_sweep_is_a_command_that_anybody_could_type() {
        let workload = ("dm".to_owned(), file("dm"));
        let words = arguments(&plan("out".as_ref()), &workload, true, Some(Duration::from_secs(90)));
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            words.join(" "),
            "sweep --workload dm --journal out/dm.jsonl --resume --budget 1m30s --known known.txt --vm debian:7.3"
        );
        assert!(!arguments(&plan("out".as_ref()), &workload, false, None).contains(&"--resume".into()));
    }

    #[test]
    fn the_journals_say_how_far_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let plan = plan(directory.path());
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals/ext4-0-of-2.jsonl");
        assert_eq!(found(&plan, &file("a")), Found::Nothing);
        let text = std::fs::read_to_string(whole).unwrap();
        std::fs::write(directory.path().join("a.jsonl"), &text).unwrap();
        let is_complete = State::of(&journal::read(&plan.journal(&file("a"))).unwrap()).is_complete();
        assert_eq!(found(&plan, &file("a")), if is_complete { Found::Finished } else { Found::Begun });
        std::fs::write(directory.path().join("b.jsonl"), "").unwrap();
        assert_eq!(found(&plan, &file("b")), Found::Begun);
        // Of several jobs that were killed there are parts only.
        let several = CampaignPlan { jobs: 2, ..plan };
        std::fs::write(directory.path().join("c.jsonl.1-of-2"), text.lines().next().unwrap()).unwrap();
        assert_eq!(found(&several, &file("c")), Found::Begun);
    }

    #[test]
    fn what_a_sweep_says_last_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let report = directory.path().join("report");
        let words = ["-c", "echo report; echo one >&2; echo two >&2; echo >&2; exit 3"].map(OsString::from);
        let lines = Mutex::new(Vec::new());
        let say = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let end = run("/bin/sh".as_ref(), &words, &report, &Interrupt::default(), &say).unwrap();
        assert_eq!(end, SweepEnd { code: ExitCode::MISSING, said: "two".to_owned() });
        assert_eq!(lines.into_inner().unwrap(), ["one", "two", ""]);
        assert_eq!(std::fs::read_to_string(report).unwrap(), "report\n");
    }

    #[test]
    fn a_signal_before_the_sweep_reaches_it() {
        let directory = tempfile::tempdir().unwrap();
        let interrupt = Interrupt::default();
        interrupt.asked.store(true, Ordering::SeqCst);
        let words = ["-c", "exec sleep 60"].map(OsString::from);
        let end = run("/bin/sh".as_ref(), &words, &directory.path().join("r"), &interrupt, &|_| {}).unwrap();
        assert_eq!(end.code, ExitCode::INTERRUPTED);
    }
}
