//! The modules that a guest gets where some are named: these, what they depend on, and the drivers of the guest's own devices,
//! in a directory of their own with an index of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use injector_guest::init::DRIVERS;
use tempfile::TempDir;

use crate::installed::depmod;
use crate::{find_program, hooks, missing, shown};

/// What ends the name of a module's file, and the program that takes the compression away.
const COMPRESSIONS: [(&str, &str); 3] = [(".xz", "xz"), (".zst", "zstd"), (".gz", "gzip")];

/// Files beside the modules that are taken over. depmod makes the others.
const TAKEN_OVER: [&str; 4] = ["modules.builtin", "modules.builtin.modinfo", "modules.order", "config"];

/// Modules that a workload names: one, or all below a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// `dm-mod`; `dm_mod` is the same.
    Module(String),
    /// `dm-mod?`: if the kernel has it.
    IfThere(String),
    /// `net/sched/`: what is below this directory of the kernel's source.
    Below(String),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
        let is_name = |name: &str| !name.is_empty() && name.chars().all(plain);
        if let Some(name) = text.strip_suffix('?').filter(|name| is_name(name)) {
            return Ok(Self::IfThere(name.to_owned()));
        }
        match text.strip_suffix('/') {
            Some(directory) if !directory.is_empty() && !directory.starts_with('/') && !directory.contains("..") => {
                Ok(Self::Below(text.strip_prefix("kernel/").unwrap_or(text).to_owned()))
            }
            None if is_name(text) => Ok(Self::Module(text.to_owned())),
            _ => Err(format!(
                "`{text}` names no modules: write a name, as in dm-mod (dm-mod? if the kernel may lack it), or a directory of the kernel's source, as in net/sched/"
            )),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(text) | Self::Below(text) => f.pad(text),
            Self::IfThere(name) => f.pad(&format!("{name}?")),
        }
    }
}

/// What a kernel's directory says of its modules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// By name: the file, as the index names it.
    files: BTreeMap<String, String>,
    /// By name: the names of those that must be loaded first, or should be.
    needs: BTreeMap<String, BTreeSet<String>>,
    /// The files of those that are part of the kernel, by name.
    builtin: BTreeMap<String, String>,
}

/// A module's name as the kernel has it, from a path or a name.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Index {
    /// Reads `modules.dep` and the files beside it.
    ///
    /// # Errors
    /// There is no `modules.dep`.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("modules.dep");
        let dep = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let other = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        Ok(Self::parse(&dep, &other("modules.softdep"), &other("modules.builtin")))
    }

    /// The index of these files: `modules.dep`, `modules.softdep`, `modules.builtin`.
    #[must_use]
    pub fn parse(dep: &str, softdep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for (file, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            index.files.insert(name(file), file.to_owned());
            index.needs.insert(name(file), needs.split_ascii_whitespace().map(name).collect());
        }
        for line in softdep.lines() {
            let mut words = line.split_ascii_whitespace().filter(|word| !word.ends_with(':'));
            if let (Some("softdep"), Some(module)) = (words.next(), words.next()) {
                index.needs.entry(name(module)).or_default().extend(words.map(name));
            }
        }
        index.builtin = builtin.lines().map(str::trim).map(|file| (name(file), file.to_owned())).collect();
        index
    }

    /// Every name, for messages.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().chain(self.builtin.keys()).map(String::as_str)
    }

    /// The files of these modules and of all that they need. Those that are part of the kernel have none.
    ///
    /// # Errors
    /// The kernel does not have some of them: these.
    pub fn resolve(&self, wanted: &[Wanted]) -> Result<BTreeSet<&str>, Vec<Wanted>> {
        let (mut all, mut unknown) = (Vec::new(), Vec::new());
        for one in wanted {
            let known = match one {
                Wanted::Module(module) => {
                    let module = name(module);
                    let known = self.files.contains_key(&module) || self.builtin.contains_key(&module);
                    all.push(module);
                    known
                }
                Wanted::IfThere(module) => {
                    all.push(name(module));
                    true
                }
                Wanted::Below(directory) => {
                    let place = format!("kernel/{directory}");
                    let is_below = |(_, file): &(&String, &String)| file.starts_with(&place);
                    let below: Vec<_> = self.files.iter().filter(is_below).map(|(name, _)| name.clone()).collect();
                    let known = !below.is_empty() || self.builtin.iter().any(|entry| is_below(&entry));
                    all.extend(below);
                    known
                }
            };
            if !known {
                unknown.push(one.clone());
            }
        }
        if unknown.is_empty() { Ok(self.closure(all)) } else { Err(unknown) }
    }

    /// What needs no file, or is not there, is left out.
    fn closure(&self, mut left: Vec<String>) -> BTreeSet<&str> {
        let (mut files, mut seen) = (BTreeSet::new(), BTreeSet::new());
        while let Some(module) = left.pop() {
            files.extend(self.files.get(&module).map(String::as_str));
            left.extend(self.needs.get(&module).into_iter().flatten().filter(|next| !seen.contains(*next)).cloned());
            seen.insert(module);
        }
        files
    }
}

