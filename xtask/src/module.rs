//! Builds the kernel modules for a guest kernel: those of the tests, and injector_hooks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::kernel::{Kernel, fnv1a};
use crate::packages::Group;
use crate::process;
use crate::setup;

/// Modules that are built together.
struct Source {
    /// Below the workspace.
    directory: &'static str,
    /// What Kbuild makes of it.
    names: &'static [&'static str],
}

const TESTS: Source = Source { directory: "tests/module", names: &["injector_test.ko", "injector_defects.ko"] };
const HOOKS: Source = Source { directory: "module", names: &[HOOKS_FILE] };
/// The module by which the injector hooks.
pub const HOOKS_FILE: &str = "injector_hooks.ko";

/// The modules for `kernel`, built if their sources changed: those of the tests first, then the injector's.
pub fn build(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    build_for(&kernel.tree(), kernel.directory())
}

/// The same for a kernel with this build tree, or these headers; they are kept below `kept`.
pub fn build_for(tree: &Path, kept: &Path) -> Result<Vec<PathBuf>> {
    let modules = [TESTS, HOOKS].map(|source| source.build(tree, kept));
    Ok(modules.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

impl Source {
    fn build(&self, tree: &Path, kept: &Path) -> Result<Vec<PathBuf>> {
        let source = process::workspace().join(self.directory);
        let files = sources(&source)?;
        let mut text = Vec::new();
        for (name, content) in &files {
            text.extend_from_slice(name.as_bytes());
            text.push(0);
            text.extend_from_slice(content);
        }
        let directory = kept.join(format!("module-{:016x}", fnv1a(&text)));
        let modules: Vec<PathBuf> = self.names.iter().map(|name| directory.join(name)).collect();
        if modules.iter().all(|module| module.is_file()) {
            return Ok(modules);
        }
        self.make(&files, &modules, tree, kept).map(|()| modules)
    }

    fn make(&self, files: &[(String, Vec<u8>)], modules: &[PathBuf], tree: &Path, kept: &Path) -> Result<()> {
        setup::packages(&[Group::Module])?;
        eprintln!("modules: building {} for {}", self.names.join(" and "), tree.display());
        let work = tempfile::Builder::new()
            .prefix("module-building-")
            .tempdir_in(kept)
            .with_context(|| format!("can't write to {}", kept.display()))?;
        for (name, content) in files {
            fs::write(work.path().join(name), content).with_context(|| format!("can't copy {name}"))?;
        }
        let mut make = Command::new("make");
        make.arg("-C").arg(tree).arg(format!("M={}", work.path().display())).arg("modules");
        make.env("LC_ALL", "C").env_remove("MAKEFLAGS").env_remove("MFLAGS");
        let output =
            make.stdin(Stdio::null()).output().with_context(|| format!("can't start {}", process::shown(&make)))?;
        if !output.status.success() {
            bail!(
                "{}: {}\n{}{}",
                process::shown(&make),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        // Only the modules are kept; another process that built the same at the same time made the same files.
        for (name, module) in self.names.iter().zip(modules) {
            if let Some(directory) = module.parent() {
                fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
            }
            fs::rename(work.path().join(name), module).with_context(|| format!("make left no {name}"))?;
        }
        Ok(())
    }
}

/// The release of the kernel that a module was built for: the first word of its version magic.
pub fn release(module: &Path) -> Result<String> {
    let content = fs::read(module).with_context(|| format!("can't read {}", module.display()))?;
    parse_release(&content).with_context(|| format!("{} is no kernel module", module.display()))
}

fn parse_release(content: &[u8]) -> Option<String> {
    const MAGIC: &[u8] = b"\0vermagic=";
    let at = content.windows(MAGIC.len()).position(|bytes| bytes == MAGIC)? + MAGIC.len();
    let release: Vec<u8> = content[at..].iter().copied().take_while(|byte| !matches!(byte, b' ' | 0)).collect();
    String::from_utf8(release).ok().filter(|release| !release.is_empty())
}

/// Names and contents, in order of the names; what a build by hand left there is no source.
fn sources(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("can't read {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let source = matches!(name.as_str(), "Kbuild" | "Makefile") || name.ends_with(".c") || name.ends_with(".h");
        if source && !name.ends_with(".mod.c") {
            let content = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            files.push((name, content));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let of = |text: &[u8]| parse_release(text);
        assert_eq!(
            of(b"license=GPL\0vermagic=6.12.117 SMP preempt mod_unload \0name=x\0"),
            Some("6.12.117".to_owned())
        );
        assert_eq!(of(b"vermagic of something"), None);
        assert_eq!(of(b"\0vermagic="), None);
    }
}
