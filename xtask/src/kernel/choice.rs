//! Which kernel a guest boots: one that the project builds, Debian's stock kernel, or the user's own image.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use injector_kernels::{InstalledKernel, Stock, hooks, stock};

use super::{Kernel, NEWEST, Spec};
use crate::guest_root::{Contents, Distribution};
use crate::module;
use crate::packages::Group;
use crate::setup;

/// A kernel by name or path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelChoice {
    Guest(Spec),
    Stock(Stock),
    Image(PathBuf),
}

/// A kernel that is there.
#[derive(Debug, Clone)]
pub struct Found {
    /// What boots.
    pub image: PathBuf,
    /// If it is one of ours.
    pub built: Option<Kernel>,
    /// If it is a distribution's.
    installed: Option<InstalledKernel>,
}

impl KernelChoice {
    /// Debian's stock kernel of the newest series: it is there within half a minute.
    pub fn stock() -> Self {
        Self::Stock(NEWEST.into())
    }

    /// A kernel of the project's own that is not in the cache.
    pub fn is_to_be_built(&self) -> bool {
        matches!(self, KernelChoice::Guest(spec) if spec.cached().is_none())
    }

    /// The kernel, built or fetched if it is not there.
    pub fn find(&self) -> Result<Found> {
        let (image, built, installed) = match self {
            KernelChoice::Guest(spec) => {
                let kernel = spec.build()?;
                (kernel.image(), Some(kernel), None)
            }
            KernelChoice::Stock(stock) => {
                setup::packages(&[Group::Headers])?;
                let kernel = stock.get(&say)?;
                (kernel.image.clone(), None, Some(kernel))
            }
            KernelChoice::Image(path) => (path.clone(), Kernel::of_image(path), InstalledKernel::of_image(path)),
        };
        Ok(Found { image, built, installed })
    }
}

impl Found {
    /// What a guest's root gets of it: the test modules, and a distribution's modules with injector_hooks among them.
    pub fn contents(&self) -> Result<Contents> {
        let mut contents = self.contents_without_tests()?;
        if let Some((kernel, tree)) = self.installed.as_ref().and_then(|kernel| Some((kernel, kernel.build.as_ref()?)))
        {
            let kept = injector_kernels::cache_dir().join("hooks").join(&kernel.release);
            contents.modules = module::build_for(tree, &kept)?;
        }
        Ok(contents)
    }

    /// The same without the test modules, where those of a distribution's kernel would have to be built.
    pub fn contents_without_tests(&self) -> Result<Contents> {
        let Self { image: _, built, installed } = self;
        let modules = built.as_ref().map(module::build).transpose()?.unwrap_or_default();
        let distribution = installed.as_ref().map(|kernel| -> Result<Distribution> {
            let modules = kernel.build.is_some().then(|| hooks::modules_of(kernel, &say)).transpose()?;
            Ok(Distribution { kernel: kernel.clone(), modules })
        });
        Ok(Contents { modules, distribution: distribution.transpose()?, ..Contents::default() })
    }

    /// The words for its command line.
    pub fn words(&self) -> Vec<String> {
        self.installed.as_ref().map(InstalledKernel::words).unwrap_or_default()
    }
}

fn say(text: &str) {
    eprintln!("kernel: {text}");
}

impl Default for KernelChoice {
    fn default() -> Self {
        Self::Guest(Spec::default())
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelChoice::Guest(spec) => spec.fmt(f),
            KernelChoice::Stock(stock) => stock.fmt(f),
            KernelChoice::Image(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for KernelChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if stock::is_meant(text) {
            return text.parse().map(Self::Stock);
        }
        match text.parse() {
            Ok(spec) => Ok(Self::Guest(spec)),
            Err(_) if PathBuf::from(text).is_file() => Ok(Self::Image(text.into())),
            Err(error) => {
                Err(format!("{error}; and there is no such file, which would be taken as an image (bzImage)"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kernel_is_a_name_or_a_file() {
        assert_eq!("7.3".parse(), Ok(KernelChoice::Guest(Spec::default())));
        assert_eq!("debian:6.12".parse(), Ok(KernelChoice::Stock("debian:6.12".parse().unwrap())));
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("bzImage");
        fs::write(&image, "").unwrap();
        assert_eq!(image.to_str().unwrap().parse(), Ok(KernelChoice::Image(image)));
        let error = "6.99-fast".parse::<KernelChoice>().unwrap_err();
        assert!(error.contains("names no kernel") && error.contains("no such file"), "{error}");
        assert!("debian:6".parse::<KernelChoice>().unwrap_err().contains("no stock kernel"));
    }
}
