//! Unites journals of the same kernel and workload, from several machines or options.
//!
//! A journal is a set of sections. A section that holds nothing but lines of another one of the same sweep, in the same
//! order, is a copy from an earlier time, or a damaged one, and is dropped; nothing else is. Two copies that went on
//! apart stay two sections. So the outcome is the same whatever the order, and merging again changes nothing: it is
//! the maximal elements of a union under a partial order.

use std::fmt;

use super::{Difference, Journal, Record, Section, differences};

/// Journals that have nothing to do with each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Incompatible {
    /// One.
    pub a: String,
    /// The other.
    pub b: String,
    /// In what they differ.
    pub differences: Vec<Difference>,
}

crate::exit::has_exit_code!(Incompatible => USAGE);

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { a, b, differences } = self;
        write!(f, "{a} and {b} can't be merged:")?;
        for (i, difference) in differences.iter().enumerate() {
            let between = if i > 0 { ";" } else { "" };
            write!(f, "{between} {}", difference.line(&format!("in {a}"), &format!("in {b}")))?;
        }
        Ok(())
    }
}

/// Unites journals. They may differ in `--shard`, `--hit`, `--persistent` and `--depth`. The result has no remarks: the
/// damaged lines are not in it.
///
/// # Errors
/// They differ in something else.
pub fn merge(journals: &[Journal]) -> Result<Journal, Incompatible> {
    let mut all: Vec<(&str, &Section)> = Vec::new();
    for journal in journals {
        for section in &journal.sections {
            if let Some((name, first)) = all.first() {
                let mut differences = differences(&first.begin, &section.begin);
                differences.retain(|difference| !difference.what.may_be_merged());
                if !differences.is_empty() {
                    return Err(Incompatible { a: (*name).to_owned(), b: journal.name.clone(), differences });
                }
            }
            all.push((&journal.name, section));
        }
    }
    let mut sections: Vec<(String, Vec<String>, &Section)> =
        all.into_iter().map(|(_, section)| (section.begin.time.clone(), lines(section), section)).collect();
    sections.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    sections.dedup_by(|a, b| a.1 == b.1);
    let kept = sections.iter().enumerate().filter(|(i, (_, lines, section))| {
        let covers = |(j, (_, theirs, other)): (usize, &(String, Vec<String>, &Section))| {
            j != *i && other.begin.sweep == section.begin.sweep && is_part_of(lines, theirs)
        };
        !sections.iter().enumerate().any(covers)
    });
    let sections = kept.map(|(_, (_, _, section))| (*section).clone()).collect();
    let names: Vec<&str> = journals.iter().map(|journal| journal.name.as_str()).collect();
    Ok(Journal { name: names.join(" + "), sections, ..Journal::default() })
}

fn lines(section: &Section) -> Vec<String> {
    // A record that can't be a line was never read from one; such a sweep would be made of made-up numbers.
    section.lines().map(|record: Record| serde_json::to_string(&record).unwrap_or_default()).collect()
}

/// Whether `part` is `whole` less some lines.
fn is_part_of(part: &[String], whole: &[String]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|line| whole.any(|other| other == line))
}
