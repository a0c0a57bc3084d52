//! The guest's root, held in memory: built from a list of this machine's programs, their libraries, and files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cpio::{Kind, Writer};
use crate::libraries::{self, LibrariesError};

/// Why a root could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file could not be read or the image not be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A program's libraries could not be found.
    #[error(transparent)]
    Libraries(#[from] LibrariesError),
}

#[derive(Debug, Clone)]
enum Content {
    Directory,
    Symlink(String),
    CharDevice { major: u32, minor: u32 },
    Bytes(Vec<u8>),
    Copy(PathBuf),
}

#[derive(Debug, Clone)]
struct Entry {
    permissions: u32,
    content: Content,
}

/// A root file system in the making. Paths are the guest's, absolute; parent directories come by themselves, and
/// `/bin`, `/sbin`, `/lib` and `/lib64` are links into `/usr`, as in Debian.
#[derive(Debug, Clone, Default)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
const MOUNT_POINTS: [&str; 9] =
    ["/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/mnt", crate::protocol::SHARE_DIR, "/var/tmp"];

impl Initramfs {
    /// A root with `init` (`injector-init`, or another program that calls [`crate::init::main`]) as its `/init`, with its
    /// libraries, and mount points.
    pub fn new(init: &Path) -> Result<Self, InitramfsError> {
        let mut root = Self::overlay();
        for name in MERGED {
            root.directory(&format!("/usr/{name}"));
            root.insert(format!("/{name}"), 0o777, Content::Symlink(format!("usr/{name}")));
        }
        for directory in MOUNT_POINTS {
            root.directory(directory);
        }
        // The kernel opens it for init before anything is mounted.
        root.insert("/dev/console".to_owned(), 0o600, Content::CharDevice { major: 5, minor: 1 });
        root.program(init, "/init")?;
        Ok(root)
    }

    /// Files that come on top of another root.
    pub fn overlay() -> Self {
        Self::default()
    }

    /// An empty directory.
    pub fn directory(&mut self, guest: &str) -> &mut Self {
        self.insert(merged(guest), 0o755, Content::Directory);
        self
    }

    /// A symbolic link at `guest` to `target`.
    pub fn symlink(&mut self, guest: &str, target: &str) -> &mut Self {
        self.insert(merged(guest), 0o777, Content::Symlink(target.to_owned()));
        self
    }

    /// A file with the given content.
    pub fn text(&mut self, guest: &str, content: &str) -> &mut Self {
        self.bytes(guest, content.as_bytes())
    }

    /// A file with the given content, whatever bytes that is.
    pub fn bytes(&mut self, guest: &str, content: &[u8]) -> &mut Self {
        self.insert(merged(guest), 0o644, Content::Bytes(content.to_vec()));
        self
    }

    /// Whether something is there.
    pub fn contains(&self, guest: &str) -> bool {
        self.entries.contains_key(&merged(guest))
    }

    /// A file of this machine, with its permissions.
    pub fn file(&mut self, host: &Path, guest: &str) -> Result<&mut Self, InitramfsError> {
        let metadata = fs::metadata(host).map_err(|source| InitramfsError::File { path: host.to_owned(), source })?;
        self.insert(merged(guest), metadata.permissions().mode() & 0o7777, Content::Copy(host.to_owned()));
        Ok(self)
    }

