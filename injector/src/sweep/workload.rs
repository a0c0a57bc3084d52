//! The workload: started, watched, taken down.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    process,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{
    exit::{Context as _, Result},
    foreign::{self, Foreign},
    plan::sweep::SweepPlan,
    sinks,
    target::{Command, CommandEnd, OwnCgroup},
};

/// A workload that does not work without injection: bad input.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WorkloadError(pub String);

crate::exit::has_exit_code!(WorkloadError => USAGE);

/// The exit status of a workload that works.
pub const STATUS: i32 = 0;

/// How often it is looked whether something has ended.
const POLL: Duration = Duration::from_millis(5);
/// How long what was killed may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// What takes longer than this is told of.
const TELL_AFTER: Duration = Duration::from_secs(5);

/// How much of a workload's output is shown.
const SHOWN: usize = 40;

/// The commands of a sweep.
#[derive(Debug)]
pub struct Workload {
    command: Vec<OsString>,
    setup: Option<String>,
    cleanup: Option<String>,
    /// How long each of these may take.
    limit: Duration,
    output: File,
}

impl Workload {
    /// Takes them from the plan.
    ///
    /// # Errors
    /// When there can be no file for their output.
    pub fn new(plan: &SweepPlan) -> Result<Self> {
        Ok(Self {
            command: plan.command.clone(),
            setup: plan.setup.clone(),
            cleanup: plan.cleanup.clone(),
            limit: plan.patience(),
            output: tempfile::tempfile().context("can't make a file for the workload's output")?,
        })
    }

    /// Starts it, stopped at its first instruction.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&mut self, cgroup: &OwnCgroup) -> Result<Command> {
        self.rewind()?;
        Ok(Command::start(&self.command, cgroup, Some(&self.output))?)
    }

    /// Prepares what it needs.
    ///
    /// # Errors
    /// When that fails.
    pub fn set_up(&mut self) -> Result<()> {
        let Some(setup) = self.setup.clone() else { return Ok(()) };
        match self.shell("--setup", &setup)? {
            ShellEnd::Exited(status) if status.success() => Ok(()),
            end => Err(WorkloadError(format!("--setup `{}`: {end}{}", Foreign::from(setup), self.said())).into()),
        }
    }

    /// Takes down what it leaves. True if that went well.
    ///
    /// # Errors
    /// When there can be no output.
    pub fn clean_up(&mut self) -> Result<bool> {
        let Some(cleanup) = self.cleanup.clone() else { return Ok(true) };
        let end = self.shell("--cleanup", &cleanup)?;
        if let ShellEnd::TooLong(_) = end {
            sinks::announce(format_args!("--cleanup `{}`: {end}", Foreign::from(cleanup)));
        }
        Ok(matches!(end, ShellEnd::Exited(status) if status.success()))
    }

    /// Executes a shell command in a process group of its own, which is killed if it takes too long.
    fn shell(&mut self, option: &str, command: &str) -> Result<ShellEnd> {
        self.rewind()?;
        let output = || self.output.try_clone().context("can't share the output");
        let mut shell = process::Command::new("/bin/sh");
        shell.arg("-c").arg(command).stdin(process::Stdio::null()).stdout(output()?).stderr(output()?);
        let mut shell = match shell.process_group(0).spawn() {
            Ok(shell) => shell,
            Err(error) => return Ok(ShellEnd::NotStarted(error)),
        };
        let start = Instant::now();
        let mut told = false;
        loop {
            if let Some(status) = shell.try_wait().context("can't wait for a shell")? {
                return Ok(ShellEnd::Exited(status));
            }
            let elapsed = start.elapsed();
            if elapsed > self.limit {
                kill_group(&mut shell);
                return Ok(ShellEnd::TooLong(self.limit));
            }
            if !told && elapsed > TELL_AFTER {
                told = true;
                let (command, limit) = (Foreign::from(command), self.limit.as_secs());
                sinks::announce(format_args!("waiting for {option} `{command}` to end, for {limit} s at most"));
            }
            std::thread::sleep(POLL);
        }
    }

    fn rewind(&mut self) -> Result<()> {
        self.output
            .set_len(0)
            .and_then(|()| self.output.seek(SeekFrom::Start(0)))
            .context("can't rewind the output")?;
        Ok(())
    }

    /// The last lines of what it wrote, ready to follow a message.
    #[must_use]
    pub fn said(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = self.output.try_clone()?;
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(SHOWN);
        let mut said = String::new();
        for line in &lines[skipped..] {
            said.push_str("\n  | ");
            said.push_str(&foreign::line(line));
        }
        if said.is_empty() { "; it wrote nothing".to_owned() } else { format!("; it wrote:{said}") }
    }
}

