//! The host's end of the data port: what comes is stored, and acknowledged after that.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// Reads until the other side hangs up. Each portion is written and flushed, then the number of bytes so far goes back.
///
/// A guest that does not read holds up nobody: acknowledgements wait until there is room, and only the newest counts.
///
/// # Errors
/// `to` failed.
pub fn store_all(port: &UnixStream, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut stored: u64 = 0;
    let mut unsaid = false;
    loop {
        let interest = if unsaid { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        let mut fds = [PollFd::new(port.as_fd(), interest)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return Ok(()),
        }
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            match (&*port).read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    to.write_all(&buffer[..length])?;
                    to.flush()?;
                    stored += length as u64;
                    unsaid = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // QEMU was killed.
                Err(_) => return Ok(()),
            }
        }
        if unsaid {
            let line = format!("{stored}\n");
            // A line this short goes as a whole or not at all.
            unsaid = send(port.as_raw_fd(), line.as_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// What was written, and how much of it was flushed.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            let mut state = self.0.lock().unwrap();
            state.1 = state.0.len();
            Ok(())
        }
    }

    #[test]
    fn what_is_acknowledged_was_flushed() {
        let (host, guest) = UnixStream::pair().unwrap();
        let disk = Disk::default();
        let mut to = disk.clone();
        let storing = thread::spawn(move || store_all(&host, &mut to));
        let mut lines = BufReader::new(guest.try_clone().unwrap());
        let mut sent = 0;
        for size in [1, 70_000, 3] {
            (&guest).write_all(&vec![7; size]).unwrap();
            sent += size;
            let mut line = String::new();
            while line.trim() != sent.to_string() {
                line.clear();
                assert_ne!(lines.read_line(&mut line).unwrap(), 0);
                let flushed = disk.0.lock().unwrap().1;
                assert!(flushed >= line.trim().parse().unwrap());
            }
        }
        drop((lines, guest));
        storing.join().unwrap().unwrap();
        assert_eq!(disk.0.lock().unwrap().0.len(), sent);
    }

    #[test]
    fn a_guest_that_does_not_read_loses_nothing_and_hears_the_last_word() {
        let (host, guest) = UnixStream::pair().unwrap();
        let disk = Disk::default();
        let mut to = disk.clone();
        let storing = thread::spawn(move || store_all(&host, &mut to));
        // Of more acknowledgements than a socket holds, each portion gets one.
        let mut total = 0;
        for _ in 0..2000 {
            (&guest).write_all(b"line\n").unwrap();
            total += 5;
            while disk.0.lock().unwrap().1 < total {
                thread::sleep(Duration::from_micros(10));
            }
        }
        let last = BufReader::new(&guest).lines().map(Result::unwrap).find(|line| *line == total.to_string());
        assert!(last.is_some());
        drop(guest);
        storing.join().unwrap().unwrap();
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let (host, guest) = UnixStream::pair().unwrap();
        (&guest).write_all(b"x").unwrap();
        let mut full: &mut [u8] = &mut [];
        assert!(store_all(&host, &mut full).is_err());
    }
}
