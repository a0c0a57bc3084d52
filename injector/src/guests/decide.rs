//! What to do when a guest has ended: a function of how it ended, of its progress, and of the guests before it.

use crate::{exit::ExitCode, journal::record::CrashKind};

/// After this many guests in a row without progress the sweep stops.
pub const FRUITLESS_MAX: u32 = 3;

/// The status of a program that could not be started, as shells report it.
const NOT_STARTED: ExitCode = ExitCode(127);

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The sweep in it ended with this status.
    Exited(ExitCode),
    /// The guest went down.
    Down(CrashKind),
    /// It did not boot.
    NotUp,
    /// The controller ended it.
    Stopped,
}

/// How far a guest brought the sweep between its boot and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootProgress {
    /// Whether it added something new to the journal.
    pub fruitful: bool,
    /// Whether it recorded the end of the sweep.
    pub ended: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The sweep is over.
    Done,
    /// Boot another guest.
    Again,
    /// Stop, for this reason.
    Stop(Reason),
}

/// Why to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No guest has booted so far.
    NotBooted,
    /// The sweep refused its input.
    Usage,
    /// Something is missing in the guest.
    Prerequisites,
    /// The user or another job ended it.
    Interrupted,
    /// Too many guests in a row made no progress.
    NoProgress,
    /// The bound of boots is reached.
    TooManyBoots,
    /// The kernel is damaged, and the engine cannot boot another one.
    Damaged,
}

/// What bounds a job's boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many times guests may boot again.
    pub boots: u32,
    /// Whether the engine boots at all: a damaged kernel is replaced by a fresh one.
    pub can_boot: bool,
}

/// The guests of a job so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Guests that booted, and that the controller did not end.
    pub boots: u32,
    /// How many of them went down.
    pub crashes: u32,
    /// How many of the last ones in a row made no progress.
    pub fruitless: u32,
}

impl History {
    /// Counts a guest's end, and decides. The caller records a crash whatever the decision is.
    pub fn step(&mut self, ending: &Ending, progress: BootProgress, limits: Limits) -> Step {
        if *ending == Ending::NotUp && self.boots == 0 {
            return Step::Stop(Reason::NotBooted);
        }
        self.boots += u32::from(matches!(ending, Ending::Exited(_) | Ending::Down(_)));
        self.crashes += u32::from(matches!(ending, Ending::Down(_)));
        self.fruitless = if progress.fruitful { 0 } else { self.fruitless + 1 };
        match ending {
            // The status alone is not enough: the end must be in the journal.
            Ending::Exited(ExitCode::OK | ExitCode::FINDINGS | ExitCode::NOTHING_FAILED) if progress.ended => {
                return Step::Done;
            }
            Ending::Exited(ExitCode::USAGE) => return Step::Stop(Reason::Usage),
            Ending::Exited(ExitCode::MISSING) => return Step::Stop(Reason::Prerequisites),
            Ending::Exited(ExitCode::INTERRUPTED) | Ending::Stopped => return Step::Stop(Reason::Interrupted),
            Ending::Exited(ExitCode::REBOOT) if !limits.can_boot => return Step::Stop(Reason::Damaged),
            Ending::Exited(_) | Ending::Down(_) | Ending::NotUp => {}
        }
        if self.fruitless >= FRUITLESS_MAX {
            Step::Stop(Reason::NoProgress)
        } else if self.boots > limits.boots {
            Step::Stop(Reason::TooManyBoots)
        } else {
            Step::Again
        }
    }
}

