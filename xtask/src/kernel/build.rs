//! Unpacks, configures, compiles. Works beside the final place, and moves there at the end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use injector_kernels::archive::Archive;
use injector_kernels::{Series, bad_input};
use nix::fcntl::{Flock, FlockArg};

use super::fragment::{known_options, not_taken};
use super::spec::Source;
use super::{Spec, selftests, tree};
use crate::process;
use crate::progress::Progress;

/// Changes when the steps below make another kernel of the same source and config.
pub const RECIPE: &str = "recipe 1";

/// Lines that make prints for a plain kernel; the debug kernels' are about the same.
const EXPECTED_LINES: u64 = 2550;

/// Written when the source is unpacked as a whole, so that an interrupted build can go on.
const UNPACKED: &str = ".injector-unpacked";

/// How much of a source is unpacked.
#[derive(Debug, Clone, Copy)]
pub enum Take<'a> {
    All,
    /// These files, and these directories with all that is in them.
    Only(&'a [&'a str]),
}

/// Builds `spec` into `directory`, which appears when all is there.
pub fn build(spec: &Spec, source: &Source, archive: Option<Archive>, directory: &Path) -> Result<()> {
    let kernels = directory.parent().context("a kernel's directory has a parent")?;
    fs::create_dir_all(kernels).with_context(|| format!("can't make {}", kernels.display()))?;
    let lock_path = with_ending(directory, "lock");
    let _lock = lock(&lock_path)?;
    if directory.is_dir() {
        // Someone else built it while we waited for the lock.
        return Ok(());
    }
    let work = with_ending(directory, "building");
    let log_path = with_ending(directory, "log");
    let log = File::create(&log_path).with_context(|| format!("can't write {}", log_path.display()))?;
    eprintln!("kernel {spec}: building in {}; log: {}", work.display(), log_path.display());

    let series = source.version().series();
    let ready = unpack(spec, source, archive, &work).and_then(|()| configure(spec, series, &work, &log));
    if let Err(error) = ready {
        // It can't be built from this, so nothing of it is to be kept.
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("can't remove {}", work.display()))?;
        }
        for path in [&log_path, &lock_path] {
            fs::remove_file(path).with_context(|| format!("can't remove {}", path.display()))?;
        }
        return Err(error);
    }
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let mut progress = Progress::new(&format!("kernel {spec}"), EXPECTED_LINES);
    make(&work, &log, &log_path, &[&format!("-j{jobs}"), "bzImage"], |line| progress.advance(line))?;
    let elapsed = progress.finish();
    // What external modules need; only bzImage was built, so the kernel's own symbols are all there are.
    make(&work, &log, &log_path, &["modules_prepare"], |_| ())?;
    let symvers = work.join("vmlinux.symvers");
    fs::copy(&symvers, work.join("Module.symvers")).with_context(|| format!("no {}", symvers.display()))?;

    let result = with_ending(directory, "collecting");
    tree::collect(&work, &result)?;
    fs::rename(&result, directory).with_context(|| format!("can't move the kernel to {}", directory.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("can't remove {}", work.display()))?;
    let megabytes = |path: &Path| path.metadata().map_or(0, |data| data.len()) >> 20;
    eprintln!(
        "kernel {spec}: compiled in {} s; bzImage {} MiB, vmlinux {} MiB, in {}",
        elapsed.as_secs(),
        megabytes(&directory.join("bzImage")),
        megabytes(&directory.join("vmlinux")),
        directory.display()
    );
    Ok(())
}

/// `…/KEY` with a dot and an ending; a key has dots of its own, so not `with_extension`.
fn with_ending(directory: &Path, ending: &str) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn lock(path: &Path) -> Result<Flock<File>> {
    let open = || File::create(path).with_context(|| format!("can't write {}", path.display()));
    match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => {
            eprintln!("kernel: another process is building it; waiting for {}", path.display());
            Flock::lock(open()?, FlockArg::LockExclusive)
                .map_err(|(_, error)| error)
                .with_context(|| format!("can't lock {}", path.display()))
        }
    }
}

fn unpack(spec: &Spec, source: &Source, archive: Option<Archive>, work: &Path) -> Result<()> {
    if work.join(UNPACKED).exists() {
        eprintln!("kernel {spec}: going on with an interrupted build");
        return Ok(());
    }
    if work.exists() {
        fs::remove_dir_all(work).with_context(|| format!("can't remove {}", work.display()))?;
    }
    unpack_source(spec, source, archive, Take::All, work)?;
    selftests::keep(spec, work)?;
    File::create(work.join(UNPACKED)).context("can't mark the source as unpacked")?;
    Ok(())
}

