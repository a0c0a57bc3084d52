//! The verbs around a sweep: each is done, its outcome is written, and it has an exit code.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use injector::{
    cli::{EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK, EXIT_REBOOT, EXIT_USAGE, Reports, RunReports, SitesOf},
    control::{self, Request, Which},
    plan::sweep::{Guests, Journal as Where, SweepPlan},
    report::{self, Report, Stacks},
    sinks::{self, Waiting},
    sweep::{
        self, Ended, Stopped,
        journal::{self, Journal, State},
        replay::{self, Again, ReplayPlan, Tally},
        retry_step,
        vm::{self, Line, Replays, Show, VmError, VmPlan},
    },
    symbols::{self, LinesError, Search},
};
use injector_log::reader::LogError;

/// Has a run that goes on do something, and shows how it stands then.
pub fn control(run: &Which, request: &Request, json: bool) -> Result<i32> {
    let status = control::ask(run, request)?;
    let text = match request {
        Request::Status {} if json => serde_json::to_string(&status)? + "\n",
        Request::Status {} => status.to_string(),
        Request::Set { .. } => format!("{}\n{}", status.headline(), status.knobs()),
        Request::Pause {} | Request::Resume {} | Request::Stop {} => format!("{}\n", status.headline()),
    };
    io::stdout().write_all(text.as_bytes()).context("can't write the answer")?;
    Ok(EXIT_OK)
}

/// Fails every site that a workload reaches, here or in guests.
pub fn sweep(plan: &SweepPlan, guests: Option<&Guests>, reports: &Reports) -> Result<i32> {
    if let Some(guests) = guests {
        return sweep_in_guests(plan, guests, reports);
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
        Where::Port { .. } | Where::None => return Ok(exit_code(stopped, false)),
    };
    let mut report = Report::new(&state, &name.display().to_string());
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
        Where::Port { .. } | Where::None => anyhow::bail!("a guest has no guests: a defect of the injector"),
    };
    let search = Search {
        image: guests.image.clone(),
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
    Ok(exit_code(None, report.has_findings()))
}

fn vm_plan(plan: SweepPlan, guests: Guests, journal: &Path) -> Result<VmPlan> {
    VmPlan::new(plan, guests, journal).context("can't find this program's own file for the guests")
}

/// What guests and their controller say, on standard error; between that, on a terminal, what is waited for.
fn shown() -> Show {
    const BOOTING: &str = "guests boot";
    let waiting = Waiting::new(BOOTING);
    Arc::new(move |line: &Line| {
        waiting.above(|| {
            let _ = writeln!(io::stderr(), "{line}");
        });
        waiting.next(if line.guest { "guests work" } else { BOOTING });
    })
}

/// Reads a journal, and says what is wrong with it.
fn read(path: &Path) -> Result<Journal> {
    let journal = journal::read(path)?;
    say_remarks(&journal);
    Ok(journal)
}

fn say_remarks(journal: &Journal) {
    for remark in &journal.remarks {
        sinks::announce(format_args!("{}: {remark}", journal.name));
    }
}

fn write(report: &Report, reports: &Reports) -> Result<()> {
    let Reports { ktap, json, junit, html, vmlinux: _ } = reports;
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
            write_file(path, |file| form(report, file))?;
        }
    }
    Ok(())
}

/// The stacks that are in these forms.
fn stacks(reports: &Reports) -> Stacks {
    let Reports { ktap, json, junit: _, html, vmlinux: _ } = reports;
    match (json, html, ktap) {
        (true, ..) | (_, Some(_), _) => Stacks::All,
        (.., true) => Stacks::None,
        _ => Stacks::Findings,
    }
}

fn search(vmlinux: Option<&Path>) -> Search {
    Search { vmlinux: vmlinux.map(Path::to_owned), ..Search::default() }
}

