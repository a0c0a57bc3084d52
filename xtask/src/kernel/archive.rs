//! Debian's archive, for kernel sources of suites that this machine does not use.
//!
//! Each suite has an apt state of the project's own in the cache directory: configuration, lists, packages. The machine's
//! apt is only asked where the archive is; its sources, lists and keys stay as they are. Every list must be signed with
//! Debian's keys, whatever the machine's apt accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::bad_input;
use super::version::{Series, Version};
use crate::process;

/// Signs Debian's suites; from the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How many suites are asked at a time.
const WORKERS: usize = 4;

/// Downloads that an interrupted process left have names that start so.
const DOWNLOAD: &str = "download-";

/// The part of the archive that has a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Main,
    Security,
}

/// Where kernel sources are. No experimental: its kernels are not released.
const SUITES: [(&str, Part); 9] = [
    ("bullseye", Part::Main),
    ("bullseye-security", Part::Security),
    ("bookworm", Part::Main),
    ("bookworm-security", Part::Security),
    ("bookworm-backports", Part::Main),
    ("trixie", Part::Main),
    ("trixie-security", Part::Security),
    ("trixie-backports", Part::Main),
    ("sid", Part::Main),
];

/// The archive's addresses, as the machine's apt has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Mirrors {
    main: Option<String>,
    security: Option<String>,
}

impl Mirrors {
    fn of_this_machine() -> Result<Self> {
        let mut apt = Command::new("apt-get");
        apt.args(["update", "--print-uris"]).env("LC_ALL", "C");
        let mirrors = Self::read(&process::output(&mut apt).context("apt-get can't say where Debian's archive is")?);
        if mirrors.main.is_none() {
            return Err(bad_input(
                "this machine's apt uses no Debian archive (an address that ends with /debian), so there are no kernel \
                 sources but those in /usr/src; install linux-source-VERSION, or give a bzImage's path",
            ));
        }
        Ok(mirrors)
    }

    /// From what `apt-get update --print-uris` prints.
    fn read(text: &str) -> Self {
        let mut mirrors = Self::default();
        for line in text.lines() {
            let Some((address, _)) = line.strip_prefix('\'').and_then(|rest| rest.split_once("/dists/")) else {
                continue;
            };
            let place = match address.rsplit('/').next() {
                Some("debian") => &mut mirrors.main,
                Some("debian-security") => &mut mirrors.security,
                _ => continue,
            };
            place.get_or_insert_with(|| address.to_owned());
        }
        mirrors
    }

    fn of(&self, part: Part) -> Option<&str> {
        match part {
            Part::Main => self.main.as_deref(),
            Part::Security => self.security.as_deref(),
        }
    }
}

/// A source package that a suite has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub version: Version,
    pub suite: &'static str,
}

/// Why a suite's lists can't be used.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// They are not what Debian signed.
    Signature(String),
    /// The archive does not have the suite, or does not answer.
    NotServed(String),
}

/// All source packages of the suites that the archive serves.
#[derive(Debug, Default)]
pub struct Offers {
    offers: Vec<Offer>,
    /// The other suites, and why.
    not_served: Vec<(&'static str, String)>,
}

impl Offers {
    /// Says which suites could not be asked: they might have something newer.
    pub fn warn(&self) {
        for (suite, why) in &self.not_served {
            eprintln!("archive: {suite} is not served: {why}");
        }
    }

    /// The newest kernel of the newest series.
    pub fn newest(&self) -> Result<&Offer> {
        let newest = self.offers.iter().max_by(|a, b| a.version.cmp(&b.version));
        newest.ok_or_else(|| self.nothing())
    }

    fn nothing(&self) -> anyhow::Error {
        bad_input(format!("no kernel source can be had from Debian's archive{}", self.but()))
    }

