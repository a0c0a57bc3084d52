//! One job: guests, one after the other, until its part of the sweep is done.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool, mpsc},
    time::{Duration, Instant},
};

use injector_guest::{BootError, Command, Streams, Verdict};

use super::{
    GUEST_JOURNAL, JobEnd, Line, Show, VmError, VmPlan,
    book::{Book, Lost, Sink},
    decide::{Ending, History, Reason, Step, account},
    guest::Guest,
    interrupt::Interrupt,
    machine,
    show::Output,
    witness::{LastWords, Witness},
};
use crate::exit::ExitCode;
use crate::sweep::journal::record::{CrashKind, Shard};

/// A job, and what it has come to.
pub struct Job<'a> {
    plan: &'a VmPlan,
    guest: &'a Guest,
    interrupt: &'a Interrupt,
    show: &'a Show,
    number: u32,
    journal: &'a Path,
    history: History,
    booting: Duration,
}

/// How a guest ended, and what is known of why.
struct End {
    ending: Ending,
    /// For a guest that did not come up: what is known.
    account: String,
    words: LastWords,
    /// The last line that the sweep in it said on standard error.
    said: String,
}

impl<'a> Job<'a> {
    pub fn new(
        plan: &'a VmPlan,
        guest: &'a Guest,
        interrupt: &'a Interrupt,
        show: &'a Show,
        number: u32,
        journal: &'a Path,
    ) -> Self {
        let (history, booting) = (History::default(), Duration::ZERO);
        Self { plan, guest, interrupt, show, number, journal, history, booting }
    }

    /// Boots until it is done.
    pub fn run(mut self) -> JobEnd {
        let result = self.boot_until_done();
        let History { boots, crashes, .. } = self.history;
        JobEnd { journal: self.journal.to_owned(), boots, crashes, booting: self.booting, result }
    }

    fn boot_until_done(&mut self) -> Result<(), VmError> {
        let (book, remarks) = Book::open(self.journal)?;
        for remark in remarks {
            self.say(&format!("{}: {remark}", self.journal.display()));
        }
        let book = Arc::new(Mutex::new(book));
        loop {
            let end = self.boot(&book)?;
            let mut open = book.lock().unwrap_or_else(PoisonError::into_inner);
            let (deeds, lost) = open.end_boot();
            self.say_lost(lost);
            if let Ending::Down(kind) = end.ending {
                let LastWords { title, splat } = end.words;
                let title = title.unwrap_or_else(|| without_title(kind).to_owned());
                self.say(&format!("the guest went down: {title}"));
                open.crash(kind, title, splat)?;
            }
            drop(open);
            match self.history.step(&end.ending, deeds, self.plan.reboots_max) {
                Step::Done => return Ok(()),
                Step::Again => {
                    let boots = self.history.boots;
                    self.say(&format!("booting again, since {} (guests so far: {boots})", account(&end.ending)));
                }
                Step::Stop(reason) => {
                    return Err(match reason {
                        Reason::NotBooted => VmError::NotBooted(end.account),
                        Reason::Usage => VmError::Usage(end.said),
                        Reason::Prerequisites => VmError::Prerequisites(end.said),
                        Reason::Interrupted => VmError::Interrupted,
                        Reason::NoProgress => {
                            let boots = self.history.fruitless;
                            VmError::NoProgress { boots, last: account(&end.ending) }
                        }
                        Reason::TooManyBoots => VmError::TooManyBoots(self.history.boots),
                    });
                }
            }
        }
    }

    /// One guest, from its boot to its end.
    fn boot(&mut self, book: &Arc<Mutex<Book>>) -> Result<End, VmError> {
        let content = {
            let mut open = book.lock().unwrap_or_else(PoisonError::into_inner);
            open.begin_boot();
            open.content()?
        };
        let mut machine = machine(self.plan, self.guest.root(), self.number);
        machine.files.push((GUEST_JOURNAL.to_owned(), content));
        let command = Command::new(arguments(self.plan, self.plan.shard(self.number), &self.guest.command));

        let said = Arc::<Mutex<String>>::default();
        let witness = Witness::default();
        let (requests, received) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let output = |last| Box::new(Output::new(self.shown_job(), self.show, last));
        let streams = Streams {
            stdout: output(&Arc::default()),
            stderr: output(&said),
            data: Some(Box::new(Sink::new(book, &witness))),
            console: Some(Box::new(witness.clone())),
            requests: Some(received),
            stop: Arc::clone(&stop),
        };
        let mut end =
            End { ending: Ending::Stopped, account: String::new(), words: witness.last_words(), said: String::new() };
        if !self.interrupt.enter(self.number, requests, &stop) {
            return Ok(end);
        }
        let outcome = machine.boot(&command, streams);
        self.interrupt.leave(self.number);
        let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        end.words = witness.last_words();
        end.said = said;
        match outcome {
            Ok(outcome) => {
                self.booting += outcome.boot;
                end.ending = ending_of(&outcome.verdict);
            }
            Err(BootError::BootFailed { .. }) if self.interrupt.is_ending() => {}
            Err(error @ BootError::BootFailed { .. }) => {
                end.ending = Ending::NotUp;
                end.account = error.to_string();
                if self.history.boots > 0 {
                    self.say(&end.account);
                }
            }
            Err(BootError::Data { source }) => return Err(VmError::NotStored(source)),
            Err(error) => return Err(VmError::Boot(error)),
        }
        Ok(end)
    }

    fn say_lost(&self, Lost { torn, rejected }: Lost) {
        if torn > 0 {
            self.say(&format!("the guest's last line for the journal is torn and was left out ({torn} bytes)"));
        }
        if rejected > 0 {
            self.say(&format!("{rejected} lines that the guest sent for the journal are no records and were left out"));
        }
    }

    fn say(&self, text: &str) {
        (self.show)(&Line { job: self.shown_job(), guest: false, text: format!("vm: {text}") });
    }

    fn shown_job(&self) -> Option<u32> {
        (self.plan.jobs > 1).then_some(self.number)
    }
}

/// What is run in a guest.
pub fn arguments(plan: &VmPlan, shard: Option<Shard>, command: &[String]) -> Vec<String> {
    let mut words: Vec<String> =
        ["/usr/bin/injector", "sweep", "--journal-port", GUEST_JOURNAL].map(str::to_owned).into();
    if let Some(shard) = shard {
        words.extend(["--shard".to_owned(), shard.to_string()]);
    }
    words.extend(plan.options.iter().cloned());
    if let Some(until) = plan.until {
        // A guest that is too late still says what is left undone.
        let left = until.saturating_duration_since(Instant::now()).as_millis().max(1);
        words.extend(["--budget".to_owned(), format!("{left}ms")]);
    }
    words.push("--".to_owned());
    words.extend(command.iter().cloned());
    words
}

fn ending_of(verdict: &Verdict) -> Ending {
    match verdict {
        Verdict::Exited(status) => Ending::Exited(ExitCode(*status)),
        Verdict::Panic(_) => Ending::Down(CrashKind::Panic),
        Verdict::Reset(_) => Ending::Down(CrashKind::Reset),
        Verdict::Stall(_) | Verdict::Timeout(_) => Ending::Down(CrashKind::Stall),
        Verdict::Stopped => Ending::Stopped,
    }
}

/// The title of a crash of which the console says nothing.
fn without_title(kind: CrashKind) -> &'static str {
    match kind {
        CrashKind::Panic => "the kernel panicked",
        CrashKind::Reset => "the machine was gone without a word",
        CrashKind::Stall => "the machine showed no sign of life any more",
        CrashKind::Unknown => "the machine went down",
    }
}
