//! The reports of a sweep, in the forms that were asked for.

use std::path::{Path, PathBuf};

use injector::{
    cli::{Forms, Reports},
    exit::{ExitCode, Result},
    output,
    report::{
        Report, Stacks,
        known::{self, Known},
    },
    sinks,
    symbols::{self, LineSources, LinesError},
};

/// Refuses files for the report that are read, or each other.
pub fn check_files(inputs: &[&Path], reports: &Reports) -> Result<()> {
    let outputs: Vec<&Path> = reports.forms.files.iter().map(|(_, path)| path.as_path()).collect();
    let vmlinux = reports.vmlinux.as_deref();
    let known: Vec<&Path> = reports.known.iter().map(PathBuf::as_path).collect();
    Ok(output::distinct(&[inputs, vmlinux.as_slice(), &known].concat(), &outputs)?)
}

/// Writes a sweep's report to standard output and to the files that were named.
pub fn write(report: &Report, reports: &Reports) -> Result<()> {
    let Forms { stdout, files } = &reports.forms;
    // Files are written whatever becomes of standard output.
    let printed = sinks::print(|out| (stdout.write)(report, out));
    for (form, path) in files {
        output::replace(path, |file| (form.write)(report, file))?;
    }
    printed
}

/// What the report of a sweep says in short.
pub fn exit_code(report: &Report) -> ExitCode {
    if report.has_new_findings() {
        return ExitCode::FINDINGS;
    }
    // Known findings are the work of failures, too.
    if report.counts.failed + report.counts.masked > 0 || !report.findings.is_empty() {
        return ExitCode::OK;
    }
    sinks::announce(format_args!("no site was failed: this says nothing about the kernel"));
    ExitCode::NOTHING_FAILED
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
