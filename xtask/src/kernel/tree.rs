//! What is kept of a built tree: the images, and as much as external modules need, like a headers package.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

/// Images, and their names in the cache.
const IMAGES: [(&str, &str); 4] =
    [("arch/x86/boot/bzImage", "bzImage"), ("vmlinux", "vmlinux"), (".config", "config"), ("System.map", "System.map")];

/// Kept as a whole.
const WHOLE: [&str; 3] = ["include", "scripts", "arch/x86/include"];

/// Single files: configuration, makefiles, symbol versions, and the tools that work on a module's objects.
const SINGLE: [&str; 10] = [
    ".config",
    "Makefile",
    "Kbuild",
    "Kconfig",
    "Module.symvers",
    "arch/x86/Makefile",
    "arch/x86/Makefile_32.cpu",
    "arch/x86/Makefile.um",
    "tools/objtool/objtool",
    "tools/bpf/resolve_btfids/resolve_btfids",
];

/// Moves what is kept from the built tree `work` to `result`.
pub fn collect(work: &Path, result: &Path) -> Result<()> {
    if result.exists() {
        fs::remove_dir_all(result).with_context(|| format!("can't remove {}", result.display()))?;
    }
    let build = result.join("build");
    fs::create_dir_all(&build).with_context(|| format!("can't make {}", build.display()))?;
    // A link or copy, not a move, of what make would have to make again: an interruption here costs nothing then.
    for (from, to) in IMAGES {
        copy(&work.join(from), &result.join(to))?;
    }
    for name in WHOLE {
        copy_tree(&work.join(name), &build.join(name))?;
    }
    for name in SINGLE {
        let from = work.join(name);
        // 6.1 and 6.12 differ in which of them they have.
        if from.exists() {
            copy(&from, &build.join(name))?;
        }
    }
    // A module's BTF is made relative to the kernel's.
    symlink("../vmlinux", build.join("vmlinux")).context("can't link vmlinux")
}

/// A hard link where possible: both trees are in the cache directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    }
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map(drop).with_context(|| format!("can't copy {} to {}", from.display(), to.display()))
}

/// A file, or a directory with all that is in it.
pub fn copy_any(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() { copy_tree(from, to) } else { copy(from, to) }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("can't make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("can't read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)
                .with_context(|| format!("can't link {}", target.display()))?;
        } else if entry.path().extension().is_none_or(|extension| extension != "o") {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_left_out_and_links_stay_links() {
        let directory = tempfile::tempdir().unwrap();
        let (work, kept) = (directory.path().join("work"), directory.path().join("kept"));
        fs::create_dir_all(work.join("scripts/mod")).unwrap();
        fs::write(work.join("scripts/mod/modpost"), "x").unwrap();
        fs::write(work.join("scripts/mod/modpost.o"), "x").unwrap();
        symlink("mod", work.join("scripts/link")).unwrap();
        copy_tree(&work.join("scripts"), &kept).unwrap();
        assert!(kept.join("mod/modpost").is_file());
        assert!(!kept.join("mod/modpost.o").exists());
        assert_eq!(fs::read_link(kept.join("link")).unwrap(), Path::new("mod"));
    }
}
