//! The ring buffers of a run's rules, watched together.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use aya::maps::{MapData, RingBuf};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep_until},
};

/// How long records gather before they are read: short to who looks on, and far from filling the rings. The kernel wakes the
/// reader for a record where there was none, so a reader that lets them gather is woken less.
const GATHER: Duration = Duration::from_millis(10);

/// One ring for each rule.
pub struct Rings {
    rings: Vec<AsyncFd<RingBuf<MapData>>>,
    /// Until then records gather.
    rests_until: Instant,
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
        Ok(Self { rings: rings.into_iter().map(watch).collect::<io::Result<_>>()?, rests_until: Instant::now() })
    }

    /// Waits until a ring has something, and lets it gather for a moment if all were empty just now.
    ///
    /// # Errors
    /// Those of epoll.
    pub async fn ready(&mut self) -> io::Result<()> {
        sleep_until(self.rests_until).await;
        poll_fn(|context| {
            for ring in &self.rings {
                if let Poll::Ready(ready) = ring.poll_read_ready(context) {
                    return Poll::Ready(ready.map(|_| ()));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Hands over at most `limit` records of each ring, with the rule's number, and says whether all are empty then.
    pub fn drain(&mut self, limit: usize, mut record: impl FnMut(usize, &[u8])) -> bool {
        let mut empty = true;
        for (rule, ring) in self.rings.iter_mut().enumerate() {
            let drained = ring.try_io_mut(Interest::READABLE, |ring| {
                for _ in 0..limit {
                    match ring.next() {
                        Some(bytes) => record(rule, &bytes),
                        // It is asked again when there is more.
                        None => return Err(io::ErrorKind::WouldBlock.into()),
                    }
                }
                Ok(())
            });
            empty &= drained.is_err();
        }
        if empty {
            self.rests_until = Instant::now() + GATHER;
        }
        empty
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
