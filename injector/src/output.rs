//! Files that the injector writes. One is written beside the place where it belongs, and takes that place when it is whole:
//! what was there before stays if anything fails. It is never a file that is read, nor that of another output.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{
    exit::{ExitCode, HasExitCode},
    foreign::Foreign,
};

/// A file can't be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A name that got lost.
    #[error("the name of an output file is empty; write one, or leave its option out")]
    NoName,
    /// What is read would be lost.
    #[error("{output} is {input}, which is read here: it would be overwritten; name another file for the output", input = if .input == .output { "a file".to_owned() } else { format!("the same file as {}", .input) })]
    IsInput {
        /// The output.
        output: Foreign,
        /// The name under which it is read.
        input: Foreign,
    },
    /// One would overwrite the other.
    #[error("{first} and {second} are the same file; name a file of its own for each output")]
    Twice {
        /// One.
        first: Foreign,
        /// The other.
        second: Foreign,
    },
    /// Input or output.
    #[error("can't write {path}: {error}")]
    Io {
        /// Which.
        path: Foreign,
        /// Why not.
        error: io::Error,
    },
}

impl OutputError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io { path: Foreign::path(path), error }
    }
}

impl HasExitCode for OutputError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoName | Self::IsInput { .. } | Self::Twice { .. } => ExitCode::USAGE,
            Self::Io { error, .. } => ExitCode::of_file(error),
        }
    }
}

/// Refuses outputs that are inputs, or each other. None needs to exist.
///
/// # Errors
/// As said, or a name is none.
pub fn distinct(inputs: &[&Path], outputs: &[&Path]) -> Result<(), OutputError> {
    // An input that is not there is somebody else's error.
    let read: Vec<_> = inputs.iter().filter_map(|path| Some((path, Place::of(path).ok()?.identity()?))).collect();
    let mut written: Vec<(&Path, Identity)> = Vec::new();
    for output in outputs {
        if output.as_os_str().is_empty() {
            return Err(OutputError::NoName);
        }
        // What is no regular file can't be lost.
        let Some(identity) = Place::of(output).map_err(OutputError::io(output))?.identity() else { continue };
        if let Some((input, _)) = read.iter().find(|(_, other)| *other == identity) {
            return Err(OutputError::IsInput { output: Foreign::path(output), input: Foreign::path(input) });
        }
        if let Some((first, _)) = written.iter().find(|(_, other)| *other == identity) {
            return Err(OutputError::Twice { first: Foreign::path(first), second: Foreign::path(output) });
        }
        written.push((output, identity));
    }
    Ok(())
}

/// Where an output goes.
#[derive(Debug)]
enum Place {
    /// A device, a pipe or a socket, which is written to directly.
    Special(PathBuf),
    /// A descriptor of ours, as /dev/stdout: what it refers to is somebody else's file, which is appended to.
    Descriptor(PathBuf),
    /// A regular file, or none yet. No part of the path is a symbolic link but for those of the directory.
    Regular { path: PathBuf, there: Option<fs::Metadata> },
}

/// What makes two names the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    There { device: u64, inode: u64 },
    New { directory: (u64, u64), name: OsString },
}

impl Place {
    fn of(named: &Path) -> io::Result<Self> {
        // So many as the kernel follows.
        const MOST_LINKS: usize = 40;
        let mut path = named.to_owned();
        for _ in 0..MOST_LINKS {
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound && path.file_name().is_some() => {
                    return Ok(Self::Regular { path, there: None });
                }
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            if !metadata.is_symlink() {
                let regular = metadata.is_file();
                return Ok(if regular { Self::Regular { path, there: Some(metadata) } } else { Self::Special(path) });
            }
            let directory = directory_of(&path);
            if directory.canonicalize()?.starts_with("/proc") {
                return Ok(Self::Descriptor(path));
            }
            path = directory.join(fs::read_link(&path)?);
        }
        Err(io::Error::from_raw_os_error(libc::ELOOP))
    }

