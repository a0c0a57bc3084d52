//! A root as a temporary file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::initramfs::{Initramfs, InitramfsError};
use crate::spec::DIRECTORY_PREFIX;

/// Begins the names of roots among the temporary files.
const PREFIX: &str = "injector-root-";

/// Of this age a temporary file is nobody's any more.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// A root that guests can boot from; dropping it removes the file.
#[derive(Debug)]
pub struct Image {
    file: tempfile::TempPath,
}

impl Image {
    /// Writes the root to a temporary file. Also removes what runs that were killed left behind a day ago or earlier.
    pub fn new(root: &Initramfs) -> Result<Self, InitramfsError> {
        let directory = std::env::temp_dir();
        sweep(&directory);
        let file = tempfile::Builder::new().prefix(PREFIX).suffix(".cpio").tempfile();
        let file = file.map_err(|source| InitramfsError::File { path: directory, source })?.into_temp_path();
        root.write(&file)?;
        Ok(Self { file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file
    }
}

/// Errors are no matter: it may be somebody else's, or gone already.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = [PREFIX, DIRECTORY_PREFIX].iter().any(|prefix| name.starts_with(prefix));
        let Ok(metadata) = entry.metadata() else { continue };
        let old = metadata.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > LEFT_BEHIND);
        if ours && old {
            let path = entry.path();
            let _ = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_what_is_old_and_ours_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let old = SystemTime::now() - 2 * LEFT_BEHIND;
        for name in ["injector-root-old.cpio", "injector-root-new.cpio", "other-old"] {
            let file = fs::File::create(path(name)).unwrap();
            if name.contains("old") {
                file.set_modified(old).unwrap();
            }
        }
        fs::create_dir(path("injector-guest-old")).unwrap();
        fs::write(path("injector-guest-old/initrd"), "").unwrap();
        fs::File::open(path("injector-guest-old")).unwrap().set_modified(old).unwrap();
        sweep(directory.path());
        let mut left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["injector-root-new.cpio", "other-old"]);
    }
}
