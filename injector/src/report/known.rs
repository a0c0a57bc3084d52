//! Findings that are known already: from a list that people keep, or from the journal of another sweep.
//!
//! A finding is known by its title and by the call chain of the allocation whose failure leads to it, so that it is found again
//! on another kernel version. Of the chain, a [`Chain`] names the function that asked for memory, and the caller that tells it from other
//! users of that function. Signatures and offsets would not survive another build.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::{self, Cursor, Read, Write},
    path::Path,
};

use serde::{Serialize, Serializer};

use super::{
    kind::{self, Opened},
    model::Report,
    phrase::{self, one_line},
    run::ReadError,
};
use crate::{
    events::frames,
    foreign::Foreign,
    journal::{self, Finding, Verdict},
};

/// Separates title and call chains in a list.
pub(super) const AT: &str = " @ ";

/// Functions of a call chain, the innermost first. Others may be between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain(Vec<String>);

/// A finding that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Its title.
    pub title: String,
    /// Call chains of the allocations whose failure leads to it; empty: whichever.
    pub chains: BTreeSet<Chain>,
    /// The file that it is from.
    pub file: String,
    /// The line, from 1, where the file is a list.
    pub line: Option<usize>,
}

/// A known finding that a sweep did not find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotFound {
    /// Which.
    #[serde(flatten)]
    pub known: Known,
    /// How many sites with such a call chain this sweep failed. If there are none, nobody knows whether it is fixed. None: the
    /// entry names no function.
    pub sites_failed: Option<usize>,
}

/// A file of known findings may have so many bytes.
const MOST_BYTES: u64 = 256 << 20;

/// A file of known findings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// It can't be read.
    #[error("--known {name}: {error}")]
    Io {
        /// The file.
        name: Foreign,
        /// The error.
        error: io::Error,
    },
    /// No list and no journal is as long.
    #[error("--known {name} has more than {} MiB", MOST_BYTES >> 20)]
    TooLong {
        /// The file.
        name: Foreign,
    },
    /// It is a run's file.
    #[error("--known {name}: a run has no findings; name a sweep's journal or a list (injector report JOURNAL --list)")]
    Run {
        /// The file.
        name: Foreign,
    },
    /// The journal can't be used.
    #[error("--known: {0}")]
    Journal(journal::ReadError),
    /// A line of a list is not as it must be.
    #[error(
        "--known {name}: line {line} is no finding: `{text}`; write `VERDICT: TITLE` or `VERDICT: TITLE @ FUNCTION < CALLER, …`, as injector report JOURNAL --list does"
    )]
    Line {
        /// The file.
        name: Foreign,
        /// The line, from 1.
        line: usize,
        /// What it says, shortened.
        text: Foreign,
    },
}

crate::exit::has_exit_code!(KnownError => Io or USAGE);

/// Reads known findings from a journal or a list.
///
/// # Errors
/// The file can't be read, or is neither.
pub fn read(path: &Path) -> Result<Vec<Known>, KnownError> {
    let foreign = Foreign::path(path);
    let name = foreign.to_string();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| KnownError::Io { name: foreign.clone(), error })?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(KnownError::TooLong { name: foreign });
    }
    match kind::tell(Cursor::new(bytes.clone()), &name) {
        Ok(Opened::Run(_)) => Err(KnownError::Run { name: foreign }),
        Ok(Opened::Journal(input)) => {
            let journal = journal::read_from(input, &name).map_err(KnownError::Journal)?;
            Ok(of_report(&Report::of(&journal), &name))
        }
        Ok(Opened::Empty) => Ok(Vec::new()),
        Err(ReadError::Io { name: _, error }) => Err(KnownError::Io { name: foreign, error }),
        Err(_) => list(&String::from_utf8_lossy(&bytes), &name),
    }
}

/// The findings of a report as known ones, in its order.
pub(super) fn of_report(report: &Report, file: &str) -> Vec<Known> {
    let rarity = Rarity::of(report);
    let known = report.findings.iter().map(|found| Known {
        title: found.finding.title.clone(),
        chains: rarity.chains(report, &found.finding),
        file: file.to_owned(),
        line: None,
    });
    known.collect()
}

