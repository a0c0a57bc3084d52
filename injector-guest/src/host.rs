//! The host's side of a guest: starts the hypervisor, listens to its ports and console, and watches it until its end is known.

pub mod data;
pub mod ports;
pub mod process;
pub mod watch;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tempfile::TempDir;

use crate::end::GuestRun;
use crate::engine::{BootError, file_error};
use crate::protocol::{self, Request};
use crate::spec::{DIRECTORY_PREFIX, GuestSpec};
use crate::streams::Streams;

use ports::Ports;
use process::{ConsoleAt, Process};
use watch::{Event, Watch};

/// A hypervisor that is about to be started.
pub struct Launch {
    /// Its command line.
    pub process: Command,
    /// Its name, for errors.
    pub program: &'static str,
    /// How to get it, for errors.
    pub remedy: &'static str,
    /// Where the guest's console comes out of it.
    pub console: ConsoleAt,
}

/// A directory for the sockets and files of one boot; dropping it removes them.
///
/// # Errors
/// It cannot be made.
pub fn directory() -> Result<TempDir, BootError> {
    let made = tempfile::Builder::new().prefix(DIRECTORY_PREFIX).tempdir();
    file_error(&std::env::temp_dir(), made)
}

/// Starts the hypervisor, which connects to the ports, and returns when the guest has ended.
///
/// # Errors
/// See [`crate::Engine::run`].
pub fn run(spec: &GuestSpec, launch: Launch, ports: &Ports, streams: Streams) -> Result<GuestRun, BootError> {
    let log = match &spec.console_log {
        Some(path) => Some(file_error(path, File::create(path))?),
        None => None,
    };
    let started = Instant::now();
    let Launch { process, program, remedy, console } = launch;
    let (mut process, outputs) =
        Process::start(process, console).map_err(|error| BootError::Program { program, remedy, error })?;
    let (events, received) = mpsc::channel();
    let copies = log.map(|log| Box::new(log) as Box<dyn Write + Send>).into_iter().chain(streams.console).collect();
    let console = read_console(outputs.console, copies, events.clone());
    let messages = read_messages(outputs.messages);
    let Some([stdout, stderr, control, data]) = ports.accept(|| process.ended()) else {
        process.stop();
        let said = messages.join().unwrap_or_default();
        let _ = console.join();
        let mut watch = Watch::new(spec, started);
        watch.drain(&received);
        watch.boot_failed(format!("{program} ended at once"));
        return watch.finish(&said);
    };
    let out = copy(stdout, streams.stdout);
    let err = copy(stderr, streams.stderr);
    if let (Some(requests), Ok(control)) = (streams.requests, control.try_clone()) {
        forward(requests, control);
    }
    let data = store(data, streams.data.unwrap_or_else(|| Box::new(io::sink())), events.clone());
    let control = read_control(control, events);

    let mut watch = Watch::new(spec, started);
    watch.until_the_end(|| process.ended(), &received, &streams.stop);
    process.stop();
    // The hypervisor is gone, so all its pipes are at their ends: nothing that the command wrote is missing now.
    let _ = (out.join(), err.join(), data.join(), control.join(), console.join());
    watch.drain(&received);
    watch.finish(&messages.join().unwrap_or_default())
}

fn read_console(
    mut source: impl Read + Send + 'static,
    mut copies: Vec<Box<dyn Write + Send>>,
    events: Sender<Event>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = source.read(&mut buffer) {
            for copy in &mut copies {
                let _ = copy.write_all(&buffer[..length]);
            }
            let _ = events.send(Event::Console(buffer[..length].to_vec()));
        }
    })
}

/// What the hypervisor itself says.
fn read_messages(mut source: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = source.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn copy(mut from: UnixStream, mut to: Box<dyn Write + Send>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        // A reader of ours that hung up must not stop the guest, so this goes on reading.
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let _ = to.write_all(&buffer[..length]).and_then(|()| to.flush());
        }
    })
}

/// Hands what the guest sends to `to`, and tells the guest how much of it is stored.
fn store(port: UnixStream, mut to: Box<dyn Write + Send>, events: Sender<Event>) -> JoinHandle<()> {
    thread::spawn(move || {
        if let Err(error) = data::store_all(&port, &mut to) {
            let _ = events.send(Event::NotStored(error));
        }
    })
}

fn read_control(control: UnixStream, events: Sender<Event>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(control);
        let mut line = Vec::new();
        while let Ok(1..) = lines.read_until(b'\n', &mut line) {
            if let Some(message) = protocol::decode(&line) {
                let _ = events.send(Event::Message(message));
            }
            line.clear();
        }
    })
}

/// Ends when the sender of the requests is dropped.
fn forward(requests: Receiver<Request>, mut control: UnixStream) {
    thread::spawn(move || {
        for request in requests {
            if control.write_all(&protocol::encode(&request)).is_err() {
                break;
            }
        }
    });
}
