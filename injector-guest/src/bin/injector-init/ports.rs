//! The virtio ports to the host, found by name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::thread;
use std::time::Duration;

use injector_guest::protocol::{CONTROL_PORT, STDERR_PORT, STDOUT_PORT};

/// Open ports.
pub struct Ports {
    pub stdout: File,
    pub stderr: File,
    pub control: File,
}

/// Waits until the host's ports are there; they come a moment after the driver.
pub fn wait_for_all() -> io::Result<Ports> {
    Ok(Ports { stdout: wait_for(STDOUT_PORT)?, stderr: wait_for(STDERR_PORT)?, control: wait_for(CONTROL_PORT)? })
}

fn wait_for(name: &str) -> io::Result<File> {
    for _ in 0..3000 {
        if let Some(device) = find(name)
            && let Ok(file) = OpenOptions::new().read(true).write(true).open(&device)
        {
            return Ok(file);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("no virtio port named {name}: does the kernel have CONFIG_VIRTIO_CONSOLE and CONFIG_VIRTIO_PCI?"),
    ))
}

fn find(name: &str) -> Option<String> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            return Some(format!("/dev/{}", entry.file_name().to_string_lossy()));
        }
    }
    None
}