fn list(text: &str, name: &str) -> Result<Vec<Known>, KnownError> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            let mut known =
                entry(line).ok_or_else(|| KnownError::Line { name: name.into(), line: number, text: line.into() })?;
            name.clone_into(&mut known.file);
            known.line = Some(number);
            Ok(known)
        })
        .collect()
}

/// `warning: WARNING in remove_proc_entry @ __proc_create < jbd2_journal_init_inode`
fn entry(line: &str) -> Option<Known> {
    let (verdict, rest) = line.split_once(": ")?;
    Verdict::ALL.iter().find(|known| known.name() == verdict)?;
    let (title, chains) = match rest.rsplit_once(AT) {
        Some((title, chains)) => (title, chains.split(',').map(Chain::parse).collect::<Option<_>>()?),
        None => (rest, BTreeSet::new()),
    };
    let title = title.trim().to_owned();
    (!title.is_empty() && !title.ends_with('@')).then(|| Known { title, chains, file: String::new(), line: None })
}

/// The report's findings as a list that `--known` reads.
///
/// # Errors
/// It can't be written.
pub fn write_list(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "# Known findings, for --known. VERDICT: TITLE @ the function whose allocation failed < its caller, …"
    )?;
    for (found, known) in report.findings.iter().zip(of_report(report, "")) {
        write!(out, "{}: {}", found.finding.verdict, one_line(&known.title))?;
        writeln!(out, "{}", phrase::at(&known.chains))?;
    }
    out.flush()
}

/// A function's name without what the compiler appends to its copies (`.isra.0`), which differs from build to build.
fn stem(function: &str) -> &str {
    function.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(function)
}

/// The functions of a stack, from the code on that asked the allocator.
pub(super) fn functions(stack: &[String]) -> impl Iterator<Item = String> {
    let name = |frame: &String| one_line(stem(frames::function(frame))).replace([',', '@', '<'], "?");
    frames::callers(stack).iter().map(name)
}

/// The call chains of the failures that lead to a finding, in full. None where it is not narrowed down.
fn stacks(report: &Report, finding: &Finding) -> Vec<Vec<String>> {
    let sites = finding.failures.iter().filter_map(|failure| report.site(failure.site));
    sites.map(|site| functions(&site.stack).collect()).collect()
}

/// In how many sites of a sweep each function is.
struct Rarity(BTreeMap<String, usize>);

impl Rarity {
    fn of(report: &Report) -> Self {
        let mut count = BTreeMap::new();
        for site in report.sites.values() {
            for function in functions(&site.stack).collect::<BTreeSet<_>>() {
                *count.entry(function).or_default() += 1;
            }
        }
        Self(count)
    }

    /// The chains that tell a finding's failures from others: who asked, and the caller that fewer sites have, if there is one.
    fn chains(&self, report: &Report, finding: &Finding) -> BTreeSet<Chain> {
        let count = |function: &String| self.0.get(function).copied().unwrap_or_default();
        let chain = |stack: Vec<String>| {
            let asker = stack.first()?.clone();
            let rarest =
                stack.iter().min_by_key(|function| count(function)).filter(|rarest| count(rarest) < count(&asker));
            Some(Chain([asker].into_iter().chain(rarest.cloned()).collect()))
        };
        stacks(report, finding).into_iter().filter_map(chain).collect()
    }
}

impl Chain {
    /// `__proc_create < jbd2_journal_init_inode`
    fn parse(text: &str) -> Option<Self> {
        let functions: Vec<String> = text.split('<').map(|function| stem(function.trim()).to_owned()).collect();
        let is_name = |name: &String| !name.is_empty() && !name.contains(char::is_whitespace);
        functions.iter().all(is_name).then_some(Self(functions))
    }

