//! Building, installing and removing the module injector_hooks. The kernel side of it, whether it is loaded and what it hooks, is
//! [`crate::kernel::hooks_module`].

mod distribution;
mod dkms;
mod install;
mod obstacles;

use std::path::{Path, PathBuf};

use injector_kernels::{BadInput, Missing, hooks, kbuild};

use crate::{
    exit::{ExitCode, HasExitCode},
    kernel::KernelFiles,
};

pub use dkms::{PACKAGE, Package};
pub use install::{installed, place, remove};
pub use obstacles::{Obstacle, to_loading};

/// What `injector module` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Build it.
    Build {
        /// A kernel's release or build tree; none: the running kernel.
        kernel: Option<String>,
        /// The file or directory to write it to.
        output: PathBuf,
    },
    /// Build and install it.
    Install {
        /// A kernel's release or build tree; none: the running kernel.
        kernel: Option<String>,
        /// By DKMS.
        dkms: bool,
        /// The directory that stands for `/`.
        root: PathBuf,
    },
    /// Load it.
    Load,
    /// Say what there is of it.
    Status,
    /// Unload and remove it.
    Remove {
        /// A kernel's release; none: the running kernel.
        kernel: Option<String>,
        /// The directory that stands for `/`.
        root: PathBuf,
    },
}

/// A kernel that the module is built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTree {
    /// As `uname -r` says it.
    pub release: String,
    /// Its headers, or the tree that it was built in.
    pub tree: PathBuf,
}

/// Why the module can't be built, installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The headers are not installed.
    #[error("there are no headers of kernel {release} at {tree}; {remedy}", tree = .tree.display())]
    NoHeaders {
        /// The kernel.
        release: String,
        /// Where they would be.
        tree: PathBuf,
        /// How to get them.
        remedy: String,
    },
    /// It is no build tree.
    #[error("{tree} is no build tree of a kernel, as it has no include/config/kernel.release; name a kernel's headers, as /lib/modules/RELEASE/build", tree = .0.display())]
    NoTree(PathBuf),
    /// The kernel lacks an option.
    #[error("kernel {release} has no {option}, {why}; use another kernel, or boot the guest: cargo xtask run")]
    Option {
        /// The kernel.
        release: String,
        /// The option.
        option: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// A part of the build failed.
    #[error("{0:#}")]
    Build(anyhow::Error),
    /// A run is attached, or something else uses it.
    #[error("the module {} is in use; end the runs that it is for, and try again", hooks::NAME)]
    InUse,
    /// It was asked to remove what is not there.
    #[error("the module {name} is neither loaded nor installed for kernel {0}", name = hooks::NAME)]
    NotThere(String),
    /// A file can't be written, read or removed.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A program that is needed failed.
    #[error("{0}")]
    Program(String),
}

impl HasExitCode for SetupError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoTree(_) => ExitCode::USAGE,
            Self::NoHeaders { .. } | Self::Option { .. } | Self::InUse | Self::NotThere(_) => ExitCode::MISSING,
            Self::Build(error) if error.is::<BadInput>() => ExitCode::USAGE,
            Self::Build(error) if error.is::<Missing>() => ExitCode::MISSING,
            Self::Build(_) | Self::File { .. } | Self::Program(_) => ExitCode::INTERNAL,
        }
    }
}

impl KernelTree {
    /// The kernel that was named: by the directory of its headers or its build tree (a path with a slash), or by its release.
    /// Nothing names the running one.
    ///
    /// # Errors
    /// It has no headers here, or the directory is no build tree.
    pub fn find(files: &KernelFiles, named: Option<&str>) -> Result<Self, SetupError> {
        if let Some(path) = named.filter(|named| named.contains('/')) {
            let tree = PathBuf::from(path);
            let release = std::fs::read_to_string(tree.join("include/config/kernel.release"));
            let release = release.map_err(|_| SetupError::NoTree(tree.clone()))?.trim().to_owned();
            // make is called elsewhere.
            let tree = tree.canonicalize().map_err(|source| SetupError::File { path: tree, source })?;
            return Ok(Self { release, tree });
        }
        let running = || files.release().map_or_else(|_| "unknown".to_owned(), |release| release.to_string());
        let release = named.map_or_else(running, str::to_owned);
        let tree = files.path("lib/modules").join(&release).join("build");
        if !tree.join("Makefile").is_file() {
            let remedy = distribution::remedy(&files.read_text("etc/os-release").unwrap_or_default(), &release);
            return Err(SetupError::NoHeaders { release, tree, remedy });
        }
        Ok(Self { release, tree })
    }

    /// Builds the module in `work`, an empty directory, and returns its file. `say` gets what the user should know.
    ///
    /// # Errors
    /// The kernel lacks an option that the module needs, there is no compiler, or the build fails.
    pub fn build(&self, work: &Path, say: &dyn Fn(&str)) -> Result<PathBuf, SetupError> {
        obstacles::to_building(self)?;
        let directory = kbuild::build(&self.tree, &hooks::sources(), work, say).map_err(SetupError::Build)?;
        Ok(directory.join(hooks::FILE))
    }
}

/// Names the file of an error.
fn file_error<T>(path: &Path, result: std::io::Result<T>) -> Result<T, SetupError> {
    result.map_err(|source| SetupError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kernel_is_named_by_its_release_or_its_headers() {
        let root = tempfile::tempdir().unwrap();
        let files = KernelFiles::new(root.path());
        let tree = root.path().join("lib/modules/6.1.0-56-amd64/build");
        fs::create_dir_all(tree.join("include/config")).unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("proc/sys/kernel/osrelease"), "6.1.0-57-amd64\n").unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=debian\n").unwrap();
        fs::write(tree.join("Makefile"), "").unwrap();
        fs::write(tree.join("include/config/kernel.release"), "6.1.0-56-amd64\n").unwrap();
        let found = KernelTree { release: "6.1.0-56-amd64".to_owned(), tree: tree.clone() };
        assert_eq!(KernelTree::find(&files, Some("6.1.0-56-amd64")).unwrap(), found);
        let named = KernelTree::find(&files, tree.to_str()).unwrap();
        assert_eq!((named.release, named.tree), (found.release, tree.canonicalize().unwrap()));
        // The running one.
        let error = KernelTree::find(&files, None).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::MISSING);
        let text = error.to_string();
        assert!(text.starts_with("there are no headers of kernel 6.1.0-57-amd64 at "), "{text}");
        assert!(text.ends_with("apt-get install linux-headers-6.1.0-57-amd64"), "{text}");
        let error = KernelTree::find(&files, Some("/no/such/tree")).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::USAGE);
    }
}