    pub fn newest_of(&self, series: Series) -> Result<&Offer> {
        let of_series = self.offers.iter().filter(|offer| offer.version.series() == series);
        of_series.max_by(|a, b| a.version.cmp(&b.version)).ok_or_else(|| {
            if self.offers.is_empty() {
                return self.nothing();
            }
            let all: BTreeSet<Series> = self.offers.iter().map(|offer| offer.version.series()).collect();
            bad_input(format!("no kernel {series} in Debian: there are {}{}", list(all.into_iter()), self.but()))
        })
    }

    pub fn exactly(&self, version: &Version) -> Result<&Offer> {
        self.offers.iter().find(|offer| offer.version == *version).ok_or_else(|| {
            let series = version.series();
            let close: BTreeSet<&Version> =
                self.offers.iter().map(|offer| &offer.version).filter(|known| known.series() == series).collect();
            if close.is_empty() {
                return self.newest_of(series).err().unwrap_or_else(|| bad_input(format!("no kernel {version}")));
            }
            let close = list(close.into_iter().rev());
            bad_input(format!("no kernel {version} in Debian: of {series} there are {close}{}", self.but()))
        })
    }

    /// One line for each series: its versions, newest first, with the suites that have them.
    pub fn lines(&self) -> Result<Vec<String>> {
        self.newest()?;
        let mut all: BTreeMap<Series, BTreeMap<&Version, Vec<&str>>> = BTreeMap::new();
        for Offer { version, suite } in &self.offers {
            all.entry(version.series()).or_default().entry(version).or_default().push(suite);
        }
        let shown = |(version, suites): (&&Version, &Vec<&str>)| format!("{version} ({})", suites.join(", "));
        let line = |(series, versions): (&Series, &BTreeMap<&Version, Vec<&str>>)| {
            format!("{series:<6} {}", list(versions.iter().rev().map(shown)))
        };
        Ok(all.iter().rev().map(line).collect())
    }

    /// The end of a complaint: suites that could not be asked might have had it.
    fn but(&self) -> String {
        if self.not_served.is_empty() {
            return String::new();
        }
        let suites = list(self.not_served.iter().map(|(suite, why)| format!("{suite} ({why})")));
        format!("; not served: {suites}")
    }
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// The project's view of the archive; one process has it at a time.
pub struct Archive {
    root: PathBuf,
    mirrors: Mirrors,
    keyring: PathBuf,
    _lock: Flock<File>,
}

impl Archive {
    /// # Errors
    /// If this machine has no apt, or its apt knows no Debian archive.
    pub fn open() -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if process::find_program(program).is_none() {
                bail!("this machine has no {program}, with which kernel sources are fetched");
            }
        }
        if !Path::new(KEYRING).exists() {
            bail!("no {KEYRING}, which Debian's archive is checked with; install debian-archive-keyring");
        }
        Self::at(injector_build::cache_dir().join("apt"), Mirrors::of_this_machine()?, KEYRING.into())
    }

    fn at(root: PathBuf, mirrors: Mirrors, keyring: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("can't make {}", root.display()))?;
        let lock = root.join("lock");
        let file = File::create(&lock).with_context(|| format!("can't write {}", lock.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .with_context(|| format!("can't lock {}", lock.display()))?;
        for entry in fs::read_dir(&root).with_context(|| format!("can't read {}", root.display()))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(DOWNLOAD) {
                fs::remove_dir_all(entry.path()).with_context(|| format!("can't remove {}", entry.path().display()))?;
            }
        }
        Ok(Self { root, mirrors, keyring, _lock: lock })
    }

