//! Builds the kernel modules for a guest kernel: those of the tests, and injector_hooks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use injector_kernels::hooks;
use injector_kernels::kbuild::{self, Sources};

use crate::kernel::Kernel;
use crate::packages::Group;
use crate::process;
use crate::setup;

/// The module by which the injector hooks.
pub const HOOKS_FILE: &str = hooks::FILE;

/// What Kbuild makes of tests/module.
const NAMES: [&str; 2] = ["injector_test.ko", "injector_defects.ko"];

/// The modules for `kernel`, built if their sources changed: those of the tests first, then the injector's.
pub fn build(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    setup::packages(&[Group::Module])?;
    all(&kernel.tree(), kernel.directory(), sources()?)
}

/// The same for a kernel with these headers; they are kept below `directory`. Without BTF: this machine's pahole may be older than
/// the kernel.
pub fn build_for(tree: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
    setup::packages(&[Group::Headers])?;
    all(tree, directory, sources()?.without_btf())
}

fn all(tree: &Path, directory: &Path, sources: Sources) -> Result<Vec<PathBuf>> {
    let say = |text: &str| eprintln!("modules: {text}");
    let mut modules = kbuild::cached(tree, &sources, &NAMES, directory, &say)?;
    modules.push(hooks::build(tree, directory, &say)?);
    Ok(modules)
}

fn sources() -> Result<Sources> {
    Sources::read(&process::workspace().join("tests/module"))
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