    /// Whether a stack has these functions in this order.
    fn is_in(&self, stack: &[String]) -> bool {
        let mut frames = stack.iter();
        self.0.iter().all(|function| frames.any(|frame| frame == function))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" < "))
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Known {
    /// Whether a finding with this title and these stacks is this one. Where one of both has no functions, nobody knows them,
    /// and the title decides.
    fn is(&self, title: &str, stacks: &[Vec<String>]) -> bool {
        let is_there = |chain: &Chain| stacks.iter().any(|stack| chain.is_in(stack));
        self.title == title && (self.chains.is_empty() || stacks.is_empty() || self.chains.iter().any(is_there))
    }

    /// Whether it is this finding of a report.
    pub(super) fn is_finding(&self, report: &Report, finding: &Finding) -> bool {
        self.is(&finding.title, &stacks(report, finding))
    }
}

impl Report {
    /// Marks the findings that are among these, and lists those of these that were not found.
    pub fn mark_known(&mut self, known: &[Known]) {
        let by = |finding| known.iter().find(|known| known.is_finding(self, finding)).map(|known| known.file.clone());
        let files: Vec<Option<String>> = self.findings.iter().map(|found| by(&found.finding)).collect();
        for (found, file) in self.findings.iter_mut().zip(files) {
            found.known = file;
        }
        // Known findings come after the new ones; each half keeps its order.
        self.findings.sort_by_key(|found| found.known.is_some());
        let mut seen = BTreeSet::new();
        let mut not_found = Vec::new();
        for known in known {
            let is_found = self.findings.iter().any(|found| known.is_finding(self, &found.finding));
            if !is_found && seen.insert((&known.title, &known.chains)) {
                not_found.push(NotFound { sites_failed: self.sites_failed(&known.chains), known: known.clone() });
            }
        }
        self.not_found = not_found;
    }

    /// How many sites with one of these call chains were failed. None if nobody knows which they are.
    pub(super) fn sites_failed(&self, chains: &BTreeSet<Chain>) -> Option<usize> {
        let of = |stack: &[String]| {
            let stack: Vec<String> = functions(stack).collect();
            chains.iter().any(|chain| chain.is_in(&stack))
        };
        // The failure that brings a machine down is not among those that were written down; its verdict is known all the same.
        let failed =
            || self.sites.values().filter(|site| site.verdict != Verdict::Unreached && of(&site.stack)).count();
        (!chains.is_empty()).then(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_list_is_read() {
        let text = "# known\n\nwarning: WARNING in remove_proc_entry @ create.isra.0 < init, b\r\n  hang: task hung in x: y  \n";
        let known = list(text, "known.txt").unwrap();
        assert_eq!(known.len(), 2);
        assert_eq!(known[0].title, "WARNING in remove_proc_entry");
        let chains = BTreeSet::from([Chain(stack(&["create", "init"])), Chain(stack(&["b"]))]);
        assert_eq!((&known[0].chains, known[0].line), (&chains, Some(3)));
        assert_eq!((known[1].title.as_str(), known[1].chains.len()), ("task hung in x: y", 0));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        let bad = [
            "<?xml version=\"1.0\"?>",
            "WARNING in x",
            "panic: x",
            "leak: ",
            "leak: x @ ",
            "leak: x @ a,,b",
            "leak: x @ a <",
        ];
        for bad in bad {
            let error = list(&format!("# a list\n{bad}\n"), "f").unwrap_err().to_string();
            assert!(error.contains("line 2 is no finding"), "{bad}: {error}");
        }
    }

    #[test]
    fn title_and_call_chain_decide() {
        let known = entry("leak: leak of a in b @ create < init, g").unwrap();
        let is = |title: &str, names: &[&str]| known.is(title, &[stack(names)]);
        assert!(is("leak of a in b", &["create", "between", "init", "main"]));
        assert!(is("leak of a in b", &["x", "g"]));
        assert!(!is("leak of a in b", &["create", "other"]), "another user of the same function");
        assert!(!is("leak of a in b", &["init", "create"]));
        assert!(!is("leak of a in c", &["g"]));
        assert!(known.is("leak of a in b", &[]), "not narrowed down");
        assert!(entry("leak: leak of a in b").unwrap().is("leak of a in b", &[stack(&["h"])]));
    }
}
