//! Ctrl-C and SIGTERM: sweeps in guests are asked to end, and guests whose sweep does not end are killed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread,
    time::Duration,
};

use injector_guest::protocol::Request;
use nix::sys::signal::{SigSet, Signal};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// How long a sweep has that is asked to end: it finishes its system call, resets its workload and writes its records.
const GRACE: Duration = Duration::from_secs(20);

/// The guests that run, and whether they shall end.
#[derive(Clone, Default)]
pub struct Interrupt {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ending: bool,
    guests: BTreeMap<u32, (Sender<Request>, Arc<AtomicBool>)>,
}

impl Interrupt {
    /// Handles SIGINT and SIGTERM from here on, as long as this process lives. Other threads may run already, and need not block
    /// these signals.
    pub fn watch() -> Self {
        let this = Self::default();
        if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) {
            let watcher = this.clone();
            thread::spawn(move || {
                // The process may have been started with both blocked.
                let _ = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]).thread_unblock();
                for _ in signals.forever() {
                    if watcher.is_ending() {
                        watcher.stop_all();
                    } else {
                        watcher.end_all();
                    }
                }
            });
        }
        this
    }

    /// Registers a guest that is about to boot. False: it must not boot, since all shall end.
    pub fn enter(&self, job: u32, requests: Sender<Request>, stop: &Arc<AtomicBool>) -> bool {
        let mut state = self.state();
        if !state.ending {
            state.guests.insert(job, (requests, Arc::clone(stop)));
        }
        !state.ending
    }

    /// Removes the guest of this job, which is gone.
    pub fn leave(&self, job: u32) {
        self.state().guests.remove(&job);
    }

    /// Whether all shall end.
    pub fn is_ending(&self) -> bool {
        self.state().ending
    }

    /// Asks all to end, and kills those that still run after the grace time.
    pub fn end_all(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut state.ending, true) {
            return;
        }
        for (requests, _) in state.guests.values() {
            let _ = requests.send(Request::Signal { number: Signal::SIGINT as i32 });
        }
        drop(state);
        let this = self.clone();
        thread::spawn(move || {
            thread::sleep(GRACE);
            this.stop_all();
        });
    }

    fn stop_all(&self) {
        for (_, stop) in self.state().guests.values() {
            stop.store(true, Ordering::SeqCst);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn all_are_asked_and_no_other_begins() {
        let interrupt = Interrupt::default();
        let (sender, requests) = mpsc::channel();
        let stop = Arc::default();
        assert!(interrupt.enter(0, sender.clone(), &stop));
        interrupt.end_all();
        assert_eq!(requests.try_recv(), Ok(Request::Signal { number: 2 }));
        assert!(!stop.load(Ordering::SeqCst), "it has time to end");
        assert!(!interrupt.enter(1, sender, &Arc::default()));
        interrupt.stop_all();
        assert!(stop.load(Ordering::SeqCst));
    }

    /// In a process of its own, since a signal comes to all tests of a process.
    #[test]
    fn a_signal_is_handled_although_other_threads_do_not_block_it() {
        const VARIABLE: &str = "INJECTOR_TEST_SIGNAL";
        if std::env::var_os(VARIABLE).is_none() {
            let test = "guests::interrupt::tests::a_signal_is_handled_although_other_threads_do_not_block_it";
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let status = child.args(["--exact", test]).env(VARIABLE, "1").status().unwrap();
            assert!(status.success(), "{status}");
            return;
        }
        // As the thread of a progress bar, which is there before guests are.
        thread::spawn(|| thread::sleep(Duration::from_secs(5)));
        let interrupt = Interrupt::watch();
        nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGTERM).unwrap();
        for _ in 0..500 {
            if interrupt.is_ending() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the signal came to nobody");
    }

    #[test]
    fn who_left_is_not_stopped() {
        let interrupt = Interrupt::default();
        let (sender, requests) = mpsc::channel();
        let stop = Arc::default();
        interrupt.enter(0, sender, &stop);
        interrupt.leave(0);
        interrupt.end_all();
        interrupt.stop_all();
        assert!(requests.try_recv().is_err() && !stop.load(Ordering::SeqCst));
    }
}
