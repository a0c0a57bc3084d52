//! Builds modules outside of a kernel's tree, with nothing but its build tree or its headers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::compiler::{BuiltBy, Stand};
use crate::{find_program, fnv1a, missing, shown};

/// How many times the build begins anew without options that the compiler does not know.
const ROUNDS: u32 = 4;

/// The files that a module is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Names and contents, in the order of the names.
    files: Vec<(String, Vec<u8>)>,
    btf: bool,
}

impl Sources {
    /// These files.
    pub fn new<N: Into<String>, C: Into<Vec<u8>>>(files: impl IntoIterator<Item = (N, C)>) -> Self {
        let mut files: Vec<_> = files.into_iter().map(|(name, content)| (name.into(), content.into())).collect();
        files.sort();
        Self { files, btf: true }
    }

    /// The module gets no BTF. pahole, which makes it, must be about as new as the kernel.
    #[must_use]
    pub fn without_btf(self) -> Self {
        Self { btf: false, ..self }
    }

    /// The files of a directory. What a build by hand left there is no source.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).with_context(|| format!("can't read {}", directory.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let source = matches!(name.as_str(), "Kbuild" | "Makefile") || name.ends_with(".c") || name.ends_with(".h");
            if source && !name.ends_with(".mod.c") {
                files.push((name, fs::read(&path).with_context(|| format!("can't read {}", path.display()))?));
            }
        }
        Ok(Self::new(files))
    }

    /// Changes with every file.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut text = Vec::new();
        for (name, content) in &self.files {
            text.extend_from_slice(name.as_bytes());
            text.push(0);
            text.extend_from_slice(content);
        }
        fnv1a(&text)
    }

    /// Writes them into a directory that exists.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        for (name, content) in &self.files {
            let path = directory.join(name);
            fs::write(&path, content).with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(())
    }
}

/// The modules `names` (`x.ko`), built for a kernel with this build tree or these headers, unless they are below `kept` already.
/// `say` gets a line about a build that takes place.
///
/// # Errors
/// [`Missing`](crate::Missing) if there is no compiler, or no build tree; otherwise the first error of the build.
pub fn cached(tree: &Path, sources: &Sources, names: &[&str], kept: &Path, say: &dyn Fn(&str)) -> Result<Vec<PathBuf>> {
    let directory = kept.join(format!("module-{:016x}", sources.hash()));
    let modules: Vec<PathBuf> = names.iter().map(|name| directory.join(name)).collect();
    if modules.iter().all(|module| module.is_file()) {
        return Ok(modules);
    }
    say(&format!("building {} for {}", names.join(" and "), tree.display()));
    fs::create_dir_all(kept).with_context(|| format!("can't make {}", kept.display()))?;
    let work = tempfile::Builder::new()
        .prefix("module-building-")
        .tempdir_in(kept)
        .with_context(|| format!("can't write to {}", kept.display()))?;
    let built = build(tree, sources, work.path(), say)?;
    // Only the modules are kept; another process that built the same at the same time made the same files.
    fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
    for (name, module) in names.iter().zip(&modules) {
        fs::rename(built.join(name), module).with_context(|| format!("make left no {name}"))?;
    }
    Ok(modules)
}

/// Builds in `work`, an empty directory, and returns the directory with the modules.
///
/// # Errors
/// As [`cached`].
pub fn build(tree: &Path, sources: &Sources, work: &Path, say: &dyn Fn(&str)) -> Result<PathBuf> {
    if !tree.join("Makefile").is_file() {
        return Err(missing(format!("{} is no build tree or headers of a kernel: it has no Makefile", tree.display())));
    }
    if find_program("make").is_none() {
        return Err(missing("this machine has no make, which builds modules; install make"));
    }
    let (built_by, place, tools) = (BuiltBy::of(tree), work.join("module"), work.join("tools"));
    let mut stand = Stand::find(built_by.as_ref())?;
    fs::create_dir_all(&place).with_context(|| format!("can't make {}", place.display()))?;
    sources.write(&place)?;
    for _ in 0..ROUNDS {
        let mut make = Command::new("make");
        make.arg("-C").arg(tree).arg(format!("M={}", place.display())).arg("modules");
        make.args(built_by.iter().flat_map(BuiltBy::make_arguments));
        if !sources.btf {
            make.arg("CONFIG_DEBUG_INFO_BTF_MODULES=");
        }
        // A jobserver or flags of an outer make are not meant for this one.
        make.env("LC_ALL", "C").env_remove("MAKEFLAGS").env_remove("MFLAGS").stdin(Stdio::null());
        if stand.is_needed() {
            stand.write(&tools)?;
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path = std::env::join_paths(std::iter::once(tools.clone()).chain(std::env::split_paths(&path)));
            make.env("PATH", path.context("PATH")?);
        }
        let output = make.output().with_context(|| format!("can't start {}", shown(&make)))?;
        if output.status.success() {
            if let Some(note) = stand.note(built_by.as_ref()) {
                say(&note);
            }
            return Ok(place);
        }
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !stand.leave_out(&said, built_by.as_ref())? {
            bail!("{}: {}: {}", shown(&make), output.status, first_error(&said));
        }
    }
    bail!("the compiler refuses more and more of the options of {}", tree.display())
}

/// The line of a build's output that says what is wrong.
fn first_error(output: &str) -> &str {
    let errors = output
        .lines()
        .map(str::trim)
        .filter(|line| [" error: ", "error: ", "ERROR: ", "***", "not found"].iter().any(|word| line.contains(word)));
    let mut errors = errors.peekable();
    let first = errors.peek().copied();
    // make's own lines only say that a command failed.
    errors.find(|line| !line.contains("***")).or(first).or_else(|| output.lines().last()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_source_counts() {
        let sources = |files: &[(&str, &str)]| Sources::new(files.iter().copied());
        let one = sources(&[("b.c", "x"), ("Kbuild", "obj-m := b.o")]);
        assert_eq!(one.hash(), sources(&[("Kbuild", "obj-m := b.o"), ("b.c", "x")]).hash());
        assert_ne!(one.hash(), sources(&[("b.c", "y"), ("Kbuild", "obj-m := b.o")]).hash());
        assert_ne!(one.hash(), sources(&[("c.c", "x"), ("Kbuild", "obj-m := b.o")]).hash());
    }

    #[test]
    fn leavings_of_a_build_are_no_sources() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["Kbuild", "a.c", "a.h", "a.mod.c", "a.o", "a.ko", "Module.symvers"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let sources = Sources::read(directory.path()).unwrap();
        let names: Vec<&str> = sources.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Kbuild", "a.c", "a.h"]);
    }

    #[test]
    fn the_first_error_is_the_compilers_and_not_makes() {
        let output = "make: Entering directory\n/w/a.c:1:2: error: expected ';'\nmake[1]: *** [a.o] Error 1\n";
        assert_eq!(first_error(output), "/w/a.c:1:2: error: expected ';'");
        assert_eq!(
            first_error("x\nmake: *** No rule to make target 'modules'.  Stop.\n"),
            "make: *** No rule to make target 'modules'.  Stop."
        );
        assert_eq!(first_error(""), "it said nothing");
    }

    #[test]
    fn a_directory_without_a_makefile_is_no_tree() {
        let directory = tempfile::tempdir().unwrap();
        let work = tempfile::tempdir().unwrap();
        let sources = Sources::new([("Kbuild", "")]);
        let error = build(directory.path(), &sources, work.path(), &|_| ()).unwrap_err();
        assert!(error.is::<crate::Missing>() && error.to_string().ends_with("it has no Makefile"), "{error}");
    }
}
