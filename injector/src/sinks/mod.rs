//! Where events and summary go: one file per format. Only sinks print.

mod json;
mod kmsg;
mod progress;
mod status;
mod terminal;
mod text;
mod waiting;

use std::{
    cell::RefCell,
    fmt,
    io::{self, BufWriter, Write},
    rc::Rc,
};

pub use json::{Json, SCHEMA};
pub use kmsg::{Kmsg, KmsgError, Teller, Told};
pub use progress::Progress;
pub use status::{Figures, Status};
pub use terminal::stderr;
pub use text::Text;
pub use waiting::Waiting;

use crate::{
    events::{Event, Outcome, Start, Summary},
    exit::{Context as _, Result},
    foreign,
    output::{OutputError, OutputFile},
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

/// The file of a run's output, while the sink writes to it.
#[derive(Clone, Debug)]
pub struct RunFile(Rc<RefCell<OutputFile>>);

impl RunFile {
    /// The run begins: the file takes its place, so that it can be followed, and outlives a crash.
    ///
    /// # Errors
    /// It can't.
    pub fn take_place(&self) -> Result<(), OutputError> {
        self.0.borrow_mut().take_place()
    }
}

impl Write for RunFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

/// Opens the output that the plan asks for, and its file if it is one.
///
/// # Errors
/// When the file can't be written.
pub fn open(output: &Output, command_owns_stdout: bool) -> Result<(Box<dyn Sink>, Option<RunFile>), OutputError> {
    let file = output.path.as_deref().map(OutputFile::open).transpose()?;
    let file = file.map(|file| RunFile(Rc::new(RefCell::new(file))));
    let writer: Box<dyn Write> = match &file {
        Some(file) => Box::new(file.clone()),
        None if command_owns_stdout => Box::new(stderr()),
        None => Box::new(terminal::Above(io::stdout())),
    };
    let writer = BufWriter::with_capacity(1 << 16, writer);
    let sink: Box<dyn Sink> = match output.format {
        Format::Text => Box::new(Text::new(writer, output.top)),
        Format::Json => Box::new(Json::new(writer)),
    };
    Ok((sink, file))
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// It can't be written.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't write to standard output"),
    }
}

/// Says something about the course of a run, on standard error: what people and scripts wait for.
pub fn announce(message: fmt::Arguments<'_>) {
    // In one piece: what is drawn on a terminal stays below it.
    let _ = stderr().write_all(format!("injector: {}\n", foreign::lines(&message.to_string())).as_bytes());
}

/// The summary on standard error, when the output that it was meant for can't be written.
pub fn last_resort(summary: &Summary, top: usize) {
    let _ = Text::new(stderr(), top).summary(summary);
}
