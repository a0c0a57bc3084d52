//! A distribution's kernel: an image with its modules, options and headers beside it, as packages put them.
//!
//! A guest that boots such an image needs the modules in its root, since the drivers of its devices are among them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use injector_guest::Initramfs;
use injector_guest::initramfs::InitramfsError;

use crate::selection::Selection;
use crate::{bad_input, find_program, missing, shown};

/// Where a root has its modules.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Where headers are, below a root; the release follows. Debian and others, Fedora.
const HEADERS: [&str; 2] = ["usr/src/linux-headers-", "usr/src/kernels/"];

/// Modules of hardware that no guest has. They would be most of what a guest has in its memory.
const LEFT_OUT: [&str; 8] = [
    "kernel/sound/",
    "kernel/drivers/gpu/",
    "kernel/drivers/media/",
    "kernel/drivers/infiniband/hw/",
    "kernel/drivers/net/ethernet/",
    "kernel/drivers/net/wireless/",
    "kernel/drivers/staging/",
    "kernel/drivers/iio/",
];

/// depmod makes these.
const INDEX: [&str; 9] = [
    "modules.dep",
    "modules.dep.bin",
    "modules.alias",
    "modules.alias.bin",
    "modules.symbols",
    "modules.symbols.bin",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
    "modules.devname",
];
const SOFTDEP: &str = "modules.softdep";

/// A distribution's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledKernel {
    /// As `uname -r` says it.
    pub release: String,
    /// What boots.
    pub image: PathBuf,
    /// Its modules: `…/lib/modules/RELEASE`.
    pub modules: PathBuf,
    /// Its options.
    pub config: Option<PathBuf>,
    /// Its headers, or the tree that it was built in.
    pub build: Option<PathBuf>,
}

impl InstalledKernel {
    /// The kernel that an image belongs to, if its modules are where distributions put them: `/boot/vmlinuz-RELEASE` and
    /// `/lib/modules/RELEASE`, or both in the latter.
    #[must_use]
    pub fn of_image(image: &Path) -> Option<Self> {
        let image = image.canonicalize().ok()?;
        let (directory, name) = (image.parent()?, image.file_name()?.to_string_lossy().into_owned());
        if is_modules(directory) {
            return Self::at(&image, directory);
        }
        let (_, release) = name.split_once('-')?;
        let root = directory.parent()?;
        let modules = MODULES.iter().map(|place| root.join(place).join(release)).find(|place| is_modules(place))?;
        Self::at(&image, &modules)
    }

