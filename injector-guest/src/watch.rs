//! Watches a running guest until there is a verdict.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::console::Console;
use crate::machine::{BootError, Event, Guest, Machine};
use crate::protocol::Message;
use crate::verdict::{Outcome, Verdict};

/// After the status is known, or a panic was seen, QEMU gets this long to end by itself.
const GRACE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(200);

/// What is known of a running guest.
pub(crate) struct Watch<'a> {
    machine: &'a Machine,
    started: Instant,
    ready: Option<Instant>,
    last_sign: Instant,
    stall: Duration,
    ended: Option<Instant>,
    verdict: Option<Verdict>,
    boot_failure: Option<String>,
    not_stored: Option<io::Error>,
    console: Console,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(machine: &'a Machine, started: Instant) -> Self {
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
            not_stored: None,
            console: Console::default(),
        }
    }

    /// Returns when QEMU ended or should be ended.
    pub(crate) fn until_verdict(&mut self, guest: &mut Guest, events: &Receiver<Event>, stop: &AtomicBool) {
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
            if self.not_stored.is_some() {
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

    pub(crate) fn drain(&mut self, events: &Receiver<Event>) {
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
            Event::NotStored(error) => self.not_stored = Some(error),
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

    pub(crate) fn finish(self, qemu_messages: &str) -> Result<Outcome, BootError> {
        let Self { started, ready, ended, verdict, boot_failure, not_stored, console, .. } = self;
        if let Some(source) = not_stored {
            return Err(BootError::Data { source });
        }
        let excerpt = console.excerpt();
        let text = format!("{excerpt}\n{qemu_messages}").trim().to_owned();
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
            console: excerpt,
        })
    }
}
