//! What this kernel is: its types, symbols, options, modules, GFP bits and injectable functions.
//!
//! Everything is read below one root ([`KernelFiles`]), which in tests is a directory with what real kernels said.
//! [`Survey`] reads what a run needs, each source once; `check` says what is missing in it; [`Facts`] is what is left
//! when nothing is.

pub mod allocator;
pub mod btf;
mod build_id;
pub mod caches;
pub mod facts;
pub mod features;
pub mod files;
pub mod gfp;
pub mod hooks;
pub mod hooks_module;
pub mod kallsyms;
pub mod modules;
pub mod options;
mod preemption;

use std::io;
use std::path::PathBuf;

pub use facts::{Facts, Offsets, Survey};
pub use features::Features;
pub use files::{KernelFiles, Release};
pub use options::Options;

/// Why a fact about the kernel could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file is not there or can't be read.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A source does not have the form that it should have.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The source.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The kernel shows only zeros.
    #[error("/proc/kallsyms hides the addresses (kernel.kptr_restrict)")]
    HiddenAddresses,
    /// The bit for NOFAIL is not known, and without it correct code would crash.
    #[error("the bit of __GFP_NOFAIL is unknown (looked in {0})")]
    NoFailUnknown(&'static str),
    /// No file with the build options.
    #[error("the build options of kernel {0} are neither in /proc/config.gz nor in /boot nor in /lib/modules")]
    NoOptions(String),
    /// A structure or symbol that every supported kernel has.
    #[error("this kernel has no {0}")]
    Missing(&'static str),
}

crate::exit::has_exit_code!(KernelError => INTERNAL);
