//! Debian's archive, for kernels of suites that this machine does not use.
//!
//! Each suite has an apt state of the project's own in the cache directory: configuration, lists, packages. The machine's
//! apt is only asked where the archive is; its sources, lists and keys stay as they are. Every list must be signed with
//! Debian's keys, whatever the machine's apt accepts.

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

use crate::{bad_input, cache_dir, find_program, missing, shown};

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

/// A suite of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suite(&'static str, Part);

impl Suite {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// Where kernels are. No experimental: its kernels are not released.
pub const SUITES: [Suite; 9] = [
    Suite("bullseye", Part::Main),
    Suite("bullseye-security", Part::Security),
    Suite("bookworm", Part::Main),
    Suite("bookworm-security", Part::Security),
    Suite("bookworm-backports", Part::Main),
    Suite("trixie", Part::Main),
    Suite("trixie-security", Part::Security),
    Suite("trixie-backports", Part::Main),
    Suite("sid", Part::Main),
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
        let mirrors = Self::read(&stdout(&mut apt).context("apt-get can't say where Debian's archive is")?);
        if mirrors.main.is_none() {
            return Err(bad_input(
                "this machine's apt uses no Debian archive (an address that ends with /debian), so Debian's kernels can't be \
                 fetched; give the path of a kernel's image instead",
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

/// Why a suite's lists can't be used.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// They are not what Debian signed.
    Signature(String),
    /// The archive does not have the suite, or does not answer.
    NotServed(String),
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
            if find_program(program).is_none() {
                return Err(missing(format!(
                    "this machine has no {program}, with which Debian's kernels are fetched; give the path of a kernel's image \
                     instead"
                )));
            }
        }
        if !Path::new(KEYRING).exists() {
            return Err(missing(format!(
                "no {KEYRING}, which Debian's archive is checked with; install debian-archive-keyring"
            )));
        }
        Self::at(cache_dir().join("apt"), Mirrors::of_this_machine()?, KEYRING.into())
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

    /// Asks these suites what they have now: `query` is called with the lists of each of them that the archive serves.
    ///
    /// # Errors
    /// If a suite's signature does not fit, or a query fails.
    pub fn ask<T: Send>(&self, suites: &[Suite], query: impl Fn(&Lists) -> Result<T> + Sync) -> Result<Answers<T>> {
        let next = AtomicUsize::new(0);
        let answers = Mutex::new(Vec::new());
        let ask = || {
            while let Some(suite) = suites.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = self.ask_one(*suite, &query);
                answers.lock().unwrap_or_else(PoisonError::into_inner).push((*suite, answer));
            }
        };
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(ask);
            }
        });
        let mut given = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        given.sort_by_key(|(suite, _)| suites.iter().position(|known| known == suite));
        let mut answers = Answers { answers: Vec::new(), not_served: Vec::new() };
        for (Suite(suite, _), answer) in given {
            match answer? {
                Ok(answer) => answers.answers.push((suite, answer)),
                Err(Refusal::NotServed(why)) => answers.not_served.push((suite, why)),
                Err(Refusal::Signature(why)) => {
                    let hint = "if this machine's debian-archive-keyring is old, upgrade it";
                    return Err(bad_input(format!("the signature of Debian's {suite} does not fit: {why}; {hint}")));
                }
            }
        }
        Ok(answers)
    }

    /// A refused suite leaves nothing in the cache.
    fn ask_one<T>(&self, suite: Suite, query: impl Fn(&Lists) -> Result<T>) -> Result<Result<T, Refusal>> {
        let Suite(name, part) = suite;
        let Some(mirror) = self.mirrors.of(part) else {
            let why = "this machine's apt has no address that ends with /debian-security".to_owned();
            return Ok(Err(Refusal::NotServed(why)));
        };
        let state = self.root.join(name);
        self.configure(&state, name, mirror)?;
        let update = run(apt("apt-get", &state).args(["update", "-q"]))?;
        if let Some(refusal) = refusal(&update) {
            fs::remove_dir_all(&state).with_context(|| format!("can't remove {}", state.display()))?;
            return Ok(Err(refusal));
        }
        let answer = query(&Lists { state: &state });
        // Twice as large as the lists, and made again in seconds.
        let _ = fs::remove_file(state.join("cache/pkgcache.bin"));
        Ok(Ok(answer?))
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

    /// Gets packages, `NAME=VERSION` each, out of a suite that was asked. They are there until the result is dropped.
    ///
    /// # Errors
    /// If one of them can't be had.
    pub fn download(&self, suite: &str, packages: &[String]) -> Result<Download> {
        let directory = tempfile::Builder::new()
            .prefix(DOWNLOAD)
            .tempdir_in(&self.root)
            .with_context(|| format!("can't write to {}", self.root.display()))?;
        let mut get = apt("apt-get", &self.root.join(suite));
        get.args(["download", "-q"]).args(packages).current_dir(directory.path());
        let output = run(&mut get)?;
        let _ = fs::remove_file(self.root.join(suite).join("cache/pkgcache.bin"));
        if !output.status.success() {
            let packages = packages.join(" ");
            return Err(bad_input(format!("{packages} can't be had from {suite}: {}", complaint(&output))));
        }
        let entries = fs::read_dir(directory.path()).with_context(|| format!("can't read {}", self.root.display()))?;
        let files = entries.flatten().map(|entry| entry.path());
        let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ending| ending == "deb")).collect();
        if files.len() != packages.len() {
            bail!("apt-get download was asked for {} packages and left {}", packages.len(), files.len());
        }
        Ok(Download { files, _directory: directory })
    }
}

