//! Replays in a guest: one boot makes as many tries as its kernel survives.

use std::{
    fs,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use injector_guest::{Command, Streams, Verdict};

use super::{GUEST_JOURNAL, Show, VmError, VmPlan, guest::Guest, interrupt::Interrupt, machine, show::Output};
use crate::exit::ExitCode;
use crate::plan::Backend;
use crate::sweep::{
    Stopped,
    journal::{Finding, Record, WriteError, parse_line},
    oracle::splat,
    replay::{ReplayPlan, Tally},
};

/// Keeps what the guest writes.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    /// The tries that were told of.
    fn tally(&self) -> Tally {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tally = Tally::default();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Ok(Record::Replayed(replayed)) = parse_line(line) {
                tally.tries += replayed.tries;
                tally.reproduced += replayed.reproduced;
            }
        }
        tally
    }
}

/// Guests for replays: their root is put together once, signals are taken once.
pub struct Replays<'a> {
    plan: &'a VmPlan,
    guest: Guest,
    interrupt: Interrupt,
    show: &'a Show,
}

impl<'a> Replays<'a> {
    /// Puts together what the guests boot from.
    ///
    /// # Errors
    /// Something that is to be in the guests is not there.
    pub fn new(plan: &'a VmPlan, show: &'a Show) -> Result<Self, VmError> {
        Ok(Self { plan, guest: Guest::new(plan, show)?, interrupt: Interrupt::watch(), show })
    }

    /// Boots a guest once and has it make tries until all are made or its kernel is no good any more. A panic with the
    /// finding's title is a try that reproduced it.
    ///
    /// # Errors
    /// Nothing was booted, or the guest refused.
    pub fn boot(&self, replay: &ReplayPlan, finding: &Finding) -> Result<Tally, VmError> {
        let Self { plan, guest, interrupt, show } = self;
        let path = plan.journal.clone();
        let journal_error = |error| VmError::Journal(WriteError::Io { path, action: "read", error });
        let mut machine = machine(plan, guest.root(), 0);
        machine.files = vec![(GUEST_JOURNAL.to_owned(), fs::read(&plan.journal).map_err(journal_error)?)];

        let kept = Kept::default();
        let last = Arc::new(Mutex::new(String::new()));
        let stop = Arc::default();
        let (sender, requests) = std::sync::mpsc::channel();
        if !interrupt.enter(0, sender, &stop) {
            return Ok(Tally { stopped: Some(Stopped::Interrupted), ..Tally::default() });
        }
        let streams = Streams {
            stdout: Box::new(Output::new(None, show, &last)),
            stderr: Box::new(Output::new(None, show, &last)),
            requests: Some(requests),
            stop,
            data: Some(Box::new(kept.clone())),
            ..Streams::discard()
        };
        let outcome = machine.boot(&Command::new(arguments(replay, finding)), streams);
        interrupt.leave(0);
        let outcome = outcome.map_err(VmError::Boot)?;
        let mut tally = kept.tally();
        let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match outcome.verdict {
            Verdict::Exited(status) => match ExitCode(status) {
                ExitCode::USAGE => return Err(VmError::Usage(last)),
                ExitCode::MISSING => return Err(VmError::Prerequisites(last)),
                ExitCode::REBOOT => tally.stopped = Some(Stopped::Damaged),
                _ => {}
            },
            Verdict::Stopped => tally.stopped = Some(Stopped::Interrupted),
            // The try in which it went down could not be told any more.
            Verdict::Panic(_) | Verdict::Reset(_) | Verdict::Stall(_) | Verdict::Timeout(_) => {
                let same = splat::complaints(&outcome.console).iter().any(|complaint| complaint.title == finding.title);
                tally.tries += 1;
                tally.reproduced += u32::from(same);
                tally.stopped = Some(Stopped::Damaged);
            }
        }
        if interrupt.is_ending() {
            tally.stopped = Some(Stopped::Interrupted);
        }
        Ok(tally)
    }
}

/// What is run in the guest.
fn arguments(replay: &ReplayPlan, finding: &Finding) -> Vec<String> {
    let mut words: Vec<String> = ["/usr/bin/injector", "replay", "--journal-port"].map(str::to_owned).into();
    words.extend(["--tries".to_owned(), replay.tries.to_string()]);
    words.extend(["--hang".to_owned(), format!("{}ms", replay.hang.as_millis())]);
    if replay.keep_going {
        words.push("--keep-going".to_owned());
    }
    if replay.backend != Backend::Auto {
        words.extend(["--backend".to_owned(), replay.backend.to_string()]);
    }
    if !replay.sites.is_empty() {
        let sites: Vec<String> = replay.sites.iter().map(ToString::to_string).collect();
        words.extend(["--sites".to_owned(), sites.join(",")]);
    }
    words.extend([GUEST_JOURNAL.to_owned(), finding.id.clone()]);
    words
}
