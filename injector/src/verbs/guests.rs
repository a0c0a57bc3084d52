//! The guests in which sweeps, replays and minimizations run.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use injector::{
    exit::{Context as _, Error, ExitCode, Result},
    guests::{Line, Replays, Show, VmError, VmPlan},
    plan::sweep::{Guests, Journal as Where, SweepPlan},
    sinks::{self, Waiting},
    sweep::{
        Stopped,
        replay::{Again, ReplayCount, ReplayPlan},
    },
};

/// The plan of guests in which a sweep runs.
pub fn vm_plan(plan: SweepPlan, guests: Guests, journal: &Path) -> Result<VmPlan> {
    VmPlan::new(plan, guests, journal).context("can't find this program's own file for the guests")
}

/// What guests and their controller say, on standard error; between that, on a terminal, what is waited for.
pub fn shown() -> Show {
    const BOOTING: &str = "guests boot";
    let waiting = Waiting::new(BOOTING);
    Arc::new(move |line: &Line| {
        waiting.above(|| {
            let _ = writeln!(io::stderr(), "{line}");
        });
        waiting.next(if line.guest { "guests work" } else { BOOTING });
    })
}

/// The plan of guests in which a finding is replayed.
pub fn replay_vm(path: &Path, again: &Again, guests: &Guests) -> Result<VmPlan> {
    let command = again.begin.workload.command.iter().map(Into::into).collect();
    let sweep = SweepPlan::new(command, Where::Resume(path.to_owned()));
    vm_plan(sweep, Guests { jobs: 1, ..guests.clone() }, path)
}

/// Boots as many guests as it takes.
pub fn replay_in_guests(plan: &ReplayPlan, again: &Again, guests: &Replays) -> Result<ReplayCount> {
    /// A guest that does not boot, of a kernel that did, may have had bad luck: its host was too busy.
    const PATIENCE: u32 = 2;
    let mut tally = ReplayCount::default();
    let mut not_booted = 0;
    while tally.tries < plan.tries {
        let left = ReplayPlan { tries: plan.tries - tally.tries, ..plan.clone() };
        let round = match guests.boot(&left, &again.finding) {
            Err(error @ VmError::Boot(_)) if tally.tries > 0 && not_booted < PATIENCE => {
                not_booted += 1;
                sinks::announce(format_args!("{error}; once more"));
                continue;
            }
            round => round?,
        };
        not_booted = 0;
        tally.tries += round.tries;
        tally.reproduced += round.reproduced;
        tally.stopped = round.stopped;
        if round.stopped == Some(Stopped::Interrupted) {
            break;
        }
        if round.tries == 0 {
            return Err(Error::new(ExitCode::INTERNAL, "a guest ended without a single try; its own messages say why"));
        }
    }
    Ok(tally)
}
