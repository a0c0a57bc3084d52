//! The verbs around a sweep: each is done, its outcome is written, and it has an exit code.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use injector::{
    cli::{EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK, EXIT_REBOOT, Reports, SitesOf},
    plan::sweep::{Guests, Journal as Where, SweepPlan},
    report::{self, Report},
    sinks,
    sweep::{
        self, Ended,
        journal::{self, Journal, State},
        replay::{self, Again, ReplayPlan, Tally},
        search::Stopped,
        step,
        vm::{self, Line, Show, VmPlan},
    },
};

/// Fails every site that a workload reaches, here or in guests.
pub fn sweep(plan: &SweepPlan, guests: Option<&Guests>, reports: &Reports) -> Result<i32> {
    if let Some(guests) = guests {
        return sweep_in_guests(plan, guests, reports);
    }
    let Ended { stopped, state } = sweep::sweep(plan)?;
    let name = match &plan.journal {
        Where::New(path) | Where::Resume(path) => path,
        // The host has the journal, and makes the report.
        Where::Port { .. } => return Ok(exit_code(stopped, false)),
    };
    let report = Report::new(&state, &name.display().to_string());
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
    Ok(exit_code(stopped, report.has_findings()))
}

fn exit_code(stopped: Option<Stopped>, findings: bool) -> i32 {
    match stopped {
        Some(Stopped::Interrupted) => EXIT_INTERRUPTED,
        Some(Stopped::Damaged) => EXIT_REBOOT,
        _ if findings => EXIT_FINDINGS,
        _ => EXIT_OK,
    }
}

fn sweep_in_guests(plan: &SweepPlan, guests: &Guests, reports: &Reports) -> Result<i32> {
    let (path, resume) = match &plan.journal {
        Where::New(path) => (path, false),
        Where::Resume(path) => (path, true),
        Where::Port { .. } => anyhow::bail!("a guest has no guests: --vm and --journal-port exclude each other"),
    };
    let parts = vm::journals(path, guests.jobs);
    if !resume && let Some(there) = parts.iter().chain([path]).find(|path| path.exists()) {
        return Err(journal::WriteError::Exists(there.clone()).into());
    }
    let plan = vm_plan(plan, guests, path)?;
    let end = vm::run(&plan, &shown())?;
    let merged = end.unite(&plan)?;
    let state = State::of(&merged);
    let report = Report::new(&state, &path.display().to_string());
    // A sweep that was refused has nothing to report.
    if !state.sites().is_empty() {
        write(&report, reports)?;
    }
    if let Some(error) = end.error() {
        sinks::announce(format_args!("{error}"));
        return Ok(error.exit_code());
    }
    Ok(exit_code(None, report.has_findings()))
}

fn vm_plan(plan: &SweepPlan, guests: &Guests, journal: &Path) -> Result<VmPlan> {
    let Guests { image, jobs, memory_mb, cpus, added, programs, append } = guests;
    let command = plan.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let vm = VmPlan::new(image, command, journal).context("can't find this program's own file for the guests")?;
    // Without it KASAN reports the first error only.
    let append = append.iter().cloned().chain(["kasan_multi_shot".to_owned()]).collect();
    Ok(VmPlan {
        jobs: *jobs,
        memory_mb: *memory_mb,
        cpus: *cpus,
        added: added.clone(),
        programs: programs.clone(),
        append,
        options: plan.options(),
        shard: plan.shard,
        ..vm
    })
}

fn shown() -> Show {
    Arc::new(show)
}

/// What guests and their controller say, on standard error.
fn show(line: &Line) {
    let mut err = io::stderr();
    let _ = match line.job {
        Some(job) => writeln!(err, "[{job}] {}", line.text),
        None => writeln!(err, "{}", line.text),
    };
}

/// Reads a journal, and says what is wrong with it.
fn read(path: &Path) -> Result<Journal> {
    let journal = journal::read(path)?;
    for remark in &journal.remarks {
        sinks::announce(format_args!("{}: {remark}", path.display()));
    }
    Ok(journal)
}

fn write(report: &Report, reports: &Reports) -> Result<()> {
    let Reports { ktap, json, junit, html } = reports;
    let mut out = BufWriter::new(io::stdout());
    let form = match (ktap, json) {
        (true, _) => report::ktap,
        (_, true) => report::json,
        _ => report::text,
    };
    form(report, &mut out).and_then(|()| out.flush()).context("can't write the report")?;
    type Form = fn(&Report, &mut dyn Write) -> io::Result<()>;
    for (path, form) in [(junit, report::junit as Form), (html, report::html as Form)] {
        if let Some(path) = path {
            let write = || {
                let mut file = BufWriter::new(File::create(path)?);
                form(report, &mut file)?;
                file.flush()
            };
            write().with_context(|| format!("can't write {}", path.display()))?;
        }
    }
    Ok(())
}

