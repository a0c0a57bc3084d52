//! kselftest's runner, out of the source of the newest series: what runs the kernel's own tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::build::{self, Take};
use super::{NEWEST, Spec, tree};
use crate::{packages::Group, setup};

/// What is kept of a kernel's source.
const KEPT: [&str; 2] = ["tools/testing/selftests/run_kselftest.sh", "tools/testing/selftests/kselftest"];

fn directory() -> PathBuf {
    injector_build::cache_dir().join("selftests").join(NEWEST.to_string())
}

/// A directory that has the runner where a kernel's source has it; fetched if it is not in the cache. It is kept when a kernel of
/// the series is built, so that the source is fetched once.
pub fn source() -> Result<PathBuf> {
    let directory = directory();
    if !directory.is_dir() {
        setup::packages(&[Group::Source])?;
        let spec = Spec::plain(NEWEST);
        let (source, archive) = spec.source()?;
        in_place(&directory, |beside| build::unpack_source(&spec, &source, archive, Take::Only(&KEPT), beside))?;
    }
    Ok(directory)
}

/// Keeps the runner of a source that is unpacked, if it is of the newest series and nothing is kept yet.
pub fn keep(spec: &Spec, work: &Path) -> Result<()> {
    let directory = directory();
    if !spec.is_of(NEWEST) || directory.is_dir() {
        return Ok(());
    }
    in_place(&directory, |beside| KEPT.iter().try_for_each(|name| tree::copy_any(&work.join(name), &beside.join(name))))
}

/// Fills a directory beside the final place, which appears when all is there.
fn in_place(directory: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = directory.parent().context("the cache has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    let beside = tempfile::tempdir_in(parent).with_context(|| format!("can't write in {}", parent.display()))?;
    fill(beside.path())?;
    let beside = beside.keep();
    match fs::rename(&beside, directory) {
        // Another process was faster.
        Err(_) if directory.is_dir() => fs::remove_dir_all(&beside).context("can't remove what is there twice"),
        result => result.with_context(|| format!("can't move the runner to {}", directory.display())),
    }
}
