//! What to do when a guest has ended: a function of how it ended and of what was before.

use crate::exit::ExitCode;
use crate::sweep::journal::record::CrashKind;

/// So many guests in a row may add nothing to the journal.
pub const FRUITLESS_MAX: u32 = 3;

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The sweep in it ended with this status.
    Exited(ExitCode),
    /// The machine went down.
    Down(CrashKind),
    /// It never came up.
    NotUp,
    /// This side ended it.
    Stopped,
}

/// What a guest did to the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// It added something that was not known before.
    pub fruitful: bool,
    /// It said that the sweep is over.
    pub ended: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The sweep is over.
    Done,
    /// Another guest.
    Again,
    /// Stop, for this reason.
    Stop(Reason),
}

/// Why to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotBooted,
    Usage,
    Prerequisites,
    Interrupted,
    NoProgress,
    TooManyBoots,
}

/// What was before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Guests that came up, and that this side did not end.
    pub boots: u32,
    /// How many of them went down.
    pub crashes: u32,
    /// The last so many added nothing.
    pub fruitless: u32,
}

impl History {
    /// Takes note of a guest's end. A crash is to be recorded whatever the step is.
    pub fn step(&mut self, ending: &Ending, deeds: Deeds, boots_max: u32) -> Step {
        if *ending == Ending::NotUp && self.boots == 0 {
            return Step::Stop(Reason::NotBooted);
        }
        self.boots += u32::from(matches!(ending, Ending::Exited(_) | Ending::Down(_)));
        self.crashes += u32::from(matches!(ending, Ending::Down(_)));
        self.fruitless = if deeds.fruitful { 0 } else { self.fruitless + 1 };
        match ending {
            // A status alone may be that of a program that was killed or could not start.
            Ending::Exited(ExitCode::OK | ExitCode::FINDINGS) if deeds.ended => return Step::Done,
            Ending::Exited(ExitCode::USAGE) => return Step::Stop(Reason::Usage),
            Ending::Exited(ExitCode::MISSING) => return Step::Stop(Reason::Prerequisites),
            Ending::Exited(ExitCode::INTERRUPTED) | Ending::Stopped => return Step::Stop(Reason::Interrupted),
            Ending::Exited(_) | Ending::Down(_) | Ending::NotUp => {}
        }
        if self.fruitless >= FRUITLESS_MAX {
            Step::Stop(Reason::NoProgress)
        } else if self.boots > boots_max {
            Step::Stop(Reason::TooManyBoots)
        } else {
            Step::Again
        }
    }
}

/// In words, after "because".
pub fn account(ending: &Ending) -> String {
    match ending {
        Ending::Exited(ExitCode::REBOOT) => "its kernel is damaged".to_owned(),
        Ending::Exited(ExitCode(127)) => "the sweep in it could not be started".to_owned(),
        Ending::Exited(ExitCode(status)) => format!("the sweep in it ended early, with status {status}"),
        Ending::Down(CrashKind::Panic) => "its kernel panicked".to_owned(),
        Ending::Down(CrashKind::Reset) => "it was gone without a word".to_owned(),
        Ending::Down(CrashKind::Stall) => "it showed no sign of life any more".to_owned(),
        Ending::Down(CrashKind::Unknown) => "it went down".to_owned(),
        Ending::NotUp => "it did not boot".to_owned(),
        Ending::Stopped => "it was ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: Deeds = Deeds { fruitful: true, ended: false };
    const NOTHING: Deeds = Deeds { fruitful: false, ended: false };
    const END: Deeds = Deeds { fruitful: true, ended: true };
    const PANIC: Ending = Ending::Down(CrashKind::Panic);

    fn only(ending: Ending, deeds: Deeds) -> Step {
        History::default().step(&ending, deeds, 100)
    }

    #[test]
    fn statuses_mean_what_a_sweep_means_by_them() {
        assert_eq!(only(Ending::Exited(ExitCode::OK), END), Step::Done);
        assert_eq!(only(Ending::Exited(ExitCode::FINDINGS), END), Step::Done);
        assert_eq!(only(Ending::Exited(ExitCode::USAGE), NOTHING), Step::Stop(Reason::Usage));
        assert_eq!(only(Ending::Exited(ExitCode::MISSING), NOTHING), Step::Stop(Reason::Prerequisites));
        assert_eq!(only(Ending::Exited(ExitCode::INTERRUPTED), NEWS), Step::Stop(Reason::Interrupted));
        assert_eq!(only(Ending::Exited(ExitCode::REBOOT), NEWS), Step::Again);
        assert_eq!(only(Ending::Exited(ExitCode(137)), NEWS), Step::Again);
        assert_eq!(only(Ending::Exited(ExitCode::INTERNAL), NEWS), Step::Again);
        assert_eq!(only(Ending::Exited(ExitCode::OK), NOTHING), Step::Again);
    }

    #[test]
    fn a_machine_that_went_down_is_booted_again() {
        for kind in [CrashKind::Panic, CrashKind::Reset, CrashKind::Stall] {
            assert_eq!(only(Ending::Down(kind), NEWS), Step::Again);
        }
        // The end of the sweep was said, but not the end of the guest: what it did last is not known.
        assert_eq!(only(PANIC, END), Step::Again);
        assert_eq!(only(Ending::Stopped, NEWS), Step::Stop(Reason::Interrupted));
    }

    #[test]
    fn a_kernel_that_never_boots_is_not_tried_again() {
        assert_eq!(only(Ending::NotUp, NOTHING), Step::Stop(Reason::NotBooted));
        let mut history = History::default();
        assert_eq!(history.step(&PANIC, NEWS, 100), Step::Again);
        // One that did boot may have had bad luck.
        assert_eq!(history.step(&Ending::NotUp, NOTHING, 100), Step::Again);
        assert_eq!(history.boots, 1);
        assert_eq!(history.step(&Ending::NotUp, NOTHING, 100), Step::Again);
        assert_eq!(history.step(&Ending::NotUp, NOTHING, 100), Step::Stop(Reason::NoProgress));
    }

    #[test]
    fn three_guests_in_a_row_without_news_are_enough() {
        let mut history = History::default();
        for deeds in [NOTHING, NOTHING, NEWS, NOTHING, NOTHING] {
            assert_eq!(history.step(&PANIC, deeds, 100), Step::Again);
        }
        assert_eq!(history.step(&Ending::Exited(ExitCode::REBOOT), NOTHING, 100), Step::Stop(Reason::NoProgress));
        assert_eq!((history.boots, history.crashes), (6, 5));
    }

    #[test]
    fn boots_are_bounded() {
        let mut history = History::default();
        assert_eq!(history.step(&PANIC, NEWS, 2), Step::Again);
        assert_eq!(history.step(&PANIC, NEWS, 2), Step::Again);
        assert_eq!(history.step(&PANIC, NEWS, 2), Step::Stop(Reason::TooManyBoots));
    }
}