/// What suites answered.
#[derive(Debug)]
pub struct Answers<T> {
    /// The suites that the archive serves, in the order in which they were named.
    pub answers: Vec<(&'static str, T)>,
    /// The other suites, and why they are not served.
    pub not_served: Vec<(&'static str, String)>,
}

/// The lists of a suite.
#[derive(Debug)]
pub struct Lists<'a> {
    state: &'a Path,
}

/// A version of a package, as a suite's list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The names of the packages that it depends on; of alternatives the first.
    pub depends: Vec<String>,
}

impl Lists<'_> {
    /// The names of all packages that begin so.
    ///
    /// # Errors
    /// apt-cache fails.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = stdout(apt("apt-cache", self.state).arg("pkgnames").arg(prefix))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// All versions of these packages. A name that the suite only depends on has none.
    ///
    /// # Errors
    /// apt-cache fails.
    pub fn show(&self, names: &[String]) -> Result<Vec<Package>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let output = run(apt("apt-cache", self.state).arg("show").args(names))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // It also fails if one name of several has no version.
        if !output.status.success() && text.trim().is_empty() && !complaint(&output).starts_with("No packages found") {
            bail!("apt-cache show {}: {}", names.join(" "), complaint(&output));
        }
        Ok(stanzas(&text))
    }
}

/// Packages that were downloaded, until it is dropped.
#[derive(Debug)]
pub struct Download {
    /// The files.
    pub files: Vec<PathBuf>,
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
    command.output().with_context(|| format!("can't start {}", shown(command)))
}

fn stdout(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    if !output.status.success() {
        bail!("{}: {}", shown(command), complaint(&output));
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

/// The packages in what `apt-cache show` prints.
fn stanzas(text: &str) -> Vec<Package> {
    let package = |stanza: &str| {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
        };
        let depends = [field("Pre-Depends"), field("Depends")].into_iter().flatten();
        let depends = depends.flat_map(|list| list.split(',').filter_map(dependency).collect::<Vec<_>>());
        Some(Package { name: field("Package")?, version: field("Version")?, depends: depends.collect() })
    };
    text.split("\n\n").filter_map(package).collect()
}

/// `linux-kbuild-6.1 (>= 6.1.192-2) | other`
fn dependency(text: &str) -> Option<String> {
    let name = text.split(['|', '(', '[', ':']).next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;
    use crate::BadInput;

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
    fn packages_are_read_from_stanzas() {
        let text = "\
Package: linux-headers-6.1.0-56-cloud-amd64
Source: linux
Version: 6.1.192-2
Depends: linux-headers-6.1.0-56-common (= 6.1.192-2), linux-kbuild-6.1 (>= 6.1.192-2), a:any | b

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Pre-Depends: linux-base (>= 4.17~)

";
        let [headers, image] = stanzas(text).try_into().unwrap();
        assert_eq!((&*headers.name, &*headers.version), ("linux-headers-6.1.0-56-cloud-amd64", "6.1.192-2"));
        assert_eq!(headers.depends, ["linux-headers-6.1.0-56-common", "linux-kbuild-6.1", "a"]);
        assert_eq!(image.depends, ["linux-base"]);
        assert_eq!(stanzas(""), []);
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
        if find_program("apt-get").is_none() {
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
        let names = |lists: &Lists| lists.names("linux");
        let ask = |name: &str| {
            let suite = SUITES.into_iter().find(|suite| suite.name() == name).unwrap();
            archive.ask_one(suite, names).unwrap().unwrap_err()
        };
        let refused = ask("sid");
        assert!(matches!(&refused, Refusal::Signature(_)), "{refused:?}");
        assert!(!root.join("sid").exists());
        let refused = ask("trixie");
        assert!(matches!(&refused, Refusal::NotServed(_)), "{refused:?}");
        assert!(!root.join("trixie").exists());
        let error = archive.ask(&SUITES, names).unwrap_err();
        assert!(error.is::<BadInput>() && error.to_string().starts_with("the signature of Debian's sid"), "{error}");
    }
}