    /// Asks all suites what they have now.
    ///
    /// # Errors
    /// If a suite's signature does not fit.
    pub fn offers(&self) -> Result<Offers> {
        eprintln!("archive: asking Debian's suites for kernel sources");
        let next = AtomicUsize::new(0);
        let answers = Mutex::new(Vec::new());
        let ask = || {
            while let Some((suite, part)) = SUITES.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = self.ask(suite, *part);
                answers.lock().unwrap_or_else(PoisonError::into_inner).push((*suite, answer));
            }
        };
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(ask);
            }
        });
        let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        answers.sort_by_key(|(suite, _)| SUITES.iter().position(|(name, _)| name == suite));
        let mut offers = Offers::default();
        for (suite, answer) in answers {
            match answer? {
                Ok(versions) => offers.offers.extend(versions.into_iter().map(|version| Offer { version, suite })),
                Err(Refusal::NotServed(why)) => offers.not_served.push((suite, why)),
                Err(Refusal::Signature(why)) => {
                    let hint = "if this machine's debian-archive-keyring is old, upgrade it";
                    return Err(bad_input(format!("the signature of Debian's {suite} does not fit: {why}; {hint}")));
                }
            }
        }
        Ok(offers)
    }

    /// The kernel sources of one suite. A refused suite leaves nothing in the cache.
    fn ask(&self, suite: &'static str, part: Part) -> Result<Result<Vec<Version>, Refusal>> {
        let Some(mirror) = self.mirrors.of(part) else {
            let why = "this machine's apt has no address that ends with /debian-security".to_owned();
            return Ok(Err(Refusal::NotServed(why)));
        };
        let state = self.root.join(suite);
        let refuse = |refusal| {
            fs::remove_dir_all(&state).with_context(|| format!("can't remove {}", state.display()))?;
            Ok(Err(refusal))
        };
        self.configure(&state, suite, mirror)?;
        let update = run(apt("apt-get", &state).args(["update", "-q"]))?;
        if let Some(refusal) = refusal(&update) {
            return refuse(refusal);
        }
        let names = stdout(apt("apt-cache", &state).arg("pkgnames").arg("linux-source-"))?;
        let packages: Vec<&str> = names.lines().filter(|name| Series::of_package(name).is_some()).collect();
        let table = match packages.as_slice() {
            [] => String::new(),
            packages => stdout(apt("apt-cache", &state).arg("madison").args(packages))?,
        };
        // Twice as large as the lists, and made again in seconds.
        let _ = fs::remove_file(state.join("cache/pkgcache.bin"));
        Ok(Ok(versions(&table)))
    }

    /// Writes the configuration of a suite's apt state.
    fn configure(&self, state: &Path, suite: &str, mirror: &str) -> Result<()> {
        for directory in ["lists/partial", "cache/archives/partial"] {
            let directory = state.join(directory);
            fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
        }
        let write = |name: &str, text: String| {
            let path = state.join(name);
            fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
        };
        write("apt.conf", configuration(state))?;
        let keyring = self.keyring.display();
        write("sources.list", format!("deb [signed-by={keyring} target=Packages] {mirror} {suite} main\n"))
    }

    /// Gets the package of an offer. It is there until the result is dropped.
    pub fn download(&self, offer: &Offer) -> Result<Download> {
        let Offer { version, suite } = offer;
        let directory = tempfile::Builder::new()
            .prefix(DOWNLOAD)
            .tempdir_in(&self.root)
            .with_context(|| format!("can't write to {}", self.root.display()))?;
        let package = version.series().source_package();
        eprintln!("archive: getting {package} {version} from {suite}");
        let mut get = apt("apt-get", &self.root.join(suite));
        get.args(["download", "-q", &format!("{package}={version}")]).current_dir(directory.path());
        let output = run(&mut get)?;
        if !output.status.success() {
            return Err(bad_input(format!("{package} {version} can't be had: {}", complaint(&output))));
        }
        let entries = fs::read_dir(directory.path()).with_context(|| format!("can't read {}", self.root.display()))?;
        let mut packages = entries.flatten().map(|entry| entry.path());
        let package = packages.find(|path| path.extension().is_some_and(|ending| ending == "deb"));
        let package = package.context("apt-get download left no package")?;
        Ok(Download { package, _directory: directory })
    }
}

/// A package, until it is dropped.
pub struct Download {
    pub package: PathBuf,
    _directory: TempDir,
}

/// apt's configuration for a suite, on top of the machine's (which has the proxies).
fn configuration(state: &Path) -> String {
    let state = state.display();
    format!(
        r##"Dir::State::Lists "{state}/lists";
Dir::Cache "{state}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Etc::SourceList "{state}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
// The user that apt changes to can't write below a home directory.
APT::Sandbox::User "root";
// Without these, apt goes on with old lists when new ones are not signed or can't be had, and says that all is well.
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
// What the machine does after an update of its own lists.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"##
    )
}

