//! The `injector` program: parses the command line, sets up the log, and hands over to a verb.

mod verbs;

use std::{
    io::{self, Write},
    process::exit,
};

use injector::{
    cli::{self, Command, RunOptions},
    exit::{Error, ExitCode, Result},
    foreign,
    kernel::KernelFiles,
    sinks,
};
use tracing_subscriber::EnvFilter;

fn main() {
    // In the guests of a sweep this same file is /init: the machine needs nothing but it.
    if injector_guest::init::is_wanted() {
        injector_guest::init::main();
    }
    let ExitCode(code) = match cli::parse(std::env::args_os()) {
        Ok(command) => {
            log(&command);
            dispatch(&command).unwrap_or_else(report)
        }
        Err(exit) => {
            if exit.code == ExitCode::OK {
                sinks::print(|out| write!(out, "{exit}")).map_or_else(report, |()| exit.code)
            } else {
                let _ = write!(io::stderr(), "{exit}");
                exit.code
            }
        }
    };
    exit(code);
}

fn dispatch(command: &Command) -> Result<ExitCode> {
    let files = KernelFiles::default();
    match command {
        Command::Run(plan, options, live) => verbs::run(&files, plan, *options, live),
        Command::Plan(file) => verbs::plan(file),
        Command::Check { json } => verbs::check(&files, *json),
        Command::Hooks { pattern, json } => verbs::hooks(&files, pattern.as_ref(), *json),
        Command::Control { run, request, json } => verbs::ctl(run, request, *json),
        Command::Sweep { plan, guests, reports, options: _ } => verbs::sweep(plan, guests.as_ref(), reports),
        Command::Sites { source, stacks, vmlinux } => verbs::sites(source, *stacks, vmlinux.as_deref()),
        Command::Replay(plan, guests) => verbs::replay(plan, guests.as_ref()),
        Command::Minimize(plan, guests) => verbs::minimize(plan, guests.as_ref()),
        Command::Merge { journals, output } => verbs::merge(journals, output.as_deref()),
        Command::Report { file, finding, reports, runs } => verbs::report(file, finding.as_deref(), reports, runs),
        Command::Export { journal, finding, output } => verbs::export(journal, finding, output.as_deref()),
        Command::Diff { a, b, json } => verbs::diff(a, b, *json),
        Command::Log { files, json } => verbs::log(files, *json),
        Command::Module(request) => verbs::module(&files, request),
        Command::Campaign(plan) => verbs::campaign(plan),
        Command::Workloads { name, tag, json, catalogue } => {
            verbs::workloads(name.as_deref(), tag.as_deref(), *json, catalogue.as_deref())
        }
        Command::Step(command) => verbs::step(command),
        Command::Completions(script) => verbs::completions(script),
        Command::Manual { pages, directory } => verbs::manual(pages, directory),
    }
}

/// Diagnostics go to standard error; `RUST_LOG` says which, if it is set.
fn log(command: &Command) {
    let options = match command {
        Command::Run(_, options, _) | Command::Sweep { options, .. } => *options,
        // They log nothing.
        Command::Check { .. }
        | Command::Hooks { .. }
        | Command::Plan(_)
        | Command::Module(_)
        | Command::Step(_)
        | Command::Workloads { .. } => {
            return;
        }
        Command::Completions(_) | Command::Manual { .. } => return,
        _ => RunOptions::default(),
    };
    let ours = if options.verbose { "debug" } else { "warn" };
    let ebpf = if options.ebpf_log { "trace" } else { "off" };
    // The records of aya-log have the eBPF side's module as their target; its program is called like this one.
    let default = format!("warn,injector={ours},injector::hook={ebpf}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(sinks::stderr).with_target(options.verbose).init();
}

/// Says what went wrong, and gives the exit code.
fn report(error: Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "injector: {}", foreign::lines(&format!("{error:#}")));
    error.exit_code()
}
