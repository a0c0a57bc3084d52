//! Debian's stock kernels: image, modules, options and headers of a series, unpacked from Debian's packages below the cache
//! directory. Nothing of them is installed on this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::archive::{Answers, Archive, Lists, Package, SUITES, Suite};
use crate::installed::{self, InstalledKernel};
use crate::version::{Series, Version};
use crate::{bad_input, cache_dir, foreign, shown};

/// Begins the names of directories in which packages are unpacked.
const UNPACKING: &str = "unpacking-";

/// The directory in them that becomes the kernel's.
const ROOT: &str = "root";

/// Before a series' number.
const PREFIX: &str = "debian:";

/// What ends the names of flavours that are none of [`Flavour`].
const REAL_TIME: &str = "-rt-amd64";

/// Which drivers a stock kernel has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// For virtual machines: as the usual one, with fewer drivers.
    #[default]
    Cloud,
    /// The usual one.
    Usual,
}

impl Flavour {
    /// What ends its releases.
    const fn ending(self) -> &'static str {
        match self {
            Self::Cloud => "-cloud-amd64",
            Self::Usual => "-amd64",
        }
    }

    /// Whether a release is one of this flavour.
    fn is_of(self, release: &str) -> bool {
        let others = [Self::Cloud.ending(), REAL_TIME].into_iter().filter(|other| *other != self.ending());
        release.ends_with(self.ending()) && !others.into_iter().any(|other| release.ends_with(other))
    }

    /// How much there is to fetch.
    const fn megabytes(self) -> u32 {
        match self {
            Self::Cloud => 50,
            Self::Usual => 160,
        }
    }
}

/// The suites that had a series when this was written. They are asked first, the others if these do not have it any more.
const HOMES: [(Series, &str); 3] = [
    (Series::new(6, 1), "bookworm-security"),
    (Series::new(6, 12), "bookworm-security"),
    (Series::new(7, 3), "trixie-backports"),
];

/// What begins the names of the packages that a kernel consists of; a number follows.
const PARTS: [&str; 5] = ["linux-base-", "linux-binary-", "linux-modules-", "linux-headers-", "linux-kbuild-"];

/// Debian's stock kernel of a series: `debian:7.3`, for virtual machines, or `debian:7.3-amd64`, with all drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stock {
    /// The series.
    pub series: Series,
    /// Which drivers it has.
    pub flavour: Flavour,
}

impl From<Series> for Stock {
    fn from(series: Series) -> Self {
        Self { series, flavour: Flavour::default() }
    }
}

impl fmt::Display for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = if self.flavour == Flavour::Usual { self.flavour.ending() } else { "" };
        f.pad(&format!("{PREFIX}{}{ending}", self.series))
    }
}

impl FromStr for Stock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.strip_prefix(PREFIX).unwrap_or_default();
        let (series, flavour) = match named.strip_suffix(Flavour::Usual.ending()) {
            Some(series) => (series, Flavour::Usual),
            None => (named, Flavour::Cloud),
        };
        let series = series.parse().map_err(|_| {
            format!("`{text}` names no stock kernel: write debian: and a series, as in debian:7.3, or debian:7.3-amd64 for all drivers")
        })?;
        Ok(Self { series, flavour })
    }
}

/// Whether it is meant to be a [`Stock`] kernel.
#[must_use]
pub fn is_meant(text: &str) -> bool {
    text.starts_with(PREFIX)
}

