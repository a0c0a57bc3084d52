//! The tests of deploy/kselftest as a kselftest collection: a tarball in the layout of an installed kselftest.
//!
//! An installed kselftest has `run_kselftest.sh`, its runner in `kselftest/`, the list of all tests in `kselftest-list.txt`, and a
//! directory for each collection. With a runner the tarball is a whole one, as LAVA and tuxrun fetch it. Without, it has the
//! collection alone, and its list in the collection's directory: unpacked into an installed kselftest it must not replace the list
//! of the other collections.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// The collection's name, and its directory.
const COLLECTION: &str = "injector";
/// Where the tests are in the project.
const SOURCES: &str = "deploy/kselftest";
/// Is sourced by the tests.
const SHARED: &str = "common.sh";
const LIST: &str = "kselftest-list.txt";
/// In a kernel's source.
const SELFTESTS: &str = "tools/testing/selftests";
/// What starts the runner.
const START: &str = "run_kselftest.sh";

/// The runner of a kernel's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    selftests: PathBuf,
}

impl Runner {
    /// That of a kernel's source tree.
    pub fn in_tree(tree: &str) -> Result<Self, String> {
        let selftests = Path::new(tree).join(SELFTESTS);
        for name in [START, "kselftest/runner.sh"] {
            if !selftests.join(name).is_file() {
                return Err(format!(
                    "{tree} has no {SELFTESTS}/{name}; name the top directory of a kernel's source, of 5.10 or newer"
                ));
            }
        }
        Ok(Self { selftests })
    }

    /// What `make install` of kselftest installs of it: paths here, and in the tarball.
    fn files(&self) -> Result<Vec<(PathBuf, String)>> {
        let directory = self.selftests.join("kselftest");
        let entries = fs::read_dir(&directory).with_context(|| format!("can't read {}", directory.display()))?;
        let mut files = vec![(self.selftests.join(START), START.to_owned())];
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push((entry.path(), format!("kselftest/{}", entry.file_name().to_string_lossy())));
            }
        }
        Ok(files)
    }
}

/// Packs the collection with this program, and the runner if there is one.
pub fn pack(injector: &Path, runner: Option<&Runner>, output: &Path) -> Result<()> {
    let stage = tempfile::tempdir().context("can't make a temporary directory")?;
    let sources = process::workspace().join(SOURCES);
    let mut names = Vec::new();
    for entry in fs::read_dir(&sources).with_context(|| format!("can't read {}", sources.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in &names {
        place(&sources.join(name), stage.path(), &format!("{COLLECTION}/{name}"))?;
    }
    place(injector, stage.path(), &format!("{COLLECTION}/injector"))?;
    for (from, to) in runner.map(Runner::files).transpose()?.unwrap_or_default() {
        place(&from, stage.path(), &to)?;
    }
    let list = stage.path().join(list_place(runner.is_some()));
    fs::write(&list, list_text(&names)).with_context(|| format!("can't write {}", list.display()))?;
    // What is in it alone decides on the bytes of the tarball: no owner, no time, no order of this machine.
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"])
        .args(["--use-compress-program=gzip -n", "--file"])
        .arg(output)
        .arg("--directory")
        .arg(stage.path());
    // Named, so that `.` is not among them: unpacking changes no directory that is there.
    let mut entries: Vec<_> = fs::read_dir(stage.path())?.flatten().map(|entry| entry.file_name()).collect();
    entries.sort();
    process::run(tar.args(entries))
}

/// Copies a file; programs and scripts can be executed, whatever mode this checkout has.
fn place(from: &Path, stage: &Path, name: &str) -> Result<()> {
    let to = stage.join(name);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    }
    fs::copy(from, &to).with_context(|| format!("can't copy {}", from.display()))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(mode(name)))
        .with_context(|| format!("can't set the mode of {}", to.display()))
}

fn mode(name: &str) -> u32 {
    let name = name.rsplit('/').next().unwrap_or(name);
    let plain = ["config", "settings", SHARED].contains(&name);
    if plain { 0o644 } else { 0o755 }
}

fn list_place(whole: bool) -> String {
    if whole { LIST.to_owned() } else { format!("{COLLECTION}/{LIST}") }
}

/// The tests among the collection's files, as the runner reads them.
fn list_text(names: &[String]) -> String {
    let tests = names.iter().filter(|name| name.ends_with(".sh") && *name != SHARED);
    tests.map(|name| format!("{COLLECTION}:{name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(tarball: &Path) -> Vec<String> {
        let text = process::output(Command::new("tar").arg("--list").arg("--verbose").arg("--file").arg(tarball));
        let line = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            format!("{} {}", words.next().unwrap_or_default(), words.next_back().unwrap_or_default())
        };
        text.unwrap().lines().map(line).collect()
    }

    /// A tree with nothing but a runner.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let runner = tree.path().join(SELFTESTS).join("kselftest");
        fs::create_dir_all(&runner).unwrap();
        fs::write(runner.join("runner.sh"), "").unwrap();
        fs::write(tree.path().join(SELFTESTS).join(START), "").unwrap();
        tree
    }

    #[test]
    fn it_has_the_layout_of_an_installed_kselftest() {
        let directory = tempfile::tempdir().unwrap();
        let (program, output) = (directory.path().join("program"), directory.path().join("x.tar.gz"));
        fs::write(&program, "program").unwrap();
        pack(&program, None, &output).unwrap();
        let own = [
            "drwxr-xr-x injector/",
            "-rwxr-xr-x injector/check.sh",
            "-rw-r--r-- injector/common.sh",
            "-rw-r--r-- injector/config",
            "-rwxr-xr-x injector/count.sh",
            "-rwxr-xr-x injector/injector",
        ];
        let rest = ["-rw-r--r-- injector/settings", "-rwxr-xr-x injector/sweep.sh"];
        let alone = [&own[..], &["-rw-r--r-- injector/kselftest-list.txt"], &rest].concat();
        assert_eq!(listed(&output), alone);
        let again = directory.path().join("again.tar.gz");
        pack(&program, None, &again).unwrap();
        assert_eq!(fs::read(&output).unwrap(), fs::read(&again).unwrap(), "not the same bytes each time");
        let tree = tree();
        let runner = Runner::in_tree(tree.path().to_str().unwrap()).unwrap();
        pack(&program, Some(&runner), &output).unwrap();
        let runner = [
            "drwxr-xr-x kselftest/",
            "-rwxr-xr-x kselftest/runner.sh",
            "-rw-r--r-- kselftest-list.txt",
            "-rwxr-xr-x run_kselftest.sh",
        ];
        assert_eq!(listed(&output), [&own[..], &rest, &runner].concat());
    }

    #[test]
    fn the_list_names_tests_only() {
        let names = ["check.sh", "common.sh", "config", "sweep.sh"].map(str::to_owned);
        assert_eq!(list_text(&names), "injector:check.sh\ninjector:sweep.sh\n");
    }

    #[test]
    fn a_directory_that_is_no_source_is_refused() {
        let error = Runner::in_tree("/nonexistent").unwrap_err();
        assert!(error.contains("/nonexistent has no tools/testing/selftests/run_kselftest.sh"), "{error}");
    }

    /// A kernel with these options is one that the project's tests run on.
    #[test]
    fn the_options_are_those_of_the_guest_kernels() {
        let config = fs::read_to_string(process::workspace().join(SOURCES).join("config")).unwrap();
        let guest = include_str!("../../kernel/base.config");
        for option in config.lines() {
            assert!(guest.lines().any(|line| line == option), "{option}");
        }
    }
}
