//! Time for a thread that waits for its children: a signal now and then makes waitpid() return.

use crate::exit::{Context as _, Result};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::{
    pthread::{Pthread, pthread_kill, pthread_self},
    signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

/// How often.
pub const TICK: Duration = Duration::from_millis(100);

/// Time for what the kernel says late of a run: not all of it.
pub const MOMENT: Duration = Duration::from_millis(20);

/// A tick that is later than this was held up: by a machine that stood still, by a host that took its time for the journal.
const LATE: Duration = Duration::from_secs(1);

/// How much of the time between two ticks this thread was held up. Whoever had to wait for it meanwhile did not hang.
#[must_use]
pub fn held_up(between: Duration) -> Duration {
    if between > LATE { between.saturating_sub(TICK) } else { Duration::ZERO }
}

/// Not used by anything else in this process.
const SIGNAL: Signal = Signal::SIGALRM;

/// Interrupts the system calls of the thread that started it, until it is dropped.
#[derive(Debug)]
pub struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

extern "C" fn nothing(_: libc::c_int) {}

impl Ticker {
    /// Begins.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> Result<Self> {
        // Without SA_RESTART: the point is that calls return.
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(SIGNAL, &action) }.context("can't handle SIGALRM")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, waiter): (_, Pthread) = (Arc::clone(&stop), pthread_self());
        let tick = move || {
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(TICK);
                // The waiter joins this thread before it ends.
                let _ = pthread_kill(waiter, SIGNAL);
            }
        };
        let thread = thread::Builder::new().name("ticker".into()).spawn(tick).context("can't start a thread")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_tick_excuses_others() {
        assert_eq!(held_up(TICK), Duration::ZERO);
        assert_eq!(held_up(Duration::from_millis(900)), Duration::ZERO);
        assert_eq!(held_up(Duration::from_secs(12)), Duration::from_millis(11_900));
    }
}