impl Stock {
    /// The kernel, if it is in the cache already: the newest one of its series.
    #[must_use]
    pub fn cached(self) -> Option<InstalledKernel> {
        let entries = fs::read_dir(self.directory()).ok()?.flatten();
        let versions = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<Version>().ok());
        let newest = versions.filter(|version| version.series() == self.series).max()?;
        kernel_below(&self.directory().join(newest.to_string()))
    }

    /// The kernel, fetched if it is not in the cache. `say` gets a line about what takes place.
    ///
    /// # Errors
    /// [`Missing`](crate::Missing) if this machine has no apt, [`BadInput`](crate::BadInput) if Debian has no such kernel.
    pub fn get(self, say: &dyn Fn(&str)) -> Result<InstalledKernel> {
        if let Some(kernel) = self.cached() {
            return Ok(kernel);
        }
        let archive = Archive::open()?;
        // Somebody else may have had the archive, and fetched it.
        if let Some(kernel) = self.cached() {
            return Ok(kernel);
        }
        say(&format!("{self}: asking Debian's archive"));
        let Offer { suite, version, release, packages } = self.offer(&archive)?;
        say(&format!("{self}: getting {release} ({version}) from {suite}, about {} MB", self.flavour.megabytes()));
        let packages: Vec<String> = packages.iter().map(|(name, version)| format!("{name}={version}")).collect();
        let download = archive.download(suite, &packages)?;
        let place = self.directory().join(version.to_string());
        let work = unpack(&download.files, &release, &place)?;
        let root = work.path().join(ROOT);
        own_library(&archive, suite, &root, say)?;
        match fs::rename(&root, &place) {
            Err(error) if !place.exists() => {
                return Err(error).with_context(|| format!("can't move the kernel to {}", place.display()));
            }
            _ => {}
        }
        kernel_below(&place)
            .with_context(|| format!("Debian's packages of {release} have no kernel that is like the others"))
    }

    fn offer(self, archive: &Archive) -> Result<Offer> {
        let home = HOMES.iter().find(|(series, _)| *series == self.series).map(|(_, suite)| *suite);
        let (first, rest): (Vec<Suite>, Vec<Suite>) = SUITES.into_iter().partition(|suite| home == Some(suite.name()));
        let mut not_served = Vec::new();
        for suites in [first, rest] {
            let asked = archive.ask(&suites, |lists| offer(lists, self))?;
            let Answers { answers, not_served: refused } = asked;
            let offers = answers.into_iter().filter_map(|(suite, offer)| Some(Offer { suite, ..offer? }));
            if let Some(newest) = offers.max_by(|a, b| a.version.cmp(&b.version)) {
                return Ok(newest);
            }
            not_served.extend(refused.into_iter().map(|(suite, why)| format!("{suite} ({why})")));
        }
        let but =
            if not_served.is_empty() { String::new() } else { format!("; not served: {}", not_served.join(", ")) };
        let usual: Vec<String> = HOMES.iter().map(|(series, _)| Self { series: *series, ..self }.to_string()).collect();
        let usual = usual.join(", ");
        Err(bad_input(format!(
            "Debian's archive has no stock kernel {} with headers{but}; there should be {usual}",
            self.series
        )))
    }
}

/// A kernel that a suite has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    suite: &'static str,
    version: Version,
    release: String,
    /// The packages that it consists of, with their versions.
    packages: BTreeMap<String, String>,
}

/// The newest kernel of a series that has headers, too.
fn offer(lists: &Lists, Stock { series, flavour }: Stock) -> Result<Option<Offer>> {
    let names = lists.names(&format!("linux-image-{series}."))?;
    let releases =
        names.iter().filter_map(|name| name.strip_prefix("linux-image-").filter(|release| flavour.is_of(release)));
    let named: Vec<String> = releases.flat_map(|release| [image(release), headers(release)]).collect();
    let known = lists.show(&named)?;
    let Some((version, release)) = newest(&known, series) else { return Ok(None) };
    // What they depend on, and so on.
    let (mut packages, mut wanted) = (BTreeMap::new(), vec![image(&release), headers(&release)]);
    while !wanted.is_empty() {
        let known = lists.show(&wanted)?;
        let found: Vec<&Package> = wanted
            .iter()
            .map(|name| of_version(&known, name, &version).ok_or_else(|| missing_part(&release, name)))
            .collect::<Result<_>>()?;
        wanted =
            found.iter().flat_map(|package| package.depends.iter().filter(|name| is_part(name)).cloned()).collect();
        packages.extend(found.into_iter().map(|package| (package.name.clone(), package.version.clone())));
        wanted.retain(|name| !packages.contains_key(name));
        wanted.sort();
        wanted.dedup();
    }
    Ok(Some(Offer { suite: "", version, release, packages }))
}

/// A package in a kernel's version, else in the newest: tools that all versions of a series share go on before the signed image
/// of theirs is there, and the older ones are gone then.
fn of_version<'a>(known: &'a [Package], name: &str, version: &Version) -> Option<&'a Package> {
    let same = || known.iter().filter(|package| package.name == name);
    let exact = same().find(|package| package.version == version.to_string());
    exact.or_else(|| same().max_by_key(|package| package.version.parse::<Version>().ok()))
}