/// Unpacks a source, fetched if it is not installed, into `work`.
pub fn unpack_source(spec: &Spec, source: &Source, archive: Option<Archive>, take: Take, work: &Path) -> Result<()> {
    match (source, archive) {
        (Source::Installed(_, tarball), _) => {
            eprintln!("kernel {spec}: unpacking {}", tarball.display());
            let file = File::open(tarball).with_context(|| format!("can't read {}", tarball.display()))?;
            extract(file.into(), take, work)
        }
        (Source::Archive(offer), Some(archive)) => {
            let download = offer.download(&archive)?;
            let package = download.files.first().context("one package was asked for")?;
            // Other processes may ask the archive while this one compiles.
            drop(archive);
            eprintln!("kernel {spec}: unpacking {}", offer.version);
            extract_package(package, &offer.version.series().source_tarball(), take, work)
        }
        (Source::Archive(_), None) => bail!("a source of the archive needs the archive"),
    }
}

/// Unpacks the tarball in a package. Nothing else of the package is looked at, and its scripts do not run.
fn extract_package(package: &Path, tarball: &str, take: Take, work: &Path) -> Result<()> {
    let mut files = Command::new("dpkg-deb");
    let mut files = piped(files.arg("--fsys-tarfile").arg(package))?;
    let mut file = Command::new("tar");
    file.args(["--extract", "--to-stdout", "--file=-"]).arg(format!(".{tarball}")).stdin(output_of(&mut files)?);
    let mut file = piped(&mut file)?;
    extract(output_of(&mut file)?, take, work)?;
    let ended = file.wait()?;
    if !ended.success() {
        bail!("{} has no {tarball}: tar: {ended}", package.display());
    }
    let ended = files.wait()?;
    if !ended.success() {
        bail!("dpkg-deb can't read {}: {ended}", package.display());
    }
    Ok(())
}

fn piped(command: &mut Command) -> Result<Child> {
    command.stdout(Stdio::piped()).spawn().with_context(|| format!("can't start {}", process::shown(command)))
}

fn output_of(child: &mut Child) -> Result<Stdio> {
    child.stdout.take().map(Stdio::from).context("a child's output is piped")
}

/// Unpacks a kernel's tarball into `work`.
fn extract(tarball: Stdio, take: Take, work: &Path) -> Result<()> {
    fs::create_dir_all(work).with_context(|| format!("can't make {}", work.display()))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--xz", "--strip-components=1", "--file=-", "--directory"]).arg(work).stdin(tarball);
    if let Take::Only(names) = take {
        tar.arg("--wildcards").args(names.iter().map(|name| format!("*/{name}")));
    }
    process::run(&mut tar)
}

fn configure(spec: &Spec, series: Series, work: &Path, log: &File) -> Result<()> {
    let fragment = work.join("injector.config");
    fs::write(&fragment, spec.config(series)).with_context(|| format!("can't write {}", fragment.display()))?;
    let mut make = make_command(work);
    make.arg("allnoconfig").env("KCONFIG_ALLCONFIG", &fragment).stdout(log.try_clone()?).stderr(log.try_clone()?);
    process::run(&mut make)?;
    check_config(spec, series, work)
}

/// Compares the configuration that kconfig made with what was asked for. The user's options must all be in it; the
/// project's are for many kernels, so those that this one lacks are only named.
fn check_config(spec: &Spec, series: Series, work: &Path) -> Result<()> {
    let path = work.join(".config");
    let config = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let known = known_options(work)?;
    if let Some(fragment) = spec.fragment() {
        let refused = not_taken(&fragment.text, &config, &known);
        if !refused.is_empty() {
            let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
            let name = &fragment.name;
            return Err(bad_input(format!("{name}: kernel {spec} does not take {}", refused.join(", "))));
        }
    }
    let lacking = not_taken(&spec.own_config(series), &config, &known);
    if !lacking.is_empty() {
        let names: Vec<&str> = lacking.iter().map(|option| option.name()).collect();
        eprintln!("kernel {spec}: it does without these options of the project's: {}", names.join(" "));
    }
    Ok(())
}

fn make_command(work: &Path) -> Command {
    let mut make = Command::new("make");
    // Who built it and when does not belong into the image: the same source gives the same kernel.
    make.arg("-C").arg(work).envs([
        ("LC_ALL", "C"),
        ("KBUILD_BUILD_TIMESTAMP", "1970-01-01"),
        ("KBUILD_BUILD_USER", "injector"),
        ("KBUILD_BUILD_HOST", "guest"),
    ]);
    // A jobserver or flags of an outer make are not meant for this one.
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
    make
}

fn make(work: &Path, mut log: &File, log_path: &Path, arguments: &[&str], mut each: impl FnMut(&str)) -> Result<()> {
    let mut command = make_command(work);
    command.args(arguments).stdout(Stdio::piped()).stderr(log.try_clone()?);
    let mut child = command.spawn().with_context(|| format!("can't start {}", process::shown(&command)))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("can't read what make prints")?;
            writeln!(log, "{line}").with_context(|| format!("can't write {}", log_path.display()))?;
            each(line.trim());
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let text = fs::read_to_string(log_path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(25)..].join("\n");
        bail!("make {}: {status}; the end of {}:\n{end}", arguments.join(" "), log_path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_keep_the_dots_of_versions() {
        assert_eq!(with_ending(Path::new("/c/6.12.117-1-ab"), "lock"), Path::new("/c/6.12.117-1-ab.lock"));
    }
}
