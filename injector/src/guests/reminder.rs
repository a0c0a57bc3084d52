//! Tells a guest's sweep that its budget is used up. A guest in virtual time does not know what the time is here.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use injector_guest::protocol::Request;

/// A sweep that has just begun may not listen yet: it is told again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Reminds a guest until it is dropped.
pub struct Reminder {
    /// Hanging up ends the thread.
    _alive: Sender<()>,
}

impl Reminder {
    /// Begins; the first reminder comes at `until`.
    pub fn start(until: Instant, requests: Sender<Request>) -> Self {
        let (alive, dropped) = mpsc::channel::<()>();
        thread::spawn(move || {
            let mut wait = until.saturating_duration_since(Instant::now());
            while dropped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                if requests.send(Request::BudgetSpent).is_err() {
                    return;
                }
                wait = AGAIN;
            }
        });
        Self { _alive: alive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_when_the_time_is_over_and_not_when_the_guest_is_gone() {
        let (sender, requests) = mpsc::channel();
        let reminder = Reminder::start(Instant::now() + Duration::from_millis(30), sender.clone());
        assert!(requests.try_recv().is_err(), "not before");
        assert_eq!(requests.recv_timeout(Duration::from_secs(20)), Ok(Request::BudgetSpent));
        drop((reminder, sender));
        // The thread has the last sender, and it ends.
        assert_eq!(requests.recv_timeout(Duration::from_secs(20)), Err(RecvTimeoutError::Disconnected));
    }
}
