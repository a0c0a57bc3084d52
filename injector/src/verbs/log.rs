//! `injector log`: shows the complaints in kernel logs.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use injector::{
    exit::{Context as _, ExitCode, Result},
    report, sinks,
};
use injector_log::reader::LogError;

/// Shows the complaints in kernel logs.
pub fn log(files: &[PathBuf], json: bool) -> Result<ExitCode> {
    const STANDARD_INPUT: &str = "-";
    let standard_input = [PathBuf::from(STANDARD_INPUT)];
    let files = if files.is_empty() { &standard_input } else { files };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut code = ExitCode::OK;
    for file in files {
        let log: Box<dyn io::Read> = if file == Path::new(STANDARD_INPUT) {
            Box::new(io::stdin().lock())
        } else {
            match File::open(file) {
                Ok(log) => Box::new(log),
                Err(error) => {
                    sinks::announce(format_args!("{}: {error}", file.display()));
                    code = ExitCode::USAGE;
                    continue;
                }
            }
        };
        match report::log::write(file, log, json, &mut out).and_then(|summary| {
            out.flush().map_err(LogError::Write)?;
            Ok(summary)
        }) {
            Ok(summary) if summary.complaints > 0 && code == ExitCode::OK => code = ExitCode::FINDINGS,
            Ok(_) => {}
            // The reader of a long list has seen enough.
            Err(LogError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(code),
            Err(LogError::Write(error)) => return Err(error).context("can't write the complaints"),
            Err(error) => {
                let name =
                    if file == Path::new(STANDARD_INPUT) { "standard input".into() } else { file.to_string_lossy() };
                sinks::announce(format_args!("{name}: {error}"));
                code = ExitCode::USAGE;
            }
        }
    }
    Ok(code)
}
