//! This machine as an engine: nothing boots, and the command runs here.

use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::drain;
use crate::end::{GuestEnd, GuestRun};
use crate::engine::{BootError, Engine, Root, file_error, write_files};
use crate::host;
use crate::protocol::{Command, DATA_SOCKET, Request};
use crate::spec::GuestSpec;
use crate::streams::Streams;

const TICK: Duration = Duration::from_millis(20);

/// The status of a command that could not be started, as shells report it.
const NOT_STARTED: i32 = 127;

/// Runs the command on this machine. What the spec says about a guest's kernel, root and size is ignored.
#[derive(Debug, Clone, Copy)]
pub struct Here;

impl Engine for Here {
    fn name(&self) -> &'static str {
        "here"
    }

    fn about(&self) -> &'static str {
        "this machine and its running kernel, in a process of its own; boots nothing"
    }

    fn boots(&self) -> bool {
        false
    }

    fn root(&self) -> Root {
        Root::Host
    }

    fn run(&self, spec: &GuestSpec, command: &Command, streams: Streams) -> Result<GuestRun, BootError> {
        let started = Instant::now();
        write_files(spec)?;
        let directory = host::directory()?;
        let socket = directory.path().join("data");
        let listener = file_error(&socket, UnixListener::bind(&socket))?;
        file_error(&socket, listener.set_nonblocking(true))?;

        let Streams { stdout, mut stderr, data, requests, stop, .. } = streams;
        let name = command.argv.first().map_or("", String::as_str);
        let mut process = process::Command::new(name);
        process.args(command.argv.iter().skip(1)).envs(&command.env).env(DATA_SOCKET, &socket);
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(directory) = &command.directory {
            process.current_dir(directory);
        }
        // SAFETY: prctl is async-signal-safe, and nothing is allocated between fork and exec.
        unsafe {
            // It must not outlive us, however we end.
            process.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
        }
        let mut child = match process.spawn() {
            Ok(child) => child,
            Err(error) => {
                let _ = writeln!(stderr, "injector: {name}: {error}");
                return Ok(GuestRun::here(GuestEnd::Exited(NOT_STARTED), Duration::ZERO, started.elapsed()));
            }
        };
        let group = Pid::from_raw(child.id() as i32);
        let ended = Arc::new(AtomicBool::new(false));
        let copies = [
            child.stdout.take().map(|from| copy(from.into(), stdout, &ended)),
            child.stderr.take().map(|from| copy(from.into(), stderr, &ended)),
        ];
        let data = store(listener, data.unwrap_or_else(|| Box::new(io::sink())), Arc::clone(&ended));
        let boot = started.elapsed();

        let mut run = Watch { started: Instant::now(), timeout: spec.timeout, requests, stop };
        let end = loop {
            match child.try_wait() {
                Ok(Some(status)) => break GuestEnd::Exited(status_of(status)),
                Ok(None) => {}
                Err(_) => break GuestEnd::Exited(NOT_STARTED),
            }
            if data.is_finished() {
                break GuestEnd::Stopped;
            }
            if let Some(end) = run.over(group) {
                break end;
            }
            thread::sleep(TICK);
        };
        if !matches!(end, GuestEnd::Exited(_)) {
            let _ = killpg(group, Signal::SIGKILL);
            let _ = child.wait();
        }
        let took = run.started.elapsed();
        ended.store(true, Ordering::SeqCst);
        for copy in copies.into_iter().flatten() {
            let _ = copy.join();
        }
        match data.join() {
            Ok(Err(source)) => Err(BootError::Data { source }),
            _ => Ok(GuestRun::here(end, boot, took)),
        }
    }
}

impl GuestRun {
    /// Without a guest there is no console.
    fn here(end: GuestEnd, boot: Duration, run: Duration) -> Self {
        Self { end, boot, run, complaints: Vec::new(), console: String::new() }
    }
}

/// What may end the command from outside.
struct Watch {
    started: Instant,
    timeout: Option<Duration>,
    requests: Option<Receiver<Request>>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Passes requests on, and tells whether the command's time is over.
    fn over(&mut self, group: Pid) -> Option<GuestEnd> {
        while let Some(requests) = &self.requests {
            match requests.try_recv() {
                Ok(Request::Signal { number }) => {
                    if let Ok(signal) = Signal::try_from(number) {
                        let _ = killpg(group, signal);
                    }
                }
                // The command's clock is this machine's: it knows by itself.
                Ok(Request::BudgetSpent) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.requests = None,
            }
        }
        if self.stop.load(Ordering::SeqCst) {
            return Some(GuestEnd::Stopped);
        }
        self.timeout.filter(|timeout| self.started.elapsed() > *timeout).map(GuestEnd::Timeout)
    }
}

fn copy(from: OwnedFd, to: Box<dyn Write + Send>, ended: &Arc<AtomicBool>) -> JoinHandle<()> {
    let ended = Arc::clone(ended);
    thread::spawn(move || drain::until_drained(from, to, &ended))
}

