//! Boots a guest, streams its output, and watches it until there is a verdict.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::accelerator::{self, Accelerator};
use crate::data;
use crate::initramfs::{Initramfs, InitramfsError};
use crate::protocol::{self, COMMAND_FILE, Command, Message, Request};
use crate::qemu::{self, Engine, Sockets};
use crate::verdict::Outcome;
use crate::watch::Watch;

/// Begins the name of the temporary directory that a running guest has; if its process is killed, it stays.
pub const DIRECTORY_PREFIX: &str = "injector-guest-";

/// Why there is no verdict: the command never started.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// QEMU is not there or cannot be run.
    #[error("{}: {source} (Debian: apt-get install --no-install-recommends qemu-system-x86 seabios)", qemu::PROGRAM)]
    Qemu {
        /// What went wrong.
        source: io::Error,
    },
    /// The machine ended, or said nothing, before the command could start.
    #[error("the guest did not boot: {reason}\n{console}")]
    BootFailed {
        /// What is known.
        reason: String,
        /// The end of the kernel's console and of QEMU's own messages.
        console: String,
    },
    /// A file of the host.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The image with the command could not be written.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// What the command wrote to the data port could not be stored; the guest was ended.
    #[error("can't store what the guest sent: {source}")]
    Data {
        /// What `Streams::data` said.
        source: io::Error,
    },
}

/// A guest to be: what it boots, how large it is, and for how long it may run. One value boots as often as wanted.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The kernel's image (bzImage).
    pub kernel: PathBuf,
    /// Images of the root, unpacked one after the other.
    pub images: Vec<PathBuf>,
    /// Processors.
    pub cpus: u32,
    /// Memory, the root included.
    pub memory_mb: u32,
    /// A directory of the host, mounted at `/share`.
    pub share: Option<PathBuf>,
    /// More words for the kernel's command line.
    pub append: Vec<String>,
    /// Time is counted in executed instructions, on one processor, by emulation: for measurements that repeat.
    pub icount: bool,
    /// Emulation or KVM.
    pub accelerator: Accelerator,
    /// How long the command may take.
    pub timeout: Option<Duration>,
    /// How long the guest may show no sign of life.
    pub stall: Duration,
    /// How long booting may take.
    pub boot_timeout: Duration,
    /// Where the kernel's console goes, besides being watched.
    pub console_log: Option<PathBuf>,
    /// Files on top of the images: where, and what is in them.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Where the command's output goes, as it comes.
pub struct Streams {
    /// Standard output.
    pub stdout: Box<dyn Write + Send>,
    /// Standard error.
    pub stderr: Box<dyn Write + Send>,
    /// What the command writes to [`DataPort`](crate::DataPort), byte by byte and in order; all of it is here before
    /// [`Machine::boot`] returns. `flush` is to make it last (fdatasync): only then is it acknowledged to the guest. An
    /// error ends the guest. `None`: it is acknowledged and dropped.
    pub data: Option<Box<dyn Write + Send>>,
    /// The kernel's console, as it comes; errors are ignored.
    pub console: Option<Box<dyn Write + Send>>,
    /// What the host asks of the command while it runs (a signal); nothing if `None`.
    pub requests: Option<Receiver<Request>>,
    /// Set to true: the guest is ended.
    pub stop: Arc<AtomicBool>,
}