    /// The kernel with this image and these modules.
    ///
    /// # Errors
    /// [`BadInput`](crate::BadInput): the directory has no modules of one kernel.
    pub fn with_modules(image: &Path, directory: &Path) -> Result<Self> {
        let below = |directory: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| is_modules(path)).collect()
        };
        let mut found = vec![directory.to_owned()];
        if !is_modules(directory) {
            found = below(directory);
            found.extend(MODULES.iter().flat_map(|place| below(&directory.join(place))));
            // One may be a link to the other.
            found = found.iter().filter_map(|path| path.canonicalize().ok()).collect();
            found.sort();
            found.dedup();
        }
        let one = if let [one] = found.as_slice() { Self::at(image, one) } else { None };
        one.ok_or_else(|| {
            bad_input(format!(
                "{} is no directory with the modules of one kernel; name one like /lib/modules/RELEASE",
                directory.display()
            ))
        })
    }

    fn at(image: &Path, modules: &Path) -> Option<Self> {
        let modules = modules.canonicalize().ok()?;
        let release = modules.file_name()?.to_string_lossy().into_owned();
        let root = modules.ancestors().nth(3).map(|above| {
            let usr = above.file_name().is_some_and(|name| name == "usr");
            above.parent().filter(|_| usr).unwrap_or(above).to_owned()
        });
        let below = |path: &str| root.as_ref().map(|root| root.join(path));
        let configs = [below(&format!("boot/config-{release}")), Some(modules.join("config"))];
        let trees = HEADERS.iter().map(|place| below(&format!("{place}{release}")));
        let trees = std::iter::once(Some(modules.join("build"))).chain(trees).flatten();
        Some(Self {
            config: configs.into_iter().flatten().find(|path| path.is_file()),
            // A link to a place in another root leads nowhere here.
            build: trees.into_iter().find(|tree| tree.join("Makefile").is_file()),
            image: image.to_owned(),
            modules,
            release,
        })
    }

    /// The words for the kernel's command line.
    ///
    /// TOMOYO, where it is on, makes a kernel panic when one allocation of its fails in an exec ("MAC Initialization failed",
    /// `security/tomoyo/common.c`), so it is left out of the security modules that the kernel starts.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let config = self.config.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        words(&config)
    }

    /// Puts modules and options into a guest's root. `modules` is the directory to take the modules from, if it is not the
    /// kernel's own.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn put_into(&self, root: &mut Initramfs, modules: Option<&Path>) -> Result<(), InitramfsError> {
        let Self { release, config, modules: own, .. } = self;
        if let Some(config) = config {
            root.file(config, &format!("/boot/config-{release}"))?;
        }
        let modules = modules.unwrap_or(own);
        put_modules(root, modules, "", &format!("/lib/modules/{release}"), &LEFT_OUT)
    }

    /// Puts a selection of modules, and the options, into a guest's root.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn put_selection(&self, root: &mut Initramfs, selection: &Selection) -> Result<(), InitramfsError> {
        let Self { release, config, .. } = self;
        if let Some(config) = config {
            root.file(config, &format!("/boot/config-{release}"))?;
        }
        put_modules(root, &selection.directory(), "", &format!("/lib/modules/{release}"), &[])
    }

    /// Whether the kernel decompresses modules itself. Where its options are not known, it does not.
    #[must_use]
    pub fn decompresses(&self) -> bool {
        let config = self.config.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        config.lines().any(|line| line == "CONFIG_MODULE_DECOMPRESS=y")
    }

    /// A directory like that of the modules, with `module` as one more of them. It is made below `kept`, unless it is there
    /// already, and the kernel's own directory stays as it is.
    ///
    /// # Errors
    /// [`Missing`](crate::Missing) if there is no depmod.
    pub fn with_module(&self, module: &Path, kept: &Path) -> Result<PathBuf> {
        let name = module.file_name().context("a module has a name")?;
        let place = kept.join("usr/lib/modules").join(&self.release);
        if place.join(INDEX[1]).is_file() {
            return Ok(place);
        }
        fs::create_dir_all(kept).with_context(|| format!("can't make {}", kept.display()))?;
        let work = tempfile::Builder::new().prefix("modules-").tempdir_in(kept);
        let work = work.with_context(|| format!("can't write to {}", kept.display()))?;
        let new = work.path().join("usr/lib/modules").join(&self.release);
        let failed = || format!("can't write to {}", new.display());
        fs::create_dir_all(new.join("updates")).with_context(failed)?;
        fs::copy(module, new.join("updates").join(name)).with_context(failed)?;
        for entry in fs::read_dir(&self.modules).with_context(|| format!("can't read {}", self.modules.display()))? {
            let name = entry?.file_name();
            let text = name.to_string_lossy();
            let own = INDEX.contains(&&*text) || [SOFTDEP, "updates", "build", "source"].contains(&&*text);
            if !own {
                symlink(self.modules.join(&name), new.join(&name)).with_context(failed)?;
            }
        }
        depmod(work.path(), &self.release)?;
        let above = place.parent().context("a directory of modules has a parent")?;
        fs::create_dir_all(above).with_context(|| format!("can't make {}", above.display()))?;
        // Somebody who made the same at the same time is as good.
        if let Err(error) = fs::rename(&new, &place)
            && !place.join(INDEX[1]).is_file()
        {
            return Err(error).with_context(|| format!("can't move the modules to {}", place.display()));
        }
        Ok(place)
    }
}

