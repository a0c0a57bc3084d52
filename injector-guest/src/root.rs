//! A root for workloads, from this machine's programs: a shell, file-system tools, an NFS server.

mod image;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::initramfs::{Initramfs, InitramfsError};

pub use image::Image;

/// Real programs, where busybox has none, or one that does less.
const PROGRAMS: [&str; 21] = [
    "mkfs.ext4",
    "e2fsck",
    "mkfs.xfs",
    "xfs_repair",
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
    "setfattr",
    "getfattr",
    "flock",
    // Busybox's has no --reflink; its shell prefers its own, so this one is called by its path.
    "cp",
];

/// What some versions of the packages have.
const OPTIONAL_PROGRAMS: [&str; 4] = ["nfsdcld", "nfsdcltrack", "nfsdctl", "rpc.statd"];

/// Names under which a program does something else.
const LINKS: [(&str, &str); 9] = [
    ("mount.nfs4", "mount.nfs"),
    ("umount.nfs4", "umount.nfs"),
    ("mkfs.ext2", "mkfs.ext4"),
    ("fsck.ext4", "e2fsck"),
    ("insmod", "kmod"),
    ("rmmod", "kmod"),
    ("lsmod", "kmod"),
    ("modinfo", "kmod"),
    // The kernel calls it, too.
    ("modprobe", "kmod"),
];

/// Files of this machine that the programs read.
const HOST_FILES: [&str; 5] = ["/etc/netconfig", "/etc/protocols", "/etc/services", "/etc/mke2fs.conf", "/etc/rpc"];

/// Libraries that are opened at run time.
const RUNTIME_LIBRARIES: [&str; 2] = ["libnss_files.so.2", "libgcc_s.so.1"];
/// Where distributions have them.
const LIBRARY_DIRECTORIES: [&str; 4] = ["/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib"];

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

/// What the guest's init mounts something on.
const MOUNTED: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// Why a root could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Nothing runs without a shell.
    #[error("busybox is missing: it is the shell of the guest (Debian: apt-get install busybox-static)")]
    NoBusybox,
    /// busybox does not tell what it can do.
    #[error("{path} --list: {source}")]
    Busybox {
        /// Where it is.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A file to add that this machine does not have.
    #[error("{text}: there is no {host}")]
    NoSuchFile {
        /// As the user wrote it.
        text: String,
        /// What was looked for.
        host: PathBuf,
    },
    /// A path that the guest could not have.
    #[error("{text}: the path in the guest must be absolute")]
    RelativePath {
        /// As the user wrote it.
        text: String,
    },
    /// Something is mounted over it before the command starts.
    #[error("{guest}: the guest has file systems of its own under {directory}; choose another place")]
    Hidden {
        /// Where it should go.
        guest: String,
        /// What is mounted over it.
        directory: &'static str,
    },
    /// A script whose interpreter this machine does not have.
    #[error("{script}: there is no {interpreter}, which its first line asks for")]
    NoInterpreter {
        /// The script.
        script: PathBuf,
        /// From its first line.
        interpreter: String,
    },
    /// A file could not be read, or has libraries that are missing.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
}

/// A root, and what was wanted in it and is not there.
#[derive(Debug)]
pub struct Base {
    /// The root.
    pub root: Initramfs,
    /// Programs that this machine does not have. Workloads that need none of them work all the same.
    pub missing: Vec<String>,
}

/// A root with `init` as its `/init`, a shell, and those of the programs for file systems and NFS that this machine has.
pub fn base(init: &Path) -> Result<Base, RootError> {
    let mut root = Initramfs::new(init)?;
    busybox(&mut root)?;
    let mut missing = Vec::new();
    for name in PROGRAMS {
        match find_program(name) {
            Some(path) => drop(root.program(&path, &format!("/usr/sbin/{name}"))?),
            None => missing.push(name.to_owned()),
        }
    }
    for name in OPTIONAL_PROGRAMS {
        if let Some(path) = find_program(name) {
            root.program(&path, &format!("/usr/sbin/{name}"))?;
        }
    }
    for (name, target) in LINKS {
        // Where the program is missing, busybox may have an applet of the name.
        if !missing.iter().any(|program| program == target) {
            root.symlink(&format!("/usr/sbin/{name}"), target);
        }
    }
    for path in HOST_FILES {
        if Path::new(path).exists() {
            root.file(path.as_ref(), path)?;
        }
    }
    for name in RUNTIME_LIBRARIES {
        let found =
            LIBRARY_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
        if let Some(path) = found {
            root.library(&path)?;
        }
    }
    for directory in DIRECTORIES {
        root.directory(directory);
    }
    for (path, text) in TEXTS {
        root.text(path, text);
    }
    root.symlink("/etc/mtab", "/proc/mounts").symlink("/var/run", "/run");
    Ok(Base { root, missing })
}

/// The shell and all applets; the real programs replace theirs later.
fn busybox(root: &mut Initramfs) -> Result<(), RootError> {
    let path = find_program("busybox").ok_or(RootError::NoBusybox)?;
    root.program(&path, "/usr/bin/busybox")?;
    let list = Command::new(&path).arg("--list").output();
    let applets = list.map_err(|source| RootError::Busybox { path: path.clone(), source })?.stdout;
    let applets = String::from_utf8_lossy(&applets).into_owned();
    // Real ones are in /usr/sbin, which PATH has first; an applet of the same name there would be in their way.
    for applet in applets.split_ascii_whitespace().filter(|applet| *applet != "busybox") {
        root.symlink(&format!("/usr/bin/{applet}"), "busybox");
    }
    Ok(())
}

