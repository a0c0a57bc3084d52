//! `cargo xtask kernel`: builds a guest kernel from Debian's source, once.

mod archive;
mod build;
mod fragment;
mod spec;
mod tree;
mod version;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use archive::Archive;
use fragment::Fragment;
pub use spec::{NEWEST, OLDEST, Spec};
pub use version::Series;

/// The user has asked for something that can't be had: exit status 2, as for a wrong argument.
#[derive(Debug)]
pub struct BadInput(String);

pub fn bad_input(text: impl Into<String>) -> anyhow::Error {
    BadInput(text.into()).into()
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// A built kernel. Its directory is complete: it gets its name when everything is in it.
#[derive(Debug, Clone)]
pub struct Kernel {
    directory: PathBuf,
}

impl Kernel {
    /// The kernel of the project's with this image, if it is one.
    pub fn of_image(image: &Path) -> Option<Self> {
        let directory = image.canonicalize().ok()?.parent()?.to_owned();
        (directory.parent() == Some(&kernels_dir())).then_some(Self { directory })
    }

    /// What QEMU boots.
    pub fn image(&self) -> PathBuf {
        self.directory.join("bzImage")
    }

    /// With debug information.
    pub fn vmlinux(&self) -> PathBuf {
        self.directory.join("vmlinux")
    }

    /// The tree that external modules are built against.
    pub fn tree(&self) -> PathBuf {
        self.directory.join("build")
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn kernels_dir() -> PathBuf {
    injector_build::cache_dir().join("kernels")
}

/// FNV-1a: for names that must not change with the Rust release, as `DefaultHasher`'s may.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[derive(Debug, Args)]
#[command(
    after_help = "The source is that of the installed linux-source package; else it comes from Debian's archive, out of \
whichever suite has it, signed with Debian's keys. This machine's apt sources stay as they are: only the archive's address \
is taken from them.\n\n\
Examples:\n  cargo xtask kernel 6.12-debug\n  cargo xtask kernel 6.12.107-1~deb12u1\n  \
cargo xtask kernel newest --config my.config\n  cargo xtask vm --kernel PATH -- injector check    (PATH: the image that this \
verb has printed)"
)]
pub struct Verb {
    /// A series (7.3, 6.12, 6.1), newest, or a Debian version (6.12.107-1~deb12u1); each also with -debug (KASAN, kmemleak,
    /// sleep-in-atomic), -heavy (all checks) or -no-override (kprobes can't replace calls)
    #[arg(value_name = "KERNEL", default_value_t)]
    spec: Spec,
    /// Add the options in this file to the project's. The kernel must take them all
    #[arg(long, value_name = "FILE", value_parser = Fragment::read)]
    config: Option<Fragment>,
    /// List the versions that Debian has, build none
    #[arg(long, conflicts_with_all = ["spec", "config"])]
    list: bool,
}

impl Verb {
    pub fn run(&self) -> Result<()> {
        if self.list {
            let offers = Archive::open()?.offers()?;
            offers.lines()?.iter().for_each(|line| println!("{line}"));
            offers.warn();
            return Ok(());
        }
        let kernel = self.spec.clone().with(self.config.clone()).build()?;
        println!("image    {}", kernel.image().display());
        println!("vmlinux  {}", kernel.vmlinux().display());
        println!("modules  make -C {} M=DIR modules", kernel.tree().display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn an_image_elsewhere_is_not_ours() {
        assert!(Kernel::of_image(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).is_none());
        assert!(Kernel::of_image(Path::new("/nonexistent/bzImage")).is_none());
    }
}