fn missing_part(release: &str, name: &str) -> anyhow::Error {
    bad_input(format!("linux-image-{release} needs {name}, which its suite does not have"))
}

fn image(release: &str) -> String {
    format!("linux-image-{release}")
}

fn headers(release: &str) -> String {
    format!("linux-headers-{release}")
}

/// The newest version of which there are both packages, with its release.
fn newest(packages: &[Package], series: Series) -> Option<(Version, String)> {
    let has = |name: &str, version: &str| packages.iter().any(|known| known.name == name && known.version == version);
    let complete = packages.iter().filter_map(|package| {
        let release = package.name.strip_prefix("linux-image-")?;
        let version: Version = package.version.parse().ok()?;
        (version.series() == series && has(&headers(release), &package.version)).then(|| (version, release.to_owned()))
    });
    complete.max()
}

/// Whether a kernel consists of this package, too.
fn is_part(name: &str) -> bool {
    PARTS.iter().any(|part| name.strip_prefix(part).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
}

impl Stock {
    /// Where the kernels of its flavour are.
    fn directory(self) -> PathBuf {
        cache_dir().join(match self.flavour {
            Flavour::Cloud => "stock",
            Flavour::Usual => "stock-amd64",
        })
    }
}

/// The one kernel below a directory.
fn kernel_below(root: &Path) -> Option<InstalledKernel> {
    let release = installed::releases(root).into_iter().next()?;
    // Since 7.2 the image is among the modules.
    let images = [format!("usr/lib/modules/{release}/vmlinuz"), format!("boot/vmlinuz-{release}")];
    images.iter().find_map(|image| InstalledKernel::of_image(&root.join(image)))
}

/// Unpacks packages beside `place`, below [`ROOT`]. Their scripts do not run.
fn unpack(packages: &[PathBuf], release: &str, place: &Path) -> Result<TempDir> {
    let above = place.parent().context("a stock kernel's directory has a parent")?;
    fs::create_dir_all(above).with_context(|| format!("can't make {}", above.display()))?;
    // Who unpacks has the archive, so these are of processes that were killed.
    for entry in fs::read_dir(above).with_context(|| format!("can't read {}", above.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNPACKING) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("can't remove {}", entry.path().display()))?;
        }
    }
    let work = tempfile::Builder::new().prefix(UNPACKING).tempdir_in(above);
    let work = work.with_context(|| format!("can't write to {}", above.display()))?;
    let root = work.path().join(ROOT);
    fs::create_dir_all(root.join("usr/lib")).with_context(|| format!("can't make {}", root.display()))?;
    // As on a machine: packages have files in both places.
    symlink("usr/lib", root.join("lib")).with_context(|| format!("can't write to {}", root.display()))?;
    packages.iter().try_for_each(|package| extract(package, &root))?;
    make_relative(&root, release)?;
    installed::depmod(&root, release)?;
    Ok(work)
}

fn extract(package: &Path, root: &Path) -> Result<()> {
    // dpkg-deb would replace the link by a directory; tar does not.
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut child = dpkg.spawn().with_context(|| format!("can't start {}", shown(&dpkg)))?;
    let files = child.stdout.take().context("a child's output is piped")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--file=-", "--directory"]).arg(root);
    let unpacked = tar.stdin(files).status().with_context(|| format!("can't start {}", shown(&tar)))?;
    let read = child.wait()?;
    if !(unpacked.success() && read.success()) {
        bail!("{}: {read}; tar: {unpacked}", shown(&dpkg));
    }
    Ok(())
}

/// Gives the headers' tools the C library of their own Debian, if this machine's is too old for them. It is in the suite that
/// backports and fixes are for.
fn own_library(archive: &Archive, suite: &str, root: &Path, say: &dyn Fn(&str)) -> Result<()> {
    let programs = foreign::find(root)?;
    if programs.is_empty() {
        return Ok(());
    }
    let base = suite.split('-').next().unwrap_or(suite);
    let suites: Vec<Suite> = SUITES.into_iter().filter(|suite| suite.name() == base).collect();
    let library = || vec!["libc6".to_owned()];
    let answers = archive.ask(&suites, |lists| lists.show(&library()))?.answers;
    let known = answers.into_iter().flat_map(|(_, packages)| packages).next();
    let Package { name, version, .. } = known.with_context(|| format!("{base} has no libc6"))?;
    say(&format!(
        "the headers' tools need a newer C library than this machine has: getting {name} {version} from {base}"
    ));
    let download = archive.download(base, &[format!("{name}={version}")])?;
    let place = root.join(foreign::LIBRARY);
    fs::create_dir_all(&place).with_context(|| format!("can't make {}", place.display()))?;
    download.files.iter().try_for_each(|package| extract(package, &place))?;
    foreign::wrap(root, &programs)
}

