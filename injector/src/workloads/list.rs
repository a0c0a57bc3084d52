//! The list of workloads: `injector workloads`.

use std::io::{self, Write};

use serde::Serialize;

use super::{Missing, missing};
use crate::plan::workload::WorkloadFile;

/// A workload in the list. The names are those of the JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// One line.
    pub description: String,
    /// What it belongs to.
    pub tags: Vec<String>,
    /// Programs that it needs.
    pub programs: Vec<String>,
    /// Debian's packages with them.
    pub packages: Vec<String>,
    /// Modules that it needs.
    pub modules: Vec<String>,
    /// Options that the kernel must have.
    pub options: Vec<String>,
    /// Devices that its guests get.
    pub devices: Vec<String>,
    /// How long its sweep takes at most, in seconds.
    pub budget: Option<f64>,
    /// Programs that this machine lacks.
    pub missing_programs: Vec<String>,
    /// Its file.
    pub file: String,
}

impl Entry {
    /// What is known of a workload on this machine.
    #[must_use]
    pub fn new(file: &WorkloadFile) -> Self {
        Self::with(file, missing(file))
    }

    fn with(file: &WorkloadFile, missing: Option<Missing>) -> Self {
        Self {
            name: file.name.clone(),
            description: file.description.clone(),
            tags: file.tags.clone(),
            programs: file.programs.clone(),
            packages: file.packages.clone(),
            modules: file.modules.iter().map(ToString::to_string).collect(),
            options: file.options.clone(),
            devices: file.devices.clone(),
            budget: file.budget.map(|budget| budget.as_secs_f64()),
            missing_programs: missing.map(|missing| missing.programs).unwrap_or_default(),
            file: file.path.display().to_string(),
        }
    }
}

/// The list as text: a line each, and one more for what is missing.
///
/// # Errors
/// It can't be written.
pub fn text(entries: &[Entry], out: &mut dyn Write) -> io::Result<()> {
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or_default();
    let tags = |entry: &Entry| entry.tags.join(",");
    let tag_width = entries.iter().map(|entry| tags(entry).len()).max().unwrap_or_default();
    for entry in entries {
        writeln!(out, "{:width$}  {:tag_width$}  {}", entry.name, tags(entry), entry.description)?;
        if !entry.missing_programs.is_empty() {
            writeln!(out, "{:width$}  missing here: {}", "", lacks(entry))?;
        }
    }
    Ok(())
}

/// The programs that are missing, and how to get them.
fn lacks(entry: &Entry) -> String {
    let programs = entry.missing_programs.join(", ");
    if entry.packages.is_empty() {
        return programs;
    }
    format!("{programs} (Debian: apt-get install {})", entry.packages.join(" "))
}

/// All about one workload.
///
/// # Errors
/// It can't be written.
pub fn details(entry: &Entry, file: &WorkloadFile, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: {}", entry.name, entry.description)?;
    let rows = [
        ("file", vec![entry.file.clone()]),
        ("tags", entry.tags.clone()),
        ("programs", entry.programs.clone()),
        ("packages", entry.packages.clone()),
        ("modules", entry.modules.clone()),
        ("options", entry.options.clone()),
        ("devices", entry.devices.clone()),
        ("budget", file.budget.map(crate::plan::duration::format).into_iter().collect()),
        ("memory", file.memory_mb.map(|memory| format!("{memory} MiB")).into_iter().collect()),
    ];
    for (name, values) in rows {
        if !values.is_empty() {
            writeln!(out, "  {name:9} {}", values.join(" "))?;
        }
    }
    if !entry.missing_programs.is_empty() {
        writeln!(out, "  missing here: {}", lacks(entry))?;
    }
    let commands = file.commands(true);
    let run = if file.run.len() == 1 { file.run[0].clone() } else { commands.run.join(" ") };
    for (name, command) in [("setup", commands.setup), ("run", Some(run)), ("cleanup", commands.cleanup)] {
        let Some(command) = command else { continue };
        writeln!(out, "\n{name}:")?;
        for line in command.trim().lines() {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}

/// The list as JSON.
///
/// # Errors
/// It can't be written.
pub fn json(entries: &[Entry], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, entries)?;
    writeln!(out)
}
