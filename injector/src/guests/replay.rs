//! Replays in guests: one boot makes as many tries as its kernel survives.

use std::{
    fs,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use injector_guest::{Command, GuestEnd, Streams};

use super::{
    JOURNAL_FILE, PLAN_FILE, Show, VmError, VmPlan, contents::Contents, handover::Handover, interrupt::Interrupt,
    output::Output,
};
use crate::{
    exit::ExitCode,
    journal::{Finding, Record, WriteError, parse_line},
    oracle::splat,
    sweep::{
        Stopped,
        replay::{ReplayCount, ReplayPlan},
    },
};

/// Keeps what the guest writes.
#[derive(Clone, Default)]
struct KeptOutput(Arc<Mutex<Vec<u8>>>);

impl Write for KeptOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl KeptOutput {
    /// The tries that the guest recorded.
    fn tally(&self) -> ReplayCount {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tally = ReplayCount::default();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Ok(Record::Replayed(replayed)) = parse_line(line) {
                tally.tries += replayed.tries;
                tally.reproduced += replayed.reproduced;
            }
        }
        tally
    }
}

/// Guests for replays. Their files are put together once, and signals are handled from then on.
pub struct Replays<'a> {
    plan: &'a VmPlan,
    contents: Contents,
    interrupt: Interrupt,
    show: &'a Show,
}

impl<'a> Replays<'a> {
    /// Puts the guests' files together.
    ///
    /// # Errors
    /// One of them is missing.
    pub fn new(plan: &'a VmPlan, show: &'a Show) -> Result<Self, VmError> {
        Ok(Self { plan, contents: Contents::new(plan, show)?, interrupt: Interrupt::watch(), show })
    }

    /// Boots one guest. It makes tries until all are made or its kernel is damaged. A panic with the finding's title is a try
    /// that reproduced it.
    ///
    /// # Errors
    /// No guest booted, or the guest refused its input.
    pub fn boot(&self, replay: &ReplayPlan, finding: &Finding) -> Result<ReplayCount, VmError> {
        let Self { plan, contents, interrupt, show } = self;
        let path = plan.journal.clone();
        let journal_error = |error| VmError::Journal(WriteError::Io { path, action: "read", error });
        let (plan_file, journal) = (contents.path(0, PLAN_FILE), contents.path(0, JOURNAL_FILE));
        let handover = Handover::Replay(Box::new(ReplayPlan {
            journal: (&journal).into(),
            finding: finding.id.clone(),
            spared: plan.spared(),
            port: true,
            ..replay.clone()
        }));
        let mut spec = plan.spec(contents, 0);
        spec.files = vec![
            (journal, fs::read(&plan.journal).map_err(journal_error)?),
            (plan_file.clone(), handover.encode().map_err(VmError::Handover)?),
        ];
        let command = Command::new([contents.injector.clone(), "execute".to_owned(), plan_file]);

        let kept = KeptOutput::default();
        let last = Arc::new(Mutex::new(String::new()));
        let stop = Arc::default();
        let (sender, requests) = std::sync::mpsc::channel();
        if !interrupt.enter(0, sender, &stop) {
            return Ok(ReplayCount { stopped: Some(Stopped::Interrupted), ..ReplayCount::default() });
        }
        let streams = Streams {
            stdout: Box::new(Output::new(None, show, &last)),
            stderr: Box::new(Output::new(None, show, &last)),
            requests: Some(requests),
            stop,
            data: Some(Box::new(kept.clone())),
            ..Streams::discard()
        };
        let run = plan.guests.engine.run(&spec, &command, streams);
        interrupt.leave(0);
        let run = run.map_err(VmError::Boot)?;
        let mut tally = kept.tally();
        let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match run.end {
            GuestEnd::Exited(status) => match ExitCode(status) {
                ExitCode::USAGE => return Err(VmError::Usage(last)),
                ExitCode::MISSING => return Err(VmError::Prerequisites(last)),
                ExitCode::REBOOT => tally.stopped = Some(Stopped::Damaged),
                _ => {}
            },
            GuestEnd::Stopped => tally.stopped = Some(Stopped::Interrupted),
            // The guest could not record the try in which it went down.
            GuestEnd::Panic(_) | GuestEnd::Reset(_) | GuestEnd::Stall(_) | GuestEnd::Timeout(_) => {
                let same = splat::complaints(&run.console).iter().any(|complaint| complaint.title == finding.title);
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
