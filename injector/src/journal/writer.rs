//! Appends records.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::{Record, Tail};
use crate::exit::{ExitCode, HasExitCode};

/// Appends records to a file, or sends them through a port.
pub struct Writer {
    target: Target,
    /// A line could not be written; what follows would not be whole either.
    broken: bool,
}

enum Target {
    File { file: Flock<File>, path: PathBuf, length: u64 },
    Port(Box<dyn Write + Send>),
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match &self.target {
            Target::File { path, .. } => path.display().to_string(),
            Target::Port(_) => "port".to_owned(),
        };
        f.debug_struct("Writer").field("target", &target).field("broken", &self.broken).finish()
    }
}

/// A journal can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is one already.
    #[error(
        "{path} exists: it is not overwritten; add --resume to go on with it, or name another file with --journal",
        path = .0.display()
    )]
    Exists(PathBuf),
    /// Another injector has it.
    #[error("{path} is being written by another injector; wait for it, or name another file with --journal", path = .0.display())]
    Locked(PathBuf),
    /// It isn't what was read any more.
    #[error("{path} has changed since it was read; try again", path = .0.display())]
    Changed(PathBuf),
    /// Input or output.
    #[error("{path}: can't {action} the journal: {error}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was done.
        action: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A record can't be written.
    #[error("can't write to the journal: {0}")]
    Record(io::Error),
    /// An earlier record couldn't.
    #[error("the journal could not be written before; nothing more is added to it")]
    Broken,
}

impl HasExitCode for WriteError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Exists(_) | Self::Locked(_) | Self::Changed(_) => ExitCode::USAGE,
            Self::Io { error, .. } => ExitCode::of_file(error),
            Self::Record(_) | Self::Broken => ExitCode::IO,
        }
    }
}

/// A record as its line, newline included.
///
/// # Errors
/// It can't be JSON: a number that is none.
pub fn to_line(record: &Record) -> io::Result<String> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    Ok(line)
}

impl Writer {
    /// A new file.
    ///
    /// # Errors
    /// It exists, or can't be made.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let io = |action| move |error| WriteError::Io { path: path.to_owned(), action, error };
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists(path.to_owned()),
            _ => io("make")(error),
        })?;
        // The file's name must survive a crash too.
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("sync the directory of"))?;
        Ok(Self { target: Target::File { file: lock(file, path)?, path: path.to_owned(), length: 0 }, broken: false })
    }

    /// Goes on with a file that was read, after it was found to belong to this sweep. A torn last line is cut off.
    ///
    /// # Errors
    /// Another injector writes to it, it has changed since, or can't be opened.
    pub fn resume(path: &Path, tail: &Tail) -> Result<Self, WriteError> {
        let io = |action| move |error| WriteError::Io { path: path.to_owned(), action, error };
        let file = OpenOptions::new().append(true).open(path).map_err(io("open"))?;
        let file = lock(file, path)?;
        if file.metadata().map_err(io("look at"))?.len() != tail.length {
            return Err(WriteError::Changed(path.to_owned()));
        }
        if tail.whole < tail.length {
            file.set_len(tail.whole).map_err(io("cut the torn line off"))?;
        }
        let mut length = tail.whole;
        if tail.whole > 0 && !tail.ended {
            (&*file).write_all(b"\n").map_err(io("go on with"))?;
            length += 1;
        }
        file.sync_data().map_err(io("sync"))?;
        Ok(Self { target: Target::File { file, path: path.to_owned(), length }, broken: false })
    }

    /// Through a port whose flush makes durable what was written.
    #[must_use]
    pub fn port(port: Box<dyn Write + Send>) -> Self {
        Self { target: Target::Port(port), broken: false }
    }

    /// Appends what may be lost if the machine goes down now.
    ///
    /// # Errors
    /// It can't be written. The file ends with the line before, and nothing more is taken.
    pub fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        self.append(record, false)
    }

    /// Appends, and comes back when it, and all before it, is safe from whatever happens to the machine.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn sync(&mut self, record: &Record) -> Result<(), WriteError> {
        self.append(record, true)
    }

    fn append(&mut self, record: &Record, sync: bool) -> Result<(), WriteError> {
        let line = to_line(record).map_err(WriteError::Record)?;
        self.append_lines(line.as_bytes(), sync)
    }

    /// Appends records that are lines already, newlines included, as they are.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn append_lines(&mut self, lines: &[u8], sync: bool) -> Result<(), WriteError> {
        if self.broken {
            return Err(WriteError::Broken);
        }
        let done = match &mut self.target {
            Target::File { file, path, length } => {
                let mut file: &File = file;
                file.write_all(lines)
                    .and_then(|()| if sync { file.sync_data() } else { Ok(()) })
                    .inspect(|()| *length += lines.len() as u64)
                    .inspect_err(|_| {
                        // Half a line in the middle would cost a line more: take it back if that is still possible.
                        let _ = file.set_len(*length);
                    })
                    .map_err(|error| WriteError::Io { path: path.clone(), action: "write", error })
            }
            Target::Port(port) => port
                .write_all(lines)
                .and_then(|()| if sync { port.flush() } else { Ok(()) })
                .map_err(WriteError::Record),
        };
        self.broken = done.is_err();
        done
    }
}

fn lock(file: File, path: &Path) -> Result<Flock<File>, WriteError> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => WriteError::Locked(path.to_owned()),
        errno => WriteError::Io { path: path.to_owned(), action: "lock", error: errno.into() },
    })
}