fn apt(program: &str, state: &Path) -> Command {
    let mut apt = Command::new(program);
    // Read last, so it counts. What the caller's environment names would be read first.
    apt.arg("-c").arg(state.join("apt.conf")).env("LC_ALL", "C").env_remove("APT_CONFIG").stdin(Stdio::null());
    apt
}

fn run(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("can't start {}", process::shown(command)))
}

fn stdout(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    if !output.status.success() {
        bail!("{}: {}", process::shown(command), complaint(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// apt's first error, or its first warning if it has none, without the letter in front.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let first = |letter: &str| text.lines().find_map(|line| line.strip_prefix(letter).map(str::to_owned));
    first("E: ").or_else(|| first("W: ")).unwrap_or_else(|| output.status.to_string())
}

/// Why an update's lists can't be used, if so.
fn refusal(update: &Output) -> Option<Refusal> {
    let text = String::from_utf8_lossy(&update.stderr);
    let signature = ["GPG error", "is not signed", "no longer signed", "signature verification", "NO_PUBKEY"];
    let of_signature = |line: &&str| signature.iter().any(|words| line.contains(words));
    // Even if apt has called it a warning.
    if let Some(line) = text.lines().find(of_signature) {
        return Some(Refusal::Signature(line.trim_start_matches(['E', 'W', ':', ' ']).to_owned()));
    }
    (!update.status.success()).then(|| Refusal::NotServed(complaint(update)))
}

/// The versions in what `apt-cache madison` prints: lines of `package | version | where`.
fn versions(text: &str) -> Vec<Version> {
    text.lines().filter_map(|line| line.split('|').nth(1)?.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::super::BadInput;
    use super::*;

    fn offers(all: &[(&'static str, &str)]) -> Offers {
        let offer = |(suite, version): &(&'static str, &str)| Offer { version: version.parse().unwrap(), suite };
        Offers { offers: all.iter().map(offer).collect(), not_served: Vec::new() }
    }

    fn some() -> Offers {
        offers(&[
            ("trixie", "6.12.117-1"),
            ("bookworm-security", "6.12.117-1~deb12u1"),
            ("trixie-security", "6.12.117-1"),
            ("bookworm", "6.1.176-1"),
            ("sid", "7.2.13-1"),
            ("trixie-backports", "7.3.4-1~bpo13+1"),
        ])
    }

    #[test]
    fn the_newest_is_found_whatever_suite_has_it() {
        let some = some();
        assert_eq!(some.newest().unwrap().version.to_string(), "7.3.4-1~bpo13+1");
        assert_eq!(some.newest_of(Series::new(6, 12)).unwrap().version.to_string(), "6.12.117-1");
        let exact = some.exactly(&"6.12.117-1~deb12u1".parse().unwrap()).unwrap();
        assert_eq!(exact.suite, "bookworm-security");
        assert_eq!(some.lines().unwrap()[1], "7.2    7.2.13-1 (sid)");
        assert_eq!(
            some.lines().unwrap()[2],
            "6.12   6.12.117-1 (trixie, trixie-security), 6.12.117-1~deb12u1 (bookworm-security)"
        );
    }

    #[test]
    fn what_can_be_had_is_listed() {
        let mut some = some();
        let text = |result: Result<&Offer>| {
            let error = result.unwrap_err();
            assert!(error.is::<BadInput>());
            error.to_string()
        };
        assert_eq!(text(some.newest_of(Series::new(6, 13))), "no kernel 6.13 in Debian: there are 6.1, 6.12, 7.2, 7.3");
        assert_eq!(
            text(some.exactly(&"6.12.1-1".parse().unwrap())),
            "no kernel 6.12.1-1 in Debian: of 6.12 there are 6.12.117-1, 6.12.117-1~deb12u1"
        );
        some.not_served.push(("bullseye", "404".to_owned()));
        assert_eq!(
            text(some.exactly(&"5.10.1-1".parse().unwrap())),
            "no kernel 5.10 in Debian: there are 6.1, 6.12, 7.2, 7.3; not served: bullseye (404)"
        );
        assert_eq!(text(offers(&[]).newest()), "no kernel source can be had from Debian's archive");
    }

    #[test]
    fn the_archive_is_where_the_machines_apt_has_it() {
        let text = "\
'http://a.example/ubuntu/dists/noble/InRelease' x 0 
'http://b.example/debian-security/dists/bookworm-security/InRelease' x 0 
'https://c.example/mirrors/debian/dists/bookworm/InRelease' x 0 
'http://d.example/debian/dists/trixie/InRelease' x 0 
";
        let mirrors = Mirrors::read(text);
        assert_eq!(mirrors.of(Part::Main), Some("https://c.example/mirrors/debian"));
        assert_eq!(mirrors.of(Part::Security), Some("http://b.example/debian-security"));
        assert_eq!(Mirrors::read("nothing\n"), Mirrors::default());
    }

    #[test]
    fn versions_are_read_from_a_table() {
        let text =
            "linux-source-6.1 | 6.1.192-2 | http://x bookworm/main amd64 Packages\nlinux-source-6.1 | 6.1.176-1 | y\n";
        assert_eq!(versions(text), ["6.1.192-2".parse().unwrap(), "6.1.176-1".parse().unwrap()]);
    }

    fn update(code: i32, stderr: &str) -> Output {
        Output { status: ExitStatus::from_raw(code << 8), stdout: Vec::new(), stderr: stderr.into() }
    }

    #[test]
    fn a_signature_that_does_not_fit_is_no_missing_suite() {
        assert_eq!(refusal(&update(0, "")), None);
        assert_eq!(
            refusal(&update(100, "E: The repository 'http://x sid Release' does not have a Release file.\n")),
            Some(Refusal::NotServed("The repository 'http://x sid Release' does not have a Release file.".to_owned()))
        );
        // With older lists at hand, apt calls it a warning.
        let kept = "W: An error occurred during the signature verification. The repository is not updated and the previous \
                    index files will be used. GPG error: http://x sid InRelease: NO_PUBKEY 0\n";
        assert!(matches!(refusal(&update(0, kept)), Some(Refusal::Signature(why)) if why.starts_with("An error")));
        let unsigned = "E: The repository 'file:/x sid InRelease' is not signed.\n";
        assert!(matches!(refusal(&update(100, unsigned)), Some(Refusal::Signature(_))));
    }

    /// With apt itself: a list that nobody signed, and a suite that is not there.
    #[test]
    fn apt_refuses_what_is_not_signed() {
        if process::find_program("apt-get").is_none() {
            eprintln!("skipped: no apt-get here");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let mirror = directory.path().join("debian");
        fs::create_dir_all(mirror.join("dists/sid/main/binary-amd64")).unwrap();
        fs::write(mirror.join("dists/sid/main/binary-amd64/Packages"), "").unwrap();
        fs::write(mirror.join("dists/sid/Release"), "Suite: sid\nCodename: sid\nComponents: main\n").unwrap();
        let mirrors = Mirrors { main: Some(format!("file:{}", mirror.display())), security: None };
        let root = directory.path().join("apt");
        let archive = Archive::at(root.clone(), mirrors, KEYRING.into()).unwrap();
        let refused = archive.ask("sid", Part::Main).unwrap().unwrap_err();
        assert!(matches!(&refused, Refusal::Signature(_)), "{refused:?}");
        assert!(!root.join("sid").exists());
        let refused = archive.ask("trixie", Part::Main).unwrap().unwrap_err();
        assert!(matches!(&refused, Refusal::NotServed(_)), "{refused:?}");
        assert!(!root.join("trixie").exists());
        let error = archive.offers().unwrap_err();
        assert!(error.is::<BadInput>() && error.to_string().starts_with("the signature of Debian's sid"), "{error}");
    }
}
