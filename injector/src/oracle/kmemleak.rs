//! Memory that nothing points to any more: `/sys/kernel/debug/kmemleak` (mm/kmemleak.c).
//!
//! Three things decide when a lost object is reported:
//! - it must be at least 5 s old when the scan begins (MSECS_MIN_AGE);
//! - a scan passes over what changed since the scan before, and what is new counts as changed: it takes two scans;
//! - a pointer that was only in a register, or moved during the scan, makes a false alarm that the next scan takes back. So
//!   [`Kmemleak::scan`] reports only what a third scan still finds lost.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

pub use injector_log::kmemleak::{Leak, Object, group, parse};

use crate::kernel::{KernelError, KernelFiles};

const FILE: &str = "sys/kernel/debug/kmemleak";

/// Younger objects are not reported: MSECS_MIN_AGE, and a little for the kernel's counting in ticks.
const MIN_AGE: Duration = Duration::from_millis(5100);

/// Why there are no leaks to be had.
#[derive(Debug, thiserror::Error)]
pub enum KmemleakError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] KernelError),
    /// It refuses commands.
    #[error(
        "kmemleak is off, for the rest of this boot: by its boot option, or because an allocation of its own failed; leave out calls that have `mem_pool_alloc` in their stack"
    )]
    Off,
}

crate::exit::has_exit_code!(KmemleakError => INTERNAL);

/// `/sys/kernel/debug/kmemleak`, the kernel's leak detector.
#[derive(Clone, Debug)]
pub struct Kmemleak {
    files: KernelFiles,
}

impl Kmemleak {
    /// That of the kernel below a root.
    #[must_use]
    pub fn new(files: KernelFiles) -> Self {
        Self { files }
    }

    /// Whether this kernel has it (CONFIG_DEBUG_KMEMLEAK, and debugfs is mounted). It may still be [`KmemleakError::Off`].
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.files.exists(FILE)
    }

    /// Forgets what was found until now. What was lost and not found yet will be: so this comes after a [`Self::scan`].
    ///
    /// # Errors
    /// It is not there.
    pub fn clear(&self) -> Result<(), KmemleakError> {
        self.command("clear")
    }

    /// What was lost among all that was allocated before `until`. Takes three scans, and waits until the youngest of it is
    /// 5 s old.
    ///
    /// # Errors
    /// It is not there, or off.
    pub fn scan(&self, until: Instant) -> Result<Vec<Leak>, KmemleakError> {
        self.command("scan")?;
        thread::sleep((until + MIN_AGE).saturating_duration_since(Instant::now()));
        self.command("scan")?;
        let found: BTreeSet<u64> = self.objects()?.iter().map(|object| object.address).collect();
        if found.is_empty() {
            return Ok(Vec::new());
        }
        self.command("scan")?;
        let mut objects = self.objects()?;
        objects.retain(|object| found.contains(&object.address));
        Ok(group(&objects))
    }

    /// What the last scans found.
    ///
    /// # Errors
    /// It is not there.
    pub fn objects(&self) -> Result<Vec<Object>, KmemleakError> {
        Ok(parse(&self.files.read_text(FILE)?))
    }

    fn command(&self, command: &str) -> Result<(), KmemleakError> {
        let path = self.files.path(FILE);
        let write = || OpenOptions::new().write(true).open(&path)?.write_all(command.as_bytes());
        match write() {
            Ok(()) => Ok(()),
            // kmemleak_write: all commands but `clear` are refused when it is off
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(KmemleakError::Off),
            Err(error) => Err(file(path, error).into()),
        }
    }
}

fn file(path: std::path::PathBuf, error: io::Error) -> KernelError {
    KernelError::File { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_kernel_without_it() {
        let kmemleak = Kmemleak::new(KernelFiles::new("/nonexistent"));
        assert!(!kmemleak.is_there());
        let error = kmemleak.clear().unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/sys/kernel/debug/kmemleak: "), "{error}");
    }

    #[test]
    fn commands_are_written() {
        let root = tempfile::tempdir().unwrap();
        let files = KernelFiles::new(root.path());
        fs::create_dir_all(root.path().join("sys/kernel/debug")).unwrap();
        fs::write(files.path(FILE), "").unwrap();
        let kmemleak = Kmemleak::new(files.clone());
        assert!(kmemleak.is_there());
        kmemleak.clear().unwrap();
        assert_eq!(files.read_text(FILE).unwrap(), "clear");
        let long_ago = Instant::now().checked_sub(2 * MIN_AGE).unwrap();
        assert_eq!(kmemleak.scan(long_ago).unwrap(), []);
        assert_eq!(files.read_text(FILE).unwrap(), "scanr");
    }
}
