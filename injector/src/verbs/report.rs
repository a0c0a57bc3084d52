//! `injector report`: shows what a sweep found, or what a run did.

use std::{
    io::{self, Write},
    path::Path,
};

use injector::{
    cli::{Reports, RunReports},
    exit::{ExitCode, Result},
    foreign::Foreign,
    journal::{self, Journal},
    output,
    report::{self, Report, TEXT},
    sinks,
};

use super::{
    journals::some_sweep,
    reports::{check_files, exit_code, look_up_lines, read_known, search, stacks, write},
};

const JSON: &str = "json";
const HTML: &str = "html";
/// Options of forms of a sweep's report that a run's report has too.
const OF_RUNS: [&str; 3] = [TEXT.option, JSON, HTML];

/// Shows what a sweep found, or what a run did.
pub fn report(path: &Path, finding: Option<&str>, reports: &Reports, runs: &RunReports) -> Result<ExitCode> {
    check_files(&[path], reports)?;
    let name = Foreign::path(path).to_string();
    let refuse = |run, option: Option<&'static str>| -> Result<(), report::WrongKind> {
        match option {
            Some(option) => Err(report::WrongKind { file: name.clone(), run, option }),
            None => Ok(()),
        }
    };
    match report::open(path)? {
        report::Opened::Run(input) => {
            refuse(true, reports.forms.all().map(|form| form.option).find(|option| !OF_RUNS.contains(option)))?;
            refuse(true, (!reports.known.is_empty()).then_some("known"))?;
            if finding.is_some() {
                return Err(report::NoFindings { file: name }.into());
            }
            report_run(report::run::read_from(input, &name)?, reports, runs)
        }
        report::Opened::Journal(input) => {
            refuse(false, runs.given())?;
            report_sweep(&some_sweep(journal::read_from(input, &name)?)?, finding, reports)
        }
        report::Opened::Empty => Err(report::run::ReadError::Empty { name }.into()),
    }
}

fn report_sweep(journal: &Journal, finding: Option<&str>, reports: &Reports) -> Result<ExitCode> {
    let known = read_known(reports)?;
    let mut report = Report::of(journal);
    if let Some(finding) = finding {
        report.select(finding)?;
    }
    report.mark_known(&known);
    look_up_lines(&mut report, stacks(reports), &search(reports.vmlinux.as_deref()))?;
    write(&report, reports)?;
    Ok(exit_code(&report))
}

/// Sites that a run's text shows, where nobody says how many.
const TOP: usize = 10;

fn report_run(mut run: report::run::Run, reports: &Reports, runs: &RunReports) -> Result<ExitCode> {
    let Reports { forms, vmlinux, known: _ } = reports;
    let json = forms.stdout.option == JSON;
    let html = forms.files.iter().find(|(form, _)| form.option == HTML).map(|(_, path)| path);
    let RunReports { text: _, folded, csv, flamegraph, top } = runs;
    run.look_up_lines(&search(vmlinux.as_deref()))?;
    for remark in run.remarks.iter().filter(|_| *folded || *csv || json) {
        sinks::announce(format_args!("{}: {remark}", run.file));
    }
    let printed = sinks::print(|out| match (*folded, *csv, json) {
        (true, ..) => report::run::folded(&run, out),
        (_, true, _) => report::run::csv(&run, out),
        (.., true) => report::run::json(&run, out),
        _ => report::run::text(&run, top.unwrap_or(TOP), out),
    });
    type Form = fn(&report::run::Run, &mut dyn Write) -> io::Result<()>;
    for (path, form) in [(flamegraph.as_ref(), report::run::flamegraph as Form), (html, report::run::html as Form)] {
        if let Some(path) = path {
            output::replace(path, |file| form(&run, file))?;
        }
    }
    printed?;
    Ok(ExitCode::OK)
}
