//! Reads journals, whole and damaged ones.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use serde::Deserialize;

use crate::foreign::Foreign;

use super::{
    Journal, Record, Remark, Section, Tail,
    record::{Begin, SCHEMA},
};

/// Longer lines are no journal's: a console's whole output stays far below.
const LONGEST_LINE: u64 = 64 << 20;

/// More sweeps are in no journal: they are compared with each other. A merged one has as many as there were machines.
const MOST_SECTIONS: usize = 1024;

/// A journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Input.
    #[error("can't read {name}: {error}")]
    Io {
        /// Which.
        name: String,
        /// Why not.
        error: io::Error,
    },
    /// Nothing in it looks like one.
    #[error("{name} is not a journal: line 1 is not a record ({why})")]
    NotAJournal {
        /// Which.
        name: String,
        /// What is wrong with its first line.
        why: String,
    },
    /// It doesn't say of which kernel and workload it is.
    #[error(
        "{name}: the line that says of which kernel and workload the journal is is lost; nothing can be made of the rest"
    )]
    NoBegin {
        /// Which.
        name: String,
    },
    /// Nobody merges so many.
    #[error("{name} has more than {MOST_SECTIONS} sweeps in it; merge fewer journals")]
    TooManySections {
        /// Which.
        name: String,
    },
    /// A newer injector wrote it.
    #[error(
        "{name}, line {line}: written by injector {version} with schema {schema}; this is injector {own} and knows schema {SCHEMA}: use the newer one",
        own = env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// Which.
        name: String,
        /// Where it says so.
        line: u64,
        /// Version of the injector that wrote it.
        version: String,
        /// Its schema.
        schema: u64,
    },
}

crate::exit::has_exit_code!(ReadError => Io or USAGE);

/// Reads a file.
///
/// # Errors
/// It can't be read, is no journal, or is one of a newer injector.
pub fn read(path: &Path) -> Result<Journal, ReadError> {
    let name = Foreign::path(path).to_string();
    match File::open(path) {
        Ok(file) => read_from(BufReader::new(file), &name),
        Err(error) => Err(ReadError::Io { name, error }),
    }
}

/// Reads from anything; `name` is for messages.
///
/// # Errors
/// As [`read`].
pub fn read_from(input: impl BufRead, name: &str) -> Result<Journal, ReadError> {
    let mut lines = Lines::read(input, name)?;
    let mut journal = Journal { name: name.to_owned(), tail: lines.tail, ..Journal::default() };
    journal.remarks.append(&mut lines.remarks);
    if lines.lines.is_empty() {
        if journal.remarks.is_empty() {
            journal.remarks.push(Remark::Empty);
        }
        return Ok(journal);
    }
    let first = match &lines.lines[0].what {
        Err(bad) => Some(bad.why.clone()),
        Ok(_) => None,
    };
    let anything = lines.lines.iter().any(|line| line.what.is_ok());
    journal.sections = Split::default().split(lines.lines, &mut journal.remarks);
    if journal.sections.len() > MOST_SECTIONS {
        return Err(ReadError::TooManySections { name: name.to_owned() });
    }
    journal.remarks.sort_by_key(Remark::line);
    match first {
        _ if !journal.sections.is_empty() => Ok(journal),
        Some(why) if !anything => Err(ReadError::NotAJournal { name: name.to_owned(), why }),
        _ => Err(ReadError::NoBegin { name: name.to_owned() }),
    }
}

/// Reads one line, with or without its newline.
///
/// # Errors
/// It is no record; says why.
pub fn parse_line(line: &[u8]) -> Result<Record, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    serde_json::from_slice(line).map_err(|error| what_is_wrong(line, &error))
}

/// Why a line is not what it should be, for people.
pub(crate) fn what_is_wrong(line: &[u8], error: &serde_json::Error) -> String {
    if line.contains(&0) {
        return "it holds NUL bytes".to_owned();
    }
    if std::str::from_utf8(line).is_err() {
        return "it is not text".to_owned();
    }
    // serde_json counts lines within the line.
    let text = error.to_string();
    Foreign::from(text.split(" at line 1 column").next().unwrap_or(&text)).to_string()
}

impl Remark {
    fn line(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Torn { line } | Self::Corrupt { line, .. } | Self::Stray { line, .. } | Self::Headless { line } => {
                *line
            }
        }
    }
}

/// What every schema's first line has, and all that is looked at before the schema is known.
#[derive(Deserialize)]
struct Head {
    r#type: String,
    schema: u64,
    #[serde(default)]
    version: String,
}

struct Line {
    number: u64,
    what: Result<Record, Bad>,
}

struct Bad {
    why: String,
    /// It may have been a section's first line.
    begin: bool,
}

struct Lines {
    lines: Vec<Line>,
    remarks: Vec<Remark>,
    tail: Tail,
}

