//! Which guest kernel: how it is named, and what it is built from.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use injector_kernels::archive::Archive;
use injector_kernels::sources::{Offer, Offers};
use injector_kernels::{Series, Version, fnv1a};

use super::fragment::Fragment;
use super::{Kernel, build, kernels_dir};
use crate::packages::{self, Group};
use crate::setup;

const BASE_CONFIG: &str = include_str!("../../kernel/base.config");
const BEFORE_5_18_CONFIG: &str = include_str!("../../kernel/before-5.18.config");
const DEBUG_CONFIG: &str = include_str!("../../kernel/debug.config");
const HEAVY_CONFIG: &str = include_str!("../../kernel/heavy.config");
const NO_OVERRIDE_CONFIG: &str = include_str!("../../kernel/no-override.config");

/// The newest series that the tests know: guests have it by default, and a test run begins with it. It is written down here: a
/// test run must not use another kernel because Debian has a new one.
pub const NEWEST: Series = Series::new(7, 3);
/// The one between the newest and the oldest.
pub const MIDDLE: Series = Series::new(6, 12);
/// The oldest one.
pub const OLDEST: Series = Series::new(6, 1);

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

/// Which source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// The newest that Debian has released.
    Newest,
    /// The newest of a series: the installed source, else a kernel that is built already, else what Debian has.
    NewestOf(Series),
    Exactly(Version),
}

/// Which guest kernel: `7.3`, `6.12-debug`, `6.12.107-1~deb12u1`, `newest`…
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    wanted: Wanted,
    variant: Variant,
    fragment: Option<Fragment>,
}

/// Where a kernel's source comes from.
#[derive(Debug)]
pub enum Source {
    /// From a package that is installed: its tarball.
    Installed(Version, PathBuf),
    /// From Debian's archive.
    Archive(Offer),
}

impl Source {
    pub fn version(&self) -> &Version {
        match self {
            Source::Installed(version, _) => version,
            Source::Archive(offer) => &offer.version,
        }
    }
}

impl Spec {
    /// The newest kernel of a series, without extra checks.
    pub fn plain(series: Series) -> Self {
        Self { wanted: Wanted::NewestOf(series), variant: Variant::Plain, fragment: None }
    }

    /// Whether it is of this series for sure.
    pub fn is_of(&self, series: Series) -> bool {
        match &self.wanted {
            Wanted::Newest => false,
            Wanted::NewestOf(wanted) => *wanted == series,
            Wanted::Exactly(version) => version.series() == series,
        }
    }

    /// With options of the user's added.
    pub fn with(self, fragment: Option<Fragment>) -> Self {
        Self { fragment, ..self }
    }

    pub fn fragment(&self) -> Option<&Fragment> {
        self.fragment.as_ref()
    }

    /// The project's own options.
    pub fn own_config(&self, series: Series) -> String {
        let mut text = format!("{BASE_CONFIG}\n{}", self.variant.config());
        if series < Series::new(5, 18) {
            text.push_str(BEFORE_5_18_CONFIG);
        }
        text
    }

    /// All options.
    pub fn config(&self, series: Series) -> String {
        let mut text = self.own_config(series);
        if let Some(fragment) = &self.fragment {
            text.push('\n');
            text.push_str(&fragment.text);
        }
        text
    }

    /// Ends the name of this kernel's directory: changes with everything that makes another kernel of the same source.
    fn config_hash(&self, series: Series) -> String {
        let mut text = self.config(series);
        text.push_str(build::RECIPE);
        format!("{:016x}", fnv1a(text.as_bytes()))
    }

    fn directory(&self, version: &Version) -> PathBuf {
        kernels_dir().join(format!("{version}-{}", self.config_hash(version.series())))
    }

    /// A built kernel in the cache. Of a series: that of the installed source, or if no source is installed the newest.
    pub fn cached(&self) -> Option<Kernel> {
        let directory = match &self.wanted {
            // Only Debian knows.
            Wanted::Newest => return None,
            Wanted::Exactly(version) => self.directory(version),
            Wanted::NewestOf(series) => match installed(*series) {
                Some(Source::Installed(version, _)) => self.directory(&version),
                _ => self.newest_built(*series)?,
            },
        };
        directory.is_dir().then_some(Kernel { directory })
    }

    fn newest_built(&self, series: Series) -> Option<PathBuf> {
        let ending = format!("-{}", self.config_hash(series));
        let entries = fs::read_dir(kernels_dir()).ok()?.flatten().map(|entry| entry.file_name());
        let version = |name: String| name.strip_suffix(&ending)?.parse::<Version>().ok();
        let built = entries.filter_map(|name| version(name.to_string_lossy().into_owned()));
        built.filter(|version| version.series() == series).max().map(|version| self.directory(&version))
    }