    fn identity(&self) -> Option<Identity> {
        let of = |metadata: &fs::Metadata| Identity::There { device: metadata.dev(), inode: metadata.ino() };
        match self {
            Self::Special(_) => None,
            Self::Descriptor(path) => fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| of(&file)),
            Self::Regular { there: Some(metadata), .. } => Some(of(metadata)),
            Self::Regular { path, there: None } => {
                let directory = fs::metadata(directory_of(path)).ok()?;
                let directory = (directory.dev(), directory.ino());
                Some(Identity::New { directory, name: path.file_name()?.to_owned() })
            }
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file that is being written. Dropping it before it has taken its place leaves no trace of it.
#[derive(Debug)]
pub struct OutputFile {
    named: PathBuf,
    state: State,
    /// What was written, up to the end of the last whole line, and in all.
    whole: u64,
    length: u64,
    broken: bool,
}

#[derive(Debug)]
enum State {
    Beside { file: NamedTempFile, place: PathBuf },
    InPlace { file: File, regular: bool },
}

impl OutputFile {
    /// Opens a file beside this path; a device or a pipe itself.
    ///
    /// # Errors
    /// It can't be written.
    pub fn open(named: &Path) -> Result<Self, OutputError> {
        if named.as_os_str().is_empty() {
            return Err(OutputError::NoName);
        }
        let state = Self::state(named).map_err(OutputError::io(named))?;
        Ok(Self { named: named.to_owned(), state, whole: 0, length: 0, broken: false })
    }

    fn state(named: &Path) -> io::Result<State> {
        let (path, there) = match Place::of(named)? {
            Place::Special(path) => {
                return Ok(State::InPlace { file: OpenOptions::new().write(true).open(path)?, regular: false });
            }
            Place::Descriptor(path) => {
                return Ok(State::InPlace { file: OpenOptions::new().append(true).open(path)?, regular: false });
            }
            Place::Regular { path, there } => (path, there),
        };
        // To rename needs no permission to write the file that goes.
        let old = there.map(|metadata| OpenOptions::new().write(true).open(&path).map(|_| metadata)).transpose()?;
        let mode = old.as_ref().map_or(0o666, |metadata| metadata.mode() & 0o777);
        // Opened by ourselves: tempfile's own errors name the file beside, which nobody asked for.
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let file = tempfile::Builder::new().prefix(".injector-").suffix(".new").make_in(directory_of(&path), create)?;
        if let Some(old) = old {
            // The umask was applied. An owner that can't be kept is no reason to write nothing.
            file.as_file().set_permissions(Permissions::from_mode(mode))?;
            let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        }
        Ok(State::Beside { file, place: path })
    }

    /// Puts what was written so far in its place, on the disk. What is written later goes there.
    ///
    /// # Errors
    /// That fails. What was there before is untouched.
    pub fn take_place(&mut self) -> Result<(), OutputError> {
        let error = OutputError::io(&self.named);
        let State::Beside { file, place: _ } = &self.state else { return Ok(()) };
        file.as_file().sync_all().map_err(&error)?;
        let in_place = State::InPlace { file: file.as_file().try_clone().map_err(&error)?, regular: true };
        if let State::Beside { file, place } = std::mem::replace(&mut self.state, in_place) {
            file.persist(&place).map_err(|refused| error(refused.error))?;
            let _ = File::open(directory_of(&place)).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed"));
        }
        let (mut file, regular) = match &self.state {
            State::Beside { file, .. } => (file.as_file(), false),
            State::InPlace { file, regular } => (file, *regular),
        };
        match file.write(bytes) {
            Ok(written) => {
                if let Some(end) = memchr::memrchr(b'\n', &bytes[..written]) {
                    self.whole = self.length + end as u64 + 1;
                }
                self.length += written as u64;
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.broken = true;
                if regular {
                    // Half a line would be taken for damage.
                    let _ = file.set_len(self.whole);
                }
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a file as a whole: it is there when this returns, or what was there before is.
///
/// # Errors
/// It can't be written.
pub fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
    let mut file = BufWriter::new(OutputFile::open(path)?);
    write(&mut file).and_then(|()| file.flush()).map_err(OutputError::io(path))?;
    file.get_mut().take_place()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn inputs_and_outputs_are_distinct_files() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("input"), "precious").unwrap();
        fs::hard_link(at("input"), at("hard")).unwrap();
        symlink("input", at("soft")).unwrap();
        symlink("new", at("dangling")).unwrap();
        let refused = |outputs: &[&str]| {
            let outputs: Vec<PathBuf> = outputs.iter().map(|name| at(name)).collect();
            let outputs: Vec<&Path> = outputs.iter().map(PathBuf::as_path).collect();
            distinct(&[&at("input"), &at("gone")], &outputs).err().map(|error| {
                assert_eq!(error.exit_code(), ExitCode::USAGE);
                error.to_string().replace(&format!("{}/", directory.path().display()), "")
            })
        };
        for name in ["hard", "soft", "./input", "../{}/input"] {
            let name = name.replace("{}", &directory.path().file_name().unwrap().to_string_lossy());
            let text = refused(&[&name]).unwrap();
            assert!(text.contains("is the same file as") || text.contains("is a file, which is read here"), "{text}");
        }
        assert_eq!(
            refused(&["new", "dangling"]).unwrap(),
            "new and dangling are the same file; name a file of its own for each output"
        );
        assert_eq!(
            refused(&["new", "other", "./other"]).unwrap(),
            "other and ./other are the same file; name a file of its own for each output"
        );
        assert_eq!(refused(&["new", "other"]), None);
        assert!(matches!(distinct(&[], &[Path::new("")]), Err(OutputError::NoName)));
        let null = Path::new("/dev/null");
        assert!(distinct(&[null], &[null, null]).is_ok(), "a device can't be lost");
    }

    #[test]
    fn what_fails_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        fs::write(&path, "good").unwrap();
        let failing = |out: &mut dyn Write| {
            out.write_all(&[b'x'; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let error = replace(&path, failing).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::IO);
        assert_eq!(fs::read_to_string(&path).unwrap(), "good");
        assert_eq!(names(directory.path()), ["report"], "nothing is left beside it");
        replace(&path, |out| out.write_all(b"better")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "better");
        assert_eq!(names(directory.path()), ["report"]);
    }

    #[test]
    fn links_and_modes_stay() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "old").unwrap();
        fs::set_permissions(at("file"), Permissions::from_mode(0o604)).unwrap();
        symlink("file", at("link")).unwrap();
        replace(&at("link"), |out| out.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "new");
        assert_eq!(fs::metadata(at("file")).unwrap().mode() & 0o777, 0o604);
        assert_eq!(replace(directory.path(), |_| Ok(())).unwrap_err().exit_code(), ExitCode::USAGE);
        assert_eq!(replace(&at("no/such"), |_| Ok(())).unwrap_err().exit_code(), ExitCode::USAGE);
    }

    #[test]
    fn a_stream_takes_its_place_when_it_is_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        fs::write(&path, "old").unwrap();
        let mut file = OutputFile::open(&path).unwrap();
        file.write_all(b"one\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        file.take_place().unwrap();
        file.write_all(b"two\nhal").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nhal");
        drop(file);
        assert_eq!(names(directory.path()), ["run"]);
        drop(OutputFile::open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nhal");
    }

    #[test]
    fn a_full_device_is_an_error_of_its_own() {
        let error = replace(Path::new("/dev/full"), |out| out.write_all(b"x")).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().starts_with("can't write /dev/full: ")), (ExitCode::IO, true));
    }
}