    /// A directory of this machine with all that is in it; symbolic links are followed.
    pub fn tree(&mut self, host: &Path, guest: &str) -> Result<&mut Self, InitramfsError> {
        let failed = |source| InitramfsError::File { path: host.to_owned(), source };
        self.directory(guest);
        for entry in fs::read_dir(host).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let below = format!("{guest}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                self.tree(&entry.path(), &below)?;
            } else {
                self.file(&entry.path(), &below)?;
            }
        }
        Ok(self)
    }

    /// A program of this machine with the libraries that it needs.
    pub fn program(&mut self, host: &Path, guest: &str) -> Result<&mut Self, InitramfsError> {
        self.file(host, guest)?;
        for library in libraries::of(host)? {
            self.library(&library)?;
        }
        Ok(self)
    }

    /// A library (at the same path in the guest) with those that it needs; for what programs open at run time.
    pub fn library(&mut self, host: &Path) -> Result<&mut Self, InitramfsError> {
        let guest = merged(&host.to_string_lossy());
        if !self.entries.contains_key(&guest) {
            self.file(host, &guest)?;
            for library in libraries::of(host)? {
                self.library(&library)?;
            }
        }
        Ok(self)
    }

    /// Writes the image.
    pub fn write(&self, path: &Path) -> Result<(), InitramfsError> {
        let failed = |source| InitramfsError::File { path: path.to_owned(), source };
        let out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        self.write_to(out)?.flush().map_err(failed)
    }

    /// Writes the image to `out`.
    pub fn write_to<W: Write>(&self, out: W) -> Result<W, InitramfsError> {
        let failed = |path: &str| {
            let path = PathBuf::from(path);
            move |source| InitramfsError::File { path, source }
        };
        let mut writer = Writer::new(out);
        for (name, Entry { permissions, content }) in &self.entries {
            let (kind, data) = match content {
                Content::Directory => (Kind::Directory, Vec::new()),
                Content::Symlink(target) => (Kind::Symlink, target.clone().into_bytes()),
                Content::CharDevice { major, minor } => (Kind::CharDevice { major: *major, minor: *minor }, Vec::new()),
                Content::Bytes(bytes) => (Kind::File, bytes.clone()),
                Content::Copy(host) => (Kind::File, fs::read(host).map_err(failed(&host.to_string_lossy()))?),
            };
            writer.entry(name, kind, *permissions, &data).map_err(failed(name))?;
        }
        writer.finish().map_err(failed("initramfs"))
    }

    fn insert(&mut self, guest: String, permissions: u32, content: Content) {
        let mut parent = guest.as_str();
        while let Some((above, _)) = parent.rsplit_once('/') {
            if above.is_empty() || self.entries.contains_key(above) {
                break;
            }
            self.entries.insert(above.to_owned(), Entry { permissions: 0o755, content: Content::Directory });
            parent = above;
        }
        // A directory that is named again keeps what it has.
        if matches!(content, Content::Directory) && self.entries.contains_key(&guest) {
            return;
        }
        self.entries.insert(guest, Entry { permissions, content });
    }
}

/// `/bin/x` is `/usr/bin/x`: one place for a file, whatever path leads to it on this machine.
fn merged(guest: &str) -> String {
    let relative = guest.trim_start_matches('/');
    match relative.split_once('/') {
        Some((first, _)) if MERGED.contains(&first) => format!("/usr/{relative}"),
        _ => format!("/{relative}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Initramfs) -> Vec<&str> {
        root.entries.keys().map(String::as_str).collect()
    }

    #[test]
    fn parents_come_before_their_files() {
        let mut root = Initramfs::overlay();
        root.text("/etc/network/hosts", "x");
        assert_eq!(names(&root), ["/etc", "/etc/network", "/etc/network/hosts"]);
    }

    #[test]
    fn merged_directories_have_one_place() {
        assert_eq!(merged("/lib/x86_64-linux-gnu/libc.so.6"), "/usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(merged("/usr/bin/env"), "/usr/bin/env");
        assert_eq!(merged("/library"), "/library");
    }

    #[test]
    fn a_program_brings_its_libraries_and_loader() {
        let program = std::env::current_exe().unwrap();
        let mut root = Initramfs::overlay();
        root.program(&program, "/bin/me").unwrap();
        let names = names(&root);
        assert!(names.contains(&"/usr/bin/me"));
        if !cfg!(target_feature = "crt-static") {
            assert!(names.iter().any(|name| name.contains("libc.so.6")), "{names:?}");
            assert!(names.iter().any(|name| name.contains("/ld-linux")), "{names:?}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Initramfs::overlay().file("/no/such/file".as_ref(), "/x").unwrap_err();
        assert!(error.to_string().starts_with("/no/such/file: "), "{error}");
    }
}
