//! `cargo xtask kernel`: builds a guest kernel from Debian's source, once.

mod build;
mod tree;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;

use crate::packages::{self, Group};
use crate::setup;

const BASE_CONFIG: &str = include_str!("../kernel/base.config");
const DEBUG_CONFIG: &str = include_str!("../kernel/debug.config");
const HEAVY_CONFIG: &str = include_str!("../kernel/heavy.config");
const NO_OVERRIDE_CONFIG: &str = include_str!("../kernel/no-override.config");

/// A Debian source package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    V6_1,
    V6_12,
}

impl Series {
    pub fn number(self) -> &'static str {
        match self {
            Series::V6_1 => "6.1",
            Series::V6_12 => "6.12",
        }
    }

    pub fn source_package(self) -> String {
        format!("linux-source-{}", self.number())
    }

    pub fn source_tarball(self) -> &'static str {
        match self {
            Series::V6_1 => "/usr/src/linux-source-6.1.tar.xz",
            Series::V6_12 => "/usr/src/linux-source-6.12.tar.xz",
        }
    }
}

/// What is added to the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// It checks itself, as much as emulation affords.
    Debug,
    /// It checks itself.
    Heavy,
    /// kprobes can't replace calls.
    NoOverride,
}

impl Variant {
    const ALL: [Self; 4] = [Self::Plain, Self::Debug, Self::Heavy, Self::NoOverride];

    /// After the kernel's number.
    fn ending(self) -> &'static str {
        match self {
            Variant::Plain => "",
            Variant::Debug => "-debug",
            Variant::Heavy => "-heavy",
            Variant::NoOverride => "-no-override",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Variant::Plain => "",
            Variant::Debug => DEBUG_CONFIG,
            Variant::Heavy => HEAVY_CONFIG,
            Variant::NoOverride => NO_OVERRIDE_CONFIG,
        }
    }
}

/// Which guest kernel: `6.12`, `6.1`, `6.12-debug`…
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    series: Series,
    variant: Variant,
}

impl Spec {
    /// Without extra checks.
    pub fn plain(series: Series) -> Self {
        Self { series, variant: Variant::Plain }
    }

    fn config(self) -> String {
        format!("{BASE_CONFIG}\n{}", self.variant.config())
    }

    /// Ends the name of this kernel's directory: changes with everything that makes another kernel of the same source.
    fn config_hash(self) -> String {
        let mut text = self.config();
        text.push_str(build::RECIPE);
        format!("{:016x}", fnv1a(text.as_bytes()))
    }

    /// A built kernel in the cache: of the installed source, or if no source is installed the newest.
    pub fn cached(self) -> Option<Kernel> {
        let directory = match packages::version(&self.series.source_package()) {
            Some(version) => kernels_dir().join(self.key(&version)),
            None => {
                let suffix = format!("-{}", self.config_hash());
                let prefix = format!("{}.", self.series.number());
                let mut found: Vec<_> = fs::read_dir(kernels_dir())
                    .ok()?
                    .flatten()
                    .filter(|entry| {
                        let name = entry.file_name().to_string_lossy().into_owned();
                        name.starts_with(&prefix) && name.ends_with(&suffix)
                    })
                    .collect();
                found.sort_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
                found.pop()?.path()
            }
        };
        directory.is_dir().then_some(Kernel { directory })
    }

    fn key(self, source_version: &str) -> String {
        format!("{source_version}-{}", self.config_hash())
    }

    /// The kernel, built if it is not in the cache.
    pub fn build(self) -> Result<Kernel> {
        if let Some(kernel) = self.cached() {
            return Ok(kernel);
        }
        setup::packages(&[Group::Kernel(self.series)])?;
        let Some(version) = packages::version(&self.series.source_package()) else {
            bail!("{} is not installed by dpkg, and only its version names the kernel", self.series.source_package());
        };
        let directory = kernels_dir().join(self.key(&version));
        build::build(self, &directory)?;
        Ok(Kernel { directory })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.series.number(), self.variant.ending())
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let series = [Series::V6_1, Series::V6_12].into_iter();
        let mut specs = series.flat_map(|series| Variant::ALL.map(|variant| Self { series, variant }));
        specs.find(|spec| spec.to_string() == text).ok_or_else(|| {
            format!("no guest kernel {text}: there are 6.12 and 6.1, and each with -debug, -heavy or -no-override")
        })
    }
}

/// A built kernel. Its directory is complete: it gets its name when everything is in it.
#[derive(Debug, Clone)]
pub struct Kernel {
    directory: PathBuf,
}

impl Kernel {
    /// What QEMU boots.
    pub fn image(&self) -> PathBuf {
        self.directory.join("bzImage")
    }

    /// With debug information.
    pub fn vmlinux(&self) -> PathBuf {
        self.directory.join("vmlinux")
    }

    /// The tree that external modules are built against.
    pub fn tree(&self) -> PathBuf {
        self.directory.join("build")
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn kernels_dir() -> PathBuf {
    injector_build::cache_dir().join("kernels")
}

/// FNV-1a: for names that must not change with the Rust release, as `DefaultHasher`'s may.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[derive(Debug, Args)]
pub struct Verb {
    /// Which: 6.12 or 6.1; with -debug (KASAN, kmemleak, sleep-in-atomic), -heavy (all checks) or -no-override
    /// (kprobes can't replace calls)
    #[arg(value_name = "KERNEL", default_value = "6.12")]
    spec: Spec,
}

impl Verb {
    pub fn run(&self) -> Result<()> {
        let kernel = self.spec.build()?;
        println!("image    {}", kernel.image().display());
        println!("vmlinux  {}", kernel.vmlinux().display());
        println!("modules  make -C {} M=DIR modules", kernel.tree().display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["6.12", "6.1", "6.12-debug", "6.1-debug", "6.12-heavy", "6.12-no-override"] {
            assert_eq!(name.parse::<Spec>().unwrap().to_string(), name);
        }
        for name in ["6.13", "6.12-", "6.12-fast", "", "6"] {
            let error = name.parse::<Spec>().unwrap_err();
            assert!(error.contains("6.12 and 6.1"), "{error}");
        }
    }

    #[test]
    fn another_config_is_another_directory() {
        let plain: Spec = "6.12".parse().unwrap();
        let debug: Spec = "6.12-debug".parse().unwrap();
        assert_ne!(plain.config_hash(), debug.config_hash());
        assert_eq!(plain.key("6.12.1-1"), format!("6.12.1-1-{}", plain.config_hash()));
    }

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
