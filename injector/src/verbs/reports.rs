//! The reports of a sweep, in the forms that were asked for.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use injector::{
    cli::{Forms, Reports},
    exit::{Context as _, Result},
    report::{
        Report, Stacks,
        known::{self, Known},
    },
    sinks,
    symbols::{self, LineSources, LinesError},
};

/// Writes a sweep's report to standard output and to the files that were named.
pub fn write(report: &Report, reports: &Reports) -> Result<()> {
    let Forms { stdout, files } = &reports.forms;
    let mut out = BufWriter::new(io::stdout());
    (stdout.write)(report, &mut out).and_then(|()| out.flush()).context("can't write the report")?;
    for (form, path) in files {
        write_file(path, |file| (form.write)(report, file))?;
    }
    Ok(())
}

/// What is known already.
pub fn read_known(reports: &Reports) -> Result<Vec<Known>> {
    let mut known = Vec::new();
    for path in &reports.known {
        known.extend(known::read(path)?);
    }
    Ok(known)
}

/// The stacks that are in these forms.
pub fn stacks(reports: &Reports) -> Stacks {
    reports.forms.all().map(|form| form.stacks).max().unwrap_or(Stacks::None)
}

/// Where source lines are looked up.
pub fn search(vmlinux: Option<&Path>) -> LineSources {
    LineSources { vmlinux: vmlinux.map(Path::to_owned), ..LineSources::default() }
}

/// Adds the source lines of what is shown.
pub fn look_up_lines(report: &mut Report, shown: Stacks, search: &LineSources) -> Result<(), LinesError> {
    let Some(config) = &report.config else { return Ok(()) };
    let kernel = &config.kernel;
    let kernel = symbols::Kernel { release: &kernel.release, build_id: kernel.build_id.as_deref() };
    let frames = report.frames(shown);
    let frames = frames.iter().map(String::as_str).collect();
    report.lines = symbols::lines(&frames, kernel, search)?;
    Ok(())
}

/// Writes one form of a report to a file.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut file = BufWriter::new(sinks::create(path)?);
    write(&mut file).and_then(|()| file.flush()).with_context(|| format!("can't write {}", path.display()))
}
