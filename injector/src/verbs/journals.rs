//! Journals as the verbs read them: what is wrong with one is said on standard error.

use std::path::Path;

use injector::{
    exit::Result,
    journal::{self, Journal},
    sinks,
};

/// Reads a journal, and says what is wrong with it.
pub fn read(path: &Path) -> Result<Journal> {
    let journal = journal::read(path)?;
    say_remarks(&journal);
    Ok(journal)
}

/// Says what is wrong with a journal that could be read all the same.
pub fn say_remarks(journal: &Journal) {
    for remark in &journal.remarks {
        sinks::announce(format_args!("{}: {remark}", journal.name));
    }
}
