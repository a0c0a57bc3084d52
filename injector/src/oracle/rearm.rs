//! Checks that speak only once in a boot, and how to make them speak again.
//!
//! A sweep fails thousands of allocations in one boot. A WARN_ONCE() that site A set off would be silent at site B, which
//! would then pass.

use std::{fs::OpenOptions, io::Write};

use crate::kernel::{KernelError, KernelFiles, options::Options};

/// Makes all WARN_ONCE() and the like speak once more: before each run, and when the kernel has said something in it.
/// (`clear_warn_once_set` in kernel/panic.c; 4.15 and later.)
///
/// # Errors
/// debugfs is not mounted, or the file can't be written.
pub fn warn_once(files: &KernelFiles) -> Result<(), KernelError> {
    write(files, "sys/kernel/debug/clear_warn_once", "1")
}

/// Lets the hung-task check report as often as it finds something (it stops after 10 otherwise), after `seconds`.
///
/// # Errors
/// The kernel has no such check (CONFIG_DETECT_HUNG_TASK), or it can't be set.
pub fn hung_tasks(files: &KernelFiles, seconds: u32) -> Result<(), KernelError> {
    write(files, "proc/sys/kernel/hung_task_warnings", "-1")?;
    write(files, "proc/sys/kernel/hung_task_timeout_secs", &seconds.to_string())
}

fn write(files: &KernelFiles, path: &str, text: &str) -> Result<(), KernelError> {
    let path = files.path(path);
    let write = || OpenOptions::new().write(true).open(&path)?.write_all(text.as_bytes());
    write().map_err(|error| KernelError::File { path: path.clone(), error })
}

/// A check that is silent, or will be after its first report, whatever is done while the kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// KASAN reports only the first bad access of a boot: `report_enabled` in mm/kasan/report.c.
    KasanAfterTheFirst,
    /// Lockdep gave up: after its first report, or after an oops (`debug_locks_off`). Only a new boot brings it back.
    Lockdep,
}

impl Silent {
    /// What it means and what to do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::KasanAfterTheFirst => {
                "KASAN will report only the first bad access of this boot; boot with kasan_multi_shot"
            }
            Self::Lockdep => "lockdep is off since its first report or an oops; boot again",
        }
    }
}

/// The checks that this kernel has and that are silent, or will be.
#[must_use]
pub fn silent(files: &KernelFiles, options: &Options) -> Vec<Silent> {
    let mut silent = Vec::new();
    let command_line = files.read_text("proc/cmdline").unwrap_or_default();
    let multi_shot = command_line.split_ascii_whitespace().any(|word| word == "kasan_multi_shot");
    if options.is_on("CONFIG_KASAN") && !multi_shot {
        silent.push(Silent::KasanAfterTheFirst);
    }
    let lockdep = files.read_text("proc/lockdep_stats").unwrap_or_default();
    if lockdep.lines().any(|line| line.trim().strip_prefix("debug_locks:").is_some_and(|value| value.trim() == "0")) {
        silent.push(Silent::Lockdep);
    }
    silent
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, KernelFiles) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = KernelFiles::new(root.path());
        (root, files)
    }

    const RELEASE: (&str, &str) = ("proc/sys/kernel/osrelease", "6.1.0\n");
    const KASAN: (&str, &str) = ("boot/config-6.1.0", "CONFIG_KASAN=y\n");

    #[test]
    fn kasan_that_speaks_once() {
        for (line, expected) in
            [("quiet", vec![Silent::KasanAfterTheFirst]), ("quiet kasan_multi_shot panic=1", vec![])]
        {
            let (_root, files) = root(&[RELEASE, KASAN, ("proc/cmdline", line)]);
            let options = Options::read(&files).unwrap();
            assert_eq!(silent(&files, &options), expected, "{line}");
        }
        let (_root, files) = root(&[RELEASE, ("boot/config-6.1.0", "\n"), ("proc/cmdline", "quiet")]);
        assert!(silent(&files, &Options::read(&files).unwrap()).is_empty(), "no KASAN");
    }

    #[test]
    fn lockdep_that_gave_up() {
        // kernel/locking/lockdep_proc.c lockdep_stats_show
        for (value, expected) in [("0", vec![Silent::Lockdep]), ("1", vec![])] {
            let stats =
                format!(" max bfs queue depth:                   0\n debug_locks:                   {value:>11}\n");
            let (_root, files) = root(&[RELEASE, ("boot/config-6.1.0", "\n"), ("proc/lockdep_stats", &stats)]);
            assert_eq!(silent(&files, &Options::read(&files).unwrap()), expected);
        }
    }

    #[test]
    fn written_where_the_kernel_reads() {
        let (_root, files) = root(&[
            ("sys/kernel/debug/clear_warn_once", ""),
            ("proc/sys/kernel/hung_task_warnings", "10"),
            ("proc/sys/kernel/hung_task_timeout_secs", "60"),
        ]);
        warn_once(&files).unwrap();
        hung_tasks(&files, 20).unwrap();
        let read = |path: &str| files.read_text(path).unwrap();
        assert_eq!(read("sys/kernel/debug/clear_warn_once"), "1");
        assert_eq!(read("proc/sys/kernel/hung_task_warnings"), "-1");
        assert_eq!(read("proc/sys/kernel/hung_task_timeout_secs"), "20");
        let (_root, nothing) = root(&[]);
        assert!(warn_once(&nothing).unwrap_err().to_string().contains("clear_warn_once"));
    }
}
