//! Journals as the verbs read them: what is wrong with one is said on standard error.

use std::path::Path;

use injector::{
    exit::{Error, ExitCode, Result},
    foreign::Foreign,
    journal::{self, Journal},
    sinks,
};

/// Reads a journal, and says what is wrong with it. One without a sweep is refused: it would look like one without findings.
pub fn read(path: &Path) -> Result<Journal> {
    some_sweep(journal::read(path)?)
}

/// Says what is wrong with a journal, and refuses one without a sweep.
pub fn some_sweep(journal: Journal) -> Result<Journal> {
    if journal.sections.is_empty() {
        let name = Foreign::from(journal.name);
        return Err(Error::new(ExitCode::USAGE, format_args!("{name} is empty: it has no sweep in it")));
    }
    say_remarks(&journal);
    Ok(journal)
}

/// Says what is wrong with a journal that could be read all the same.
fn say_remarks(journal: &Journal) {
    for remark in &journal.remarks {
        sinks::announce(format_args!("{}: {remark}", journal.name));
    }
}
