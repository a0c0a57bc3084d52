//! The command's side of the ports: virtio ports are found by name; a command on this machine has a socket for its data.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::protocol::{DATA_PORT, DATA_SOCKET, VIRTUAL_TIME};

/// The kernel's counters of a port, as `bytes_sent: N` lines (`port_debugfs_show()` of `drivers/char/virtio_console.c`).
const COUNTERS: &str = "/sys/kernel/debug/virtio-ports";

/// How long the host may take to store what it was sent: its disk may be busy with other things.
const STORE_TIME: Duration = Duration::from_secs(120);

/// How long the kernel may take to find the ports.
const APPEARANCE_TIME: Duration = Duration::from_secs(15);

/// The command's end of the port for data. One process at a time can have it open.
///
/// A write returns when the data is queued and the host was told of it, not when the host has it: for ports that are
/// not consoles, `port_fops_write()` does not wait for the buffer to be consumed, blocking or not
/// (`drivers/char/virtio_console.c` of Linux 6.1 and 6.12). In practice QEMU takes it even when the guest panics or resets at once (40 of 40
/// panics, 20 of 20 resets), but only `flush` waits until the host says that it has it.
#[derive(Debug)]
pub struct DataPort {
    file: File,
    /// Bytes sent since the guest booted, by this and by earlier openers.
    sent: u64,
    acknowledgements: Acknowledgements,
    /// Waiting keeps the processor busy: [`VIRTUAL_TIME`].
    busy: bool,
}

impl DataPort {
    /// Opens the port.
    ///
    /// # Errors
    /// There is no such port (no [`Engine`](crate::Engine) runs this process), or it is open elsewhere.
    pub fn open() -> io::Result<Self> {
        if let Some(path) = std::env::var_os(DATA_SOCKET) {
            let socket = UnixStream::connect(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            return Ok(Self {
                file: OwnedFd::from(socket).into(),
                sent: 0,
                acknowledgements: Acknowledgements::default(),
                busy: false,
            });
        }
        let (name, file) = open_by_name(DATA_PORT)?;
        // Earlier openers' bytes count too; without debugfs there is only one opener that may sync.
        let counters = fs::read_to_string(format!("{COUNTERS}/{name}")).unwrap_or_default();
        let (sent, busy) = (bytes_sent(&counters).unwrap_or(0), std::env::var_os(VIRTUAL_TIME).is_some());
        Ok(Self { file, sent, acknowledgements: Acknowledgements::default(), busy })
    }
}

impl Write for DataPort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                // The queue had no room after all (__send_to_port()).
                Ok(0) if !bytes.is_empty() => pause(),
                Ok(length) => {
                    self.sent += length as u64;
                    return Ok(length);
                }
                Err(error) if is_shortage(&error) => pause(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns when the host has stored all that was written: it has been through `flush` of the sink there.
    ///
    /// An error means that the host does not answer: what was written since the last success may be lost.
    fn flush(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let mut buffer = [0; 4096];
        while self.acknowledgements.stored < self.sent {
            if start.elapsed() > STORE_TIME {
                let message = format!("the host did not store what it was sent within {} s", STORE_TIME.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, message));
            }
            // So that a host which never answers is noticed; the port is not read while nothing is there.
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let patience = if self.busy { PollTimeout::ZERO } else { PollTimeout::from(1000u16) };
            if !matches!(poll(&mut fds, patience), Ok(1..)) {
                thread::yield_now();
                continue;
            }
            match self.file.read(&mut buffer) {
                // The host's end is not connected yet.
                Ok(0) => pause(),
                Ok(length) => self.acknowledgements.feed(&buffer[..length]),
                Err(error) if is_shortage(&error) => pause(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What the host says: after each flush, how many bytes it has had since the guest booted, in decimal, as a line.
#[derive(Debug, Default)]
struct Acknowledgements {
    stored: u64,
    digits: u64,
}

impl Acknowledgements {
    fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'0'..=b'9' => self.digits = self.digits.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
                _ => self.stored = self.stored.max(std::mem::take(&mut self.digits)),
            }
        }
    }
}

fn bytes_sent(counters: &str) -> Option<u64> {
    counters.lines().find_map(|line| line.strip_prefix("bytes_sent: ")?.trim().parse().ok())
}

/// Opens the port of that name, once it is there: ports come a moment after their driver.
pub(crate) fn wait_for(name: &str) -> io::Result<File> {
    wait_to_be_there(name);
    open_by_name(name).map(|(_, file)| file)
}

/// Waits for a port that others open.
pub(crate) fn wait_to_be_there(name: &str) {
    let start = Instant::now();
    while find(name).is_none() && start.elapsed() < APPEARANCE_TIME {
        thread::sleep(Duration::from_millis(5));
    }
}

/// The port's device name and the open device.
fn open_by_name(name: &str) -> io::Result<(String, File)> {
    let Some(device) = find(name) else {
        return Err(io::Error::new(
            ErrorKind::NotFound,
            format!("no virtio port named {name}: does the kernel have CONFIG_VIRTIO_CONSOLE and CONFIG_VIRTIO_PCI?"),
        ));
    };
    let path = format!("/dev/{device}");
    let start = Instant::now();
    loop {
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => return Ok((device, file)),
            // devtmpfs makes the device file a moment after sysfs has the name.
            Err(error)
                if (is_shortage(&error) || error.kind() == ErrorKind::NotFound)
                    && start.elapsed() < APPEARANCE_TIME =>
            {
                pause();
            }
            Err(error) => return Err(io::Error::new(error.kind(), format!("{path} ({name}): {error}"))),
        }
    }
}

fn find(name: &str) -> Option<String> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            return Some(entry.file_name().to_string_lossy().into_owned());
        }
    }
    None
}

/// Failures that pass: the kernel had no memory, or was made to say so.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN | libc::ENOBUFS | libc::ENOSPC))
}

/// Writes all of it, however often the kernel lacks memory for it.
pub(crate) fn write_all(mut to: impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => pause(),
            Ok(length) => bytes = &bytes[length..],
            Err(error) if is_shortage(&error) => pause(),
            // The host hung up; the output has nowhere to go.
            Err(_) => return,
        }
    }
}

/// A moment, for what will be better then.
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_come_in_any_portions() {
        let mut heard = Acknowledgements::default();
        for portion in ["1", "2\n", "345\n46", "0\n99"] {
            heard.feed(portion.as_bytes());
        }
        assert_eq!(heard.stored, 460, "what has no newline yet may be half a number");
        heard.feed(b"9\n");
        assert_eq!(heard.stored, 999);
    }

    #[test]
    fn the_kernels_counter_is_found() {
        let text = "name: injector.data\nguest_connected: 1\nbytes_sent: 4711\nbytes_received: 3\n";
        assert_eq!(bytes_sent(text), Some(4711));
        assert_eq!(bytes_sent(""), None);
    }
}
