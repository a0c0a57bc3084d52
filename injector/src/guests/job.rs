//! One job: it boots guests, one after the other, until its part of the sweep is done.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool, mpsc},
    time::{Duration, Instant},
};

use injector_guest::{BootError, Command, GuestEnd, Streams};

use super::{
    JOURNAL_FILE, JobEnd, Line, PLAN_FILE, Show, VmError, VmPlan,
    console_tail::{ConsoleTail, CrashReport},
    contents::Contents,
    decide::{Ending, History, Limits, Reason, Step, account},
    guard::{Guard, Overdue},
    handover::Handover,
    host_journal::{HostJournal, Lost, Sink},
    interrupt::Interrupt,
    output::Output,
};
use crate::{exit::ExitCode, journal::record::CrashKind};

/// A job and its guests so far.
pub struct Job<'a> {
    plan: &'a VmPlan,
    contents: &'a Contents,
    interrupt: &'a Interrupt,
    show: &'a Show,
    number: u32,
    journal: &'a Path,
    history: History,
    booting: Duration,
}

/// How a guest ended, and why as far as it is known.
struct End {
    ending: Ending,
    /// Why a guest did not boot.
    account: String,
    report: CrashReport,
    /// The last line that the sweep printed on standard error.
    said: String,
}

impl<'a> Job<'a> {
    /// A job that has not begun.
    pub fn new(
        plan: &'a VmPlan,
        contents: &'a Contents,
        interrupt: &'a Interrupt,
        show: &'a Show,
        number: u32,
        journal: &'a Path,
    ) -> Self {
        let (history, booting) = (History::default(), Duration::ZERO);
        Self { plan, contents, interrupt, show, number, journal, history, booting }
    }

    /// Boots guests until the job is done or cannot go on.
    pub fn run(mut self) -> JobEnd {
        let result = self.boot_until_done();
        let History { boots, crashes, .. } = self.history;
        JobEnd { journal: self.journal.to_owned(), boots, crashes, booting: self.booting, result }
    }

    fn boot_until_done(&mut self) -> Result<(), VmError> {
        let (host, remarks) = HostJournal::open(self.journal)?;
        for remark in remarks {
            self.say(&format!("{}: {remark}", self.journal.display()));
        }
        let host = Arc::new(Mutex::new(host));
        let limits = Limits { boots: self.plan.reboots_max, can_boot: self.plan.guests.engine.boots() };
        loop {
            let end = self.boot(&host)?;
            let mut open = host.lock().unwrap_or_else(PoisonError::into_inner);
            let (progress, lost) = open.end_boot();
            self.say_lost(lost);
            if let Ending::Down(kind) = end.ending {
                let CrashReport { title, splat } = end.report;
                let title = title.unwrap_or_else(|| without_title(kind).to_owned());
                self.say(&format!("the guest went down: {title}"));
                open.crash(kind, title, splat)?;
            }
            drop(open);
            match self.history.step(&end.ending, progress, limits) {
                Step::Done => return Ok(()),
                Step::Again if self.plan.until.is_some_and(|until| Instant::now() >= until) => {
                    self.say(&format!(
                        "the budget is used up, so no other guest is booted, though {}",
                        account(&end.ending)
                    ));
                    host.lock().unwrap_or_else(PoisonError::into_inner).end_incomplete()?;
                    return Ok(());
                }
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
                        Reason::Damaged => VmError::Damaged,
                    });
                }
            }
        }
    }

    /// Runs one guest, from its boot to its end.
    fn boot(&mut self, host: &Arc<Mutex<HostJournal>>) -> Result<End, VmError> {
        let content = {
            let mut open = host.lock().unwrap_or_else(PoisonError::into_inner);
            open.begin_boot();
            open.content()?
        };
        let plan_file = self.contents.path(self.number, PLAN_FILE);
        let so_far = self.contents.path(self.number, JOURNAL_FILE);
        let sweep = self.plan.for_guest(self.number, &so_far, &self.contents.command);
        let handover = Handover::Sweep(Box::new(sweep)).encode().map_err(VmError::Handover)?;
        let mut spec = self.plan.spec(self.contents, self.number);
        spec.files = vec![(so_far, content), (plan_file.clone(), handover)];
        let command = Command::new([self.contents.injector.clone(), "execute".to_owned(), plan_file]);

        let said = Arc::<Mutex<String>>::default();
        let tail = ConsoleTail::default();
        let (requests, received) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let output = |last| Box::new(Output::new(self.shown_job(), self.show, last));
        let streams = Streams {
            stdout: output(&Arc::default()),
            stderr: output(&said),
            data: Some(Box::new(Sink::new(host, &tail))),
            console: Some(Box::new(tail.clone())),
            requests: Some(received),
            stop: Arc::clone(&stop),
        };
        let mut end =
            End { ending: Ending::Stopped, account: String::new(), report: tail.report(), said: String::new() };
        if !self.interrupt.enter(self.number, requests.clone(), &stop) {
            return Ok(end);
        }
        let guard = Guard::start(self.plan.until, host, requests, &stop);
        let run = self.plan.guests.engine.run(&spec, &command, streams);
        let overdue = guard.end().filter(|_| !self.interrupt.is_ending());
        self.interrupt.leave(self.number);
        let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        end.report = tail.report();
        end.said = said;
        match run {
            Ok(run) => {
                self.booting += run.boot;
                end.ending = match overdue {
                    Some(overdue) if run.end == GuestEnd::Stopped => self.ended_for(overdue, host)?,
                    _ => ending_of(&run.end),
                };
            }
            Err(BootError::BootFailed { .. }) if self.interrupt.is_ending() => {}
            // It is no failure to boot that there was no time left for it.
            Err(BootError::BootFailed { .. }) if overdue == Some(Overdue::Budget) && self.history.boots > 0 => {
                end.ending = self.ended_for(Overdue::Budget, host)?;
            }
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

    /// What it comes to that a guest had to be ended.
    fn ended_for(&self, overdue: Overdue, host: &Mutex<HostJournal>) -> Result<Ending, VmError> {
        Ok(match overdue {
            Overdue::Damaged => {
                self.say("the guest's kernel is damaged so that its sweep can't end: the guest was ended");
                Ending::Exited(ExitCode::REBOOT)
            }
            Overdue::Budget => {
                self.say("the guest did not end when the budget was used up, and was ended");
                host.lock().unwrap_or_else(PoisonError::into_inner).end_incomplete()?;
                Ending::Exited(ExitCode::OK)
            }
        })
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
        (self.plan.guests.jobs > 1).then_some(self.number)
    }
}

fn ending_of(end: &GuestEnd) -> Ending {
    match end {
        GuestEnd::Exited(status) => Ending::Exited(ExitCode(*status)),
        GuestEnd::Panic(_) => Ending::Down(CrashKind::Panic),
        GuestEnd::Reset(_) => Ending::Down(CrashKind::Reset),
        GuestEnd::Stall(_) | GuestEnd::Timeout(_) => Ending::Down(CrashKind::Stall),
        GuestEnd::Stopped => Ending::Stopped,
    }
}

/// The title of a crash if the console has none. Findings are compared by title, so these stay as they are; the report of a
/// campaign knows them.
fn without_title(kind: CrashKind) -> &'static str {
    match kind {
        CrashKind::Panic => "the kernel panicked",
        CrashKind::Reset => "the machine was gone without a word",
        CrashKind::Stall => "the machine showed no sign of life any more",
        CrashKind::Unknown => "the machine went down",
    }
}
