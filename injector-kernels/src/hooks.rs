//! The module injector_hooks: its sources, and the module built for a kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::installed::InstalledKernel;
use crate::kbuild::{self, Sources};
use crate::{cache_dir, missing};

/// Its name, as the kernel has it.
pub const NAME: &str = "injector_hooks";

/// Where it is kept, below the cache directory.
pub const DIRECTORY: &str = "hooks";

/// Its file.
pub const FILE: &str = "injector_hooks.ko";

/// The files of `module/` that make builds it from; the build script lists them.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/module.rs"));

/// Its sources.
#[must_use]
pub fn sources() -> Sources {
    Sources::new(FILES.iter().copied()).without_btf()
}

/// The module for a kernel with this build tree or these headers. It is kept below `kept`.
///
/// # Errors
/// As [`kbuild::cached`].
pub fn build(tree: &Path, kept: &Path, say: &dyn Fn(&str)) -> Result<PathBuf> {
    let built = kbuild::cached(tree, &sources(), &[FILE], kept, say)?;
    built.into_iter().next().context("one module was asked for")
}

/// A directory with the modules of a kernel and, among them, this one, where modprobe finds it.
///
/// # Errors
/// [`Missing`](crate::Missing) if the kernel has no headers or this machine lacks what builds the module.
pub fn modules_of(kernel: &InstalledKernel, say: &dyn Fn(&str)) -> Result<PathBuf> {
    let InstalledKernel { release, build: tree, .. } = kernel;
    let tree = tree.as_ref().ok_or_else(|| missing(format!("there are no headers of kernel {release}")))?;
    let kept = cache_dir().join(DIRECTORY).join(release);
    let module = build(tree, &kept, say)?;
    let above = module.parent().context("a module is in a directory")?;
    kernel.with_module(&module, above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_the_module_is_in_the_program() {
        let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../module"));
        assert_eq!(Sources::read(directory).unwrap().without_btf(), sources());
    }
}
