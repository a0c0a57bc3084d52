//! The module as a DKMS package: DKMS builds it for each kernel that is installed, now and later.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use injector_kernels::{find_program, hooks};

use super::{SetupError, file_error};

/// The package's name.
pub const PACKAGE: &str = "injector-hooks";

/// A version of the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    root: PathBuf,
    version: String,
}

impl Package {
    /// This injector's, below `root`.
    #[must_use]
    pub fn of_this_injector(root: &Path) -> Self {
        Self { root: root.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// Its name and version, as dkms writes them.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{PACKAGE}/{}", self.version)
    }

    /// Where DKMS looks for its sources.
    #[must_use]
    pub fn sources(&self) -> PathBuf {
        self.root.join("usr/src").join(format!("{PACKAGE}-{}", self.version))
    }

    /// Writes its sources and its dkms.conf.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self) -> Result<PathBuf, SetupError> {
        let directory = self.sources();
        if directory.exists() {
            file_error(&directory, fs::remove_dir_all(&directory))?;
        }
        file_error(&directory, fs::create_dir_all(&directory))?;
        hooks::sources().write(&directory).map_err(SetupError::Build)?;
        let configuration = directory.join("dkms.conf");
        file_error(&configuration, fs::write(&configuration, self.configuration()))?;
        Ok(directory)
    }

    fn configuration(&self) -> String {
        let Self { root: _, version } = self;
        let name = hooks::NAME;
        format!(
            r#"PACKAGE_NAME="{PACKAGE}"
PACKAGE_VERSION="{version}"
BUILT_MODULE_NAME[0]="{name}"
DEST_MODULE_LOCATION[0]="/updates/dkms"
MAKE[0]="make -C $kernel_source_dir M=$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build CONFIG_DEBUG_INFO_BTF_MODULES= modules"
CLEAN="true"
AUTOINSTALL="yes"
"#
        )
    }

    /// Hands the package to DKMS, which builds it for a kernel and installs it. An earlier build of the same version goes.
    ///
    /// # Errors
    /// There is no dkms, or it fails.
    pub fn install(&self, release: &str) -> Result<(), SetupError> {
        self.forget()?;
        self.dkms(&["add", &self.name()])?;
        self.dkms(&["install", &self.name(), "-k", release])
    }

    /// Whether DKMS has this version.
    #[must_use]
    pub fn is_known(&self) -> bool {
        find_program("dkms").is_some() && self.root.join("var/lib/dkms").join(self.name()).is_dir()
    }

    /// Takes the package from DKMS, with all that was built of it.
    ///
    /// # Errors
    /// dkms fails.
    pub fn forget(&self) -> Result<(), SetupError> {
        if self.is_known() { self.dkms(&["remove", &self.name(), "--all"]) } else { Ok(()) }
    }

    fn dkms(&self, arguments: &[&str]) -> Result<(), SetupError> {
        let program = find_program("dkms").ok_or_else(|| {
            SetupError::Build(injector_kernels::missing(format!(
                "this machine has no dkms; install it and call `dkms install {}`",
                self.name()
            )))
        })?;
        let output = file_error(&program, Command::new(&program).args(arguments).stdin(Stdio::null()).output())?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stderr, output.stdout].concat();
        let said = String::from_utf8_lossy(&said);
        let said = said.lines().map(str::trim).find(|line| line.starts_with("Error")).unwrap_or("it does not say why");
        Err(SetupError::Program(format!("dkms {} failed: {said}", arguments.join(" "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_has_what_dkms_reads() {
        let root = tempfile::tempdir().unwrap();
        let package = Package::of_this_injector(root.path());
        let directory = package.write().unwrap();
        assert_eq!(directory, root.path().join(format!("usr/src/{PACKAGE}-{}", env!("CARGO_PKG_VERSION"))));
        for name in ["dkms.conf", "Kbuild", "main.c"] {
            assert!(directory.join(name).is_file(), "{name}");
        }
        // What an earlier version of the sources had goes.
        fs::write(directory.join("old.c"), "").unwrap();
        package.write().unwrap();
        assert!(!directory.join("old.c").exists());
        assert!(!package.is_known());
    }
}
