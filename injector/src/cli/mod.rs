//! The command line. Nothing else knows clap: what leaves here is a [`Command`] with finished values.

mod backend;
mod campaign;
mod check;
mod completions;
mod ctl;
mod execute;
mod export;
mod filter;
mod help;
mod hooks;
mod journals;
mod live;
mod log;
mod manual;
mod module;
mod policy;
mod reports;
mod run;
mod sweep;
mod workloads;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::campaign::CampaignPlan;
use crate::control::{Request, Which};
use crate::exit::ExitCode;
use crate::foreign::{self, Foreign};
use crate::hook_list::NamePattern;
use crate::module_setup;
use crate::plan::Plan;
use crate::plan::sweep::{Guests, Journal, SweepPlan};
use crate::run::LiveOptions;
use crate::sweep::replay::ReplayPlan;

pub use manual::Page;
pub use reports::{Forms, Reports, RunReports};

/// A command line that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Inject.
    Run(Box<Plan>, RunOptions, LiveOptions),
    /// Send a request to a run.
    Control {
        /// The run.
        run: Which,
        /// The request.
        request: Request,
        /// Print the state as JSON.
        json: bool,
    },
    /// Print this text, a plan file.
    Plan(String),
    /// Fail every site that a workload reaches.
    Sweep {
        /// The plan of the sweep.
        plan: Box<SweepPlan>,
        /// The guests to run in; none: this machine.
        guests: Option<Guests>,
        /// The forms of the report.
        reports: Reports,
        /// The options of the log.
        options: RunOptions,
    },
    /// Show the sites of a journal, or those that a workload reaches.
    Sites {
        /// Whose sites.
        source: SitesOf,
        /// Show stacks.
        stacks: bool,
        /// The vmlinux that was named.
        vmlinux: Option<PathBuf>,
    },
    /// Try to reproduce a finding.
    Replay(ReplayPlan, Option<Guests>),
    /// Find the fewest failures that lead to a finding.
    Minimize(ReplayPlan, Option<Guests>),
    /// Merge journals.
    Merge {
        /// The journals.
        journals: Vec<PathBuf>,
        /// The file to write; none: standard output.
        output: Option<PathBuf>,
    },
    /// Show what a sweep found, or what a run did.
    Report {
        /// The journal or the run's output.
        file: PathBuf,
        /// The only finding to show.
        finding: Option<String>,
        /// The forms of the report.
        reports: Reports,
        /// The forms that only runs have.
        runs: RunReports,
    },
    /// Write a finding as a script that needs no injector.
    Export {
        /// The journal.
        journal: PathBuf,
        /// The finding.
        finding: String,
        /// The file to write; none: standard output.
        output: Option<PathBuf>,
    },
    /// Compare two runs, or two sweeps.
    Diff {
        /// The first run or journal.
        a: PathBuf,
        /// The second run or journal.
        b: PathBuf,
        /// Print JSON.
        json: bool,
    },
    /// Show what a kernel complained about in its logs.
    Log {
        /// The logs; none: standard input.
        files: Vec<PathBuf>,
        /// Print JSON.
        json: bool,
    },
    /// Sweep many workloads.
    Campaign(Box<CampaignPlan>),
    /// List the workloads of the catalogue.
    Workloads {
        /// The only one to show, with all about it.
        name: Option<String>,
        /// The tag of those to show.
        tag: Option<String>,
        /// Print JSON.
        json: bool,
        /// The directory that was named.
        catalogue: Option<PathBuf>,
    },
    /// Run a step of a script that a sweep retries.
    Step(Vec<OsString>),
    /// List what the injector needs and what is missing.
    Check {
        /// Print JSON.
        json: bool,
    },
    /// Build, install, load or remove the module injector_hooks.
    Module(module_setup::Request),
    /// Print this script, which completes command lines in a shell.
    Completions(Vec<u8>),
    /// Write the manual.
    Manual {
        /// Its pages.
        pages: Vec<Page>,
        /// Where they go.
        directory: PathBuf,
    },
    /// List the injectable functions.
    Hooks {
        /// Which functions to list; none: all.
        pattern: Option<NamePattern>,
        /// Print JSON.
        json: bool,
    },
}

/// Whose sites are shown.
#[derive(Clone, Debug, PartialEq)]
pub enum SitesOf {
    /// A journal.
    Journal(PathBuf),
    /// Those of a workload, which is run.
    Workload(Box<SweepPlan>),
}

/// What diagnostics to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// The diagnostics of the eBPF programs.
    pub ebpf_log: bool,
    /// More diagnostics of the injector itself.
    pub verbose: bool,
}

