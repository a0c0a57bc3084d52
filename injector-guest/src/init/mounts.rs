//! Kernel file systems, the host's directory, the loopback interface, cgroup controllers.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::protocol::{SHARE_DIR, SHARE_TAG};

/// Type, where, options. In this order: later ones are mounted into earlier ones.
const MOUNTS: [(&str, &str, &str); 13] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", "mode=755"),
    ("devpts", "/dev/pts", "ptmxmode=666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("mqueue", "/dev/mqueue", ""),
    ("tmpfs", "/run", "mode=755"),
    ("tmpfs", "/tmp", "mode=1777"),
    ("debugfs", "/sys/kernel/debug", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("bpf", "/sys/fs/bpf", "mode=700"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("configfs", "/sys/kernel/config", ""),
];

const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Mounts what this kernel has; a type that it lacks is left out.
pub fn mount_all() {
    for (kind, target, options) in MOUNTS {
        if !Path::new(target).is_dir() {
            // Below /sys only the kernel makes directories: without the feature there is none.
            if fs::create_dir_all(target).is_err() {
                continue;
            }
        }
        let options = (!options.is_empty()).then_some(options);
        match mount(Some(kind), target, Some(kind), MsFlags::empty(), options) {
            Ok(()) | Err(Errno::ENODEV | Errno::EBUSY) => {}
            Err(error) => eprintln!("injector-init: mount {kind} on {target}: {error}"),
        }
    }
    for (link, target) in DEVICE_LINKS {
        let _ = std::os::unix::fs::symlink(target, link);
    }
}

/// Mounts the host's directory.
pub fn mount_share() {
    let _ = fs::create_dir_all(SHARE_DIR);
    let options = "trans=virtio,version=9p2000.L,msize=131072";
    if let Err(error) = mount(Some(SHARE_TAG), SHARE_DIR, Some("9p"), MsFlags::empty(), Some(options)) {
        eprintln!("injector-init: mount of the host's directory on {SHARE_DIR}: {error}");
    }
}

/// Lets child cgroups use every controller that there is.
pub fn delegate_cgroup_controllers() {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    for controller in controllers.split_ascii_whitespace() {
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}"));
    }
}

/// Brings `lo` up; the kernel then gives it its addresses.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: socket(2) takes plain numbers; the descriptor it returns is owned by nobody else.
    let socket = unsafe {
        let descriptor = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor)
    };
    // SAFETY: all bytes zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
