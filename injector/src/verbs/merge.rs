//! `injector merge`: puts journals together.

use std::path::{Path, PathBuf};

use injector::{
    exit::{ExitCode, Result},
    journal, output, sinks,
};

use super::journals::read;

/// Puts journals together.
pub fn merge(paths: &[PathBuf], file: Option<&Path>) -> Result<ExitCode> {
    let inputs: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    output::distinct(&inputs, file.as_slice())?;
    let journals = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let merged = journal::merge(&journals)?;
    match file {
        None => sinks::print(|out| merged.write(out))?,
        Some(path) => output::replace(path, |out| merged.write(out))?,
    }
    Ok(ExitCode::OK)
}