impl Streams {
    /// To this process's own.
    pub fn inherit() -> Self {
        Self::to(Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// To nowhere.
    pub fn discard() -> Self {
        Self::to(Box::new(io::sink()), Box::new(io::sink()))
    }

    /// The command's output to here, and nothing else.
    pub fn to(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        Self { stdout, stderr, data: None, console: None, requests: None, stop: Arc::default() }
    }
}

/// What the threads that listen to a guest tell the one that watches it.
pub(crate) enum Event {
    Console(Vec<u8>),
    Message(Message),
    NotStored(io::Error),
}

impl Machine {
    /// A machine with two processors, 1 GiB, and no limit to the command's time.
    pub fn new(kernel: &Path, images: Vec<PathBuf>) -> Self {
        Self {
            kernel: kernel.to_owned(),
            images,
            cpus: 2,
            memory_mb: 1024,
            share: None,
            append: Vec::new(),
            icount: false,
            accelerator: Accelerator::default(),
            timeout: None,
            // Emulated machines are slow, and a kernel under test may well do nothing else for a while.
            stall: Duration::from_secs(60),
            boot_timeout: Duration::from_secs(180),
            console_log: None,
            files: Vec::new(),
        }
    }

    /// Boots, runs `command`, and says how that ended.
    pub fn boot(&self, command: &Command, streams: Streams) -> Result<Outcome, BootError> {
        let choice = accelerator::choose(self);
        let outcome = self.boot_with(choice.engine, command, streams);
        if outcome.is_ok() {
            choice.confirm();
        }
        outcome
    }

    pub(crate) fn boot_with(&self, engine: Engine, command: &Command, streams: Streams) -> Result<Outcome, BootError> {
        let directory = tempfile::Builder::new()
            .prefix(DIRECTORY_PREFIX)
            .tempdir()
            .map_err(|source| BootError::File { path: std::env::temp_dir(), source })?;
        let initrd = directory.path().join("initrd");
        self.write_initrd(&initrd, command)?;
        let listen = |name: &str| Port::listen(directory.path().join(name));
        let [stdout, stderr, control, data] =
            [listen("stdout")?, listen("stderr")?, listen("control")?, listen("data")?];
        let sockets = Sockets { stdout: &stdout.path, stderr: &stderr.path, control: &control.path, data: &data.path };
        let arguments = qemu::arguments(self, engine, &initrd, &sockets);
        let log = match &self.console_log {
            Some(path) => Some(file_error(path, File::create(path))?),
            None => None,
        };

        let started = Instant::now();
        let mut guest = Guest::start(&arguments)?;
        let (events, received) = mpsc::channel();
        let console = guest.read_console(events.clone(), log, streams.console);
        let messages = guest.read_stderr();
        let ports = guest.accept([&stdout, &stderr, &control, &data]);
        let Some([stdout, stderr, control, data]) = ports else {
            guest.stop();
            let text = messages.join().unwrap_or_default();
            let reason = format!("{} ended at once", qemu::PROGRAM);
            return Err(BootError::BootFailed { reason, console: text });
        };
        let out = copy(stdout, streams.stdout);
        let err = copy(stderr, streams.stderr);
        if let (Some(requests), Ok(control)) = (streams.requests, control.try_clone()) {
            forward(requests, control);
        }
        let data = store(data, streams.data.unwrap_or_else(|| Box::new(io::sink())), events.clone());
        let control = read_control(control, events);

        let mut watch = Watch::new(self, started);
        watch.until_verdict(&mut guest, &received, &streams.stop);
        guest.stop();
        // QEMU is gone, so all its pipes are at their ends; nothing that the command wrote is missing now.
        let _ = (out.join(), err.join(), data.join(), control.join(), console.join());
        watch.drain(&received);
        watch.finish(&messages.join().unwrap_or_default())
    }

    fn write_initrd(&self, path: &Path, command: &Command) -> Result<(), BootError> {
        let mut initrd = file_error(path, File::create(path))?;
        for image in &self.images {
            let mut image_file = file_error(image, File::open(image))?;
            file_error(image, io::copy(&mut image_file, &mut initrd))?;
        }
        let command = Command { share: self.share.is_some(), ..command.clone() };
        let mut overlay = Initramfs::overlay();
        overlay.text(COMMAND_FILE, &String::from_utf8_lossy(&protocol::encode(&command)));
        for (path, content) in &self.files {
            overlay.bytes(path, content);
        }
        overlay.write_to(initrd)?;
        Ok(())
    }
}

fn file_error<T>(path: &Path, result: io::Result<T>) -> Result<T, BootError> {
    result.map_err(|source| BootError::File { path: path.to_owned(), source })
}

/// A socket that QEMU connects to.
struct Port {
    path: PathBuf,
    listener: UnixListener,
}

impl Port {
    fn listen(path: PathBuf) -> Result<Self, BootError> {
        let listener = file_error(&path, UnixListener::bind(&path))?;
        file_error(&path, listener.set_nonblocking(true))?;
        Ok(Self { path, listener })
    }
}

/// The QEMU process; dropping it ends it.
pub(crate) struct Guest {
    process: Child,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Guest {
    fn start(arguments: &[std::ffi::OsString]) -> Result<Self, BootError> {
        let process = qemu::start(arguments).map_err(|source| BootError::Qemu { source })?;
        Ok(Self { process })
    }

    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Waits for QEMU's connections; `None` if it ended instead.
    fn accept<const N: usize>(&mut self, ports: [&Port; N]) -> Option<[UnixStream; N]> {
        let mut streams = Vec::with_capacity(N);
        for port in ports {
            let stream = loop {
                match port.listener.accept() {
                    Ok((stream, _)) => break stream,
                    Err(_) if self.ended() => return None,
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            };
            stream.set_nonblocking(false).ok()?;
            streams.push(stream);
        }
        streams.try_into().ok()
    }

    fn read_console(
        &mut self,
        events: Sender<Event>,
        log: Option<File>,
        live: Option<Box<dyn Write + Send>>,
    ) -> JoinHandle<()> {
        let source = self.process.stdout.take();
        thread::spawn(move || {
            let Some(mut source) = source else { return };
            let log = log.map(|log| Box::new(log) as Box<dyn Write + Send>);
            let mut copies: Vec<_> = log.into_iter().chain(live).collect();
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                for copy in &mut copies {
                    let _ = copy.write_all(&buffer[..length]);
                }
                let _ = events.send(Event::Console(buffer[..length].to_vec()));
            }
        })
    }

    fn read_stderr(&mut self) -> JoinHandle<String> {
        let source = self.process.stderr.take();
        thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut source) = source {
                let _ = source.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    }
}

fn copy(mut from: UnixStream, mut to: Box<dyn Write + Send>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        // A reader of ours that hung up must not stop the guest: go on reading.
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
