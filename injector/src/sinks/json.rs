//! JSON lines: one object a line, each with the schema's version and its type.

use std::io::{self, Write};

use serde::Serialize;

use super::Sink;
use crate::events::{Event, Start, Summary};

/// Version of the lines' schema: it changes when a field changes its meaning or goes; fields may be added.
pub const SCHEMA: u32 = 1;

/// Writes JSON lines.
#[derive(Debug)]
pub struct Json<W>(W);

#[derive(Serialize)]
struct Line<'a, T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

impl<W: Write> Json<W> {
    /// To `writer`.
    pub fn new(writer: W) -> Self {
        Self(writer)
    }

    fn line(&mut self, kind: &'static str, body: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, &Line { schema: SCHEMA, kind, body })?;
        self.0.write_all(b"\n")
    }
}

impl<W: Write> Sink for Json<W> {
    fn start(&mut self, start: &Start<'_>) -> io::Result<()> {
        self.line("start", start)
    }

    fn failure(&mut self, event: &Event) -> io::Result<()> {
        self.line("failure", event)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.line("summary", summary)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