impl Lines {
    fn read(mut input: impl BufRead, name: &str) -> Result<Self, ReadError> {
        let mut all = Self { lines: Vec::new(), remarks: Vec::new(), tail: Tail { ended: true, ..Tail::default() } };
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let read = (&mut input).take(LONGEST_LINE).read_until(b'\n', &mut bytes);
            let read = read.map_err(|error| ReadError::Io { name: name.to_owned(), error })? as u64;
            if read == 0 {
                break;
            }
            all.tail.length += read;
            let ended = bytes.last() == Some(&b'\n');
            if !ended && read == LONGEST_LINE {
                let why = format!("line {number} has no end within {} MiB", LONGEST_LINE >> 20);
                return Err(ReadError::NotAJournal { name: name.to_owned(), why });
            }
            if let Ok(Head { r#type, schema, version }) = serde_json::from_slice(&bytes)
                && r#type == "begin"
                && schema > u64::from(SCHEMA)
            {
                return Err(ReadError::Newer { name: name.to_owned(), line: number, version, schema });
            }
            let what = parse_line(&bytes).map_err(|why| Bad { why, begin: may_be_begin(&bytes) });
            if ended || what.is_ok() {
                (all.tail.whole, all.tail.ended) = (all.tail.length, ended);
                all.lines.push(Line { number, what });
            } else if number == 1 && !starts_like_begin(&bytes) {
                // Not torn: it was never a journal's.
                all.lines.push(Line { number, what });
            } else {
                all.remarks.push(Remark::Torn { line: number });
            }
        }
        Ok(all)
    }
}

/// How every journal starts.
const START: &[u8] = br#"{"type":"begin","#;

fn starts_like_begin(line: &[u8]) -> bool {
    let n = line.len().min(START.len());
    line[..n] == START[..n]
}

fn may_be_begin(line: &[u8]) -> bool {
    // Whatever else the line says, its kind stands first.
    let kind = line.strip_prefix(br#"{"type":""#).and_then(|rest| rest.split(|byte| *byte == b'"').next());
    kind.is_none_or(|kind| kind == b"begin" || !kind.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-'))
}

/// Distributes lines over sections.
#[derive(Default)]
struct Split {
    sections: Vec<Section>,
    /// Records after a line that may have begun another section.
    doubtful: Vec<(u64, Record)>,
    /// Whether that is where we are.
    doubt: bool,
}

impl Split {
    fn split(mut self, lines: Vec<Line>, remarks: &mut Vec<Remark>) -> Vec<Section> {
        for Line { number, what } in lines {
            match what {
                Err(Bad { why, begin }) => {
                    remarks.push(Remark::Corrupt { line: number, why });
                    self.doubt |= begin;
                }
                Ok(Record::Begin(begin)) => self.begin(number, *begin, remarks),
                Ok(record) if self.doubt || self.sections.is_empty() => self.doubtful.push((number, record)),
                Ok(record) => self.push(record),
            }
        }
        self.settle(remarks);
        self.sections
    }

    fn push(&mut self, record: Record) {
        if let Some(section) = self.sections.last_mut() {
            section.records.push(record);
        }
    }

    fn begin(&mut self, number: u64, begin: Begin, remarks: &mut Vec<Remark>) {
        if self.sections.last().is_some_and(|section| begin.part > 0 && section.begin.sweep == begin.sweep) {
            self.settle(remarks);
            self.push(Record::Begin(Box::new(begin)));
        } else if begin.part == 0 {
            self.settle(remarks);
            self.sections.push(Section { begin, records: Vec::new() });
        } else {
            // The line that began this sweep is lost, but what stands between is its own.
            remarks.push(Remark::Headless { line: number });
            let records = self.doubtful.drain(..).map(|(_, record)| record);
            let records = records.chain([Record::Begin(Box::new(begin.clone()))]).collect();
            self.sections.push(Section { begin: Begin { part: 0, ..begin }, records });
            self.doubt = false;
        }
    }

    /// Decides on doubtful records: runs are numbered upwards, so what begins with a lower one is of another section.
    fn settle(&mut self, remarks: &mut Vec<Remark>) {
        self.doubt = false;
        let records = std::mem::take(&mut self.doubtful);
        let Some(&(line, _)) = records.first() else { return };
        let run = |record: &Record| match record {
            Record::Armed(armed) => Some(armed.run),
            _ => None,
        };
        let highest = self.sections.last().map(|section| section.records.iter().filter_map(run).max());
        let next = records.iter().find_map(|(_, record)| run(record));
        match highest {
            Some(highest) if next.is_none_or(|next| Some(next) > highest) => {
                for (_, record) in records {
                    self.push(record);
                }
            }
            _ => remarks.push(Remark::Stray { line, records: records.len() }),
        }
    }
}
