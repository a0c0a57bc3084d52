//! `injector diff`: shows what two runs or two sweeps differ in.

use std::{
    io::{self, BufRead, BufWriter, Write},
    path::Path,
};

use injector::{
    exit::{Context as _, ExitCode, Result},
    journal,
    report::{
        self, OfTwoKinds, Opened, Report, SweepDiff,
        run::{self, Diff, Run},
    },
    sinks,
};
use serde::Serialize;

use super::journals::say_remarks;

/// Shows what two runs or two sweeps differ in.
pub fn diff(a: &Path, b: &Path, json: bool) -> Result<ExitCode> {
    let names = [a, b].map(|path| path.display().to_string());
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
    let read = |input, name: &String| -> Result<Report> {
        let journal = journal::read_from(input, name)?;
        say_remarks(&journal);
        Ok(Report::of(&journal))
    };
    let diff = SweepDiff::new(&read(a, &names[0])?, &read(b, &names[1])?);
    print(&diff, json, |out| diff.text(out))?;
    Ok(if diff.has_other_findings() { ExitCode::FINDINGS } else { ExitCode::OK })
}

fn print(diff: &impl Serialize, json: bool, text: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout());
    let written = if json { run::json(diff, &mut out) } else { text(&mut out) };
    written.and_then(|()| out.flush()).context("can't write what they differ in")
}
