//! `injector sweep`: fails every site that a workload reaches, here or in guests.

use std::path::Path;

use injector::{
    cli::Reports,
    exit::{Error, ExitCode, HasExitCode as _, Result},
    guests::{self as vm},
    journal::{self, State},
    plan::sweep::{GuestKernel, Guests, Journal as Where, SweepPlan},
    report::{Report, known::Known},
    sinks,
    sweep::{self, Ended, Stopped},
    symbols::{self, LineSources},
};

use super::{
    guests::{shown, vm_plan},
    reports::{check_files, exit_code, look_up_lines, read_known, search, stacks, write},
};

/// Fails every site that a workload reaches, here or in guests.
pub fn sweep(plan: &SweepPlan, guests: Option<&Guests>, reports: &Reports) -> Result<ExitCode> {
    check_files(&inputs(plan, guests), reports)?;
    // A bad file must not be noticed at the end of a long sweep.
    let known = read_known(reports)?;
    if let Some(guests) = guests {
        return sweep_in_guests(plan, guests, reports, &known);
    }
    let search = search(reports.vmlinux.as_deref());
    if reports.vmlinux.is_some() {
        let kernel = sweep::identity::kernel(&search.files)?;
        search.check(Some(symbols::Kernel { release: &kernel.release, build_id: kernel.build_id.as_deref() }))?;
    }
    let Ended { stopped, state } = sweep::sweep(plan)?;
    let name = match &plan.journal {
        Where::New(path) | Where::Resume(path) => path,
        // The host has the journal, and makes the report.
        Where::Port { .. } | Where::None => return Ok(early(stopped).unwrap_or(ExitCode::OK)),
    };
    let mut report = Report::new(&state, &name.display().to_string());
    report.mark_known(&known);
    let lines = look_up_lines(&mut report, stacks(reports), &search);
    write(&report, reports)?;
    match stopped {
        Some(Stopped::Damaged) => {
            let name = name.display();
            sinks::announce(format_args!(
                "the kernel is damaged: boot it again, and go on with --resume --journal {name}"
            ));
        }
        Some(Stopped::Interrupted) => {
            let name = name.display();
            sinks::announce(format_args!("interrupted; the journal is whole: go on with --resume --journal {name}"));
        }
        _ => {}
    }
    lines?;
    Ok(early(stopped).unwrap_or_else(|| exit_code(&report)))
}

/// The files that a report must not overwrite. The journals of a sweep are such, though it writes them.
fn inputs<'a>(plan: &'a SweepPlan, guests: Option<&'a Guests>) -> Vec<&'a Path> {
    let journal = match &plan.journal {
        Where::New(path) | Where::Resume(path) | Where::Port { so_far: path } => Some(path.as_path()),
        Where::None => None,
    };
    let image = guests.and_then(|guests| guests.kernel.as_ref()).and_then(GuestKernel::image);
    let added = guests.into_iter().flat_map(|guests| &guests.added).map(|(file, _)| file.as_path());
    // The workload may be a script.
    let command = plan.command.iter().map(Path::new);
    journal.into_iter().chain(image).chain(added).chain(command).collect()
}

/// The exit code of a sweep that can go on.
fn early(stopped: Option<Stopped>) -> Option<ExitCode> {
    match stopped? {
        Stopped::Interrupted => Some(ExitCode::INTERRUPTED),
        Stopped::Damaged => Some(ExitCode::REBOOT),
        Stopped::Budget => None,
    }
}

fn sweep_in_guests(plan: &SweepPlan, guests: &Guests, reports: &Reports, known: &[Known]) -> Result<ExitCode> {
    let (path, resume) = match &plan.journal {
        Where::New(path) => (path, false),
        Where::Resume(path) => (path, true),
        Where::Port { .. } | Where::None => {
            return Err(Error::new(ExitCode::INTERNAL, "a guest has no guests: a defect of the injector"));
        }
    };
    let search = LineSources {
        image: guests.kernel.as_ref().and_then(GuestKernel::image).map(Path::to_owned),
        modules: guests.added.iter().map(|(file, _)| file.clone()).collect(),
        ..search(reports.vmlinux.as_deref())
    };
    // Of which build the guests are is known when the first has booted.
    search.check(None)?;
    let parts = vm::journals(path, guests.jobs);
    if !resume && let Some(there) = parts.iter().chain([path]).find(|path| path.exists()) {
        return Err(journal::WriteError::Exists(there.clone()).into());
    }
    let plan = vm_plan(plan.clone(), guests.clone(), path)?;
    let end = vm::run(&plan, &shown())?;
    let merged = end.unite(&plan)?;
    let state = State::of(&merged);
    let mut report = Report::new(&state, &path.display().to_string());
    report.mark_known(known);
    // A sweep that was refused has nothing to report.
    let mut lines = Ok(());
    if !state.sites().is_empty() {
        lines = look_up_lines(&mut report, stacks(reports), &search);
        write(&report, reports)?;
    }
    if let Some(error) = end.error() {
        sinks::announce(format_args!("{error}"));
        return Ok(error.exit_code());
    }
    lines?;
    Ok(exit_code(&report))
}