/// There is nothing to do but to print a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Help, version, or one line that says what is wrong.
    pub text: String,
    /// [`ExitCode::OK`] for help and version, which go to standard output; [`ExitCode::USAGE`] for errors.
    pub code: ExitCode,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Parser)]
#[command(
    name = "injector",
    version,
    about = help::ABOUT,
    long_about = help::LONG_ABOUT,
    after_help = help::AFTER,
    after_long_help = help::LONG_AFTER,
    override_usage = "injector [OPTIONS] [-- CMD…]\n       injector --plan FILE [OPTIONS] [-- CMD…]\n       injector sweep [OPTIONS] -- CMD…\n       injector ctl COMMAND\n       injector check [--json]\n       injector hooks [--json] [PATTERN]\n       injector module COMMAND",
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Subcommand)]
enum Verb {
    Check(check::CheckArgs),
    Plan(Box<run::PlanArgs>),
    Hooks(hooks::HooksArgs),
    Ctl(ctl::CtlArgs),
    Sweep(Box<sweep::SweepArgs>),
    Campaign(Box<campaign::CampaignArgs>),
    Workloads(workloads::WorkloadsArgs),
    Sites(journals::SitesArgs),
    Replay(Box<journals::ReplayArgs>),
    /// Find the fewest of several failures that lead to a finding
    Minimize(Box<journals::ReplayArgs>),
    Merge(journals::MergeArgs),
    Report(Box<journals::ReportArgs>),
    Export(export::ExportArgs),
    Diff(journals::DiffArgs),
    Log(log::LogArgs),
    Module(module::ModuleArgs),
    Step(journals::StepArgs),
    Completions(completions::CompletionsArgs),
    Manual(manual::ManualArgs),
    Execute(execute::ExecuteArgs),
}

/// Reads a command line; the first argument is the program's name.
///
/// # Errors
/// Help or version is asked for, or something is wrong.
pub fn parse<I, T>(args: I) -> Result<Command, Exit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.iter().position(|arg| arg == "--").is_some_and(|dashes| dashes + 1 == args.len()) {
        return Err(refuse(NO_COMMAND));
    }
    let matches = command().try_get_matches_from(args);
    let Cli { verb, run } =
        matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| exit(&error))?;
    match verb {
        Some(Verb::Check(check::CheckArgs { json })) => Ok(Command::Check { json }),
        Some(Verb::Plan(plan)) => {
            plan.run.into_plan_file().map(Command::Plan).map_err(|error| refuse(&error.to_string()))
        }
        Some(Verb::Hooks(hooks::HooksArgs { json, pattern })) => Ok(Command::Hooks { pattern, json }),
        Some(Verb::Ctl(ctl)) => Ok(ctl.into_command()),
        Some(Verb::Sweep(sweep)) => {
            let options = sweep.options();
            let (plan, guests, reports) = sweep.into_plan().map_err(|error| refuse_guests(&error))?;
            Ok(Command::Sweep { plan: Box::new(plan), guests, reports, options })
        }
        Some(Verb::Campaign(campaign)) => campaign.into_plan().map(|plan| Command::Campaign(Box::new(plan))),
        Some(Verb::Sites(journals::SitesArgs { journal, verbose: stacks, vmlinux, no_kthreads, command })) => {
            let source = match journal {
                Some(journal) => SitesOf::Journal(journal),
                None => {
                    let plan = SweepPlan::new(command, Journal::None);
                    SitesOf::Workload(Box::new(SweepPlan { kthreads: !no_kthreads, failing: false, ..plan }))
                }
            };
            Ok(Command::Sites { source, stacks, vmlinux })
        }
        Some(Verb::Replay(replay)) => {
            let (plan, guests) = replay.into_plan().map_err(|error| refuse_guests(&error))?;
            Ok(Command::Replay(plan, guests))
        }
        Some(Verb::Minimize(replay)) => {
            let (plan, guests) = replay.into_plan().map_err(|error| refuse_guests(&error))?;
            Ok(Command::Minimize(plan, guests))
        }
        Some(Verb::Merge(journals::MergeArgs { journals, output })) => Ok(Command::Merge { journals, output }),
        Some(Verb::Report(report)) => {
            let journals::ReportArgs { file, finding, reports, runs } = *report;
            Ok(Command::Report { file, finding, reports, runs })
        }
        Some(Verb::Export(export::ExportArgs { journal, finding, output })) => {
            Ok(Command::Export { journal, finding, output })
        }
        Some(Verb::Diff(journals::DiffArgs { a, b, json })) => Ok(Command::Diff { a, b, json }),
        Some(Verb::Log(log::LogArgs { json, files })) => Ok(Command::Log { files, json }),
        Some(Verb::Module(module)) => Ok(Command::Module(module.into_request())),
        Some(Verb::Workloads(workloads::WorkloadsArgs { name, tag, json, workloads })) => {
            Ok(Command::Workloads { name, tag, json, catalogue: workloads })
        }
        Some(Verb::Step(journals::StepArgs { command })) => Ok(Command::Step(command)),
        Some(Verb::Completions(completions)) => Ok(Command::Completions(completions.into_script())),
        Some(Verb::Manual(manual::ManualArgs { directory })) => {
            Ok(Command::Manual { pages: manual::pages(), directory })
        }
        Some(Verb::Execute(execute)) => execute.into_command(),
        None => {
            let (options, live) = (run.options(), run.live());
            let plan = run.into_plan().map_err(|error| refuse(&error.to_string()))?;
            Ok(Command::Run(Box::new(plan), options, live))
        }
    }
}

