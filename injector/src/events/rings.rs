//! The ring buffers of a run's rules, watched together.

use std::{future::poll_fn, io, task::Poll};

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

/// One ring for each rule.
pub struct Rings {
    rings: Vec<AsyncFd<RingBuf<MapData>>>,
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
        Ok(Self { rings: rings.into_iter().map(watch).collect::<io::Result<_>>()? })
    }

    /// Waits until a ring has something.
    ///
    /// # Errors
    /// Those of epoll.
    pub async fn ready(&mut self) -> io::Result<()> {
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
