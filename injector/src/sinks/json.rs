//! JSON lines: one object a line, each with the schema's version and its type.

use std::{
    collections::HashSet,
    io::{self, Write},
};

use serde::Serialize;

use super::Sink;
use crate::{
    events::{Event, Outcome, Start, Summary, model::hex},
    plan::Hook,
};

/// Version of the lines' schema: it changes when a field changes its meaning or goes; fields may be added.
pub const SCHEMA: u32 = 2;

/// Writes JSON lines.
#[derive(Debug)]
pub struct Json<W> {
    writer: W,
    /// Sites whose line is written: a stack is a kilobyte, and a run may have millions of failures.
    sites: HashSet<u64>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// Where failures are made; written before the first of them.
#[derive(Serialize)]
struct SiteLine<'a> {
    #[serde(serialize_with = "hex")]
    site: u64,
    hook: Hook,
    stack: &'a [String],
}

impl<W: Write> Json<W> {
    /// To `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer, sites: HashSet::new() }
    }

    fn line(&mut self, kind: &'static str, body: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, &Line { schema: SCHEMA, kind, body })?;
        self.writer.write_all(b"\n")
    }
}

impl<W: Write> Sink for Json<W> {
    fn start(&mut self, start: &Start<'_>) -> io::Result<()> {
        self.line("start", start)
    }

    fn failure(&mut self, event: &Event) -> io::Result<()> {
        if self.sites.insert(event.site) {
            self.line("site", &SiteLine { site: event.site, hook: event.hook, stack: &event.stack })?;
        }
        self.line("failure", event)
    }

    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.line("outcome", outcome)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.line("summary", summary)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
