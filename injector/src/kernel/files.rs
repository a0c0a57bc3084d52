//! Where the kernel tells about itself. The root is `/`, or in tests a directory that holds what a real kernel said.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::KernelError;

/// The kernel's files below a root.
#[derive(Clone, Debug)]
pub struct KernelFiles {
    root: PathBuf,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its type: `tracefs`.
    pub fs: String,
    /// Its directory.
    pub at: PathBuf,
}

impl Default for KernelFiles {
    fn default() -> Self {
        Self::new("/")
    }
}

impl KernelFiles {
    /// The files below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether they are of the kernel that this process runs on, which can then be asked other things too.
    #[must_use]
    pub fn are_of_running_kernel(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where `path` (`proc/modules`) really lies.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether there is such a file or directory.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// Opens a file.
    ///
    /// # Errors
    /// It is not there or can't be opened.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File, KernelError> {
        let path = self.path(path);
        File::open(&path).map_err(|error| KernelError::File { path, error })
    }

    /// Reads a file whole.
    ///
    /// # Errors
    /// It is not there or can't be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, KernelError> {
        let path = self.path(path);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            // Files in proc say 0; those in sysfs know their length, and BTF is megabytes.
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
            let mut bytes = Vec::with_capacity(length + 1);
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| KernelError::File { path: path.clone(), error })
    }

    /// Reads a text file whole; what is not UTF-8 is replaced.
    ///
    /// # Errors
    /// It is not there or can't be read.
    pub fn read_text(&self, path: impl AsRef<Path>) -> Result<String, KernelError> {
        let bytes = self.read(path)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// What a symbolic link says.
    #[must_use]
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// The release, as `uname -r` says it.
    ///
    /// # Errors
    /// proc is not there.
    pub fn release(&self) -> Result<Release, KernelError> {
        Ok(Release(self.read_text("proc/sys/kernel/osrelease")?.trim().to_owned()))
    }

    /// All mounted file systems; empty when proc is not there.
    #[must_use]
    pub fn mounts(&self) -> Vec<Mount> {
        let text = self.read_text("proc/mounts").unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let at = PathBuf::from(unescape(fields.next()?));
                Some(Mount { fs: fields.next()?.to_owned(), at })
            })
            .collect()
    }
}

/// Blanks in paths are written `\040`.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// A kernel release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release(String);

impl Release {
    /// As `uname -r` says it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Major and minor number.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.0.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, version) in
            [("6.12.117", Some((6, 12))), ("6.1.0-49-amd64", Some((6, 1))), ("7.0-rc1", Some((7, 0))), ("x", None)]
        {
            assert_eq!(Release(text.to_owned()).version(), version, "{text}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = KernelFiles::new("/nonexistent").read("/proc/modules").unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/proc/modules: "), "{error}");
    }
}
