//! Kernels that others built: what Debian's [`archive`] has of them, as [`sources`] and as [`stock`] kernels, a distribution's
//! [`installed`] kernel or that of a build [`tree`] in a guest, with a [`selection`] of its modules, and modules built for a
//! kernel by [`kbuild`].
//!
//! Errors are one line. Most say what to do about the machine; two kinds are told apart by their type: [`BadInput`] and
//! [`Missing`].

pub mod archive;
pub mod compiler;
mod foreign;
pub mod hooks;
pub mod installed;
pub mod kbuild;
pub mod selection;
pub mod sources;
pub mod stock;
pub mod tree;
pub mod version;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

pub use injector_guest::root::find_program;
pub use installed::InstalledKernel;
pub use stock::Stock;
pub use version::{Series, Version};

/// The user has asked for something that can't be had.
#[derive(Debug)]
pub struct BadInput(String);

/// This machine lacks something.
#[derive(Debug)]
pub struct Missing(String);

/// An error of the type [`BadInput`].
pub fn bad_input(text: impl Into<String>) -> anyhow::Error {
    BadInput(text.into()).into()
}

/// An error of the type [`Missing`].
pub fn missing(text: impl Into<String>) -> anyhow::Error {
    Missing(text.into()).into()
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// The project's cache: `$XDG_CACHE_HOME/injector`, or `~/.cache/injector`. `injector_build::cache_dir()` is the same for
/// build scripts.
#[must_use]
pub fn cache_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map_or_else(home, PathBuf::from);
    cache.join("injector")
}

/// FNV-1a: for names that must not change with the Rust release, as `DefaultHasher`'s may.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How a command looks on a command line.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
