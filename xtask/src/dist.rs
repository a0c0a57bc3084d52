//! `cargo xtask dist`: makes what is given to others, in target/dist.

mod deb;
pub mod kselftest;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::packages::Group;
use crate::process;
use crate::setup;
use crate::vm;
use kselftest::Runner;

/// Shells, and the names of their scripts as the shells look for them.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "injector.bash"), ("zsh", "_injector"), ("fish", "injector.fish")];

#[derive(Debug, Args)]
#[command(after_help = "target/dist then has:\n  \
injector                      the program, one static file for x86-64\n  \
man/, completions/            manual pages; completions for bash, zsh and fish\n  \
injector-kselftest.tar.gz     a kselftest collection (docs/kselftest.md)\n  \
injector_VERSION_amd64.deb    a Debian package\n  \
SHA256SUMS                    of all of them\n\n\
DEBFULLNAME and DEBEMAIL name the maintainer of the Debian package.")]
pub struct Dist {
    /// A kernel's source tree: the kselftest tarball gets its runner, and needs no installed kselftest then
    #[arg(long, value_name = "DIR", value_parser = Runner::in_tree)]
    kselftest_source: Option<Runner>,
}

impl Dist {
    pub fn run(&self) -> Result<()> {
        setup::packages(&[Group::Dist])?;
        let injector = vm::injector()?;
        let cargo_deb = setup::cargo_deb()?;
        let directory = process::target_dir().join("dist");
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("can't remove {}", directory.display()))?;
        }
        let program = directory.join("injector");
        let documents = documents(&injector, &directory)?;
        fs::copy(&injector, &program).with_context(|| format!("can't write {}", program.display()))?;
        kselftest::pack(&injector, self.kselftest_source.as_ref(), &directory.join("injector-kselftest.tar.gz"))?;
        deb::build(&cargo_deb, &injector, &documents, &directory)?;
        sums(&directory)?;
        for path in files(&directory)? {
            let size = path.metadata().map_or(0, |data| data.len());
            println!("{:>8} KiB  {}", size.div_ceil(1024), path.display());
        }
        Ok(())
    }
}

/// What the program says of itself.
struct Documents {
    manual: PathBuf,
    completions: PathBuf,
}

/// Has the program write its manual pages and completions.
fn documents(injector: &Path, directory: &Path) -> Result<Documents> {
    let documents = Documents { manual: directory.join("man"), completions: directory.join("completions") };
    for path in [&documents.manual, &documents.completions] {
        fs::create_dir_all(path).with_context(|| format!("can't make {}", path.display()))?;
    }
    process::run(Command::new(injector).arg("manual").arg(&documents.manual))?;
    for (shell, name) in COMPLETIONS {
        let script = process::output(Command::new(injector).args(["completions", shell]))?;
        let path = documents.completions.join(name);
        fs::write(&path, script).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(documents)
}

/// Writes SHA256SUMS, for `sha256sum -c` in the directory.
fn sums(directory: &Path) -> Result<()> {
    let files = files(directory)?;
    let names = files.iter().filter_map(|path| path.strip_prefix(directory).ok());
    let text = process::output(Command::new("sha256sum").args(names).current_dir(directory))?;
    let path = directory.join("SHA256SUMS");
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
}

/// All files below a directory, sorted.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("can't read {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