/// The kernel has no such modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchModules {
    /// Which.
    pub unknown: Vec<Wanted>,
    /// The names that there are.
    pub known: Vec<String>,
}

impl fmt::Display for NoSuchModules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.unknown.iter().map(Wanted::to_string).collect();
        write!(f, "the kernel has no module {}", names.join(", "))
    }
}

impl std::error::Error for NoSuchModules {}

/// Modules from which others are taken: where they are, and what their kernel can do.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// `…/lib/modules/RELEASE`, with `modules.dep`.
    pub directory: &'a Path,
    /// Its release.
    pub release: &'a str,
    /// The kernel decompresses modules itself (CONFIG_MODULE_DECOMPRESS).
    pub decompresses: bool,
    /// Modules of other places that come along.
    pub extra: &'a [PathBuf],
}

/// A directory with some of a kernel's modules; dropping it removes it.
#[derive(Debug)]
pub struct Selection {
    root: TempDir,
    release: String,
    /// How many modules there are.
    pub count: usize,
}

impl Selection {
    /// Puts modules together: those that are wanted, with all that they need, the drivers of the guest's devices, and
    /// injector_hooks if it is among the kernel's modules.
    ///
    /// # Errors
    /// [`NoSuchModules`]; [`Missing`](crate::Missing) if there is no depmod, or nothing that decompresses.
    pub fn new(source: Source<'_>, wanted: &[Wanted]) -> Result<Self> {
        let Source { directory, release, decompresses, extra } = source;
        let index = Index::read(directory)?;
        let named = index.resolve(wanted).map_err(|unknown| {
            let mut known: Vec<String> = index.names().map(str::to_owned).collect();
            known.sort();
            NoSuchModules { unknown, known }
        })?;
        let own = DRIVERS.iter().chain([&hooks::NAME]).map(|driver| (*driver).to_owned()).collect();
        let files: BTreeSet<&str> = named.into_iter().chain(index.closure(own)).collect();
        let root = tempfile::Builder::new().prefix("injector-modules-").tempdir().context("can't make a directory")?;
        let place = root.path().join("lib/modules").join(release);
        let failed = || format!("can't write to {}", place.display());
        fs::create_dir_all(place.join("updates")).with_context(failed)?;
        for name in TAKEN_OVER {
            if directory.join(name).is_file() {
                fs::copy(directory.join(name), place.join(name)).with_context(failed)?;
            }
        }
        for file in &files {
            put(&directory.join(file), &place.join(file), decompresses)?;
        }
        for module in extra {
            let name = module.file_name().context("a module has a name")?;
            symlink(module, place.join("updates").join(name)).with_context(failed)?;
        }
        depmod(root.path(), release)?;
        Ok(Self { root, release: release.to_owned(), count: files.len() + extra.len() })
    }

    /// As `/lib/modules/RELEASE`.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.root.path().join("lib/modules").join(&self.release)
    }
}

