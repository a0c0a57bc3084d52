//! `injector minimize`: finds the fewest failures that lead to a finding.

use injector::{
    exit::{Error, ExitCode, Result},
    foreign,
    guests::Replays,
    journal::{self, State},
    plan::sweep::Guests,
    sinks,
    sweep::replay::{self, Again, ReplayPlan},
};

use super::{
    guests::{replay_in_guests, replay_vm, shown},
    journals::read,
};

/// Finds the fewest failures that lead to a finding.
pub fn minimize(plan: &ReplayPlan, guests: Option<&Guests>) -> Result<ExitCode> {
    let journal = read(&plan.journal)?;
    let again = Again::find(&journal, &plan.finding)?;
    let all = if plan.sites.is_empty() { again.sites.clone() } else { plan.sites.clone() };
    sinks::announce(format_args!("{} failures lead to {}", all.len(), again.finding.title));
    let vm = guests.map(|guests| replay_vm(&plan.journal, &again, guests)).transpose()?;
    let show = shown();
    let guests = vm.as_ref().map(|vm| Replays::new(vm, &show)).transpose()?;
    let does = |sites: &[journal::Signature]| -> Result<bool> {
        let one = ReplayPlan { sites: sites.to_vec(), ..plan.clone() };
        let tally = match &guests {
            None => replay::replay(&one)?,
            Some(guests) => replay_in_guests(&one, &again, guests)?,
        };
        if tally.stopped.is_some() && guests.is_none() && !plan.keep_going {
            return Err(Error::new(
                ExitCode::REBOOT,
                "the kernel is damaged; minimize needs a fresh one for each try: add --vm BZIMAGE",
            ));
        }
        Ok(tally.reproduced > 0)
    };
    if !does(&all)? {
        sinks::print(|out| writeln!(out, "all {} together don't do it any more", all.len()))?;
        return Ok(ExitCode::FINDINGS);
    }
    let fewest = replay::fewest(&all, does)?;
    let state = State::of(&journal);
    sinks::print(|out| {
        let title = foreign::line(&again.finding.title);
        writeln!(out, "{} of {} failures are enough for: {title}", fewest.len(), all.len())?;
        fewest.iter().try_for_each(|site| {
            let stack = state.site(*site).and_then(|site| site.info.as_ref()).map_or(&[][..], |info| &info.stack);
            let stack = stack.iter().take(4).cloned().collect::<Vec<_>>().join(" < ");
            writeln!(out, "  {site}  {}", foreign::line(&stack))
        })
    })?;
    Ok(ExitCode::OK)
}
