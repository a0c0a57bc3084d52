//! What all engines have in common: an engine runs a command, here or in a guest, and reports how it ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::end::GuestRun;
use crate::initramfs::InitramfsError;
use crate::protocol::Command;
use crate::spec::GuestSpec;
use crate::streams::Streams;

/// A way to run a command under a kernel. The table of engines is [`crate::engines::ENGINES`].
pub trait Engine: Send + Sync {
    /// The name that `--engine` takes.
    fn name(&self) -> &'static str;

    /// One line for `--help`.
    fn about(&self) -> &'static str;

    /// Whether it boots a kernel. If not, the command runs on the kernel that is running now.
    fn boots(&self) -> bool;

    /// Which files the command sees.
    fn root(&self) -> Root;

    /// Stack patterns of allocations that must not fail, or the guest loses its root. Patterns as `--not-stack` takes them.
    fn spared(&self) -> &'static [&'static str] {
        &[]
    }

    /// Boots if it is an engine that boots, runs the command, streams its output, and reports how it ended.
    ///
    /// # Errors
    /// The command was not started, or `Streams::data` failed.
    fn run(&self, spec: &GuestSpec, command: &Command, streams: Streams) -> Result<GuestRun, BootError>;
}

/// Which files a command sees that an engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// Those of [`GuestSpec::images`], in memory.
    Images,
    /// This machine's own, at the same paths.
    Host,
}

/// Why a command was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The engine's program is missing or cannot be started.
    #[error("{program}: {error} ({remedy})")]
    Program {
        /// The program.
        program: &'static str,
        /// How to get it.
        remedy: &'static str,
        /// What went wrong.
        error: io::Error,
    },
    /// The guest ended, or said nothing, before the command could start.
    #[error("the guest did not boot: {reason}\n{console}")]
    BootFailed {
        /// What is known.
        reason: String,
        /// The end of the kernel's console and of the engine's own messages.
        console: String,
    },
    /// A file of the host cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The image with the command could not be written.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// What the command wrote to its data port could not be stored; the guest was ended.
    #[error("can't store what the guest sent: {source}")]
    Data {
        /// The error of `Streams::data`.
        source: io::Error,
    },
}

/// Names the file of an error.
pub(crate) fn file_error<T>(path: &Path, result: io::Result<T>) -> Result<T, BootError> {
    result.map_err(|source| BootError::File { path: path.to_owned(), source })
}

/// Writes the spec's files on this machine, for engines whose commands see it.
pub(crate) fn write_files(spec: &GuestSpec) -> Result<(), BootError> {
    for (path, content) in &spec.files {
        let path = Path::new(path);
        file_error(path, fs::write(path, content))?;
    }
    Ok(())
}
