//! Drivers of the guest's own devices, where the kernel has them as modules, as distributions' kernels have.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The ports to the host, random numbers, and what makes `/dev/loop-control`, for which other systems have udev. The kernel asks
/// for file systems itself.
pub const DRIVERS: [&str; 4] = ["virtio_pci", "virtio_console", "virtio_rng", "loop"];

const MODPROBE: &str = "/sbin/modprobe";

/// Loads them if this kernel's modules are in the root. Those that are built in are left alone.
pub fn load() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if !Path::new("/lib/modules").join(release.trim()).join("modules.dep").exists() {
        return;
    }
    let loaded = Command::new(MODPROBE).arg("-a").args(DRIVERS).stdin(Stdio::null()).output();
    match loaded {
        Ok(output) if output.status.success() => {}
        Ok(output) => eprintln!("injector-init: {MODPROBE}: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => eprintln!("injector-init: {MODPROBE}: {error}"),
    }
}