/// Adds the source lines of what is shown.
fn look_up_lines(report: &mut Report, shown: Stacks, search: &Search) -> Result<(), LinesError> {
    let Some(config) = &report.config else { return Ok(()) };
    let kernel = &config.kernel;
    let kernel = symbols::Kernel { release: &kernel.release, build_id: kernel.build_id.as_deref() };
    report.lines = symbols::lines(&report.frames(shown), kernel, search)?;
    Ok(())
}

/// Shows what a sweep found, or what a run did.
pub fn report(path: &Path, reports: &Reports, runs: &RunReports) -> Result<i32> {
    let name = path.display().to_string();
    let refuse = |run, options: &[(bool, &'static str)]| -> Result<(), report::WrongKind> {
        match options.iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(report::WrongKind { file: name.clone(), run, option }),
            None => Ok(()),
        }
    };
    match report::open(path)? {
        report::Opened::Run(input) => {
            refuse(true, &[(reports.ktap, "--ktap"), (reports.junit.is_some(), "--junit")])?;
            report_run(report::run::read_from(input, &name)?, reports, runs)
        }
        report::Opened::Journal(input) => {
            refuse(false, &runs.given())?;
            report_sweep(&journal::read_from(input, &name)?, reports)
        }
        // Nothing was swept: a sweep may end like that.
        report::Opened::Empty if runs.given().iter().all(|(given, _)| !given) => {
            report_sweep(&journal::read_from(io::empty(), &name)?, reports)
        }
        report::Opened::Empty => Err(report::run::ReadError::Empty { name }.into()),
    }
}

fn report_sweep(journal: &Journal, reports: &Reports) -> Result<i32> {
    say_remarks(journal);
    let mut report = Report::of(journal);
    look_up_lines(&mut report, stacks(reports), &search(reports.vmlinux.as_deref()))?;
    write(&report, reports)?;
    Ok(exit_code(None, report.has_findings()))
}

/// Sites that a run's text shows, where nobody says how many.
const TOP: usize = 10;

fn report_run(mut run: report::run::Run, reports: &Reports, runs: &RunReports) -> Result<i32> {
    let Reports { ktap: _, json, junit: _, html, vmlinux } = reports;
    let RunReports { text: _, folded, csv, flamegraph, top } = runs;
    run.look_up_lines(&search(vmlinux.as_deref()))?;
    for remark in run.remarks.iter().filter(|_| *folded || *csv || *json) {
        sinks::announce(format_args!("{}: {remark}", run.file));
    }
    let mut out = BufWriter::new(io::stdout());
    let written = match (folded, csv, json) {
        (true, ..) => report::run::folded(&run, &mut out),
        (_, true, _) => report::run::csv(&run, &mut out),
        (.., true) => report::run::json(&run, &mut out),
        _ => report::run::text(&run, top.unwrap_or(TOP), &mut out),
    };
    written.and_then(|()| out.flush()).context("can't write the report")?;
    type Form = fn(&report::run::Run, &mut dyn Write) -> io::Result<()>;
    for (path, form) in [(flamegraph, report::run::flamegraph as Form), (html, report::run::html as Form)] {
        if let Some(path) = path {
            write_file(path, |file| form(&run, file))?;
        }
    }
    Ok(EXIT_OK)
}

fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut file = BufWriter::new(sinks::create(path)?);
    write(&mut file).and_then(|()| file.flush()).with_context(|| format!("can't write {}", path.display()))
}

/// Shows what two runs differ in.
pub fn diff(a: &Path, b: &Path, json: bool) -> Result<i32> {
    let read = |path: &Path| -> Result<report::run::Run> {
        let run = report::run::read(path)?;
        for remark in &run.remarks {
            sinks::announce(format_args!("{}: {remark}", path.display()));
        }
        Ok(run)
    };
    let diff = report::run::Diff::new(&read(a)?, &read(b)?);
    let mut out = BufWriter::new(io::stdout());
    let written = if json { report::run::json(&diff, &mut out) } else { diff.text(&mut out) };
    written.and_then(|()| out.flush()).context("can't write what they differ in")?;
    Ok(if diff.has_other_sites() { EXIT_FINDINGS } else { EXIT_OK })
}

