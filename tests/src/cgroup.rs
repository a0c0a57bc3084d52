//! Cgroups (v2) for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A cgroup that is removed when this is dropped.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

/// Where cgroup v2 is mounted; mounts it when it isn't.
pub fn root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    });
    found.unwrap_or_else(|| {
        crate::module::mount(c"cgroup2", c"/sys/fs/cgroup");
        PathBuf::from("/sys/fs/cgroup")
    })
}

impl Cgroup {
    /// Makes one below the root; `name` may be a path below another one.
    pub fn new(name: &str) -> Self {
        let path = root().join(name);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(path)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its directory as an argument.
    pub fn arg(&self) -> &str {
        self.0.to_str().expect("made from a str")
    }

    /// Its id, as events have it.
    pub fn id(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(&self.0).unwrap_or_else(|e| panic!("{}: {e}", self.0.display())).ino()
    }

    /// Moves a process into it.
    pub fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap_or_else(|e| panic!("moving {pid}: {e}"));
    }

    /// Removes it; processes that were killed may take a moment to leave.
    pub fn remove(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Err(error) = fs::remove_dir(&self.0) {
            assert!(Instant::now() < deadline, "removing {}: {error}", self.0.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
