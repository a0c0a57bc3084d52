//! Reads the file of a run, whole and damaged ones, a line at a time.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use super::{
    line::{Bad, Line, Parser},
    model::{Builder, Run},
};
use crate::{foreign::Foreign, sinks::SCHEMA};

/// Longer lines are no run's: the last one, with as many sites as the kernel side has room for, stays below.
const LONGEST_LINE: u64 = 128 << 20;
/// So many bad lines without a good one: nobody wants to wait for the end of that file.
const PATIENCE: u64 = 1000;
/// So many bad lines are told of one by one.
const TOLD: usize = 20;

/// A file can't be used as that of a run.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Input.
    #[error("can't read {name}: {error}")]
    Io {
        /// The name of the file.
        name: String,
        /// The error.
        error: io::Error,
    },
    /// Nothing in it looks like one.
    #[error("{name} is not the file of a run: line {line} does not belong to one ({why})")]
    NotARun {
        /// The name of the file.
        name: String,
        /// The first that is something else.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Neither of one nor of a sweep.
    #[error("{name} is neither a run's JSON lines nor a sweep's journal: line {line} belongs to neither ({why})")]
    Neither {
        /// The name of the file.
        name: String,
        /// The first that is something else.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// It is empty.
    #[error("{name} is empty")]
    Empty {
        /// The name of the file.
        name: String,
    },
    /// It is that of a sweep.
    #[error("{name} is a sweep's journal, not a run's file")]
    Journal {
        /// The name of the file.
        name: String,
    },
    /// Another injector wrote it.
    #[error(
        "{name}, line {line}: written by injector {version} with schema {schema}; this is injector {own} and knows schema {SCHEMA}",
        own = env!("CARGO_PKG_VERSION")
    )]
    Schema {
        /// The name of the file.
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
/// It can't be read, or is no run's.
pub fn read(path: &Path) -> Result<Run, ReadError> {
    let name = Foreign::path(path).to_string();
    match File::open(path) {
        Ok(file) => read_from(BufReader::with_capacity(1 << 20, file), &name),
        Err(error) => Err(ReadError::Io { name, error }),
    }
}

/// Reads from anything; `name` is for messages.
///
/// # Errors
/// As [`read`].
pub fn read_from(mut input: impl BufRead, name: &str) -> Result<Run, ReadError> {
    let io = |error| ReadError::Io { name: name.to_owned(), error };
    let parser = Parser::new();
    let mut reading = Reading { name, run: Builder::default(), good: false, ended: false, bad: BadLines::default() };
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = (&mut input).take(LONGEST_LINE).read_until(b'\n', &mut bytes).map_err(io)? as u64;
        if read == 0 {
            break;
        }
        let line = match bytes.strip_suffix(b"\n") {
            Some(line) => parser.parse(line),
            None if read == LONGEST_LINE => {
                bytes.clear();
                skip_line(&mut input).map_err(io)?;
                Err(Bad::Corrupt(format!("it has no end within {} MiB", LONGEST_LINE >> 20)))
            }
            None => match parser.parse(&bytes) {
                Err(Bad::Corrupt(why)) => {
                    reading.bad.torn(number, why);
                    break;
                }
                line => line,
            },
        };
        if !reading.take(number, line)? {
            break;
        }
    }
    reading.finish()
}

/// Passes over the rest of a line.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok(());
        }
        let (used, found) = match memchr::memchr(b'\n', buffer) {
            Some(end) => (end + 1, true),
            None => (buffer.len(), false),
        };
        input.consume(used);
        if found {
            return Ok(());
        }
    }
}

struct Reading<'a> {
    name: &'a str,
    run: Builder,
    /// There was a line of a run.
    good: bool,
    /// There was its last line.
    ended: bool,
    bad: BadLines,
}

impl Reading<'_> {
    /// Takes a line, and says whether to go on.
    fn take(&mut self, number: u64, line: Result<Line<'_>, Bad>) -> Result<bool, ReadError> {
        let name = || self.name.to_owned();
        match line {
            Err(Bad::Schema { schema, version }) if !self.good => {
                let version = if version.is_empty() { "?".to_owned() } else { version };
                return Err(ReadError::Schema { name: name(), line: number, version, schema });
            }
            Err(Bad::Journal) if !self.good => return Err(ReadError::Journal { name: name() }),
            Err(bad) => {
                self.bad.add(number, bad.to_string());
                return Ok(self.good || self.bad.count < PATIENCE);
            }
            Ok(Line::Start(_)) if self.good => {
                self.bad.another_run(number);
                return Ok(false);
            }
            Ok(_) if self.ended => self.bad.add(number, "it stands after the run's last line".to_owned()),
            Ok(Line::Start(start)) => self.run.start(*start),
            Ok(Line::Site(site)) => self.run.site(&site),
            Ok(Line::Failure(failure)) => self.run.failure(&failure),
            Ok(Line::Outcome(outcome)) => self.run.outcome(&outcome),
            Ok(Line::Summary(summary)) => {
                self.run.summary(*summary);
                self.ended = true;
            }
        }
        self.good = true;
        Ok(true)
    }

    fn finish(self) -> Result<Run, ReadError> {
        let Self { name, run, good, ended: _, bad } = self;
        if good {
            let mut remarks = bad.remarks();
            if !run.has_start() {
                remarks.push("the run's first line is not there: nobody knows of which kernel it is".to_owned());
            }
            return Ok(run.finish(name, remarks));
        }
        match bad.first {
            Some((line, why)) => Err(ReadError::NotARun { name: name.to_owned(), line, why }),
            None => Err(ReadError::Empty { name: name.to_owned() }),
        }
    }
}

/// What is wrong with the file.
#[derive(Default)]
struct BadLines {
    count: u64,
    first: Option<(u64, String)>,
    told: Vec<String>,
    /// What ends the reading.
    last: Option<String>,
}

impl BadLines {
    fn add(&mut self, line: u64, why: String) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(format!("line {line} is left out: {why}"));
        }
        self.first.get_or_insert((line, why));
    }

    fn torn(&mut self, line: u64, why: String) {
        self.last = Some(format!("line {line}, the last one, is torn and left out"));
        self.first.get_or_insert((line, why));
    }

    fn another_run(&mut self, line: u64) {
        self.last = Some(format!("line {line}: another run begins here; it is left out"));
    }

    fn remarks(self) -> Vec<String> {
        let mut remarks = self.told;
        let more = self.count - remarks.len() as u64;
        if more > 0 {
            remarks.push(format!("{more} more lines are left out"));
        }
        remarks.extend(self.last);
        remarks
    }
}
