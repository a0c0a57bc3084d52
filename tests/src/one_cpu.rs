//! A thread that stays on one CPU.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// This thread.
const THIS: Pid = Pid::from_raw(0);

/// This thread is on one CPU, and where it may be otherwise again when this is dropped.
#[derive(Debug)]
pub struct OnOneCpu(CpuSet);

impl OnOneCpu {
    /// On the one where it is.
    pub fn here() -> Self {
        Self::at(sched_getcpu().expect("it is on some CPU"))
    }

    /// On this one.
    pub fn at(cpu: usize) -> Self {
        let before = sched_getaffinity(THIS).expect("a thread may ask where it may be");
        let mut one = CpuSet::new();
        one.set(cpu).and_then(|()| sched_setaffinity(THIS, &one)).unwrap_or_else(|error| panic!("CPU {cpu}: {error}"));
        Self(before)
    }
}

impl Drop for OnOneCpu {
    fn drop(&mut self) {
        let _ = sched_setaffinity(THIS, &self.0);
    }
}
