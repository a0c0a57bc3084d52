//! A PID namespace under test.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::{Process, TargetError};
use crate::{foreign::Foreign, plan::PidNamespaceName};

/// `NS_GET_PARENT` and `NS_GET_NSTYPE` (include/uapi/linux/nsfs.h, since 4.9 and 4.11).
const GET_PARENT: libc::c_ulong = 0xb702;
const GET_TYPE: libc::c_ulong = 0xb703;
/// Namespaces nest no deeper (`MAX_PID_NS_LEVEL`, include/linux/pid_namespace.h).
const DEEPEST: u32 = 32;

/// A PID namespace, held open: its number can't come to mean another one unnoticed.
#[derive(Debug)]
pub struct PidNamespace {
    name: PidNamespaceName,
    _file: File,
    inum: u32,
    level: u32,
    /// Its first process, whose end is the end of all that are in it. None if it has none yet.
    init: Option<Process>,
}

impl PidNamespace {
    /// Opens the PID namespace of a process or of a file.
    ///
    /// # Errors
    /// There is no such process, or the file is not that of a PID namespace.
    pub fn open(name: &PidNamespaceName) -> Result<Self, TargetError> {
        let path = match name {
            PidNamespaceName::Of(pid) => PathBuf::from(format!("/proc/{pid}/ns/pid")),
            PidNamespaceName::File(path) => path.clone(),
        };
        let shown = Foreign::path(&path);
        let file = File::open(&path).map_err(|error| match (name, error.kind()) {
            (PidNamespaceName::Of(pid), io::ErrorKind::NotFound) => {
                TargetError::new(format!("--pidns: there is no process {pid}; see ps -e"))
            }
            _ => TargetError::new(format!("--pidns: can't open {shown}: {error}")),
        })?;
        let is_namespace = fstatfs(&file).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC);
        if !is_namespace || control(&file, GET_TYPE).ok() != Some(libc::CLONE_NEWPID) {
            return Err(TargetError::new(format!(
                "--pidns: {shown} is not the file of a PID namespace; such a file is /proc/PID/ns/pid"
            )));
        }
        let cannot = |error| TargetError::new(format!("--pidns: can't look at {shown}: {error}"));
        let inum = file.metadata().map_err(cannot)?.ino();
        let inum = u32::try_from(inum).map_err(|error| cannot(io::Error::other(error)))?;
        let level = level(&file).map_err(cannot)?;
        Ok(Self { name: name.clone(), _file: file, inum, level, init: init(Path::new("/proc"), inum, level) })
    }

    /// As it was named.
    #[must_use]
    pub fn name(&self) -> &PidNamespaceName {
        &self.name
    }

    /// Its number: that of the file.
    #[must_use]
    pub fn inum(&self) -> u32 {
        self.inum
    }

    /// How many namespaces it is inside of.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Whether its first process has ended, and with it all others.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.init.as_ref().is_some_and(Process::has_ended)
    }
}

/// Asks a namespace's file something without an argument.
fn control(file: &impl AsRawFd, request: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open, and these requests take no argument.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// How many namespaces a PID namespace is inside of, up to this process' own, which is the initial one.
fn level(file: &File) -> io::Result<u32> {
    let mut of: Option<OwnedFd> = None;
    for level in 0..=DEEPEST {
        let parent = match &of {
            Some(inner) => control(inner, GET_PARENT),
            None => control(file, GET_PARENT),
        };
        match parent {
            // SAFETY: a fresh descriptor that nobody else owns.
            Ok(parent) => of = Some(unsafe { OwnedFd::from_raw_fd(parent) }),
            // Nothing outside of ours can be seen (ns_get_owner() and pidns_get_parent() in kernel/pid_namespace.c).
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(level),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("it is nested too deeply"))
}

/// The first process of a namespace: its PID there is 1, and it is in no namespace below it.
fn init(proc: &Path, inum: u32, level: u32) -> Option<Process> {
    let wanted = format!("pid:[{inum}]");
    fs::read_dir(proc).ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        if !is_first(&status, level) || fs::read_link(entry.path().join("ns/pid")).ok()?.to_str() != Some(&wanted) {
            return None;
        }
        Process::open(pid).ok()
    })
}

/// Whether a process is the first of a namespace at that level, by its `/proc/PID/status`.
fn is_first(status: &str, level: u32) -> bool {
    let Some(pids) = status.lines().find_map(|line| line.strip_prefix("NSpid:")) else { return false };
    let pids: Vec<&str> = pids.split_whitespace().collect();
    pids.len() == level as usize + 1 && pids.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_one() {
        let own = PidNamespace::open(&PidNamespaceName::Of(std::process::id())).unwrap();
        let link = fs::read_link("/proc/self/ns/pid").unwrap();
        assert_eq!(link.to_str(), Some(format!("pid:[{}]", own.inum()).as_str()));
        assert_eq!(own.level(), 0, "nothing outside of it can be seen");
        let file = PidNamespace::open(&PidNamespaceName::File("/proc/self/ns/pid".into())).unwrap();
        assert_eq!(file.inum(), own.inum());
        assert!(!own.has_ended());
    }

    #[test]
    fn what_is_none_is_refused() {
        let error = |name| PidNamespace::open(&name).unwrap_err().to_string();
        assert_eq!(error(PidNamespaceName::Of(i32::MAX as u32)), "--pidns: there is no process 2147483647; see ps -e");
        for file in ["/proc/self/ns/net", "/proc/self/status", "/dev/null"] {
            let error = error(PidNamespaceName::File(file.into()));
            assert_eq!(
                error,
                format!("--pidns: {file} is not the file of a PID namespace; such a file is /proc/PID/ns/pid")
            );
        }
        let error = error(PidNamespaceName::File("/no/such/file".into()));
        assert!(error.starts_with("--pidns: can't open /no/such/file: No such file"), "{error}");
    }

    #[test]
    fn the_first_process_is_told_by_its_ids() {
        assert!(is_first("Name:\tx\nNSpid:\t4711\t1\n", 1));
        assert!(is_first("NSpid:\t1\n", 0));
        assert!(!is_first("NSpid:\t4711\t1\n", 0), "of a namespace below");
        assert!(!is_first("NSpid:\t4711\t12\t1\n", 1));
        assert!(!is_first("NSpid:\t4711\t2\n", 1));
        assert!(!is_first("Name:\tx\n", 0));
    }
}
