//! Watches a running guest until its end is known.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::console::Console;
use crate::end::{GuestEnd, GuestRun};
use crate::engine::BootError;
use crate::protocol::Message;
use crate::spec::{Clock, GuestSpec};

/// Once the status is known or the kernel has panicked, the hypervisor has this long to end without being killed.
const GRACE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(200);

/// What the threads that listen to a guest tell the one that watches it.
pub enum Event {
    /// The console printed this.
    Console(Vec<u8>),
    /// The guest's init said this.
    Message(Message),
    /// What the command sent could not be stored.
    NotStored(io::Error),
}

/// What is known of a running guest.
pub struct Watch<'a> {
    spec: &'a GuestSpec,
    started: Instant,
    ready: Option<Instant>,
    last_sign: Instant,
    stall: Duration,
    ended: Option<Instant>,
    end: Option<GuestEnd>,
    boot_failure: Option<String>,
    not_stored: Option<io::Error>,
    console: Console,
}

impl<'a> Watch<'a> {
    /// Begins to watch.
    pub fn new(spec: &'a GuestSpec, started: Instant) -> Self {
        Self {
            spec,
            started,
            ready: None,
            last_sign: started,
            // A second of the guest's is so many instructions then: it takes longer than a second.
            stall: spec.stall
                * match spec.clock {
                    Clock::Host => 1,
                    Clock::Virtual => 3,
                    Clock::Instructions => 10,
                },
            ended: None,
            end: None,
            boot_failure: None,
            not_stored: None,
            console: Console::default(),
        }
    }

    /// Returns when the hypervisor has ended or should be killed.
    pub fn until_the_end(&mut self, mut ended: impl FnMut() -> bool, events: &Receiver<Event>, stop: &AtomicBool) {
        loop {
            match events.recv_timeout(TICK) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if ended() {
                return;
            }
            if stop.load(Ordering::SeqCst) {
                self.end.get_or_insert(GuestEnd::Stopped);
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
            if waited > self.spec.boot_timeout {
                self.boot_failure = Some(format!("no sign of life after {} s", waited.as_secs()));
            }
            return self.boot_failure.is_some();
        };
        if let Some(timeout) = self.spec.timeout.filter(|timeout| ready.elapsed() > *timeout) {
            self.end = Some(GuestEnd::Timeout(timeout));
        } else if self.last_sign.elapsed() > self.stall {
            self.end = Some(GuestEnd::Stall(self.stall));
        }
        self.end.is_some()
    }

    /// Takes what came so far.
    pub fn drain(&mut self, events: &Receiver<Event>) {
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
                        self.end.get_or_insert(GuestEnd::Exited(status));
                    }
                }
            }
        }
    }

    /// Notes why the guest will not boot.
    pub fn boot_failed(&mut self, reason: String) {
        self.boot_failure.get_or_insert(reason);
    }

    /// What is known in the end; `messages` are the hypervisor's own.
    ///
    /// # Errors
    /// The command was not started, or what it sent could not be stored.
    pub fn finish(self, messages: &str) -> Result<GuestRun, BootError> {
        let Self { started, ready, ended, end, boot_failure, not_stored, console, .. } = self;
        if let Some(source) = not_stored {
            return Err(BootError::Data { source });
        }
        let excerpt = console.excerpt();
        let text = format!("{excerpt}\n{messages}").trim().to_owned();
        let Some(ready) = ready else {
            let reason = match boot_failure {
                Some(reason) => reason,
                None if console.panicked() => "its kernel panicked before the command started".to_owned(),
                None => "it ended before the command started".to_owned(),
            };
            let reason = match remedy(&text) {
                Some(remedy) => format!("{reason}; {remedy}"),
                None => reason,
            };
            return Err(BootError::BootFailed { reason, console: text });
        };
        let end = match end {
            // A panic counts although the command's status came before it.
            _ if console.panicked() => GuestEnd::Panic(text),
            Some(end) => end,
            None => GuestEnd::Reset(text),
        };
        Ok(GuestRun {
            end,
            boot: ready - started,
            run: ended.unwrap_or_else(Instant::now) - ready,
            complaints: console.complaints().to_vec(),
            console: excerpt,
        })
    }
}

/// What helps a guest that did not boot, if its console tells.
///
/// ACPICA gives a loop of a table 30 s (ACPI_MAX_LOOP_TIMEOUT, include/acpi/acconfig.h). A kernel with KASAN takes longer for
/// the interrupts of QEMU's PCI slots in virtual time, and then finds no device there.
fn remedy(console: &str) -> Option<&'static str> {
    console.contains("AE_AML_LOOP_TIMEOUT").then_some(
        "ACPI took too long for its PCI devices, as it does on debug kernels; boot it with --append pci=noacpi",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Watches a guest of which all that happened is known, and that is gone then.
    fn watched(happened: Vec<Event>) -> Result<GuestRun, BootError> {
        let spec = GuestSpec::new("bzImage".as_ref(), Vec::new());
        let mut watch = Watch::new(&spec, Instant::now());
        let (sender, events) = mpsc::channel();
        happened.into_iter().for_each(|event| sender.send(event).unwrap());
        watch.until_the_end(|| true, &events, &AtomicBool::new(false));
        watch.drain(&events);
        watch.finish("QEMU's own words")
    }

    fn ready() -> Event {
        Event::Message(Message::Ready { uptime_ms: 1 })
    }

    #[test]
    fn a_status_is_the_commands_unless_the_kernel_panicked_too() {
        let exit = || Event::Message(Message::Exit { status: 3 });
        assert_eq!(watched(vec![ready(), exit()]).unwrap().end, GuestEnd::Exited(3));
        let panic = Event::Console(b"[ 1.0] Kernel panic - not syncing: x\n".to_vec());
        assert!(matches!(watched(vec![ready(), exit(), panic]).unwrap().end, GuestEnd::Panic(_)));
    }

    #[test]
    fn a_guest_that_is_gone_was_reset_or_did_not_boot() {
        assert!(matches!(watched(vec![ready()]).unwrap().end, GuestEnd::Reset(_)));
        let error = watched(vec![Event::Console(b"no init found\n".to_vec())]).unwrap_err().to_string();
        assert!(error.contains("it ended before the command started"), "{error}");
        assert!(error.contains("no init found") && error.contains("QEMU's own words"), "{error}");
    }

    #[test]
    fn a_debug_kernel_without_pci_devices_is_told_what_helps() {
        let line = "[ 62.0] ACPI Error: Aborting method \\_SB.PCI0._PRT due to previous error (AE_AML_LOOP_TIMEOUT)\n";
        let error = watched(vec![Event::Console(line.as_bytes().to_vec())]).unwrap_err().to_string();
        assert!(error.lines().next().unwrap().ends_with("--append pci=noacpi"), "{error}");
    }

    #[test]
    fn what_was_not_stored_is_the_error() {
        let full = Event::NotStored(io::ErrorKind::StorageFull.into());
        assert!(matches!(watched(vec![ready(), full]), Err(BootError::Data { .. })));
    }
}
