//! `injector replay`: tries a finding again.

use injector::{
    exit::{ExitCode, Result},
    guests::Replays,
    plan::sweep::Guests,
    sinks,
    sweep::{
        Stopped,
        replay::{self, Again, ReplayCount, ReplayPlan},
    },
};

use super::{
    guests::{replay_in_guests, replay_vm, shown},
    journals::read,
};

/// Tries a finding again.
pub fn replay(plan: &ReplayPlan, guests: Option<&Guests>) -> Result<ExitCode> {
    let tally = match guests {
        None => replay::replay(plan)?,
        Some(guests) => {
            let again = Again::find(&read(&plan.journal)?, &plan.finding)?;
            let vm = replay_vm(&plan.journal, &again, guests)?;
            replay_in_guests(plan, &again, &Replays::new(&vm, &shown())?)?
        }
    };
    let ReplayCount { tries, reproduced, stopped } = tally;
    if !plan.port {
        sinks::print(|out| writeln!(out, "{reproduced} of {tries} tries reproduced it"))?;
    }
    Ok(match stopped {
        Some(Stopped::Interrupted) => ExitCode::INTERRUPTED,
        // All that was asked for was done.
        Some(Stopped::Damaged) if tries < plan.tries || plan.port => ExitCode::REBOOT,
        _ if reproduced > 0 => ExitCode::OK,
        _ => ExitCode::FINDINGS,
    })
}
