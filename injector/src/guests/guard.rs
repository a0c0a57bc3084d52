//! Looks after the time of one guest: tells its sweep that the budget is used up, and ends a guest that should be gone.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use injector_guest::protocol::Request;

use super::host_journal::HostJournal;

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);

/// A sweep that has just begun may not listen yet: it is told again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// A guest whose kernel is damaged may hang while its sweep exits (seen on 7.3: after an oops under a lock, with all records
/// sent). It has this long to end by itself.
const DAMAGED_GRACE: Duration = Duration::from_secs(10);

/// A sweep that was told of the end of its budget still ends its run and cleans up. One that begins later still boots, and
/// records what is left undone.
const BUDGET_GRACE: Duration = Duration::from_secs(60);

/// Why a guest was ended: it should have ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Its last run damaged the kernel.
    Damaged,
    /// The budget is used up.
    Budget,
}

/// Looks after one guest, until it is told that the guest is gone.
pub struct Guard {
    /// Hanging up ends the thread.
    alive: Sender<()>,
    thread: JoinHandle<Option<Overdue>>,
}

impl Guard {
    /// Begins. Without `until` there is no budget. `stop` ends the guest.
    pub fn start(
        until: Option<Instant>,
        host: &Arc<Mutex<HostJournal>>,
        requests: Sender<Request>,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let (alive, dropped) = mpsc::channel::<()>();
        let (host, stop) = (Arc::clone(host), Arc::clone(stop));
        let thread = thread::spawn(move || {
            let started = Instant::now();
            let mut told = None::<Instant>;
            while dropped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                let is_over = until.is_some_and(|until| now >= until);
                if is_over && told.is_none_or(|told| now >= told + AGAIN) {
                    // A guest that is gone does not listen; that is noticed elsewhere.
                    let _ = requests.send(Request::BudgetSpent);
                    told = Some(now);
                }
                let damaged = host.lock().unwrap_or_else(PoisonError::into_inner).damaged();
                if let Some(overdue) = overdue(now, damaged, until.map(|until| until.max(started))) {
                    stop.store(true, Ordering::SeqCst);
                    return Some(overdue);
                }
            }
            None
        });
        Self { alive, thread }
    }

    /// The guest is gone. Returns why, if this ended it.
    pub fn end(self) -> Option<Overdue> {
        drop(self.alive);
        self.thread.join().unwrap_or_default()
    }
}

/// Whether a guest should be gone whose kernel is damaged since `damaged`, and which has no budget since `spent`.
fn overdue(now: Instant, damaged: Option<Instant>, spent: Option<Instant>) -> Option<Overdue> {
    let is_past = |since: Option<Instant>, grace| since.is_some_and(|since| now >= since + grace);
    if is_past(damaged, DAMAGED_GRACE) {
        Some(Overdue::Damaged)
    } else if is_past(spent, BUDGET_GRACE) {
        Some(Overdue::Budget)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_some_time_to_end_by_itself() {
        let since = Instant::now();
        let after = |seconds| since + Duration::from_secs(seconds);
        assert_eq!(overdue(after(1000), None, None), None);
        assert_eq!(overdue(after(9), Some(since), None), None);
        assert_eq!(overdue(after(10), Some(since), None), Some(Overdue::Damaged));
        assert_eq!(overdue(after(59), None, Some(since)), None);
        assert_eq!(overdue(after(60), None, Some(since)), Some(Overdue::Budget));
        // The guest is replaced, and the next one ends the sweep.
        assert_eq!(overdue(after(60), Some(since), Some(since)), Some(Overdue::Damaged));
    }

    #[test]
    fn the_end_of_the_budget_is_told_when_it_comes_and_not_to_a_guest_that_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let host = Arc::new(Mutex::new(HostJournal::open(&directory.path().join("j")).unwrap().0));
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, requests) = mpsc::channel();
        let until = Instant::now() + Duration::from_millis(600);
        let guard = Guard::start(Some(until), &host, sender, &stop);
        assert_eq!(requests.recv_timeout(Duration::from_secs(20)), Ok(Request::BudgetSpent));
        assert!(Instant::now() >= until, "not before");
        assert_eq!(guard.end(), None);
        // The thread had the sender, and it has ended.
        assert_eq!(requests.recv_timeout(Duration::from_secs(20)), Err(RecvTimeoutError::Disconnected));
        assert!(!stop.load(Ordering::SeqCst));
    }
}
