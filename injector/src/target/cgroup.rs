//! A cgroup under test: named by the user, or made for the command.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
};
use tracing::warn;

use super::TargetError;

/// A cgroup v2.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    id: u64,
    level: u32,
}

impl Cgroup {
    /// Opens the cgroup whose directory is `path`.
    ///
    /// # Errors
    /// When it isn't the directory of a cgroup v2.
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        let shown = path.display();
        let path =
            path.canonicalize().map_err(|error| TargetError::new(format!("{shown} is not a cgroup: {error}")))?;
        let metadata =
            fs::metadata(&path).map_err(|error| TargetError::new(format!("{shown} is not a cgroup: {error}")))?;
        let magic = statfs(&path)
            .map_err(|error| TargetError::new(format!("{shown} is not a cgroup: {error}")))?
            .filesystem_type();
        if magic != CGROUP2_SUPER_MAGIC || !metadata.is_dir() {
            return Err(TargetError::new(format!(
                "{shown} is not a cgroup v2 directory; they are below {}",
                mount_point()?.display()
            )));
        }
        let mount = mount_point()?;
        let below = path
            .strip_prefix(&mount)
            .map_err(|_| TargetError::new(format!("{shown} is not below the cgroup v2 root {}", mount.display())))?;
        // The id of a cgroup is the inode number of its directory (kernfs, 64-bit kernels since 5.5).
        let level =
            u32::try_from(below.components().count()).map_err(|error| TargetError::new(format!("{shown}: {error}")))?;
        Ok(Self { id: metadata.ino(), level, path })
    }

    /// Its id, as bpf_get_current_cgroup_id() gives it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its depth below the root, which has 0.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it still exists: the same one, not a new one by its name.
    #[must_use]
    pub fn exists(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.id)
    }
}

/// A cgroup that was made for the command. Dropping it moves what still runs there (a daemon that the command has
/// left behind) to the parent and removes it.
#[derive(Debug)]
pub struct OwnCgroup {
    cgroup: Cgroup,
    /// The kernel gives it up when this process dies in whatever way.
    _lock: Flock<File>,
}

/// What the names of such cgroups begin with; the process follows.
const PREFIX: &str = "injector.";
/// How often it is tried to make one.
const ATTEMPTS: u32 = 10;

/// Removes the cgroups of injectors that were killed: nobody holds their locks. One with processes in it stays.
fn remove_dead(mount: &Path) {
    for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(|pid| pid.parse::<u32>().is_ok());
        if is_ours && let Some(_lock) = lock(&entry.path()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The lock of a cgroup's directory, if nobody has it.
fn lock(path: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(path).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

impl OwnCgroup {
    /// Makes one.
    ///
    /// # Errors
    /// When the hierarchy isn't mounted or not writable.
    pub fn create() -> Result<Self, TargetError> {
        let mount = mount_point()?;
        remove_dead(&mount);
        let path = mount.join(format!("{PREFIX}{}", std::process::id()));
        let cannot = |error: io::Error| {
            TargetError::new(format!("can't make cgroup {} for the command: {error}; run as root", path.display()))
        };
        // Another injector that starts may take it for one of the dead until it is locked.
        for _ in 0..ATTEMPTS {
            fs::create_dir(&path).map_err(cannot)?;
            if let Some(lock) = lock(&path)
                && let Ok(cgroup) = Cgroup::open(&path)
                && lock.metadata().is_ok_and(|metadata| metadata.ino() == cgroup.id())
            {
                return Ok(Self { cgroup, _lock: lock });
            }
            let _ = fs::remove_dir(&path);
            thread::sleep(Duration::from_millis(1));
        }
        Err(cannot(io::ErrorKind::ResourceBusy.into()))
    }

    /// As a target.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The file that takes the pid of a process that is to join.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.cgroup.path.join("cgroup.procs")
    }

    /// The threads in it; none if they can't be read.
    #[must_use]
    pub fn tasks(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.cgroup.path.join("cgroup.threads")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills every process in it (cgroup.kill, since 5.14).
    pub fn kill(&self) {
        if let Err(error) = fs::write(self.cgroup.path.join("cgroup.kill"), "1") {
            warn!("can't kill what runs in {}: {error}", self.cgroup.path.display());
        }
    }

    /// Moves its processes to its parent. One that is gone meanwhile needs no moving.
    fn empty(&self) {
        let Some(parent) = self.cgroup.path.parent() else { return };
        for pid in fs::read_to_string(self.procs()).unwrap_or_default().lines() {
            let _ = fs::write(parent.join("cgroup.procs"), pid);
        }
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let start = Instant::now();
        // Tasks that die need a moment to leave, and those that fork get new children meanwhile.
        while let Err(error) = fs::remove_dir(&self.cgroup.path) {
            self.empty();
            if start.elapsed() > PATIENCE {
                warn!("can't remove cgroup {}: {error}; processes in it don't die", self.cgroup.path.display());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where the cgroup v2 hierarchy is mounted, from its root on: depths below a mount of a part of it would be wrong.
pub(super) fn mount_point() -> Result<PathBuf, TargetError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| TargetError::new(format!("can't read /proc/self/mountinfo: {error}")))?;
    find_mount(&mounts)
        .ok_or_else(|| TargetError::new("the cgroup v2 hierarchy is not mounted; mount -t cgroup2 none /sys/fs/cgroup"))
}

/// proc_pid_mountinfo(5): the fourth field is the root of the mount, the fifth where it is mounted, the type follows ` - `.
fn find_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        (right.split(' ').next()? == "cgroup2" && root == "/").then(|| PathBuf::from(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_whole_hierarchy() {
        let mounts = "30 24 0:26 /part /mnt rw shared:9 - cgroup2 cgroup2 rw\n\
                      31 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
                      32 24 0:27 / /sys/fs/bpf rw - bpf bpf rw\n";
        assert_eq!(find_mount(mounts), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(find_mount("32 24 0:27 / /sys/fs/bpf rw - bpf bpf rw\n"), None);
        assert_eq!(find_mount("garbage - cgroup2\n"), None);
    }

    #[test]
    fn a_plain_directory_is_no_cgroup() {
        let directory = tempfile::tempdir().unwrap();
        let error = Cgroup::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("cgroup v2"), "{error}");
    }
}
