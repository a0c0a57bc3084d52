//! A log's complaints as text and JSON.

use std::{
    io::{self, Write},
    path::Path,
};

use injector_log::{
    Failure, Kind,
    reader::{self, LogError, Summary},
    splat::Reported,
};
use serde::Serialize;

use crate::foreign::{self, Foreign};

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Reads a log and writes what it says, as it goes. `name`: what the log is called.
///
/// # Errors
/// The log is not one, or the text can't be written. Of a log that is not one nothing is written.
pub fn write(name: &Path, log: impl io::Read, json: bool, out: &mut dyn Write) -> Result<Summary, LogError> {
    if json { Json { name, out, complaints: 0 }.write(log) } else { text(name, log, out) }
}

fn text(name: &Path, log: impl io::Read, out: &mut dyn Write) -> Result<Summary, LogError> {
    let name = Foreign::path(name);
    let summary = reader::read(log, &mut |reported| {
        let Reported { complaint, first_line, last_line, reports, .. } = reported;
        let lines = if first_line == last_line { first_line.to_string() } else { format!("{first_line}-{last_line}") };
        let often = often(reports);
        writeln!(out, "{name}:{lines}: {}: {}{often}", kind(complaint.kind), foreign::line(&complaint.title))
    })?;
    let mut end = || {
        for Failure { name: who, function, first_line, count } in &summary.failures {
            let place = function.as_ref().map_or(String::new(), |function| format!(" in {function}"));
            let often = often(*count);
            let what = format!("{who}{place}");
            writeln!(out, "{name}:{first_line}: injected failure: {}{often}", foreign::line(&what))?;
        }
        if summary.complaints == 0 {
            let noun = if summary.lines == 1 { "line" } else { "lines" };
            writeln!(out, "{name}: no complaints in {} {noun}", summary.lines)?;
        }
        Ok(())
    };
    end().map_err(LogError::Write)?;
    Ok(summary)
}

fn often(count: u64) -> String {
    if count == 1 { String::new() } else { format!(" ({count} times)") }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Leak => "leak",
        Kind::Warning => "warning",
        Kind::Hang => "hang",
        Kind::Oops => "oops",
    }
}

/// One object, whose complaints are written as they are found.
struct Json<'a> {
    name: &'a Path,
    out: &'a mut dyn Write,
    complaints: u64,
}

/// A complaint, as JSON.
#[derive(Serialize)]
struct Entry<'a> {
    kind: Kind,
    title: &'a str,
    function: Option<&'a str>,
    first_line: u64,
    last_line: u64,
    reports: u64,
}

impl Json<'_> {
    fn write(mut self, log: impl io::Read) -> Result<Summary, LogError> {
        let summary = reader::read(log, &mut |reported| self.complaint(&reported))?;
        self.end(&summary).map_err(LogError::Write)?;
        Ok(summary)
    }

    fn begin(&mut self) -> io::Result<()> {
        let name = serde_json::to_string(&self.name.to_string_lossy())?;
        write!(self.out, "{{\"schema\":{SCHEMA},\"file\":{name},\"complaints\":[")
    }

    fn complaint(&mut self, reported: &Reported) -> io::Result<()> {
        if self.complaints == 0 {
            self.begin()?;
        } else {
            self.out.write_all(b",")?;
        }
        self.complaints += 1;
        let Reported { complaint, function, first_line, last_line, reports } = reported;
        let entry = Entry {
            kind: complaint.kind,
            title: &complaint.title,
            function: function.as_deref(),
            first_line: *first_line,
            last_line: *last_line,
            reports: *reports,
        };
        serde_json::to_writer(&mut self.out, &entry)?;
        Ok(())
    }

    fn end(mut self, summary: &Summary) -> io::Result<()> {
        if self.complaints == 0 {
            self.begin()?;
        }
        let failures = serde_json::to_string(&summary.failures)?;
        writeln!(self.out, "],\"failures\":{failures},\"lines\":{}}}", summary.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[    1.000000] FAULT_INJECTION: forcing a failure.\n[    1.000000] name failslab, interval 1\n\
        [    1.000000]  bar+0x1/0x2\n[    1.000000] done\n\
        [    2.000000] BUG: Bad rss-counter state mm:ffff888003bab360 type:MM_ANONPAGES val:1\n";

    fn written(log: &str, json: bool) -> String {
        let mut out = Vec::new();
        write(Path::new("a.log"), log.as_bytes(), json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_text() {
        assert_eq!(
            written(LOG, false),
            "a.log:5: oops: BUG: Bad rss-counter state\na.log:1: injected failure: failslab in bar\n"
        );
        assert_eq!(written("[    1.000000] x\n", false), "a.log: no complaints in 1 line\n");
    }

    #[test]
    fn as_json() {
        let json: serde_json::Value = serde_json::from_str(&written(LOG, true)).unwrap();
        let expected = serde_json::json!({
            "schema": 1,
            "file": "a.log",
            "complaints": [{
                "kind": "oops", "title": "BUG: Bad rss-counter state", "function": null,
                "first_line": 5, "last_line": 5, "reports": 1
            }],
            "failures": [{ "name": "failslab", "function": "bar", "first_line": 1, "count": 1 }],
            "lines": 5
        });
        assert_eq!(json, expected);
        let json: serde_json::Value = serde_json::from_str(&written("[    1.000000] x\n", true)).unwrap();
        assert_eq!(json["complaints"], serde_json::json!([]));
    }

    #[test]
    fn nothing_is_written_of_what_is_no_log() {
        let mut out = Vec::new();
        write(Path::new("a.log"), &b"panic: no Linux\n"[..], true, &mut out).unwrap_err();
        assert!(out.is_empty());
    }
}
