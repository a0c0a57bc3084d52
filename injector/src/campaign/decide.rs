//! What a campaign does next: pure decisions.

use std::time::Duration;

use crate::exit::ExitCode;

/// What is known of a workload's journal before its sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Nothing,
    /// It can be gone on with.
    Begun,
    /// Its sweep is over.
    Finished,
}

/// What is done for a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is done.
    Skip,
    /// Nothing: this machine lacks something.
    Missing,
    /// Nothing: the time is over.
    Late,
    /// A new sweep.
    Start {
        /// How long it may take.
        budget: Option<Duration>,
    },
    /// The sweep goes on.
    Resume {
        /// How long it may take.
        budget: Option<Duration>,
    },
}

/// What limits the time of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What is left for all.
    pub left: Option<Duration>,
    /// For each.
    pub each: Option<Duration>,
    /// What the workload's file says.
    pub own: Option<Duration>,
}

impl Limits {
    /// How long the next sweep may take. What was asked for wins over the workload's file.
    fn budget(self) -> Option<Duration> {
        let Self { left, each, own } = self;
        [left, each.or(own)].into_iter().flatten().min()
    }
}

/// A sweep of less time would not get beyond its first boot.
const TOO_LITTLE: Duration = Duration::from_secs(1);

/// What is done for a workload. A journal that is finished is good whatever this machine lacks.
#[must_use]
pub fn step(found: Found, missing: bool, limits: Limits) -> Step {
    let budget = limits.budget();
    match found {
        Found::Finished => Step::Skip,
        _ if missing => Step::Missing,
        _ if limits.left.is_some_and(|left| left < TOO_LITTLE) => Step::Late,
        Found::Nothing => Step::Start { budget },
        Found::Begun => Step::Resume { budget },
    }
}

/// What the end of a sweep means for the campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next one.
    Next,
    /// The sweep did not run or did not end; that is said, and the next one comes.
    NextSaying,
    /// The campaign ends with this code.
    End(ExitCode),
}

/// What comes after a sweep that exited with a code. `asked`: somebody wants the campaign to end.
#[must_use]
pub fn after(code: ExitCode, asked: bool) -> After {
    match code {
        ExitCode::REBOOT => After::End(ExitCode::REBOOT),
        _ if asked => After::End(ExitCode::INTERRUPTED),
        ExitCode::OK | ExitCode::FINDINGS => After::Next,
        // A full disk does not get better.
        ExitCode::IO => After::End(ExitCode::IO),
        _ => After::NextSaying,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_journal_decides_what_is_done() {
        let none = Limits::default();
        assert_eq!(step(Found::Finished, false, none), Step::Skip);
        assert_eq!(step(Found::Begun, false, none), Step::Resume { budget: None });
        assert_eq!(step(Found::Nothing, false, none), Step::Start { budget: None });
        assert_eq!(step(Found::Nothing, true, none), Step::Missing);
        assert_eq!(step(Found::Begun, true, none), Step::Missing);
        assert_eq!(step(Found::Finished, true, none), Step::Skip, "nothing has to run");
    }

    #[test]
    fn the_least_time_counts() {
        let budget = |left: Option<u32>, each: Option<u32>, own: Option<u32>| {
            let minutes = |n: Option<u32>| n.map(|n| MINUTE * n);
            step(Found::Nothing, false, Limits { left: minutes(left), each: minutes(each), own: minutes(own) })
        };
        let start = |n: u32| Step::Start { budget: Some(MINUTE * n) };
        assert_eq!(budget(None, None, None), Step::Start { budget: None });
        assert_eq!(budget(None, None, Some(5)), start(5));
        assert_eq!(budget(None, Some(9), Some(5)), start(9), "what was asked for wins");
        assert_eq!(budget(Some(3), Some(9), Some(5)), start(3));
        assert_eq!(budget(Some(30), None, Some(5)), start(5));
        assert_eq!(budget(Some(0), None, None), Step::Late);
    }

    #[test]
    fn time_that_is_over_does_not_hide_what_is_done() {
        let late = Limits { left: Some(Duration::ZERO), ..Limits::default() };
        assert_eq!(step(Found::Finished, false, late), Step::Skip);
        assert_eq!(step(Found::Begun, false, late), Step::Late);
    }

    #[test]
    fn a_sweep_that_could_not_run_does_not_end_the_campaign() {
        for code in [ExitCode::OK, ExitCode::FINDINGS] {
            assert_eq!(after(code, false), After::Next);
        }
        for code in
            [ExitCode::USAGE, ExitCode::MISSING, ExitCode::NOTHING_FAILED, ExitCode::INTERRUPTED, ExitCode::INTERNAL]
        {
            assert_eq!(after(code, false), After::NextSaying, "{code:?}");
        }
        assert_eq!(after(ExitCode::REBOOT, false), After::End(ExitCode::REBOOT));
        assert_eq!(after(ExitCode::IO, false), After::End(ExitCode::IO));
        assert_eq!(after(ExitCode::OK, true), After::End(ExitCode::INTERRUPTED));
        assert_eq!(after(ExitCode::REBOOT, true), After::End(ExitCode::REBOOT));
    }
}
