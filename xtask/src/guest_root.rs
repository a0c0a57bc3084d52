//! The root of the project's guests: programs of this machine, the injector, the test modules, the workloads.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use injector_guest::Initramfs;

use crate::packages::Group;
use crate::process::{self, find_program};
use crate::setup;
use crate::static_build;

/// Real programs, where busybox has none, or one that does less.
const PROGRAMS: [&str; 16] = [
    "mkfs.ext4",
    "e2fsck",
    "mkfs.xfs",
    "mkfs.btrfs",
    "btrfs",
    "mount",
    "umount",
    "losetup",
    "mount.nfs",
    "umount.nfs",
    "rpcbind",
    "rpc.nfsd",
    "rpc.mountd",
    "exportfs",
    "kmod",
    "ip",
];

/// What some versions of the packages have.
const OPTIONAL_PROGRAMS: [&str; 4] = ["nfsdcltrack", "nfsdctl", "xfs_repair", "rpc.statd"];

/// Names under which a program does something else.
const LINKS: [(&str, &str); 8] = [
    ("mount.nfs4", "mount.nfs"),
    ("umount.nfs4", "umount.nfs"),
    ("mkfs.ext2", "mkfs.ext4"),
    ("fsck.ext4", "e2fsck"),
    ("insmod", "kmod"),
    ("rmmod", "kmod"),
    ("lsmod", "kmod"),
    ("modinfo", "kmod"),
];

/// Files of this machine that the programs read.
const HOST_FILES: [&str; 5] = ["/etc/netconfig", "/etc/protocols", "/etc/services", "/etc/mke2fs.conf", "/etc/rpc"];

/// Libraries that are opened at run time.
const RUNTIME_LIBRARIES: [&str; 2] = ["/lib/x86_64-linux-gnu/libnss_files.so.2", "/lib/x86_64-linux-gnu/libgcc_s.so.1"];

const TEXTS: [(&str, &str); 6] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n_rpc:x:101:65534::/run/rpcbind:/bin/false\nstatd:x:102:65534::/var/lib/nfs:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost injector-guest\n::1 localhost\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\nrpc: files\n",
    ),
    ("/etc/exports", ""),
    ("/var/lib/nfs/etab", ""),
];

const DIRECTORIES: [&str; 8] = [
    "/var/lib/nfs/rpc_pipefs",
    "/var/lib/nfs/v4recovery",
    "/var/lib/nfs/nfsdcltrack",
    "/var/lib/nfs/sm",
    "/var/lib/nfs/sm.bak",
    "/var/log",
    "/etc/exports.d",
    "/mnt",
];

/// What goes into the root besides the programs.
#[derive(Debug, Default)]
pub struct Contents {
    /// The injector's binary.
    pub injector: Option<PathBuf>,
    /// Kernel modules, for /lib/modules.
    pub modules: Vec<PathBuf>,
    /// More files: of this machine, and where they go.
    pub added: Vec<(PathBuf, String)>,
}

/// Builds the root.
pub fn build(contents: &Contents) -> Result<Initramfs> {
    setup::packages(&[Group::Guest])?;
    let init = static_build::binary("injector-guest", "injector-init")?;
    let mut root = Initramfs::new(&init)?;
    busybox(&mut root)?;
    for name in PROGRAMS {
        let path =
            find_program(name).with_context(|| format!("{name} is not there, though its package is installed"))?;
        root.program(&path, &format!("/usr/sbin/{name}"))?;
    }
    for name in OPTIONAL_PROGRAMS {
        if let Some(path) = find_program(name) {
            root.program(&path, &format!("/usr/sbin/{name}"))?;
        }
    }
    for (name, target) in LINKS {
        root.symlink(&format!("/usr/sbin/{name}"), target);
    }
    for path in HOST_FILES {
        if Path::new(path).exists() {
            root.file(path.as_ref(), path)?;
        }
    }
    for path in RUNTIME_LIBRARIES {
        if Path::new(path).exists() {
            root.library(path.as_ref())?;
        }
    }
    for directory in DIRECTORIES {
        root.directory(directory);
    }
    for (path, text) in TEXTS {
        root.text(path, text);
    }
    root.symlink("/etc/mtab", "/proc/mounts").symlink("/var/run", "/run");

    let Contents { injector, modules, added } = contents;
    if let Some(injector) = injector {
        root.file(injector, "/usr/bin/injector")?;
    }
    for module in modules {
        let name = module.file_name().with_context(|| format!("{}: a module without a name", module.display()))?;
        root.file(module, &format!("/lib/modules/{}", name.to_string_lossy()))?;
    }
    let workloads = process::workspace().join("tests/workloads");
    if workloads.is_dir() {
        root.tree(&workloads, "/workloads")?;
    }
    for (host, guest) in added {
        if host.is_dir() {
            root.tree(host, guest)?;
        } else {
            root.program(host, guest)?;
        }
    }
    Ok(root)
}

/// The shell and all applets; the real programs replace theirs later.
fn busybox(root: &mut Initramfs) -> Result<()> {
    let path = find_program("busybox").context("busybox is not there, though its package is installed")?;
    root.program(&path, "/usr/bin/busybox")?;
    let applets = process::output(Command::new(&path).arg("--list"))?;
    // Real ones are in /usr/sbin, which PATH has first; an applet of the same name there would be in their way.
    for applet in applets.split_ascii_whitespace().filter(|applet| *applet != "busybox") {
        root.symlink(&format!("/usr/bin/{applet}"), "busybox");
    }
    Ok(())
}

/// `FILE` or `FILE:GUESTPATH`; without the latter it goes to /usr/bin.
pub fn parse_added(text: &str) -> Result<(PathBuf, String)> {
    let (host, guest) = match text.split_once(':') {
        Some((host, guest)) => (PathBuf::from(host), guest.to_owned()),
        None => {
            let host = PathBuf::from(text);
            let name = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (host, format!("/usr/bin/{name}"))
        }
    };
    if !host.exists() {
        bail!("--add {text}: there is no {}", host.display());
    }
    if !guest.starts_with('/') {
        bail!("--add {text}: the path in the guest must be absolute");
    }
    Ok((host, guest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_files_have_a_place() {
        assert_eq!(parse_added("/bin/sh").unwrap(), (PathBuf::from("/bin/sh"), "/usr/bin/sh".to_owned()));
        assert_eq!(parse_added("/bin/sh:/x/y").unwrap(), (PathBuf::from("/bin/sh"), "/x/y".to_owned()));
        assert!(parse_added("/bin/sh:x").unwrap_err().to_string().contains("absolute"));
        assert!(parse_added("/no/such").unwrap_err().to_string().contains("there is no /no/such"));
    }

    #[test]
    fn no_program_is_listed_twice() {
        let mut names: Vec<_> =
            PROGRAMS.iter().chain(&OPTIONAL_PROGRAMS).chain(LINKS.iter().map(|(name, _)| name)).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