/// Adds what is at `host`: a directory with all that is in it, a program with its libraries, a script with its
/// interpreter, or a plain file.
pub fn add(root: &mut Initramfs, host: &Path, guest: &str) -> Result<(), RootError> {
    if let Some(directory) = mounted_over(guest) {
        return Err(RootError::Hidden { guest: guest.to_owned(), directory });
    }
    if host.is_dir() {
        root.tree(host, guest)?;
        return Ok(());
    }
    root.program(host, guest)?;
    let failed = |source| InitramfsError::File { path: host.to_owned(), source };
    let Some(interpreter) = interpreter(&fs::read(host).map_err(failed)?) else { return Ok(()) };
    // The path as the script has it; `/bin/sh` and others are busybox's.
    if root.contains(&interpreter) {
        return Ok(());
    }
    let name = interpreter.rsplit('/').next().unwrap_or_default();
    let anywhere = !interpreter.starts_with('/');
    if anywhere && root.contains(&format!("/usr/bin/{name}")) {
        return Ok(());
    }
    let found =
        if anywhere { find_program(name) } else { Some(PathBuf::from(&interpreter)).filter(|path| path.is_file()) };
    let Some(found) = found else {
        return Err(RootError::NoInterpreter { script: host.to_owned(), interpreter });
    };
    let place = if anywhere { format!("/usr/bin/{name}") } else { interpreter };
    root.program(&found, &place)?;
    Ok(())
}

/// The directory that hides files at this path of a root, if one does.
pub fn mounted_over(guest: &str) -> Option<&'static str> {
    MOUNTED.into_iter().find(|directory| guest.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')))
}

/// What a script's first line asks for: a path, or just a name if env is to look for it.
fn interpreter(script: &[u8]) -> Option<String> {
    let line = script.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split_ascii_whitespace();
    let program = words.next()?;
    let is_env = Path::new(program).file_name() == Some(OsStr::from_bytes(b"env"));
    if !is_env {
        return Some(program.to_owned());
    }
    words.find(|word| !word.starts_with('-') && !word.contains('=')).map(str::to_owned)
}

/// `FILE` or `FILE:GUESTPATH`; without the latter it goes to /usr/bin.
pub fn parse_added(text: &str) -> Result<(PathBuf, String), RootError> {
    let (host, guest) = match text.split_once(':') {
        Some((host, guest)) => (PathBuf::from(host), guest.to_owned()),
        None => {
            let host = PathBuf::from(text);
            let name = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (host, format!("/usr/bin/{name}"))
        }
    };
    if !host.exists() {
        return Err(RootError::NoSuchFile { text: text.to_owned(), host });
    }
    if !guest.starts_with('/') {
        return Err(RootError::RelativePath { text: text.to_owned() });
    }
    Ok((host, guest))
}

/// Where a program is, as root's PATH has it.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|path| path.is_file())
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

    #[test]
    fn interpreters_are_read_as_the_kernel_and_env_do() {
        let of = |script: &str| interpreter(script.as_bytes());
        assert_eq!(of("#!/bin/bash -e\necho").as_deref(), Some("/bin/bash"));
        assert_eq!(of("#! /usr/bin/env -S LANG=C python3 -u\n").as_deref(), Some("python3"));
        assert_eq!(of("#!\n"), None);
        assert_eq!(of("echo\n"), None);
        assert_eq!(interpreter(b"\x7fELF"), None);
    }

    #[test]
    fn what_init_mounts_hides_files() {
        assert_eq!(mounted_over("/tmp/work.sh"), Some("/tmp"));
        assert_eq!(mounted_over("/tmpfiles/work.sh"), None);
        assert_eq!(mounted_over("/usr/tmp/work.sh"), None);
        for target in crate::init::mount_targets() {
            assert!(mounted_over(&format!("{target}/x")).is_some(), "{target}");
        }
        let error = add(&mut Initramfs::overlay(), "/bin/sh".as_ref(), "/run/sh").unwrap_err().to_string();
        assert!(error.starts_with("/run/sh: ") && error.contains("another place"), "{error}");
    }

    #[test]
    fn a_script_brings_its_interpreter() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("work");
        let program = std::env::current_exe().unwrap();
        fs::write(&script, format!("#!{}\n", program.display())).unwrap();
        let mut root = Initramfs::overlay();
        add(&mut root, &script, "/work").unwrap();
        assert!(root.contains("/work") && root.contains(program.to_str().unwrap()));
        fs::write(&script, "#!/no/such/shell\n").unwrap();
        let error = add(&mut Initramfs::overlay(), &script, "/work").unwrap_err().to_string();
        assert!(error.ends_with("there is no /no/such/shell, which its first line asks for"), "{error}");
        // What the root has is used, whatever this machine has.
        let mut root = Initramfs::overlay();
        root.symlink("/no/such/shell", "busybox");
        add(&mut root, &script, "/work").unwrap();
    }
}
