//! The Debian package, by cargo-deb: what is in it is in injector/Cargo.toml.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Documents;
use crate::process;
use crate::static_build;

/// Beside the program, where cargo-deb finds what Cargo.toml calls target/release.
const DOCUMENTS: &str = "injector-documents";

/// Packs the program that is built already, and its documents.
pub fn build(cargo_deb: &Path, injector: &Path, documents: &Documents, output: &Path) -> Result<()> {
    let beside = injector.parent().context("a program has a directory")?.join(DOCUMENTS);
    if beside.exists() {
        fs::remove_dir_all(&beside).with_context(|| format!("can't remove {}", beside.display()))?;
    }
    fs::create_dir_all(&beside).with_context(|| format!("can't make {}", beside.display()))?;
    let pages = copied(&documents.manual, &beside)?;
    copied(&documents.completions, &beside)?;
    // cargo-deb compresses no page that it takes for a result of the build.
    process::run(Command::new("gzip").args(["--best", "--no-name"]).args(&pages))?;
    let mut command = Command::new(cargo_deb);
    command
        .current_dir(process::workspace())
        .args(["--package", "injector", "--target", static_build::TARGET, "--no-build", "--strip", "--quiet"])
        .arg("--output")
        .arg(output);
    if let Some(maintainer) = maintainer(|name| std::env::var(name).ok()) {
        command.args(["--maintainer", &maintainer]);
    }
    process::run(&mut command)
}

/// Copies all files of a directory into another one; the copies.
fn copied(from: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    let copy = |path: PathBuf| -> Result<PathBuf> {
        let place = to.join(path.file_name().context("a file has a name")?);
        fs::copy(&path, &place).with_context(|| format!("can't copy {}", path.display()))?;
        Ok(place)
    };
    super::files(from)?.into_iter().map(copy).collect()
}

/// Who packs it, as Debian's tools take it from the environment.
fn maintainer(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let address = variable("DEBEMAIL")?;
    Some(match variable("DEBFULLNAME") {
        Some(name) => format!("{name} <{address}>"),
        None => address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maintainer_is_the_one_of_debians_tools() {
        let with = |variables: &'static [(&str, &str)]| {
            maintainer(move |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[("DEBEMAIL", "a@b.c"), ("DEBFULLNAME", "A")]).as_deref(), Some("A <a@b.c>"));
        assert_eq!(with(&[("DEBEMAIL", "A <a@b.c>")]).as_deref(), Some("A <a@b.c>"));
        assert_eq!(with(&[]), None);
    }

    /// After `cargo xtask dist`: `cargo test -p xtask by_hand_the_package -- --ignored`.
    #[test]
    #[ignore = "looks at what cargo xtask dist made"]
    fn by_hand_the_package_has_everything() {
        let files = super::super::files(&process::target_dir().join("dist")).expect("cargo xtask dist was run");
        let package = files.iter().find(|path| path.extension().is_some_and(|ending| ending == "deb")).unwrap();
        let listed = process::output(Command::new("dpkg-deb").arg("--contents").arg(package)).unwrap();
        for (mode, path) in [
            ("-rwxr-xr-x", "usr/bin/injector"),
            ("-rw-r--r--", "usr/share/man/man1/injector.1.gz"),
            ("-rw-r--r--", "usr/share/man/man1/injector-sweep.1.gz"),
            ("-rw-r--r--", "usr/share/man/man1/injector-module-install.1.gz"),
            ("-rw-r--r--", "usr/share/bash-completion/completions/injector"),
            ("-rw-r--r--", "usr/share/zsh/vendor-completions/_injector"),
            ("-rw-r--r--", "usr/share/fish/vendor_completions.d/injector.fish"),
            ("-rw-r--r--", "usr/lib/systemd/system/injector@.service"),
            ("-rw-r--r--", "usr/share/doc/injector/copyright"),
        ] {
            let line = listed.lines().find(|line| line.ends_with(&format!(" ./{path}")));
            assert!(line.is_some_and(|line| line.starts_with(&format!("{mode} 0/0 "))), "{path}: {line:?}");
        }
    }
}
