//! `injector diff`: shows what two runs or two sweeps differ in.

use std::{
    io::{self, BufRead, Write},
    path::Path,
};

use injector::{
    exit::{ExitCode, Result},
    foreign::Foreign,
    journal,
    report::{
        self, OfTwoKinds, Opened, Report, SweepDiff,
        run::{self, Diff, Run},
    },
    sinks,
};
use serde::Serialize;

use super::journals::some_sweep;

/// Shows what two runs or two sweeps differ in.
pub fn diff(a: &Path, b: &Path, json: bool) -> Result<ExitCode> {
    let names = [a, b].map(|path| Foreign::path(path).to_string());
    match (report::open(a)?, report::open(b)?) {
        (Opened::Run(a), Opened::Run(b)) => runs([a, b], &names, json),
        (Opened::Journal(a), Opened::Journal(b)) => sweeps([a, b], &names, json),
        (Opened::Run(_), Opened::Journal(_)) => {
            Err(OfTwoKinds { run: names[0].clone(), journal: names[1].clone() }.into())
        }
        (Opened::Journal(_), Opened::Run(_)) => {
            Err(OfTwoKinds { run: names[1].clone(), journal: names[0].clone() }.into())
        }
        (Opened::Empty, _) => Err(run::ReadError::Empty { name: names[0].clone() }.into()),
        (_, Opened::Empty) => Err(run::ReadError::Empty { name: names[1].clone() }.into()),
    }
}

fn runs([a, b]: [Box<dyn BufRead>; 2], names: &[String; 2], json: bool) -> Result<ExitCode> {
    let read = |input, name: &String| -> Result<Run> {
        let run = run::read_from(input, name)?;
        for remark in &run.remarks {
            sinks::announce(format_args!("{name}: {remark}"));
        }
        Ok(run)
    };
    let diff = Diff::new(&read(a, &names[0])?, &read(b, &names[1])?);
    print(&diff, json, |out| diff.text(out))?;
    Ok(if diff.has_other_sites() { ExitCode::FINDINGS } else { ExitCode::OK })
}

fn sweeps([a, b]: [Box<dyn BufRead>; 2], names: &[String; 2], json: bool) -> Result<ExitCode> {
    let read =
        |input, name: &String| -> Result<Report> { Ok(Report::of(&some_sweep(journal::read_from(input, name)?)?)) };
    let diff = SweepDiff::new(&read(a, &names[0])?, &read(b, &names[1])?);
    print(&diff, json, |out| diff.text(out))?;
    Ok(if diff.has_other_findings() { ExitCode::FINDINGS } else { ExitCode::OK })
}

fn print(diff: &impl Serialize, json: bool, text: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    sinks::print(|out| if json { run::json(diff, out) } else { text(out) })
}