/// The headers name each other by where they would be installed.
fn make_relative(root: &Path, release: &str) -> Result<()> {
    let headers = root.join("usr/src").join(headers(release));
    for name in ["Makefile", ".kernelvariables"] {
        let path = headers.join(name);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        fs::write(&path, text.replace("/usr/src/", "../"))
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package { name: name.to_owned(), version: version.to_owned(), depends: Vec::new() }
    }

    #[test]
    fn names_round_trip() {
        for text in ["debian:7.3", "debian:7.3-amd64"] {
            assert_eq!(text.parse::<Stock>().unwrap().to_string(), text);
        }
        for text in ["debian:", "debian:7", "debian:7.3.4", "debian:7.3-arm64", "debian:-amd64", "7.3", "ubuntu:6.8"] {
            assert!(text.parse::<Stock>().unwrap_err().contains("as in debian:7.3, or"), "{text}");
        }
        assert!(is_meant("debian:x") && !is_meant("bzImage"));
    }

    #[test]
    fn flavours_are_told_apart() {
        let (cloud, usual, real_time) = ("7.3.4+deb13-cloud-amd64", "7.3.4+deb13-amd64", "7.3.4+deb13-rt-amd64");
        assert_eq!([cloud, usual, real_time].map(|release| Flavour::Cloud.is_of(release)), [true, false, false]);
        assert_eq!([cloud, usual, real_time].map(|release| Flavour::Usual.is_of(release)), [false, true, false]);
    }

    /// bookworm-security keeps images whose headers are gone, and has two series.
    #[test]
    fn only_a_kernel_with_headers_can_be_injected_into() {
        let packages = [
            package("linux-image-6.1.0-55-cloud-amd64", "6.1.192-1"),
            package("linux-headers-6.1.0-55-cloud-amd64", "6.1.192-1"),
            package("linux-image-6.1.0-57-cloud-amd64", "6.1.193-1"),
            package("linux-image-6.12.117+deb12-cloud-amd64", "6.12.117-1~deb12u1"),
            package("linux-headers-6.12.117+deb12-cloud-amd64", "6.12.117-1~deb12u1"),
        ];
        let (version, release) = newest(&packages, Series::new(6, 1)).unwrap();
        assert_eq!((&*version.to_string(), &*release), ("6.1.192-1", "6.1.0-55-cloud-amd64"));
        assert_eq!(newest(&packages, Series::new(7, 3)), None);
    }

    #[test]
    fn tools_of_a_newer_version_do() {
        let known = [
            package("linux-kbuild-6.1", "6.1.176-1"),
            package("linux-kbuild-6.1", "6.1.192-3"),
            package("linux-headers-6.1.0-56-common", "6.1.192-2"),
        ];
        let of = |name, version: &str| {
            of_version(&known, name, &version.parse().unwrap()).map(|package| package.version.clone())
        };
        assert_eq!(of("linux-kbuild-6.1", "6.1.192-2").as_deref(), Some("6.1.192-3"));
        assert_eq!(of("linux-kbuild-6.1", "6.1.176-1").as_deref(), Some("6.1.176-1"));
        assert_eq!(of("linux-headers-6.1.0-56-common", "6.1.192-2").as_deref(), Some("6.1.192-2"));
        assert_eq!(of("linux-base-6.1", "6.1.192-2"), None);
    }

    #[test]
    fn the_parts_of_a_kernel_are_told_from_what_else_it_depends_on() {
        for name in ["linux-kbuild-6.1", "linux-headers-6.1.0-56-common", "linux-base-7.3.4+deb13-cloud-amd64"] {
            assert!(is_part(name), "{name}");
        }
        for name in ["linux-base", "linux-compiler-gcc-12-x86", "linux-initramfs-tool", "kmod"] {
            assert!(!is_part(name), "{name}");
        }
    }
}
