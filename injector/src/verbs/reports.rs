//! The reports of a sweep, in the forms that were asked for.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use injector::{
    cli::Reports,
    exit::{Context as _, Result},
    report::{self, Report, Stacks},
    sinks,
    symbols::{self, LineSources, LinesError},
};

/// Writes a sweep's report to standard output and to the files that were named.
pub fn write(report: &Report, reports: &Reports) -> Result<()> {
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
pub fn stacks(reports: &Reports) -> Stacks {
    let Reports { ktap, json, junit: _, html, vmlinux: _ } = reports;
    match (json, html, ktap) {
        (true, ..) | (_, Some(_), _) => Stacks::All,
        (.., true) => Stacks::None,
        _ => Stacks::Findings,
    }
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
    report.lines = symbols::lines(&report.frames(shown), kernel, search)?;
    Ok(())
}

/// Writes one form of a report to a file.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut file = BufWriter::new(sinks::create(path)?);
    write(&mut file).and_then(|()| file.flush()).with_context(|| format!("can't write {}", path.display()))
}