/// A command that got lost must not make the whole machine the target.
const NO_COMMAND: &str = "there is no command after --; write the program and its arguments, or leave -- out";

fn command() -> clap::Command {
    run::plan_excludes_rules(Cli::command()).mut_subcommand("plan", run::plan_excludes_rules)
}

/// The one line for bad input.
fn refuse(what: &str) -> Exit {
    Exit { text: format!("injector: {}\n", foreign::line(what)), code: ExitCode::USAGE }
}

fn refuse_guests(error: &sweep::GuestsError) -> Exit {
    Exit { code: error.code(), ..refuse(&error.to_string()) }
}

fn exit(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Exit { text: error.render().to_string(), code: ExitCode::OK }
        }
        _ => refuse(&one_line(error)),
    }
}

/// clap's message without the usage that follows it.
fn one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let text = error.render().to_string();
    // The values' own errors quote the value and say what would be right.
    if error.kind() == ErrorKind::ValueValidation
        && let (Some(option), Some(source)) = (context(ContextKind::InvalidArg), std::error::Error::source(error))
    {
        // A word that is no option needs no name: its error says which knob of it is wrong.
        if option.starts_with('<') {
            return source.to_string();
        }
        let option = option.split(' ').next().unwrap_or(option).trim_matches(['[', ']']);
        return format!("{option}: {source}");
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(argument) = context(ContextKind::InvalidArg)
        && !argument.starts_with('-')
    {
        let program = program(&text);
        let usage = text.lines().find(|line| line.trim().starts_with("Usage:")).unwrap_or_default();
        if !usage.contains("-- ") {
            return format!("what is `{}`? Try {program} --help", Foreign::from(argument));
        }
        let argument = Foreign::from(argument);
        return format!("what is `{argument}`? A command to run comes after `--`: {program} [OPTIONS] -- {argument} …");
    }
    if error.kind() == ErrorKind::ArgumentConflict
        && let Some(option) = beside_plan(error)
    {
        return format!("--plan takes hooks, filters and policy from its file: {option} belongs into a [[rule]] of it");
    }
    if error.kind() == ErrorKind::MissingRequiredArgument
        && let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg)
    {
        return format!("missing here: {}; try {} --help", missing.join(" "), program(&text));
    }
    let said =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let said: Vec<&str> = said.filter(|line| !line.is_empty() && !line.contains(" as a value, use ")).collect();
    let mut said = said.join("; ");
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue, ContextKind::InvalidSubcommand] {
        if let Some(foreign) = context(kind).filter(|foreign| foreign.len() > Foreign::SHOWN) {
            said = said.replace(foreign, &Foreign::from(foreign).to_string());
        }
    }
    format!("{}; try {} --help", said.strip_prefix("error: ").unwrap_or(&said), program(&text))
}

/// The option that is given beside `--plan` and must not be.
fn beside_plan(error: &clap::Error) -> Option<&str> {
    let names = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.as_str()],
        Some(ContextValue::Strings(texts)) => texts.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let both = [names(ContextKind::InvalidArg), names(ContextKind::PriorArg)].concat();
    let mut names = both.into_iter().map(|option| option.split(' ').next().unwrap_or(option));
    let is_plan = |name: &str| name == "--plan";
    names.clone().any(is_plan).then(|| names.find(|name| !is_plan(name))).flatten()
}

/// The program with the verb that the usage in clap's message is about.
fn program(message: &str) -> String {
    let usage = message.lines().find_map(|line| line.trim().strip_prefix("Usage: injector ")).unwrap_or_default();
    match usage.split(' ').next() {
        Some(verb) if verb.starts_with(|first: char| first.is_ascii_lowercase()) => format!("injector {verb}"),
        _ => "injector".to_owned(),
    }
}

#[cfg(test)]
mod tests;
