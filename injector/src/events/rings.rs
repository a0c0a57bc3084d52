//! The ring buffers of a run's rules, watched together.

use std::{future::poll_fn, io, task::Poll};

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

/// One ring for each rule.
pub struct Rings {
    rings: Vec<AsyncFd<RingBuf<MapData>>>,
    /// The one that is asked first, lest a busy one keeps the others waiting.
    first: usize,
}

impl Rings {
    /// Has tokio watch them.
    ///
    /// # Errors
    /// When epoll refuses one.
    pub fn watch(rings: impl IntoIterator<Item = RingBuf<MapData>>) -> io::Result<Self> {
        let watch = |ring| -> io::Result<_> {
            // SAFETY: a ring owns its one descriptor, and gives it up when it is dropped, not before.
            Ok(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?)
        };
        Ok(Self { rings: rings.into_iter().map(watch).collect::<io::Result<_>>()?, first: 0 })
    }

    /// Waits until a rule's ring has something, and says which rule's.
    ///
    /// # Errors
    /// Those of epoll.
    pub async fn ready(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            let len = self.rings.len();
            for rule in (0..len).map(|i| (self.first + i) % len) {
                match self.rings[rule].poll_read_ready(context) {
                    Poll::Ready(Ok(_)) => return Poll::Ready(Ok(rule)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Hands over at most `limit` records of a ring that is ready, and says whether there were fewer.
    pub fn drain(&mut self, rule: usize, limit: usize, mut record: impl FnMut(&[u8])) -> bool {
        self.first = rule + 1;
        let drained = self.rings[rule].try_io_mut(Interest::READABLE, |ring| {
            for _ in 0..limit {
                match ring.next() {
                    Some(bytes) => record(&bytes),
                    // It is asked again when there is more.
                    None => return Err(io::ErrorKind::WouldBlock.into()),
                }
            }
            Ok(())
        });
        drained.is_err()
    }

    /// Hands over all that is left, rule by rule, when nobody writes to the rings any more.
    pub fn finish(self, mut record: impl FnMut(usize, &[u8])) {
        for (rule, ring) in self.rings.into_iter().enumerate() {
            let mut ring = ring.into_inner();
            while let Some(bytes) = ring.next() {
                record(rule, &bytes);
            }
        }
    }
}
