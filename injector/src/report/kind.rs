//! Whether a file is of a run or of a sweep.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Read},
    path::Path,
};

use serde::Deserialize;

use super::run::ReadError;
use crate::foreign::Foreign;

/// So much of a file is looked at: a sweep's first line is far shorter.
const LOOKED_AT: u64 = 1 << 20;

/// A file, and what it is.
pub enum Opened {
    /// A run's JSON lines.
    Run(Box<dyn BufRead>),
    /// A sweep's journal.
    Journal(Box<dyn BufRead>),
    /// There is nothing in it.
    Empty,
}

/// Something is asked of a file that it has not.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file} is {is}: --{option} is for {of}", is = if *run { "a run's file" } else { "a sweep's journal" }, of = if *run { "the journal of a sweep" } else { "the JSON lines of a run" })]
pub struct WrongKind {
    /// The file.
    pub file: String,
    /// Whether the file is of a run; else it is a journal.
    pub run: bool,
    /// The option that does not fit, without dashes.
    pub option: &'static str,
}

/// A run and a sweep can't be compared.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{run} is a run's file and {journal} a sweep's journal: name two runs or two journals")]
pub struct OfTwoKinds {
    /// The run's file.
    pub run: String,
    /// The sweep's journal.
    pub journal: String,
}

/// A finding of a run is asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file} is a run's file, and a run has no findings: name the journal of a sweep, or leave out the finding")]
pub struct NoFindings {
    /// The run's file.
    pub file: String,
}

crate::exit::has_exit_code!(WrongKind, OfTwoKinds, NoFindings => USAGE);

/// Opens a file, and looks at its first whole lines. It is read once only: a pipe will do.
///
/// # Errors
/// It can't be read, or is neither.
pub fn open(path: &Path) -> Result<Opened, ReadError> {
    let name = Foreign::path(path).to_string();
    let file = File::open(path).map_err(|error| ReadError::Io { name: name.clone(), error })?;
    let input = BufReader::with_capacity(1 << 20, file);
    tell(input, &name)
}

pub(super) fn tell(mut input: impl BufRead + 'static, name: &str) -> Result<Opened, ReadError> {
    let mut seen = Vec::new();
    let mut first = None;
    let mut number = 0;
    let found = loop {
        let start = seen.len();
        let left = LOOKED_AT.saturating_sub(start as u64);
        let read = (&mut input).take(left).read_until(b'\n', &mut seen);
        if read.map_err(|error| ReadError::Io { name: name.to_owned(), error })? == 0 {
            break None;
        }
        number += 1;
        match kind_of(&seen[start..]) {
            Ok(kind) => break Some(kind),
            Err(why) => {
                first.get_or_insert((number, why));
            }
        }
    };
    let torn = Kind::begun(&seen);
    let input: Box<dyn BufRead> = Box::new(Cursor::new(seen).chain(input));
    match (found.or(torn), first) {
        (Some(Kind::Run), _) => Ok(Opened::Run(input)),
        (Some(Kind::Journal), _) => Ok(Opened::Journal(input)),
        (None, None) => Ok(Opened::Empty),
        (None, Some((line, why))) => Err(ReadError::Neither { name: name.to_owned(), line, why }),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Run,
    Journal,
}

impl Kind {
    /// What a file seems to be whose only line is torn.
    fn begun(line: &[u8]) -> Option<Self> {
        let begins = |with: &[u8]| {
            let n = line.len().min(with.len());
            n > 0 && line[..n] == with[..n]
        };
        let run = line.starts_with(br#"{"schema""#) && !line.contains(&b'\n');
        let journal = begins(br#"{"type":"begin","#) && !line.contains(&b'\n');
        run.then_some(Self::Run).or(journal.then_some(Self::Journal))
    }
}

/// What a line is of. A run's lines all have a type and a schema, a sweep's a type, and the first a schema too.
fn kind_of(line: &[u8]) -> Result<Kind, String> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow)]
        kind: Option<std::borrow::Cow<'a, str>>,
        schema: Option<u64>,
    }
    let head: Head<'_> = serde_json::from_slice(line)
        .map_err(|error| crate::journal::what_is_wrong(line.strip_suffix(b"\n").unwrap_or(line), &error))?;
    match (head.kind.as_deref(), head.schema) {
        (Some("begin"), _) | (Some(_), None) => Ok(Kind::Journal),
        (Some(_), Some(_)) => Ok(Kind::Run),
        (None, _) => Err("it has no type".to_owned()),
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Run(_) => "Run",
            Self::Journal(_) => "Journal",
            Self::Empty => "Empty",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &[u8]) -> String {
        match tell(Cursor::new(text.to_vec()), "f") {
            Ok(opened) => {
                let is = format!("{opened:?}");
                let mut bytes = Vec::new();
                if let Opened::Run(mut rest) | Opened::Journal(mut rest) = opened {
                    rest.read_to_end(&mut bytes).unwrap();
                }
                assert_eq!(bytes, text, "nothing of it is lost");
                is
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn runs_journals_and_neither() {
        for (text, is) in [
            (&br#"{"schema":2,"type":"start"}"#[..], "Run"),
            (b"x\n{\"schema\":2,\"type\":\"failure\"}\n", "Run"),
            (br#"{"schema":2,"ty"#, "Run"),
            (br#"{"type":"begin","schema":1}"#, "Journal"),
            (br#"{"type":"beg"#, "Journal"),
            (b"\0\0\n{\"type\":\"site\"}\n", "Journal"),
            (b"", "Empty"),
        ] {
            assert_eq!(told(text), is, "{}", String::from_utf8_lossy(text));
        }
        let neither = "f is neither a run's JSON lines nor a sweep's journal: line 1 belongs to neither";
        assert_eq!(told(b"# Notes\nx"), format!("{neither} (expected value)"));
        assert_eq!(told(b"{}\n"), format!("{neither} (it has no type)"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            told(&bytes);
        }
    }

    #[test]
    fn a_file_without_lines_is_not_read_to_its_end() {
        let error = tell(BufReader::new(std::io::repeat(b'x')), "f").unwrap_err();
        assert!(error.to_string().ends_with("(expected value)"), "{error}");
    }
}
