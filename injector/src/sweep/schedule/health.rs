//! Whether the workload can be used again after a run.

use super::{spec::RunResult, stage::Severity};
use crate::journal::record::RunEnd;

/// What is to be done about a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// It is taken down and set up again.
    Reset,
    /// And it must work then, without injection.
    ResetAndProve,
}

/// How the last runs ended.
///
/// A workload that ends badly has met a failure, or something that an earlier failure broke: a server that is gone, a mount
/// that stays. In the second case all that follows would reach nothing and say nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// Bad ends in a row.
    bad: u32,
    repair: Option<Repair>,
}

impl Health {
    /// Takes note of a run.
    pub fn ran(&mut self, result: &RunResult, severity: Severity, patience: u32) {
        self.repair = match result.end {
            RunEnd::Stuck | RunEnd::TimedOut => Some(Repair::Reset),
            RunEnd::Finished => self.finished(result, severity, patience),
            RunEnd::Unkillable | RunEnd::Damaged | RunEnd::Interrupted => None,
        };
    }

    fn finished(&mut self, result: &RunResult, severity: Severity, patience: u32) -> Option<Repair> {
        if severity == Severity::Expected {
            return None;
        }
        if severity == Severity::Doubtful {
            self.bad = 0;
            return Some(Repair::ResetAndProve);
        }
        if result.is_well() {
            self.bad = 0;
            return None;
        }
        if severity == Severity::Untidy {
            // Its failures say that it still gets somewhere.
            return Some(Repair::Reset);
        }
        self.bad += 1;
        if severity == Severity::Perhaps && self.bad < patience {
            return None;
        }
        self.bad = 0;
        Some(Repair::ResetAndProve)
    }

    /// A stage is over. True: its last runs ended badly, and the workload was not reset since.
    pub fn end_stage(&mut self) -> bool {
        std::mem::take(&mut self.bad) > 0
    }

    /// What is to be done now; asked once.
    pub fn repair(&mut self) -> Option<Repair> {
        self.repair.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ends: &[(RunEnd, Option<i32>, Severity)]) -> Option<Repair> {
        let mut health = Health::default();
        for (end, status, severity) in ends {
            let result = RunResult { end: *end, status: *status, ..RunResult::default() };
            health.ran(&result, *severity, 4);
        }
        health.repair()
    }

    const BAD: (RunEnd, Option<i32>, Severity) = (RunEnd::Finished, Some(1), Severity::Perhaps);

    #[test]
    fn a_stuck_workload_is_reset() {
        assert_eq!(after(&[(RunEnd::Stuck, None, Severity::Expected)]), Some(Repair::Reset));
        assert_eq!(after(&[(RunEnd::Finished, Some(1), Severity::Untidy)]), Some(Repair::Reset));
        assert_eq!(after(&[(RunEnd::Finished, Some(1), Severity::Expected)]), None);
    }

    #[test]
    fn one_that_ends_badly_without_a_failure_must_prove_that_it_works() {
        assert_eq!(after(&[(RunEnd::Finished, Some(1), Severity::Broken)]), Some(Repair::ResetAndProve));
        assert_eq!(after(&[(RunEnd::Finished, Some(0), Severity::Broken)]), None);
    }

    #[test]
    fn in_doubt_it_must_prove_that_it_works_even_after_a_good_end() {
        for status in [0, 1] {
            let repair = after(&[(RunEnd::Finished, Some(status), Severity::Doubtful)]);
            assert_eq!(repair, Some(Repair::ResetAndProve), "{status}");
        }
    }

    #[test]
    fn patience_ends_after_four_bad_runs_in_a_row() {
        assert_eq!(after(&[BAD, BAD, BAD]), None);
        assert_eq!(after(&[BAD, BAD, BAD, BAD]), Some(Repair::ResetAndProve));
        assert_eq!(after(&[BAD, BAD, (RunEnd::Finished, Some(0), Severity::Perhaps), BAD, BAD]), None);
    }
}
