//! `injector workloads`: the catalogue, and what of it can't run here.

use std::path::Path;

use injector::{
    exit::{ExitCode, Result},
    sinks,
    workloads::{
        self, Catalogue,
        list::{self, Entry},
    },
};

/// Lists the workloads of the catalogue, or shows one.
pub fn workloads(name: Option<&str>, tag: Option<&str>, json: bool, catalogue: Option<&Path>) -> Result<ExitCode> {
    if let Some(name) = name {
        let file = workloads::find(name, catalogue)?;
        let entry = Entry::new(&file);
        sinks::print(|out| if json { list::json(&[entry], out) } else { list::details(&entry, &file, out) })?;
        return Ok(ExitCode::OK);
    }
    let files = Catalogue::find(catalogue)?.all(tag)?;
    let entries: Vec<Entry> = files.iter().map(Entry::new).collect();
    sinks::print(|out| if json { list::json(&entries, out) } else { list::text(&entries, out) })?;
    Ok(ExitCode::OK)
}
