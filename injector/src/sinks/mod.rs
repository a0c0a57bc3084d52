//! Where events and summary go: one file per format. Only sinks print.

mod json;
mod progress;
mod status;
mod terminal;
mod text;
mod waiting;

use std::{
    fmt,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

pub use json::{Json, SCHEMA};
pub use progress::Progress;
pub use status::{Figures, Status};
pub use terminal::stderr;
pub use text::Text;
pub use waiting::Waiting;

use crate::{
    events::{Event, Outcome, Start, Summary},
    exit::Result,
    plan::{Format, Output},
};

/// Something that takes what a run yields.
pub trait Sink {
    /// The run begins.
    ///
    /// # Errors
    /// When it can't be written; so with the others.
    fn start(&mut self, start: &Start<'_>) -> io::Result<()>;
    /// An allocation was failed.
    ///
    /// # Errors
    /// See [`Sink::start`].
    fn failure(&mut self, event: &Event) -> io::Result<()>;
    /// The system call that a failure was made in has come back, or there is none.
    ///
    /// # Errors
    /// See [`Sink::start`].
    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()>;
    /// The run has ended.
    ///
    /// # Errors
    /// See [`Sink::start`].
    fn summary(&mut self, summary: &Summary) -> io::Result<()>;
    /// Nothing more comes for the moment.
    ///
    /// # Errors
    /// See [`Sink::start`].
    fn flush(&mut self) -> io::Result<()>;
}

/// An output that can't be opened: bad input, exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("can't write {path}: {error}")]
pub struct OpenError {
    path: String,
    error: io::Error,
}

crate::exit::has_exit_code!(OpenError => USAGE);

/// Opens the output that the plan asks for.
///
/// # Errors
/// When the file can't be written.
pub fn open(output: &Output, command_owns_stdout: bool) -> Result<Box<dyn Sink>, OpenError> {
    let writer: Box<dyn Write> = match &output.path {
        Some(path) => Box::new(create(path)?),
        None if command_owns_stdout => Box::new(stderr()),
        None => Box::new(terminal::Above(io::stdout())),
    };
    let writer = BufWriter::with_capacity(1 << 16, writer);
    Ok(match output.format {
        Format::Text => Box::new(Text::new(writer, output.top)),
        Format::Json => Box::new(Json::new(writer)),
    })
}

/// Makes a file for an output, in place of one that is there.
///
/// # Errors
/// It can't be written.
pub fn create(path: &Path) -> Result<File, OpenError> {
    File::create(path).map_err(|error| OpenError { path: path.display().to_string(), error })
}

/// Says something about the course of a run, on standard error: what people and scripts wait for.
pub fn announce(message: fmt::Arguments<'_>) {
    // In one piece: what is drawn on a terminal stays below it.
    let _ = stderr().write_all(format!("injector: {message}\n").as_bytes());
}

/// The summary on standard error, when the output that it was meant for can't be written.
pub fn last_resort(summary: &Summary, top: usize) {
    let _ = Text::new(stderr(), top).summary(summary);
}
