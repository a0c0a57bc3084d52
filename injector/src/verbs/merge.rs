//! `injector merge`: puts journals together.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use injector::{
    exit::{Context as _, ExitCode, Result},
    journal,
};

use super::journals::read;

/// Puts journals together.
pub fn merge(paths: &[PathBuf], output: Option<&Path>) -> Result<ExitCode> {
    let journals = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let merged = journal::merge(&journals)?;
    let (mut out, name): (Box<dyn Write>, _) = match output {
        None => (Box::new(io::stdout()), "the journal".into()),
        Some(path) => {
            let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
            (Box::new(file), path.display().to_string())
        }
    };
    merged.write(&mut BufWriter::new(&mut out)).with_context(|| format!("can't write {name}"))?;
    Ok(ExitCode::OK)
}