impl Workload {
    /// Runs it without any injection: it must work, or nothing that follows would mean anything. Says how long it took.
    ///
    /// # Errors
    /// It fails, or does not end within `limit`.
    pub fn uninjected(
        &mut self,
        cgroup: &OwnCgroup,
        limit: Duration,
        interrupted: impl Fn() -> bool,
    ) -> Result<Duration> {
        let mut command = self.start(cgroup)?;
        let watched = watch(&mut command, cgroup, limit, || Ok(interrupted()))?;
        let why = match watched.outcome {
            Some(CommandEnd::Exited(STATUS)) => return Ok(watched.elapsed),
            Some(CommandEnd::Exited(status)) => format!("fails (status {status})"),
            Some(CommandEnd::Killed(signal)) => format!("is killed by {signal}"),
            None if interrupted() => "was interrupted".to_owned(),
            None => format!("does not end within {} s", limit.as_secs()),
        };
        Err(WorkloadError(format!("the workload {why} without any injection{}", self.said())).into())
    }
}

/// How a shell command ended.
#[derive(Debug)]
enum ShellEnd {
    Exited(process::ExitStatus),
    NotStarted(io::Error),
    TooLong(Duration),
}

impl fmt::Display for ShellEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => status.fmt(f),
            Self::NotStarted(error) => write!(f, "can't be started: {error}"),
            Self::TooLong(limit) => write!(f, "does not end within {} s, and was killed", limit.as_secs()),
        }
    }
}

/// Kills a shell with what it started. What can't be killed is left alone.
fn kill_group(shell: &mut process::Child) {
    let Ok(group) = i32::try_from(shell.id()) else { return };
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    let since = Instant::now();
    while matches!(shell.try_wait(), Ok(None)) && since.elapsed() < KILL_PATIENCE {
        std::thread::sleep(POLL);
    }
}

/// How an untraced run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watched {
    /// None: it did not end in time and was killed.
    pub outcome: Option<CommandEnd>,
    /// It could not even be killed.
    pub unkillable: bool,
    /// From its first instruction on.
    pub elapsed: Duration,
}

/// Lets a stopped command go and waits for its end, then ends what it left. `tick` is called now and then; when it returns
/// true, the command is killed.
///
/// # Errors
/// When it can't be waited for.
pub fn watch(
    command: &mut Command,
    cgroup: &OwnCgroup,
    limit: Duration,
    mut tick: impl FnMut() -> Result<bool>,
) -> Result<Watched> {
    let start = Instant::now();
    command.go().context("the workload is gone before it began")?;
    let mut killed: Option<Instant> = None;
    let mut last_tick = start;
    loop {
        if let Some(outcome) = command.outcome().context("can't wait for the workload")? {
            let elapsed = start.elapsed();
            cgroup.kill();
            return Ok(Watched { outcome: killed.is_none().then_some(outcome), unkillable: false, elapsed });
        }
        if last_tick.elapsed() > super::clock::TICK {
            last_tick = Instant::now();
            if killed.is_none() && (tick()? || start.elapsed() > limit) {
                killed = Some(Instant::now());
                cgroup.kill();
            }
        }
        if killed.is_some_and(|since| since.elapsed() > KILL_PATIENCE) {
            return Ok(Watched { outcome: None, unkillable: true, elapsed: start.elapsed() });
        }
        std::thread::sleep(POLL);
    }
}
