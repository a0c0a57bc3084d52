//! A ring, asked for one answer at a time.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use injector_tests::steps::{PATIENCE, kernel_result};
use io_uring::squeue::Entry;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

const ENTRIES: u32 = 16;

/// How long each buffer is.
pub const LENGTH: usize = 8192;

/// A ring with the memory that its requests use.
pub struct Ring {
    pub ring: IoUring,
    /// For what is sent and for what is received. Never freed: a request that was given up may still use it.
    pub out: &'static mut [u8; LENGTH],
    pub back: &'static mut [u8; LENGTH],
    next: u64,
    /// Not asked for yet, in the order they came; a request can have two.
    done: Vec<(u64, Completion)>,
}

#[derive(Debug, Clone, Copy)]
pub struct Completion {
    pub result: i32,
    pub flags: u32,
}

pub fn fd(of: &impl AsFd) -> Fd {
    Fd(of.as_fd().as_raw_fd())
}

impl Ring {
    pub fn new() -> io::Result<Self> {
        Ok(Self::with(IoUring::new(ENTRIES)?))
    }

    /// One that does its work only when it is asked for completions.
    pub fn deferred() -> io::Result<Self> {
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(ENTRIES)?;
        Ok(Self::with(ring))
    }

    fn with(ring: IoUring) -> Self {
        let buffer = |byte| Box::leak(Box::new([byte; LENGTH]));
        Self { ring, out: buffer(b'u'), back: buffer(0), next: 0, done: Vec::new() }
    }

    /// Submits requests and does not wait. They use no memory but `out`, `back`, and what the kernel copies at once.
    pub fn start(&mut self, requests: &[Entry]) -> io::Result<Range<u64>> {
        let first = self.next;
        for request in requests {
            let request = request.clone().user_data(self.next);
            self.next += 1;
            // SAFETY: buffers live for ever, and descriptors that are closed too early are an error, no more.
            unsafe { self.ring.submission().push(&request) }.map_err(|_| io::Error::other("the queue is full"))?;
        }
        while !self.ring.submission().is_empty() {
            self.ring.submit()?;
        }
        Ok(first..self.next)
    }

    /// Waits for the completions of these requests; at most so long as a step waits.
    pub fn wait(&mut self, requests: Range<u64>) -> io::Result<Vec<Completion>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let new = self.ring.completion().map(|entry| {
                let completion = Completion { result: entry.result(), flags: entry.flags() };
                (entry.user_data(), completion)
            });
            self.done.extend(new);
            if requests.clone().all(|request| self.done.iter().any(|&(of, _)| of == request)) {
                return Ok(requests.filter_map(|request| self.take(request)).collect());
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            let left = Timespec::from(left);
            match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&left)) {
                Err(error) if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => return Err(error),
                _ => {}
            }
        }
    }

    /// The first completion of a request.
    fn take(&mut self, request: u64) -> Option<Completion> {
        let at = self.done.iter().position(|&(of, _)| of == request)?;
        Some(self.done.remove(at).1)
    }

    /// Submits requests and waits for them: what each returned.
    pub fn all(&mut self, requests: &[Entry]) -> io::Result<Vec<i32>> {
        let started = self.start(requests)?;
        Ok(self.wait(started)?.into_iter().map(|completion| completion.result).collect())
    }

    /// Submits one request and waits for it: what it returned, or its error.
    pub fn one(&mut self, request: Entry) -> io::Result<u32> {
        kernel_result(self.all(&[request])?[0])
    }

    pub fn nop(&mut self) -> io::Result<u32> {
        self.one(opcode::Nop::new().build())
    }
}
