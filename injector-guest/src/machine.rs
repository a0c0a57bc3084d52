//! Boots a guest, streams its output, and watches it until there is a verdict.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::accelerator::{self, Accelerator};
use crate::console::Console;
use crate::initramfs::{Initramfs, InitramfsError};
use crate::protocol::{self, COMMAND_FILE, Command, Message, Request};
use crate::qemu::{self, Engine, Sockets};
use crate::verdict::{Outcome, Verdict};

/// Begins the name of the temporary directory that a running guest has; if its process is killed, it stays.
pub const DIRECTORY_PREFIX: &str = "injector-guest-";

/// After the status is known, or a panic was seen, QEMU gets this long to end by itself.
const GRACE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(200);

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
}

/// Where the command's output goes, as it comes.
pub struct Streams {
    /// Standard output.
    pub stdout: Box<dyn Write + Send>,
    /// Standard error.
    pub stderr: Box<dyn Write + Send>,
    /// What the host asks of the command while it runs (a signal); nothing if `None`.
    pub requests: Option<Receiver<Request>>,
    /// Set to true: the guest is ended.
    pub stop: Arc<AtomicBool>,
}

impl Streams {
    /// To this process's own.
    pub fn inherit() -> Self {
        Self { stdout: Box::new(io::stdout()), stderr: Box::new(io::stderr()), requests: None, stop: Arc::default() }
    }

    /// To nowhere.
    pub fn discard() -> Self {
        Self { stdout: Box::new(io::sink()), stderr: Box::new(io::sink()), requests: None, stop: Arc::default() }
    }
}

enum Event {
    Console(Vec<u8>),
    Message(Message),
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
        let (stdout, stderr, control) = (listen("stdout")?, listen("stderr")?, listen("control")?);
        let sockets = Sockets { stdout: &stdout.path, stderr: &stderr.path, control: &control.path };
        let arguments = qemu::arguments(self, engine, &initrd, &sockets);
        let log = match &self.console_log {
            Some(path) => Some(file_error(path, File::create(path))?),
            None => None,
        };

        let started = Instant::now();
        let mut guest = Guest::start(&arguments)?;
        let (events, received) = mpsc::channel();
        let console = guest.read_console(events.clone(), log);
        let messages = guest.read_stderr();
        let ports = guest.accept([&stdout, &stderr, &control]);
        let Some([stdout, stderr, control]) = ports else {
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
        let control = read_control(control, events);

        let mut watch = Watch::new(self, started);
        watch.until_verdict(&mut guest, &received, &streams.stop);
        guest.stop();
        // QEMU is gone, so all its pipes are at their ends; nothing that the command wrote is missing now.
        let _ = (out.join(), err.join(), control.join(), console.join());
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
struct Guest {
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

    fn ended(&mut self) -> bool {
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

    fn read_console(&mut self, events: Sender<Event>, mut log: Option<File>) -> JoinHandle<()> {
        let source = self.process.stdout.take();
        thread::spawn(move || {
            let Some(mut source) = source else { return };
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                if let Some(log) = &mut log {
                    let _ = log.write_all(&buffer[..length]);
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

/// What is known of a running guest.
struct Watch<'a> {
    machine: &'a Machine,
    started: Instant,
    ready: Option<Instant>,
    last_sign: Instant,
    stall: Duration,
    ended: Option<Instant>,
    verdict: Option<Verdict>,
    boot_failure: Option<String>,
    console: Console,
}

impl<'a> Watch<'a> {
    fn new(machine: &'a Machine, started: Instant) -> Self {
        Self {
            machine,
            started,
            ready: None,
            last_sign: started,
            // A second of the guest's is then a thousand million instructions.
            stall: machine.stall * if machine.icount { 10 } else { 1 },
            ended: None,
            verdict: None,
            boot_failure: None,
            console: Console::default(),
        }
    }

    /// Returns when QEMU ended or should be ended.
    fn until_verdict(&mut self, guest: &mut Guest, events: &Receiver<Event>, stop: &AtomicBool) {
        loop {
            match events.recv_timeout(TICK) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if guest.ended() {
                return;
            }
            if stop.load(Ordering::SeqCst) {
                self.verdict.get_or_insert(Verdict::Stopped);
                self.boot_failure.get_or_insert_with(|| "it was ended from outside".to_owned());
                return;
            }
            let over = self.ended.is_some_and(|at| at.elapsed() > GRACE);
            if over || (self.ended.is_none() && self.gave_up()) {
                return;
            }
        }
    }

    fn gave_up(&mut self) -> bool {
        let Some(ready) = self.ready else {
            let waited = self.started.elapsed();
            if waited > self.machine.boot_timeout {
                self.boot_failure = Some(format!("no sign of life after {} s", waited.as_secs()));
            }
            return self.boot_failure.is_some();
        };
        if let Some(timeout) = self.machine.timeout.filter(|timeout| ready.elapsed() > *timeout) {
            self.verdict = Some(Verdict::Timeout(timeout));
        } else if self.last_sign.elapsed() > self.stall {
            self.verdict = Some(Verdict::Stall(self.stall));
        }
        self.verdict.is_some()
    }

    fn drain(&mut self, events: &Receiver<Event>) {
        while let Ok(event) = events.try_recv() {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Console(bytes) => {
                self.console.feed(&bytes);
                if self.console.panicked() {
                    self.ended.get_or_insert(now);
                }
            }
            Event::Message(message) => {
                self.last_sign = now;
                match message {
                    Message::Ready { .. } => self.ready = Some(now),
                    Message::Heartbeat { .. } => {}
                    Message::Exit { status } => {
                        self.ended.get_or_insert(now);
                        self.verdict.get_or_insert(Verdict::Exited(status));
                    }
                }
            }
        }
    }

    fn finish(self, qemu_messages: &str) -> Result<Outcome, BootError> {
        let Self { machine: _, started, ready, last_sign: _, stall: _, ended, verdict, boot_failure, console } = self;
        let text = format!("{}\n{qemu_messages}", console.excerpt()).trim().to_owned();
        let Some(ready) = ready else {
            let reason = match boot_failure {
                Some(reason) => reason,
                None if console.panicked() => "its kernel panicked before the command started".to_owned(),
                None => "it ended before the command started".to_owned(),
            };
            return Err(BootError::BootFailed { reason, console: text });
        };
        // A status that came before a panic does not make the panic unseen.
        let verdict = match verdict {
            _ if console.panicked() => Verdict::Panic(text),
            Some(verdict) => verdict,
            None => Verdict::Reset(text),
        };
        Ok(Outcome {
            verdict,
            boot: ready - started,
            run: ended.unwrap_or_else(Instant::now) - ready,
            complaints: console.complaints().to_vec(),
        })
    }
}
