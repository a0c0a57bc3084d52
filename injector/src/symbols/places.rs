//! Where debug information usually lies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::LineSources;

/// Directories below that of a `vmlinux` in which modules are looked for.
const DEPTH: u32 = 2;
/// The same where the directory is one release's (`/usr/lib/debug/lib/modules/RELEASE`).
const DEPTH_OF_RELEASE: u32 = 8;

/// The files that may be the kernel's, the likeliest first.
pub(super) fn vmlinux(search: &LineSources, release: &str) -> Vec<PathBuf> {
    // In the tree that it was built in, the image lies in arch/x86/boot.
    let directories = search.image.iter().flat_map(|image| [image.ancestors().nth(1), image.ancestors().nth(4)]);
    let beside = directories.flatten().map(|directory| directory.join("vmlinux"));
    let usual = [
        format!("usr/lib/debug/boot/vmlinux-{release}"),
        format!("usr/lib/debug/lib/modules/{release}/vmlinux"),
        format!("boot/vmlinux-{release}"),
        format!("lib/modules/{release}/build/vmlinux"),
    ];
    // A release is a journal's word: it must not lead elsewhere.
    let usual = usual.iter().filter(|_| is_name(release)).map(|path| search.files.path(path));
    beside.chain(usual).filter(|path| path.is_file()).collect()
}

fn is_name(release: &str) -> bool {
    !release.is_empty() && !release.contains('/') && release != ".."
}

/// The files that may be these modules, by name: those that are known; of others those by the `vmlinux`, and those of the
/// release that this machine has.
pub(super) fn modules<'a>(
    vmlinux: &Path,
    search: &LineSources,
    release: &str,
    names: &BTreeSet<&'a str>,
) -> BTreeMap<&'a str, Vec<PathBuf>> {
    let mut found: BTreeMap<&'a str, Vec<PathBuf>> = BTreeMap::new();
    let mut take = |path: PathBuf| keep(path, names, &mut found);
    for path in &search.modules {
        if path.is_dir() { walk(path, DEPTH, &mut take) } else { take(path.clone()) }
    }
    let names: BTreeSet<&'a str> = names.iter().copied().filter(|name| !found.contains_key(name)).collect();
    if names.is_empty() {
        return found;
    }
    let mut take = |path: PathBuf| keep(path, &names, &mut found);
    if let Some(directory) = vmlinux.parent() {
        match fs::read_to_string(directory.join("modules.order")) {
            // A tree that the kernel was built in: too large to look everywhere.
            Ok(order) => {
                for line in order.lines() {
                    take(directory.join(Path::new(line).with_extension("ko")));
                }
            }
            Err(_) => {
                let of_release = directory.file_name().is_some_and(|name| name == release);
                walk(directory, if of_release { DEPTH_OF_RELEASE } else { DEPTH }, &mut take);
            }
        }
    }
    if is_name(release) {
        let list = search.files.read_text(format!("lib/modules/{release}/modules.dep")).unwrap_or_default();
        for line in list.lines() {
            let Some((path, _)) = line.split_once(".ko") else { continue };
            for file in [
                format!("usr/lib/debug/lib/modules/{release}/{path}.ko.debug"),
                format!("usr/lib/debug/lib/modules/{release}/{path}.ko"),
                format!("lib/modules/{release}/{path}.ko"),
            ] {
                take(search.files.path(file));
            }
        }
    }
    found
}

/// Keeps a file that is one of these modules.
fn keep<'a>(path: PathBuf, names: &BTreeSet<&'a str>, found: &mut BTreeMap<&'a str, Vec<PathBuf>>) {
    if let Some(name) = module_name(&path)
        && let Some(name) = names.get(&*name)
        && path.is_file()
    {
        found.entry(name).or_default().push(path);
    }
}

fn walk(directory: &Path, depth: u32, take: &mut dyn FnMut(PathBuf)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 1 {
            walk(&entry.path(), depth - 1, take);
        } else if kind.is_file() {
            take(entry.path());
        }
    }
}

/// A module's name as the kernel writes it (`_`, never `-`); none of another file.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let name = file.strip_suffix(".debug").unwrap_or(file).strip_suffix(".ko")?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelFiles;

    /// Makes empty files below a directory.
    fn files(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    fn below(root: &Path, found: &[PathBuf]) -> Vec<String> {
        found.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
    }

    #[test]
    fn a_kernel_in_the_usual_places() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let all = [
            "tree/arch/x86/boot/vmlinux",
            "tree/vmlinux",
            "usr/lib/debug/boot/vmlinux-6.12",
            "usr/lib/debug/lib/modules/6.12/vmlinux",
            "boot/vmlinux-6.12",
            "lib/modules/6.12/build/vmlinux",
        ];
        files(root, &all);
        let image = Some(root.join("tree/arch/x86/boot/bzImage"));
        let search = LineSources { image, files: KernelFiles::new(root), ..LineSources::default() };
        assert_eq!(below(root, &vmlinux(&search, "6.12")), all);
        assert_eq!(below(root, &vmlinux(&search, "6.1")), all[..2]);
        assert_eq!(below(root, &vmlinux(&search, "../6.12")), all[..2]);
        assert!(
            vmlinux(&LineSources { image: Some("bzImage".into()), ..LineSources::default() }, "no-such").is_empty()
        );
    }

    #[test]
    fn modules_by_the_kernel_and_of_the_release() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        files(root, &["cache/vmlinux", "cache/module-1/nfs.ko", "cache/module-1/deep/nfs.ko", "cache/nfs.c"]);
        files(root, &["lib/modules/6.12/kernel/nfs-v4.ko.xz", "usr/lib/debug/lib/modules/6.12/kernel/nfs-v4.ko.debug"]);
        fs::write(root.join("lib/modules/6.12/modules.dep"), "kernel/nfs-v4.ko.xz: kernel/nfs.ko.xz\n").unwrap();
        let search = LineSources { files: KernelFiles::new(root), ..LineSources::default() };
        let find = |vmlinux: &str| modules(&root.join(vmlinux), &search, "6.12", &BTreeSet::from(["nfs", "nfs_v4"]));
        let found = find("cache/vmlinux");
        assert_eq!(below(root, &found["nfs"]), ["cache/module-1/nfs.ko"]);
        assert_eq!(below(root, &found["nfs_v4"]), ["usr/lib/debug/lib/modules/6.12/kernel/nfs-v4.ko.debug"]);

        let known =
            LineSources { modules: vec![root.join("lib"), root.join("cache/module-1/deep/nfs.ko")], ..search.clone() };
        let found = modules(&root.join("cache/vmlinux"), &known, "6.12", &BTreeSet::from(["nfs"]));
        assert_eq!(below(root, &found["nfs"]), ["cache/module-1/deep/nfs.ko"]);

        files(root, &["tree/fs/nfs/nfs.ko", "tree/other/nfs.ko"]);
        fs::write(root.join("tree/modules.order"), "fs/nfs/nfs.o\nfs/gone.o\n").unwrap();
        assert_eq!(below(root, &find("tree/vmlinux")["nfs"]), ["tree/fs/nfs/nfs.ko"]);
    }
}