    /// The kernel, built if it is not in the cache.
    pub fn build(&self) -> Result<Kernel> {
        if let Some(kernel) = self.cached() {
            return Ok(kernel);
        }
        let (source, archive) = self.source()?;
        let directory = self.directory(source.version());
        if !directory.is_dir() {
            setup::packages(&[Group::Kernel])?;
            build::build(self, &source, archive, &directory)?;
        }
        Ok(Kernel { directory })
    }

    /// Finds the source, in the archive if it is not installed.
    pub fn source(&self) -> Result<(Source, Option<Archive>)> {
        let here = match &self.wanted {
            Wanted::Newest => None,
            Wanted::NewestOf(series) => installed(*series),
            Wanted::Exactly(version) => installed(version.series()).filter(|source| source.version() == version),
        };
        if let Some(source) = here {
            return Ok((source, None));
        }
        let archive = Archive::open()?;
        let offers = Offers::ask(&archive)?;
        let offer = match &self.wanted {
            Wanted::Newest => offers.newest(),
            Wanted::NewestOf(series) => offers.newest_of(*series),
            Wanted::Exactly(version) => offers.exactly(version),
        }?;
        offers.warn();
        Ok((Source::Archive(offer.clone()), Some(archive)))
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self::plain(NEWEST)
    }
}

/// The source of a series that a package of this machine has.
fn installed(series: Series) -> Option<Source> {
    let tarball = PathBuf::from(series.source_tarball());
    let version = packages::version(&series.source_package())?.parse().ok()?;
    tarball.is_file().then_some(Source::Installed(version, tarball))
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wanted {
            Wanted::Newest => f.write_str("newest")?,
            Wanted::NewestOf(series) => series.fmt(f)?,
            Wanted::Exactly(version) => version.fmt(f)?,
        }
        f.write_str(self.variant.ending())
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let variants = Variant::ALL.into_iter().filter(|variant| text.ends_with(variant.ending()));
        let variant = variants.max_by_key(|variant| variant.ending().len()).unwrap_or(Variant::Plain);
        let source = text.strip_suffix(variant.ending()).unwrap_or(text);
        let wanted = match (source, source.parse(), source.parse()) {
            ("newest", _, _) => Wanted::Newest,
            (_, Ok(series), _) => Wanted::NewestOf(series),
            (_, _, Ok(version)) => Wanted::Exactly(version),
            _ => {
                return Err(format!(
                    "{text:?} names no kernel: write a series ({NEWEST}, {MIDDLE}, {OLDEST}), newest, or a Debian version \
                     (6.12.117-1~deb12u1), and -debug, -heavy or -no-override after it"
                ));
            }
        };
        Ok(Self { wanted, variant, fragment: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "7.3",
            "6.12",
            "6.1-debug",
            "6.12-heavy",
            "6.12-no-override",
            "newest",
            "newest-debug",
            "6.12.107-1~deb12u1",
            "6.12.107-1~deb12u1-no-override",
            "7.3.4-1~bpo13+1-debug",
        ] {
            assert_eq!(name.parse::<Spec>().unwrap().to_string(), name);
        }
        for name in ["6.12-", "6.12-fast", "", "6", "6.12.107", "oldest", "6.12-debug-debug", "-debug"] {
            let error = name.parse::<Spec>().unwrap_err();
            assert!(error.contains("7.3, 6.12, 6.1"), "{error}");
        }
    }

    #[test]
    fn another_config_is_another_directory() {
        let series = Series::new(6, 12);
        let hash = |name: &str| name.parse::<Spec>().unwrap().config_hash(series);
        let plain = hash("6.12");
        assert_ne!(plain, hash("6.12-debug"));
        let fragment = Fragment { name: "f".to_owned(), text: "CONFIG_A=y\n".to_owned() };
        assert_ne!(plain, Spec::plain(series).with(Some(fragment)).config_hash(series));
        // However it was named.
        assert_eq!(plain, hash("6.12.117-1~deb12u1"));
        let directory = Spec::plain(series).directory(&"6.12.1-1".parse().unwrap());
        assert!(directory.ends_with(format!("6.12.1-1-{plain}")));
    }

    #[test]
    fn old_kernels_need_an_option_for_btf() {
        let spec = Spec::plain(Series::new(5, 10));
        assert!(spec.config(Series::new(5, 10)).contains("\nCONFIG_DEBUG_INFO=y\n"));
        assert!(!spec.config(OLDEST).contains("\nCONFIG_DEBUG_INFO=y\n"));
    }
}
