//! The `injector` program: parse, log, run, exit code.

mod verbs;

use std::{
    io::{self, Write},
    process::exit,
};

use anyhow::Result;
use injector::{
    check::{self, Caller, Needs},
    cli::{self, Command, EXIT_INTERNAL, EXIT_MISSING, EXIT_OK, EXIT_USAGE, RunOptions},
    control::{ClientError, PlaceError},
    hook_list::{HookList, NamePattern, NothingMatches},
    kernel::{KernelFiles, Survey},
    metrics::AddressError,
    plan::Plan,
    report as forms,
    run::{self, LiveOptions, MissingPrerequisites},
    session::{CanaryError, ResolveError},
    sinks::{self, OpenError},
    sweep::{JournalError, WorkloadError, journal, vm::VmError},
    symbols::LinesError,
    target::TargetError,
};
use tokio::{runtime, task::LocalSet};
use tracing_subscriber::EnvFilter;

fn main() {
    // In the guests of a sweep this same file is /init: the machine needs nothing but it.
    if injector_guest::init::is_wanted() {
        injector_guest::init::main();
    }
    let code = match cli::parse(std::env::args_os()) {
        Ok(Command::Check { json }) => check(json).unwrap_or_else(report),
        Ok(Command::Hooks { pattern, json }) => hooks(pattern.as_ref(), json).unwrap_or_else(report),
        Ok(Command::Sweep { plan, guests, reports, options }) => {
            log(options);
            verbs::sweep(&plan, guests.as_ref(), &reports).unwrap_or_else(report)
        }
        Ok(Command::Run(plan, options, live)) => run(&plan, options, &live).unwrap_or_else(report),
        Ok(Command::Plan(file)) => print(&file).unwrap_or_else(report),
        Ok(Command::Step(command)) => verbs::step(&command).unwrap_or_else(report),
        Ok(other) => {
            log(RunOptions::default());
            verb(&other).unwrap_or_else(report)
        }
        Err(exit) => {
            let _ = if exit.code == EXIT_OK { write!(io::stdout(), "{exit}") } else { write!(io::stderr(), "{exit}") };
            exit.code
        }
    };
    exit(code);
}

fn verb(command: &Command) -> Result<i32> {
    match command {
        Command::Control { run, request, json } => verbs::control(run, request, *json),
        Command::Sites { source, stacks, vmlinux } => verbs::sites(source, *stacks, vmlinux.as_deref()),
        Command::Replay(plan, guests) => verbs::replay(plan, guests.as_ref()),
        Command::Minimize(plan, guests) => verbs::minimize(plan, guests.as_ref()),
        Command::Merge { journals, output } => verbs::merge(journals, output.as_deref()),
        Command::Report { file, reports, runs } => verbs::report(file, reports, runs),
        Command::Diff { a, b, json } => verbs::diff(a, b, *json),
        Command::Log { files, json } => verbs::log(files, *json),
        Command::Check { .. }
        | Command::Hooks { .. }
        | Command::Run(..)
        | Command::Plan(_)
        | Command::Sweep { .. }
        | Command::Step(_) => Ok(EXIT_INTERNAL),
    }
}

fn print(text: &str) -> Result<i32> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(EXIT_OK)
}

fn check(json: bool) -> Result<i32> {
    let files = KernelFiles::default();
    let report = check::run(&files, &Survey::take(&files), &Caller::this(&files), &Needs::all());
    let text = if json { format!("{}\n", report.to_json()?) } else { report.to_string() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_ok() { EXIT_OK } else { EXIT_MISSING })
}

fn hooks(pattern: Option<&NamePattern>, json: bool) -> Result<i32> {
    let files = KernelFiles::default();
    let injectable = check::injectable(&files, &Caller::this(&files)).map_err(MissingPrerequisites)?;
    let release = files.release()?;
    let list = HookList::new(release.as_str(), &injectable, pattern)?;
    let text = if json { format!("{}\n", list.to_json()?) } else { list.to_string() };
    match io::stdout().write_all(text.as_bytes()) {
        // Long lists are piped into `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(EXIT_OK)
}

fn run(plan: &Plan, options: RunOptions, live: &LiveOptions) -> Result<i32> {
    log(options);
    // One thread: what the daemon does is wait. And one tracer, since the command stops for the thread that started it.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run::run(plan, options.ebpf_log, live))
}

/// Diagnostics go to standard error; `RUST_LOG` says which, if it is set.
fn log(options: RunOptions) {
    let ours = if options.verbose { "debug" } else { "warn" };
    let ebpf = if options.ebpf_log { "trace" } else { "off" };
    // The records of aya-log have the eBPF side's module as their target; its program is called like this one.
    let default = format!("warn,injector={ours},injector::hook={ebpf}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(sinks::stderr).with_target(options.verbose).init();
}

/// Says what went wrong, and gives the exit code.
fn report(error: anyhow::Error) -> i32 {
    let _ = writeln!(io::stderr(), "injector: {error:#}");
    code_of(&error)
}

/// Exit code of an error: whose fault it is.
fn code_of(error: &anyhow::Error) -> i32 {
    if let Some(error) = error.downcast_ref::<VmError>() {
        return error.exit_code();
    }
    if error.is::<TargetError>()
        || error.is::<ResolveError>()
        || error.is::<NothingMatches>()
        || error.is::<OpenError>()
        || error.is::<PlaceError>()
        || error.is::<AddressError>()
        || error.is::<ClientError>()
        || error.is::<JournalError>()
        || error.is::<LinesError>()
        || error.is::<WorkloadError>()
        || error.is::<journal::WriteError>()
        || error.is::<journal::ReadError>()
        || error.is::<journal::Incompatible>()
        || error.is::<forms::run::ReadError>()
        || error.is::<forms::WrongKind>()
    {
        EXIT_USAGE
    } else if error.is::<MissingPrerequisites>() || error.is::<CanaryError>() {
        EXIT_MISSING
    } else {
        EXIT_INTERNAL
    }
}
