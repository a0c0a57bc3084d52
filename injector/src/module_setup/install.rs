//! The module among a kernel's modules, where modprobe finds it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use injector_kernels::{find_program, hooks};

use super::{SetupError, file_error};

/// Where modules go that are not the kernel's own.
const PLACE: &str = "updates";

/// Puts the module to the modules of a kernel below `root`, and makes their index anew.
///
/// # Errors
/// A file can't be written, or there is no depmod.
pub fn place(root: &Path, release: &str, module: &Path) -> Result<PathBuf, SetupError> {
    let directory = root.join("lib/modules").join(release).join(PLACE);
    let place = directory.join(hooks::FILE);
    // What is needed is there before anything is changed.
    let depmod = depmod_program()?;
    file_error(&directory, fs::create_dir_all(&directory))?;
    // At once: a module that is half there would be loaded.
    let new = directory.join(format!(".{}.new", hooks::FILE));
    file_error(&new, fs::copy(module, &new))?;
    file_error(&place, fs::rename(&new, &place))?;
    index(&depmod, root, release)?;
    Ok(place)
}

/// Where the module is installed for a kernel by [`place`].
#[must_use]
pub fn installed(root: &Path, release: &str) -> Option<PathBuf> {
    let place = root.join("lib/modules").join(release).join(PLACE).join(hooks::FILE);
    place.is_file().then_some(place)
}

/// Takes it away again. `false`: it was not there.
///
/// # Errors
/// The file can't be removed, or there is no depmod.
pub fn remove(root: &Path, release: &str) -> Result<bool, SetupError> {
    let Some(place) = installed(root, release) else { return Ok(false) };
    let depmod = depmod_program()?;
    file_error(&place, fs::remove_file(&place))?;
    index(&depmod, root, release)?;
    Ok(true)
}

fn depmod_program() -> Result<PathBuf, SetupError> {
    find_program("depmod").ok_or_else(|| {
        SetupError::Build(injector_kernels::missing(
            "this machine has no depmod, which makes the index of modules; install kmod",
        ))
    })
}

fn index(depmod: &Path, root: &Path, release: &str) -> Result<(), SetupError> {
    let mut command = Command::new(depmod);
    command.arg("-b").arg(root).arg(release).stdin(Stdio::null());
    let output = file_error(depmod, command.output())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it does not say why");
    Err(SetupError::Program(format!("depmod for kernel {release} failed: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_removed_again() {
        if find_program("depmod").is_none() {
            eprintln!("skipped: no depmod here");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let module = root.path().join("built.ko");
        fs::write(&module, "one").unwrap();
        assert!(!remove(root.path(), "6.1").unwrap());
        let place = place(root.path(), "6.1", &module).unwrap();
        assert_eq!(place, root.path().join("lib/modules/6.1/updates/injector_hooks.ko"));
        assert!(root.path().join("lib/modules/6.1/modules.dep").is_file());
        fs::write(&module, "two").unwrap();
        super::place(root.path(), "6.1", &module).unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "two");
        assert_eq!(installed(root.path(), "6.1"), Some(place));
        assert!(remove(root.path(), "6.1").unwrap());
        assert_eq!(installed(root.path(), "6.1"), None);
    }
}