/// Makes the indexes of the modules below a root.
///
/// # Errors
/// [`Missing`](crate::Missing) if there is no depmod.
pub fn depmod(root: &Path, release: &str) -> Result<()> {
    let Some(program) = find_program("depmod") else {
        return Err(missing("this machine has no depmod, which makes the index of a kernel's modules; install kmod"));
    };
    // depmod looks in /lib/modules or in /usr/lib/modules, as it was built.
    if !root.join("lib").exists() {
        symlink("usr/lib", root.join("lib")).with_context(|| format!("can't write to {}", root.display()))?;
    }
    let mut command = Command::new(program);
    command.arg("-b").arg(root).arg(release).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("can't start {}", shown(&command)))?;
    if !output.status.success() {
        bail!("{}: {}", shown(&command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Whether it is a directory as `/lib/modules/RELEASE` is.
fn is_modules(directory: &Path) -> bool {
    directory.join("kernel").is_dir()
        && (directory.join("modules.order").exists() || directory.join("modules.dep").exists())
}

fn words(config: &str) -> Vec<String> {
    let value = |option: &str| config.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
    if value("CONFIG_SECURITY_TOMOYO") != Some("y") {
        return Vec::new();
    }
    let all = value("CONFIG_LSM").unwrap_or_default().trim_matches('"');
    let others: Vec<&str> = all.split(',').filter(|name| !name.is_empty() && *name != "tomoyo").collect();
    // An empty list would not be one.
    vec![format!("lsm={}", if others.is_empty() { "capability".to_owned() } else { others.join(",") })]
}

fn put_modules(
    root: &mut Initramfs,
    directory: &Path,
    below: &str,
    guest: &str,
    left_out: &[&str],
) -> Result<(), InitramfsError> {
    let failed = |source| InitramfsError::File { path: directory.to_owned(), source };
    let entries: BTreeMap<String, PathBuf> = fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    for (name, path) in entries {
        let inner = format!("{below}{name}");
        if path.is_dir() {
            let inner = format!("{inner}/");
            let top = below.is_empty() && ["build", "source"].contains(&name.as_str());
            if !top && !left_out.contains(&inner.as_str()) {
                put_modules(root, &path, &inner, guest, left_out)?;
            }
        } else if path.is_file() {
            root.file(&path, &format!("{guest}/{inner}"))?;
        }
    }
    Ok(())
}

/// The releases whose modules are below this directory.
#[must_use]
pub fn releases(root: &Path) -> BTreeSet<String> {
    let entries = MODULES.iter().flat_map(|place| fs::read_dir(root.join(place)).into_iter().flatten().flatten());
    entries
        .filter(|entry| is_modules(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root as Debian's packages make it.
    fn root(modules: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in [
            format!("{modules}/6.1.0-56-cloud-amd64/kernel/fs/ext4"),
            format!("{modules}/6.1.0-56-cloud-amd64/kernel/sound/core"),
            "usr/src/linux-headers-6.1.0-56-cloud-amd64".to_owned(),
            "boot".to_owned(),
        ] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let place = root.path().join(modules).join("6.1.0-56-cloud-amd64");
        symlink("/usr/src/linux-headers-elsewhere", place.join("build")).unwrap();
        for file in ["modules.order", "kernel/fs/ext4/ext4.ko", "kernel/sound/core/snd.ko"] {
            fs::write(place.join(file), "").unwrap();
        }
        for file in ["boot/vmlinuz-6.1.0-56-cloud-amd64", "usr/src/linux-headers-6.1.0-56-cloud-amd64/Makefile"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        let config = "CONFIG_SECURITY_TOMOYO=y\nCONFIG_LSM=\"landlock,yama,tomoyo,bpf\"\n";
        fs::write(root.path().join("boot/config-6.1.0-56-cloud-amd64"), config).unwrap();
        root
    }

    #[test]
    fn what_belongs_to_an_image_is_found() {
        for modules in MODULES {
            let root = root(modules);
            let path = root.path().canonicalize().unwrap();
            let image = path.join("boot/vmlinuz-6.1.0-56-cloud-amd64");
            let kernel = InstalledKernel::of_image(&image).unwrap();
            assert_eq!(kernel.release, "6.1.0-56-cloud-amd64");
            assert_eq!(kernel.modules, path.join(modules).join("6.1.0-56-cloud-amd64"));
            assert_eq!(kernel.config, Some(path.join("boot/config-6.1.0-56-cloud-amd64")));
            assert_eq!(kernel.build, Some(path.join("usr/src/linux-headers-6.1.0-56-cloud-amd64")));
            assert_eq!(kernel.words(), ["lsm=landlock,yama,bpf"]);
            // However the modules are named.
            for named in ["", modules, &format!("{modules}/6.1.0-56-cloud-amd64")] {
                assert_eq!(InstalledKernel::with_modules(&image, &path.join(named)).unwrap(), kernel, "{named}");
            }
            assert_eq!(releases(&path).into_iter().collect::<Vec<_>>(), ["6.1.0-56-cloud-amd64"]);
        }
    }

    #[test]
    fn an_image_alone_has_no_modules() {
        let root = root("lib/modules");
        fs::write(root.path().join("boot/vmlinuz-6.2"), "").unwrap();
        fs::write(root.path().join("bzImage"), "").unwrap();
        for image in ["boot/vmlinuz-6.2", "bzImage", "boot/none"] {
            assert_eq!(InstalledKernel::of_image(&root.path().join(image)), None, "{image}");
        }
        let error = InstalledKernel::with_modules("bzImage".as_ref(), &root.path().join("boot")).unwrap_err();
        assert!(error.is::<crate::BadInput>() && error.to_string().contains("modules of one kernel"), "{error}");
    }

    #[test]
    fn the_guest_gets_no_sound() {
        let root = root("lib/modules");
        let kernel = InstalledKernel::of_image(&root.path().join("boot/vmlinuz-6.1.0-56-cloud-amd64")).unwrap();
        let mut guest = Initramfs::overlay();
        kernel.put_into(&mut guest, None).unwrap();
        let place = "/lib/modules/6.1.0-56-cloud-amd64";
        assert!(guest.contains(&format!("{place}/kernel/fs/ext4/ext4.ko")));
        assert!(!guest.contains(&format!("{place}/kernel/sound/core/snd.ko")));
        assert!(guest.contains("/boot/config-6.1.0-56-cloud-amd64"));
    }

    #[test]
    fn security_modules_stay_as_they_are_without_tomoyo() {
        assert_eq!(words("CONFIG_LSM=\"landlock,tomoyo\"\n"), Vec::<String>::new());
        assert_eq!(words("CONFIG_SECURITY_TOMOYO=y\nCONFIG_LSM=\"tomoyo\"\n"), ["lsm=capability"]);
    }

    #[test]
    fn one_more_module_needs_an_index_of_its_own() {
        if find_program("depmod").is_none() {
            eprintln!("skipped: no depmod here");
            return;
        }
        let root = root("lib/modules");
        let kernel = InstalledKernel::of_image(&root.path().join("boot/vmlinuz-6.1.0-56-cloud-amd64")).unwrap();
        let kept = tempfile::tempdir().unwrap();
        let module = kept.path().join("extra.ko");
        fs::write(&module, "").unwrap();
        let place = kernel.with_module(&module, &kept.path().join("one")).unwrap();
        assert!(place.join("updates/extra.ko").is_file() && place.join("kernel/fs/ext4/ext4.ko").is_file());
        assert!(place.join("modules.dep").is_file() && !kernel.modules.join("modules.dep").exists());
    }
}
