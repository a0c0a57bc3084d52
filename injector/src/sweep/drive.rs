//! The loop of a sweep: the scheduler says what comes next, the runner does it.

use std::collections::BTreeSet;

use super::{
    Stopped,
    schedule::{Came, Next, Notice, RunResult, RunSpec, Scheduler},
};
use crate::{
    exit::Result,
    journal::{Record, Signature, State},
    oracle::kmemleak::Leak,
};

/// Does what a scheduler says, and keeps the journal. Every error ends the sweep.
pub trait Runner {
    /// What the journal adds up to.
    fn state(&self) -> &State;
    /// Why the sweep should end now: the user wants it, or the time is up.
    fn over(&self) -> Option<Stopped>;
    /// Tells the user.
    fn say(&mut self, notice: Notice);
    /// Records for a moment without the workload: the sites that are reached all the same.
    ///
    /// # Errors
    /// The hook's table can't be read, or the journal can't be written.
    fn idle(&mut self) -> Result<BTreeSet<Signature>>;
    /// Carries out one run, with its records from [`Record::Armed`] to [`Record::Ended`]. After an error the run stays open in the
    /// journal.
    ///
    /// # Errors
    /// The workload can't be started or traced, or the journal can't be written.
    fn run(&mut self, spec: &RunSpec) -> Result<RunResult>;
    /// Takes the workload down and sets it up again; `prove`: and runs it without injection. False: it does not work any more.
    /// True also when the user interrupted that.
    ///
    /// # Errors
    /// The workload's output can't be kept.
    fn reset(&mut self, prove: bool) -> Result<bool>;
    /// Asks kmemleak what was lost.
    ///
    /// # Errors
    /// It can't be asked.
    fn scan(&mut self) -> Result<Vec<Leak>>;
    /// Has kmemleak forget what was lost by now.
    ///
    /// # Errors
    /// It can't be told.
    fn clear_leaks(&mut self) -> Result<()>;
    /// Writes a record, durably.
    ///
    /// # Errors
    /// It can't be written.
    fn note(&mut self, record: &Record) -> Result<()>;
}

/// Sweeps to the end, or until something stops it.
///
/// # Errors
/// Those of the runner.
pub fn drive(scheduler: &mut Scheduler, runner: &mut impl Runner) -> Result<Option<Stopped>> {
    loop {
        let over = runner.over();
        let came = match scheduler.next(runner.state(), over) {
            Next::Say(notice) => {
                runner.say(notice);
                Came::Done
            }
            Next::Idle => Came::Idled(runner.idle()?),
            Next::Run(spec) => Came::Ran(runner.run(&spec)?),
            Next::Reset { prove } => Came::Reset(runner.reset(prove)?),
            Next::Scan => Came::Scanned(runner.scan()?),
            Next::ClearLeaks => {
                runner.clear_leaks()?;
                Came::Done
            }
            Next::Note(record) => {
                runner.note(&record)?;
                Came::Done
            }
            Next::End(stopped) => return Ok(stopped),
        };
        scheduler.learn(runner.state(), came);
    }
}