/// Shows the complaints in kernel logs.
pub fn log(files: &[PathBuf], json: bool) -> Result<i32> {
    const STANDARD_INPUT: &str = "-";
    let standard_input = [PathBuf::from(STANDARD_INPUT)];
    let files = if files.is_empty() { &standard_input } else { files };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut code = EXIT_OK;
    for file in files {
        let log: Box<dyn io::Read> = if file == Path::new(STANDARD_INPUT) {
            Box::new(io::stdin().lock())
        } else {
            match File::open(file) {
                Ok(log) => Box::new(log),
                Err(error) => {
                    sinks::announce(format_args!("{}: {error}", file.display()));
                    code = EXIT_USAGE;
                    continue;
                }
            }
        };
        match report::log::write(file, log, json, &mut out).and_then(|summary| {
            out.flush().map_err(LogError::Write)?;
            Ok(summary)
        }) {
            Ok(summary) if summary.complaints > 0 && code == EXIT_OK => code = EXIT_FINDINGS,
            Ok(_) => {}
            // The reader of a long list has seen enough.
            Err(LogError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(code),
            Err(LogError::Write(error)) => return Err(error).context("can't write the complaints"),
            Err(error) => {
                let name =
                    if file == Path::new(STANDARD_INPUT) { "standard input".into() } else { file.to_string_lossy() };
                sinks::announce(format_args!("{name}: {error}"));
                code = EXIT_USAGE;
            }
        }
    }
    Ok(code)
}

/// Shows sites by module.
pub fn sites(source: &SitesOf, stacks: bool, vmlinux: Option<&Path>) -> Result<i32> {
    let mut report = match source {
        SitesOf::Journal(path) => Report::of(&read(path)?),
        SitesOf::Workload(plan) => Report::new(&sweep::sweep(plan)?.state, ""),
    };
    let shown = if stacks { Stacks::All } else { Stacks::None };
    look_up_lines(&mut report, shown, &search(vmlinux))?;
    let mut out = BufWriter::new(io::stdout());
    report::sites(&report, stacks, &mut out).and_then(|()| out.flush()).context("can't write the sites")?;
    Ok(EXIT_OK)
}

/// Tries a finding again.
pub fn replay(plan: &ReplayPlan, guests: Option<&Guests>) -> Result<i32> {
    let tally = match guests {
        None => replay::replay(plan)?,
        Some(guests) => {
            let again = Again::find(&read(&plan.journal)?, &plan.finding)?;
            let vm = replay_vm(&plan.journal, &again, guests)?;
            replay_in_guests(plan, &again, &Replays::new(&vm, &shown())?)?
        }
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

/// The plan of guests in which a finding is replayed.
fn replay_vm(path: &Path, again: &Again, guests: &Guests) -> Result<VmPlan> {
    let command = again.begin.workload.command.iter().map(Into::into).collect();
    let sweep = SweepPlan::new(command, Where::Resume(path.to_owned()));
    vm_plan(sweep, Guests { jobs: 1, ..guests.clone() }, path)
}

/// Boots as many guests as it takes.
fn replay_in_guests(plan: &ReplayPlan, again: &Again, guests: &Replays) -> Result<Tally> {
    /// A guest that does not boot, of a kernel that did, may have had bad luck: its host was too busy.
    const PATIENCE: u32 = 2;
    let mut tally = Tally::default();
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
    let (mut out, name): (Box<dyn Write>, _) = match output {
        None => (Box::new(io::stdout()), "the journal".into()),
        Some(path) => {
            let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
            (Box::new(file), path.display().to_string())
        }
    };
    merged.write(&mut BufWriter::new(&mut out)).with_context(|| format!("can't write {name}"))?;
    Ok(EXIT_OK)
}

/// Runs a step of a script.
pub fn step(command: &[std::ffi::OsString]) -> Result<i32> {
    Ok(retry_step::step(command)?)
}
