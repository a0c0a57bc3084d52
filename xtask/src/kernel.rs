//! `cargo xtask kernel`: builds a guest kernel from Debian's source, once.

mod build;
mod choice;
mod fragment;
pub mod selftests;
mod spec;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use injector_kernels::archive::Archive;
use injector_kernels::bad_input;
use injector_kernels::sources::Offers;

use crate::guest_root::Distribution;
pub use choice::{Found, KernelChoice};
use fragment::Fragment;
pub use spec::{MIDDLE, NEWEST, OLDEST, Spec};

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
    /// sleep-in-atomic), -heavy (all checks) or -no-override (kprobes can't replace calls). debian:7.3 is Debian's own build of
    /// a series: it is fetched, and injector_hooks is built for it
    #[arg(value_name = "KERNEL", default_value_t)]
    spec: KernelChoice,
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
            let offers = Offers::ask(&Archive::open()?)?;
            offers.lines()?.iter().for_each(|line| println!("{line}"));
            offers.warn();
            return Ok(());
        }
        let kernel = match &self.spec {
            KernelChoice::Guest(spec) => spec.clone().with(self.config.clone()).build()?,
            _ if self.config.is_some() => return Err(bad_input("--config is for kernels that are built here")),
            other => return show(&other.find()?),
        };
        println!("image    {}", kernel.image().display());
        println!("vmlinux  {}", kernel.vmlinux().display());
        println!("modules  make -C {} M=DIR modules", kernel.tree().display());
        Ok(())
    }
}

/// Says where a kernel is that others built.
fn show(found: &Found) -> Result<()> {
    let contents = found.contents()?;
    println!("image    {}", found.image.display());
    if let Some(Distribution { kernel, modules }) = contents.distribution {
        println!("modules  {}", modules.as_ref().unwrap_or(&kernel.modules).display());
        if let Some(tree) = &kernel.build {
            println!("headers  make -C {} M=DIR modules", tree.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_elsewhere_is_not_ours() {
        assert!(Kernel::of_image(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).is_none());
        assert!(Kernel::of_image(Path::new("/nonexistent/bzImage")).is_none());
    }
}
