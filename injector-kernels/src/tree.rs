//! The kernel of a build tree: its modules lie about among the objects, and nothing was installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::installed::{InstalledKernel, depmod};

/// How far above its root an image lies: `arch/x86/boot/bzImage`.
const DEPTH: usize = 5;

/// The tree that an image was built in.
#[must_use]
pub fn of_image(image: &Path) -> Option<PathBuf> {
    let image = image.canonicalize().ok()?;
    let is_tree = |directory: &&Path| {
        ["Makefile", "modules.order", "include/config/kernel.release"].iter().all(|file| directory.join(file).is_file())
    };
    image.ancestors().skip(1).take(DEPTH).find(is_tree).map(Path::to_owned)
}

/// The path of a module below the tree, from a line of `modules.order`: since 6.3 that names objects.
fn module(line: &str) -> Option<String> {
    let line = line.trim();
    let line = line.strip_prefix("kernel/").unwrap_or(line);
    let stem = line.strip_suffix(".ko").or_else(|| line.strip_suffix(".o"))?;
    Some(format!("{stem}.ko"))
}

/// The kernel of a tree, with its modules put together below a directory that lasts as long as the second value.
///
/// # Errors
/// [`Missing`](crate::Missing) if there is no depmod.
pub fn kernel(image: &Path, tree: &Path) -> Result<(InstalledKernel, TempDir)> {
    let read = |name: &str| {
        let path = tree.join(name);
        fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
    };
    let release = read("include/config/kernel.release")?.trim().to_owned();
    let root = tempfile::Builder::new().prefix("injector-modules-").tempdir().context("can't make a directory")?;
    let place = root.path().join("lib/modules").join(&release);
    let failed = || format!("can't write to {}", place.display());
    fs::create_dir_all(place.join("kernel")).with_context(failed)?;
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        if tree.join(name).is_file() {
            fs::copy(tree.join(name), place.join(name)).with_context(failed)?;
        }
    }
    for path in read("modules.order")?.lines().filter_map(module) {
        let (file, link) = (tree.join(&path), place.join("kernel").join(&path));
        // It was configured, and not built.
        if file.is_file() {
            fs::create_dir_all(link.parent().unwrap_or(&place)).with_context(failed)?;
            symlink(file, link).with_context(failed)?;
        }
    }
    depmod(root.path(), &release)?;
    let config = Some(tree.join(".config")).filter(|path| path.is_file());
    let kernel =
        InstalledKernel { release, image: image.to_owned(), modules: place, config, build: Some(tree.to_owned()) };
    Ok((kernel, root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find_program;

    #[test]
    fn the_order_names_modules_in_several_ways() {
        for line in ["drivers/md/dm-mod.o", "drivers/md/dm-mod.ko", "kernel/drivers/md/dm-mod.ko"] {
            assert_eq!(module(line).as_deref(), Some("drivers/md/dm-mod.ko"), "{line}");
        }
        assert_eq!(module("README"), None);
    }

    #[test]
    fn the_modules_of_a_tree_are_put_together() {
        if find_program("depmod").is_none() {
            eprintln!("skipped: no depmod here");
            return;
        }
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().canonicalize().unwrap();
        for (file, text) in [
            ("arch/x86/boot/bzImage", ""),
            ("Makefile", ""),
            ("include/config/kernel.release", "7.3.0-rc1\n"),
            ("drivers/md/dm-mod.ko", "module"),
            ("modules.order", "drivers/md/dm-mod.o\ndrivers/md/not-built.o\n"),
            ("modules.builtin", "kernel/fs/proc/proc.ko\n"),
            (".config", "CONFIG_MODULES=y\n"),
        ] {
            fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            fs::write(path.join(file), text).unwrap();
        }
        let image = path.join("arch/x86/boot/bzImage");
        assert_eq!(of_image(&image).as_deref(), Some(path.as_path()));
        assert_eq!(of_image(&path.join("none")), None);
        let (kernel, _root) = kernel(&image, &path).unwrap();
        assert_eq!((kernel.release.as_str(), kernel.build.as_deref()), ("7.3.0-rc1", Some(path.as_path())));
        let dep = fs::read_to_string(kernel.modules.join("modules.dep")).unwrap();
        assert_eq!(dep.trim(), "kernel/drivers/md/dm-mod.ko:");
    }
}