/// A guest's end in words that fit after "because".
pub fn account(ending: &Ending) -> String {
    match ending {
        Ending::Exited(ExitCode::REBOOT) => "its kernel is damaged".to_owned(),
        Ending::Exited(NOT_STARTED) => "the sweep in it could not be started".to_owned(),
        Ending::Exited(ExitCode(status)) => format!("the sweep in it ended early, with status {status}"),
        Ending::Down(CrashKind::Panic) => "its kernel panicked".to_owned(),
        Ending::Down(CrashKind::Reset) => "it was gone without an exit status or a panic".to_owned(),
        Ending::Down(CrashKind::Stall) => "it showed no sign of life".to_owned(),
        Ending::Down(CrashKind::Unknown) => "it went down".to_owned(),
        Ending::NotUp => "it did not boot".to_owned(),
        Ending::Stopped => "it was ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: BootProgress = BootProgress { fruitful: true, ended: false };
    const NOTHING: BootProgress = BootProgress { fruitful: false, ended: false };
    const END: BootProgress = BootProgress { fruitful: true, ended: true };
    const LIMITS: Limits = Limits { boots: 100, can_boot: true };
    const PANIC: Ending = Ending::Down(CrashKind::Panic);

    fn only(ending: Ending, progress: BootProgress) -> Step {
        History::default().step(&ending, progress, LIMITS)
    }

    #[test]
    fn statuses_mean_what_a_sweep_means_by_them() {
        assert_eq!(only(Ending::Exited(ExitCode::OK), END), Step::Done);
        assert_eq!(only(Ending::Exited(ExitCode::FINDINGS), END), Step::Done);
        assert_eq!(only(Ending::Exited(ExitCode::NOTHING_FAILED), END), Step::Done);
        assert_eq!(only(Ending::Exited(ExitCode::USAGE), NOTHING), Step::Stop(Reason::Usage));
        assert_eq!(only(Ending::Exited(ExitCode::MISSING), NOTHING), Step::Stop(Reason::Prerequisites));
        assert_eq!(only(Ending::Exited(ExitCode::INTERRUPTED), NEWS), Step::Stop(Reason::Interrupted));
        assert_eq!(only(Ending::Exited(ExitCode::REBOOT), NEWS), Step::Again);
        assert_eq!(only(Ending::Exited(ExitCode(137)), NEWS), Step::Again);
        // Of an error of its own nothing is known.
        assert_eq!(only(Ending::Exited(ExitCode::INTERNAL), NEWS), Step::Again);
        assert_eq!(only(Ending::Exited(ExitCode::OK), NOTHING), Step::Again);
        assert_eq!(only(Ending::Exited(ExitCode::NOTHING_FAILED), NOTHING), Step::Again);
    }

    #[test]
    fn an_engine_that_boots_nothing_cannot_replace_a_damaged_kernel() {
        let limits = Limits { can_boot: false, ..LIMITS };
        let step = History::default().step(&Ending::Exited(ExitCode::REBOOT), NEWS, limits);
        assert_eq!(step, Step::Stop(Reason::Damaged));
        // A sweep whose process was killed starts again.
        assert_eq!(History::default().step(&Ending::Exited(ExitCode(137)), NEWS, limits), Step::Again);
    }

    #[test]
    fn a_guest_that_went_down_is_booted_again() {
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
        assert_eq!(history.step(&PANIC, NEWS, LIMITS), Step::Again);
        // One that did boot may have had bad luck.
        assert_eq!(history.step(&Ending::NotUp, NOTHING, LIMITS), Step::Again);
        assert_eq!(history.boots, 1);
        assert_eq!(history.step(&Ending::NotUp, NOTHING, LIMITS), Step::Again);
        assert_eq!(history.step(&Ending::NotUp, NOTHING, LIMITS), Step::Stop(Reason::NoProgress));
    }

    #[test]
    fn three_guests_in_a_row_without_news_are_enough() {
        let mut history = History::default();
        for progress in [NOTHING, NOTHING, NEWS, NOTHING, NOTHING] {
            assert_eq!(history.step(&PANIC, progress, LIMITS), Step::Again);
        }
        assert_eq!(history.step(&Ending::Exited(ExitCode::REBOOT), NOTHING, LIMITS), Step::Stop(Reason::NoProgress));
        assert_eq!((history.boots, history.crashes), (6, 5));
    }

    #[test]
    fn boots_are_bounded() {
        let mut history = History::default();
        assert_eq!(history.step(&PANIC, NEWS, Limits { boots: 2, ..LIMITS }), Step::Again);
        assert_eq!(history.step(&PANIC, NEWS, Limits { boots: 2, ..LIMITS }), Step::Again);
        assert_eq!(history.step(&PANIC, NEWS, Limits { boots: 2, ..LIMITS }), Step::Stop(Reason::TooManyBoots));
    }
}