/// Shows what a sweep found.
pub fn report(path: &Path, reports: &Reports) -> Result<i32> {
    let report = Report::of(&read(path)?);
    write(&report, reports)?;
    Ok(exit_code(None, report.has_findings()))
}

/// Shows sites by module.
pub fn sites(source: &SitesOf, stacks: bool) -> Result<i32> {
    let report = match source {
        SitesOf::Journal(path) => Report::of(&read(path)?),
        SitesOf::Workload(plan) => Report::new(&sweep::sweep(plan)?.state, ""),
    };
    let mut out = BufWriter::new(io::stdout());
    report::sites(&report, stacks, &mut out).and_then(|()| out.flush()).context("can't write the sites")?;
    Ok(EXIT_OK)
}

/// Tries a finding again.
pub fn replay(plan: &ReplayPlan, guests: Option<&Guests>) -> Result<i32> {
    let tally = match guests {
        None => replay::replay(plan)?,
        Some(guests) => replay_in_guests(plan, guests)?,
    };
    let Tally { tries, reproduced, stopped } = tally;
    if !plan.port {
        writeln!(io::stdout(), "{reproduced} of {tries} tries reproduced it")?;
    }
    Ok(match stopped {
        Some(Stopped::Interrupted) => EXIT_INTERRUPTED,
        // All that was asked for was done.
        Some(Stopped::Damaged) if tries < plan.tries || plan.port => EXIT_REBOOT,
        _ if reproduced > 0 => EXIT_OK,
        _ => EXIT_FINDINGS,
    })
}

fn replay_in_guests(plan: &ReplayPlan, guests: &Guests) -> Result<Tally> {
    let journal = read(&plan.journal)?;
    let again = Again::find(&journal, &plan.finding)?;
    let command = again.begin.workload.command.iter().map(Into::into).collect();
    let sweep = SweepPlan::new(command, Where::Resume(plan.journal.clone()));
    let vm = vm_plan(&sweep, &Guests { jobs: 1, ..guests.clone() }, &plan.journal)?;
    let mut tally = Tally::default();
    while tally.tries < plan.tries {
        let left = ReplayPlan { tries: plan.tries - tally.tries, ..plan.clone() };
        let round = vm::replay(&vm, &left, &again.finding, &shown())?;
        tally.tries += round.tries;
        tally.reproduced += round.reproduced;
        tally.stopped = round.stopped;
        if round.stopped == Some(Stopped::Interrupted) {
            break;
        }
        anyhow::ensure!(round.tries > 0, "a guest ended without a single try; its own messages say why");
    }
    Ok(tally)
}

/// Finds the fewest failures that lead to a finding.
pub fn minimize(plan: &ReplayPlan, guests: Option<&Guests>) -> Result<i32> {
    let journal = read(&plan.journal)?;
    let again = Again::find(&journal, &plan.finding)?;
    let all = if plan.sites.is_empty() { again.sites.clone() } else { plan.sites.clone() };
    sinks::announce(format_args!("{} failures lead to {}", all.len(), again.finding.title));
    let does = |sites: &[journal::Signature]| -> Result<bool> {
        let one = ReplayPlan { sites: sites.to_vec(), ..plan.clone() };
        let tally = match guests {
            None => replay::replay(&one)?,
            Some(guests) => replay_in_guests(&one, guests)?,
        };
        if tally.stopped.is_some() && guests.is_none() && !plan.keep_going {
            anyhow::bail!("the kernel is damaged; minimize needs a fresh one for each try: add --vm BZIMAGE");
        }
        Ok(tally.reproduced > 0)
    };
    if !does(&all)? {
        writeln!(io::stdout(), "all {} together don't do it any more", all.len())?;
        return Ok(EXIT_FINDINGS);
    }
    let fewest = replay::fewest(&all, does)?;
    let state = State::of(&journal);
    writeln!(io::stdout(), "{} of {} failures are enough for: {}", fewest.len(), all.len(), again.finding.title)?;
    for site in fewest {
        let stack = state.site(site).and_then(|site| site.info.as_ref()).map_or(&[][..], |info| &info.stack);
        writeln!(io::stdout(), "  {site}  {}", stack.iter().take(4).cloned().collect::<Vec<_>>().join(" < "))?;
    }
    Ok(EXIT_OK)
}

/// Puts journals together.
pub fn merge(paths: &[PathBuf], output: Option<&Path>) -> Result<i32> {
    let journals = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let merged = journal::merge(&journals)?;
    match output {
        None => merged.write(&mut BufWriter::new(io::stdout())).context("can't write the journal")?,
        Some(path) => {
            let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
            merged.write(&mut BufWriter::new(file)).with_context(|| format!("can't write {}", path.display()))?;
        }
    }
    Ok(EXIT_OK)
}

/// Runs a step of a script.
pub fn step(command: &[std::ffi::OsString]) -> Result<i32> {
    Ok(step::step(command)?)
}
