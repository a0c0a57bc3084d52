//! Copies a command's output to where it belongs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::port::{is_shortage, pause, write_all};

/// Copies until all writers are gone, or until the command has ended and nothing is left to read: daemons that it
/// leaves behind keep the pipe open.
pub fn until_drained(from: OwnedFd, mut to: impl Write, ended: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    let mut source = File::from(from);
    loop {
        // Read before polling: what was written before the command ended is then seen by this poll.
        let last = ended.load(Ordering::SeqCst);
        let ready = {
            let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(50u8))
        };
        match ready {
            Ok(0) if last => return,
            Ok(0) => {}
            Ok(_) => match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    write_all(&mut to, &buffer[..length]);
                    let _ = to.flush();
                }
                Err(error) if is_shortage(&error) => pause(),
                Err(_) => return,
            },
            Err(_) => pause(),
        }
    }
}
