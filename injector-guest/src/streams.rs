//! Where a command's output goes while it runs, and how it is asked to end.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;

use crate::protocol::Request;

/// What connects a caller with a command that runs under an engine.
pub struct Streams {
    /// Gets the command's standard output as it comes.
    pub stdout: Box<dyn Write + Send>,
    /// Gets the command's standard error as it comes.
    pub stderr: Box<dyn Write + Send>,
    /// Gets what the command writes to its [`DataPort`](crate::DataPort), byte by byte and in order. All of it has been
    /// written here when [`Engine::run`](crate::Engine::run) returns. `flush` must make it last (fdatasync): only then is it
    /// acknowledged to the command. An error ends the guest. `None`: it is acknowledged and dropped.
    pub data: Option<Box<dyn Write + Send>>,
    /// Gets the kernel's console as it comes; its errors are ignored. An engine that boots nothing has no console.
    pub console: Option<Box<dyn Write + Send>>,
    /// Requests to the command while it runs, such as a signal.
    pub requests: Option<Receiver<Request>>,
    /// The engine ends the guest at once when this becomes true.
    pub stop: Arc<AtomicBool>,
}

impl Streams {
    /// The command's output goes to this process's own.
    pub fn inherit() -> Self {
        Self::to(Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// The command's output is dropped.
    pub fn discard() -> Self {
        Self::to(Box::new(io::sink()), Box::new(io::sink()))
    }

    /// The command's output goes to these two; nothing else is connected.
    pub fn to(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        Self { stdout, stderr, data: None, console: None, requests: None, stop: Arc::default() }
    }
}
