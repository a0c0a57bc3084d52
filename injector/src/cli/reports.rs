//! The options that choose the forms of a report.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::report::{Destination, FORMS, Form, TEXT};

const REPORTS: &str = "Reports";

/// What is reported, and how.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// The forms of the report.
    #[command(flatten)]
    pub forms: Forms,

    /// The vmlinux with debug information, for source lines
    ///
    /// It must have the build id of the kernel under test. The default is a vmlinux beside the image of --vm, or in the places
    /// where distributions install it, if the build id is the same. Otherwise the report has no source lines.
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub vmlinux: Option<PathBuf>,

    /// Findings that are known: they are listed apart and do not change the exit code; repeatable
    ///
    /// The file is the journal of another sweep, or a list: a line for each finding, `VERDICT: TITLE @ FUNCTION < CALLER, …`, as
    /// --list writes them. A finding is known if its title is the same, and if one of the allocations whose failure leads to it has
    /// these functions in its call chain; without functions, the title decides. So a list is good for other kernel versions. What is
    /// known and was not found is said.
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    pub known: Vec<PathBuf>,
}

/// The forms of a report that are chosen. Their options are those of [`FORMS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forms {
    /// The one on standard output.
    pub stdout: &'static Form,
    /// Those in files, in the order of [`FORMS`].
    pub files: Vec<(&'static Form, PathBuf)>,
}

impl Forms {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &'static Form> {
        std::iter::once(self.stdout).chain(self.files.iter().map(|(form, _)| *form))
    }
}

impl Default for Forms {
    fn default() -> Self {
        Self { stdout: &TEXT, files: Vec::new() }
    }
}

impl Args for Forms {
    fn augment_args(command: Command) -> Command {
        command.args(FORMS.iter().map(|form| {
            let arg = Arg::new(form.option).long(form.option).help(form.help).help_heading(REPORTS);
            match form.to {
                Destination::Stdout => {
                    let others = on_stdout().filter(|other| *other != form.option);
                    arg.action(ArgAction::SetTrue).conflicts_with_all(others)
                }
                Destination::File => arg.value_name("FILE").value_parser(value_parser!(PathBuf)),
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Forms {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut forms = Self::default();
        for form in &FORMS {
            match form.to {
                Destination::Stdout if matches.get_flag(form.option) => forms.stdout = form,
                Destination::Stdout => {}
                Destination::File => {
                    forms.files.extend(matches.get_one(form.option).map(|path: &PathBuf| (form, path.clone())));
                }
            }
        }
        Ok(forms)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The options of the forms that go to standard output.
fn on_stdout() -> impl Iterator<Item = &'static str> {
    FORMS.iter().filter(|form| form.to == Destination::Stdout).map(|form| form.option)
}

const RUNS: &str = "Reports of runs";

/// The forms that only the report of a run has.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReports {
    /// The text is asked for.
    #[arg(long, help = TEXT.help, conflicts_with_all = on_stdout().chain(["folded", "csv"]), help_heading = REPORTS)]
    pub text: bool,

    /// Folded stacks on standard output, for flame graph tools: frames;from;outside;in COUNT
    #[arg(long, conflicts_with_all = on_stdout().chain(["csv"]), help_heading = RUNS)]
    pub folded: bool,

    /// A table of sites on standard output, as comma-separated values
    #[arg(long, conflicts_with_all = on_stdout(), help_heading = RUNS)]
    pub csv: bool,

    /// Write a flame graph of the failures' stacks to this file
    #[arg(long, value_name = "FILE", help_heading = RUNS)]
    pub flamegraph: Option<PathBuf>,

    /// Show this many sites in the text, most frequent first; 0: all [default: 10]
    #[arg(long, value_name = "N", value_parser = sites, conflicts_with_all = on_stdout().chain(["folded", "csv"]), help_heading = RUNS)]
    pub top: Option<usize>,
}

impl RunReports {
    /// The first option, without dashes, that is given and that only a run's report has.
    #[must_use]
    pub fn given(&self) -> Option<&'static str> {
        let Self { text: _, folded, csv, flamegraph, top } = self;
        let options =
            [(*folded, "folded"), (*csv, "csv"), (flamegraph.is_some(), "flamegraph"), (top.is_some(), "top")];
        options.into_iter().find_map(|(given, option)| given.then_some(option))
    }
}

fn sites(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number of sites; write a whole number, or 0 for all"))
}