/// Stores what comes through the socket, one connection after the other, until the command has ended.
fn store(listener: UnixListener, mut to: Box<dyn Write + Send>, ended: Arc<AtomicBool>) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        loop {
            // Read before accepting: a connection that was made before the command ended is then seen.
            let last = ended.load(Ordering::SeqCst);
            match listener.accept() {
                Ok((connection, _)) => {
                    connection.set_nonblocking(false)?;
                    host::data::store_all(&connection, &mut to)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if last => return Ok(()),
                Err(_) => thread::sleep(TICK),
            }
        }
    })
}

/// As a shell counts.
fn status_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;
    use crate::port::DataPort;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn spec() -> GuestSpec {
        GuestSpec::new("".as_ref(), Vec::new())
    }

    fn shell(script: &str) -> Command {
        Command::new(["sh", "-c", script])
    }

    /// How a script ended, and what it printed.
    fn run(script: &str) -> (GuestEnd, String, String) {
        let (out, err) = (Kept::default(), Kept::default());
        let streams = Streams::to(Box::new(out.clone()), Box::new(err.clone()));
        let run = Here.run(&spec(), &shell(script), streams).unwrap();
        (run.end, out.text(), err.text())
    }

    #[test]
    fn output_and_status_are_the_commands() {
        let said = |out: &str, err: &str| (out.to_owned(), err.to_owned());
        let (end, out, err) = run("echo out; echo err >&2; exit 3");
        assert_eq!((end, (out, err)), (GuestEnd::Exited(3), said("out\n", "err\n")));
        assert_eq!(run("kill -9 $$").0, GuestEnd::Exited(137));
        // A daemon that it leaves behind holds nobody up.
        assert_eq!(run("sleep 30 & echo over").1, "over\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_reported_as_by_a_shell() {
        let err = Kept::default();
        let streams = Streams::to(Box::new(io::sink()), Box::new(err.clone()));
        let run = Here.run(&spec(), &Command::new(["/no/such/program"]), streams).unwrap();
        assert_eq!(run.end, GuestEnd::Exited(127));
        assert!(err.text().contains("/no/such/program: No such file"), "{}", err.text());
    }

    #[test]
    fn files_are_there_before_the_command_starts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan.json").to_string_lossy().into_owned();
        let spec = GuestSpec { files: vec![(path.clone(), b"hello".to_vec())], ..spec() };
        let out = Kept::default();
        let streams = Streams::to(Box::new(out.clone()), Box::new(io::sink()));
        Here.run(&spec, &Command::new(["cat".to_owned(), path]), streams).unwrap();
        assert_eq!(out.text(), "hello");
    }

    #[test]
    fn it_can_be_asked_to_end_and_be_ended() {
        let (sender, requests) = mpsc::channel();
        sender.send(Request::Signal { number: Signal::SIGTERM as i32 }).unwrap();
        let streams = Streams { requests: Some(requests), ..Streams::discard() };
        assert_eq!(Here.run(&spec(), &shell("sleep 30"), streams).unwrap().end, GuestEnd::Exited(143));
        let streams = Streams { stop: Arc::new(AtomicBool::new(true)), ..Streams::discard() };
        assert_eq!(Here.run(&spec(), &shell("sleep 30"), streams).unwrap().end, GuestEnd::Stopped);
        let timeout = Duration::from_millis(50);
        let spec = GuestSpec { timeout: Some(timeout), ..spec() };
        assert_eq!(Here.run(&spec, &shell("sleep 30"), Streams::discard()).unwrap().end, GuestEnd::Timeout(timeout));
    }

    /// This test program is run by the engine, and is itself the command that writes to the data port.
    #[test]
    fn data_is_stored_in_order_and_acknowledged() {
        let test = "engines::here::tests::the_command_that_writes_data";
        let me = std::env::current_exe().unwrap().to_string_lossy().into_owned();
        let command = Command::new([me, "--exact".to_owned(), test.to_owned()]).env("INJECTOR_TEST_DATA", "1");
        let data = Kept::default();
        let streams = Streams { data: Some(Box::new(data.clone())), ..Streams::discard() };
        assert_eq!(Here.run(&spec(), &command, streams).unwrap().end, GuestEnd::Exited(0));
        assert_eq!(data.text(), "first\nsecond\n");
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let streams = Streams { data: Some(Box::new(Full)), ..Streams::discard() };
        assert!(matches!(Here.run(&spec(), &command, streams), Err(BootError::Data { .. })));
    }

    #[test]
    fn the_command_that_writes_data() {
        if std::env::var_os("INJECTOR_TEST_DATA").is_none() {
            return;
        }
        for line in ["first\n", "second\n"] {
            let mut port = DataPort::open().unwrap();
            port.write_all(line.as_bytes()).unwrap();
            port.flush().unwrap();
        }
    }
}