/// Puts a module's file at a place, decompressed if the kernel can't do that.
fn put(file: &Path, place: &Path, decompresses: bool) -> Result<()> {
    let failed = || format!("can't write {}", place.display());
    fs::create_dir_all(place.parent().context("a module is in a directory")?).with_context(failed)?;
    let text = place.to_string_lossy();
    let compressed = COMPRESSIONS.iter().find_map(|(end, program)| Some((text.strip_suffix(end)?, *program)));
    let Some((plain, program)) = compressed.filter(|_| !decompresses) else {
        // depmod and the guest's root follow links.
        return symlink(file, place).with_context(failed);
    };
    let Some(path) = find_program(program) else {
        return Err(missing(format!("{}: this machine has no {program}, which decompresses it", file.display())));
    };
    let out = File::create(plain).with_context(failed)?;
    let mut command = Command::new(path);
    command.arg("-dc").arg(file).stdin(Stdio::null()).stdout(out);
    let output = command.output().with_context(|| format!("can't start {}", shown(&command)))?;
    if !output.status.success() {
        bail!("{}: {}", shown(&command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/md/raid1.ko.xz: kernel/drivers/md/md-mod.ko.xz\n\
        kernel/drivers/md/md-mod.ko.xz:\n\
        kernel/net/sched/sch_htb.ko.xz:\n\
        kernel/net/sched/act_ct.ko.xz: kernel/net/nf/nf_nat.ko.xz kernel/net/nf/nf_conntrack.ko.xz\n\
        kernel/net/nf/nf_nat.ko.xz: kernel/net/nf/nf_conntrack.ko.xz\n\
        kernel/net/nf/nf_conntrack.ko.xz:\n\
        kernel/lib/crc.ko.xz:\n";
    const SOFTDEP: &str = "# Soft dependencies\nsoftdep nf_conntrack pre: crc no-such-alias post: nf_nat\nsoftdep x\n";
    const BUILTIN: &str = "kernel/fs/proc/proc.ko\nkernel/drivers/block/loop.ko\n";

    fn resolve(words: &[&str]) -> Result<Vec<String>, Vec<Wanted>> {
        let index = Index::parse(DEP, SOFTDEP, BUILTIN);
        let wanted: Vec<Wanted> = words.iter().map(|word| word.parse().unwrap()).collect();
        let files = index.resolve(&wanted)?;
        Ok(files.into_iter().map(name).collect())
    }

    #[test]
    fn a_module_brings_what_it_needs() {
        assert_eq!(resolve(&["raid1"]).unwrap(), ["md_mod", "raid1"]);
        assert_eq!(resolve(&["md_mod"]).unwrap(), ["md_mod"]);
        // Soft dependencies, too, also where they lead back.
        assert_eq!(resolve(&["nf_nat"]).unwrap(), ["crc", "nf_conntrack", "nf_nat"]);
        assert_eq!(resolve(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_directory_is_all_that_is_below_it() {
        assert_eq!(resolve(&["net/sched/"]).unwrap(), ["crc", "nf_conntrack", "nf_nat", "act_ct", "sch_htb"]);
        assert_eq!(resolve(&["kernel/lib/"]).unwrap(), ["crc"]);
        assert_eq!(resolve(&["fs/proc/"]).unwrap(), Vec::<String>::new(), "part of the kernel");
    }

    #[test]
    fn what_is_part_of_the_kernel_needs_no_file() {
        assert_eq!(resolve(&["loop", "raid1"]).unwrap(), ["md_mod", "raid1"]);
    }

    #[test]
    fn what_a_kernel_may_lack_is_taken_if_it_is_there() {
        assert_eq!(resolve(&["raid7?", "raid1?"]).unwrap(), ["md_mod", "raid1"]);
        assert_eq!("raid7?".parse::<Wanted>().unwrap().to_string(), "raid7?");
    }

    #[test]
    fn what_the_kernel_does_not_have_is_said() {
        let error = resolve(&["raid1", "raid7", "sound/"]).unwrap_err();
        assert_eq!(error, [Wanted::Module("raid7".into()), Wanted::Below("sound/".into())]);
    }

    #[test]
    fn names_of_modules() {
        assert_eq!("dm-mod".parse(), Ok(Wanted::Module("dm-mod".into())));
        for bad in ["", "/", "?", "a b", "../x/", "/lib/modules/", "dm.ko", "drivers/md", "drivers/md/?"] {
            let error = bad.parse::<Wanted>().unwrap_err();
            assert!(error.contains("net/sched/"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_selection_has_an_index_of_its_own() {
        if ["depmod", "xz"].iter().any(|program| find_program(program).is_none()) {
            eprintln!("skipped: no depmod or no xz here");
            return;
        }
        let from = tempfile::tempdir().unwrap();
        for file in ["kernel/a.ko", "kernel/b.ko", "updates/injector_hooks.ko"] {
            fs::create_dir_all(from.path().join(file).parent().unwrap()).unwrap();
            fs::write(from.path().join(file), "module").unwrap();
        }
        let packed = Command::new("xz").arg(from.path().join("kernel/a.ko")).status().unwrap();
        assert!(packed.success());
        let dep = "kernel/a.ko.xz:\nkernel/b.ko:\nupdates/injector_hooks.ko:\n";
        fs::write(from.path().join("modules.dep"), dep).unwrap();
        let source = Source { directory: from.path(), release: "7.3", decompresses: false, extra: &[] };
        let selection = Selection::new(source, &["a".parse().unwrap()]).unwrap();
        let place = selection.directory();
        assert_eq!(fs::read_to_string(place.join("kernel/a.ko")).unwrap(), "module");
        assert!(place.join("updates/injector_hooks.ko").is_file() && !place.join("kernel/b.ko").exists());
        let dep = fs::read_to_string(place.join("modules.dep")).unwrap();
        assert!(dep.contains("kernel/a.ko:") && !dep.contains("b.ko"), "{dep}");
        assert_eq!(selection.count, 2);
        let as_it_is = Selection::new(Source { decompresses: true, ..source }, &["a".parse().unwrap()]).unwrap();
        assert!(as_it_is.directory().join("kernel/a.ko.xz").is_file());
        let error = Selection::new(source, &["c".parse().unwrap()]).unwrap_err();
        assert_eq!(error.downcast::<NoSuchModules>().unwrap().known, ["a", "b", "injector_hooks"]);
    }
}
