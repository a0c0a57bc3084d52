//! `cargo xtask test`: format, lints, host tests, guest tests on real kernels; ends with `N passed, N failed`.

pub mod guests;
pub mod kernels;
mod libtest;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::guest_root::{self, Contents};
use crate::kernel::{KernelChoice, NEWEST, Spec};
use crate::packages::Group;
use crate::process;
use crate::setup;
use crate::static_build::{self, Artifact};
use crate::tee::Tee;
use crate::vm::{self, Guest};
use guests::{Backend, Job};
use kernels::{Extent, Kernels};
use libtest::Tally;

#[derive(Debug, Args)]
#[command(
    after_help = "Without --kernel: all guest tests on 7.3, which is built first if it is not there, and on 6.1 if it is built already; \
on 6.12, if it is built already, backend_choice (attach in both ways), hooks_module and sweep; stock on Debian's stock kernels, which are \
fetched. What was left out is said before the last line."
)]
pub struct Test {
    /// Format, lints and the tests that need no particular kernel only
    #[arg(long, conflicts_with = "guest")]
    host: bool,
    /// Guest tests only
    #[arg(long)]
    guest: bool,
    /// Guest kernel, as for `cargo xtask kernel`, repeatable: all guest tests on each
    #[arg(long)]
    kernel: Vec<KernelChoice>,
    /// Build 6.1 and 6.12 too, if they are not built already
    #[arg(long, conflicts_with_all = ["kernel", "host"])]
    all: bool,
    /// How the injector attaches in guests where a test does not say it; repeatable; default: auto, and on the first kernel
    /// some tests by fmod-ret too
    #[arg(long, value_name = "BACKEND", value_enum)]
    backend: Vec<Backend>,
    /// Guest tests only, and of them only this file of tests/tests; repeatable
    #[arg(long = "test", value_name = "NAME", conflicts_with = "host")]
    binaries: Vec<String>,
    /// Tests whose name contains this
    filter: Option<String>,
}

/// A line of the closing table.
pub struct Row {
    group: String,
    name: String,
    tally: Tally,
    elapsed: Duration,
    /// The tests that failed before a second try, which is what the tally is of.
    failed_before: Option<String>,
}

impl Test {
    pub fn run(&self) -> Result<i32> {
        // All packages that will be wanted, before the first minute of work is spent.
        let toolchain_there = injector_build::Toolchain::find().is_ok();
        let mut groups = if toolchain_there { Vec::new() } else { vec![Group::Ebpf] };
        if !self.host {
            groups.extend([Group::Guest, Group::GuestTests, Group::Module, Group::Headers, Group::Source]);
            let default = || Spec::plain(NEWEST).cached().is_none();
            if self.kernel.iter().any(KernelChoice::is_to_be_built) || (self.kernel.is_empty() && default()) {
                groups.push(Group::Kernel);
            }
        }
        setup::packages(&groups)?;
        setup::toolchain()?;

        let mut rows = Vec::new();
        let mut left_out = Vec::new();
        if !self.guest && self.binaries.is_empty() {
            self.host_rows(&mut rows)?;
        }
        if !self.host {
            let kernels =
                if self.kernel.is_empty() { Kernels::default(self.all) } else { Kernels::named(&self.kernel) };
            self.guest_rows(&kernels.used, &mut rows)?;
            left_out = kernels.left_out;
        }
        Ok(summary(&rows, &left_out))
    }

    fn host_rows(&self, rows: &mut Vec<Row>) -> Result<()> {
        setup::rust_components()?;
        let checks: [(&str, &[&str]); 2] = [
            ("format", &["fmt", "--all", "--check"]),
            // The eBPF crate has a compiler and a target of its own; building it is its check.
            (
                "lints",
                &[
                    "clippy",
                    "--workspace",
                    "--exclude",
                    "injector-ebpf",
                    "--all-targets",
                    "--quiet",
                    "--",
                    "-D",
                    "warnings",
                ],
            ),
        ];
        for (name, arguments) in checks {
            let started = Instant::now();
            heading(&format!("cargo {}", arguments.join(" ")));
            let status =
                process::cargo().args(arguments).status().with_context(|| format!("can't start cargo {name}"))?;
            rows.push(Row::new("host", name, Tally::of_check(status.success()), started));
        }
        let started = Instant::now();
        heading("cargo test");
        let tally = self.cargo_test(&[])?;
        rows.push(Row::new("host", "tests", tally, started));
        let started = Instant::now();
        // What the guest tests share needs no guest to be tested itself.
        let tally = self.cargo_test(&["--package", "injector-tests", "--lib"])?;
        rows.push(Row::new("host", "tests' own", tally, started));
        Ok(())
    }

    fn cargo_test(&self, arguments: &[&str]) -> Result<Tally> {
        tally_of(process::cargo().args(["test", "--no-fail-fast"]).args(arguments).args(&self.filter))
    }

    fn guest_rows(&self, kernels: &[(KernelChoice, Extent)], rows: &mut Vec<Row>) -> Result<()> {
        let injector = vm::injector()?;
        let binaries = self.guest_binaries()?;
        let names = || binaries.iter().map(|binary| &*binary.name);
        let mut overlays = guests::programs(names())?;
        overlays.extend(guests::packages(names(), &injector)?);
        let mut queue = Vec::new();
        let mut images = Vec::new();
        for (kernel, extent) in kernels {
            let found = kernel.find()?;
            let mut contents = Contents { injector: Some(injector.clone()), ..found.contents()? };
            images.push((
                *extent,
                kernel.to_string(),
                found.image.clone(),
                contents.modules.first().and_then(|module| module.parent()).map(PathBuf::from),
            ));
            contents.added =
                binaries.iter().map(|binary| (binary.path.clone(), format!("/tests/{}", binary.name))).collect();
            let guest = Arc::new(Guest::new(&found, &guest_root::build(&contents)?)?);
            for (backend, binary) in self.runs(&binaries, *extent) {
                queue.push(Job {
                    guest: Arc::clone(&guest),
                    overlays: overlays
                        .iter()
                        .filter(|(name, _)| *name == binary.name)
                        .map(|(_, image)| Arc::clone(image))
                        .collect(),
                    kernel: kernel.to_string(),
                    backend,
                    binary: binary.name.clone(),
                    filter: self.filter.clone(),
                });
            }
        }
        rows.extend(guests::run(queue)?);
        if self.binaries.is_empty() {
            if let Some((_, kernel, ..)) = images.iter().find(|(extent, ..)| *extent == Extent::Stock) {
                let started = Instant::now();
                heading(&format!("guest {kernel}: a sweep from the host"));
                let mut cargo = process::cargo();
                cargo
                    .args(["test", "--package", "injector", "--test", "stock_guest", "--test", "workload_guest"])
                    .args(&self.filter);
                let tally = tally_of(cargo.args(["--", "--ignored"]).env("INJECTOR_STOCK_KERNEL", kernel))?;
                rows.push(Row::new(&format!("guest {kernel}"), "host's side", tally, started));
            }
            for (extent, kernel, image, modules) in images.into_iter().filter(|(extent, ..)| extent.is_of_ours()) {
                let started = Instant::now();
                heading(&format!("guest {kernel}: what the host sees of guests"));
                let mut cargo = process::cargo();
                cargo.args(["test", "--no-fail-fast", "--package", "injector-guest", "--package", "injector"]);
                cargo
                    .args(["--test", "data_port", "--test", "guests_controller"])
                    .args(if modules.is_some() { &["--test", "boots"][..] } else { &[] })
                    // The planted defects are modules of our own kernels. Their sweeps take minutes: one kernel has to do.
                    .args(if extent == Extent::First && modules.is_some() { &["--test", "vm_sweep"][..] } else { &[] })
                    .args(&self.filter)
                    .arg("--")
                    .arg("--ignored");
                // Those that are parts of others.
                cargo.args(["--skip", "in_the_guest", "--skip", "the_one_that_is_interrupted", "--skip", "by_hand"]);
                cargo.env("INJECTOR_GUEST_MODULES", modules.unwrap_or_default());
                let tally = tally_of(cargo.env("INJECTOR_GUEST_KERNEL", image))?;
                rows.push(Row::new(&format!("guest {kernel}"), "host's side", tally, started));
            }
        }
        Ok(())
    }

    /// What is run on a kernel: each binary, and how the injector attaches.
    fn runs<'a>(
        &self,
        binaries: &'a [Artifact],
        extent: Extent,
    ) -> impl Iterator<Item = (Backend, &'a Artifact)> + use<'a> {
        let asked = self.backend.clone();
        let all = [Backend::Auto, Backend::Kprobe, Backend::FmodRet, Backend::Module];
        let pairs = all.into_iter().flat_map(|backend| binaries.iter().map(move |binary| (backend, binary)));
        pairs.filter(move |(backend, binary)| extent.runs(&binary.name, *backend, &asked))
    }

    /// The test binaries to run; with a filter only those that have such a test, since each costs a boot.
    fn guest_binaries(&self) -> Result<Vec<Artifact>> {
        let mut arguments = vec!["test", "--release", "--no-run", "--package", "injector-tests"];
        let all = ["*".to_owned()];
        if let Some(unknown) = self.binaries.iter().find(|name| !is_guest_test(name)) {
            bail!("--test {unknown}: there is no such file in tests/tests; there are: {}", guest_tests()?.join(" "));
        }
        let wanted = if self.binaries.is_empty() { &all[..] } else { &self.binaries };
        arguments.extend(wanted.iter().flat_map(|name| ["--test", name]));
        let mut binaries = static_build::cargo(&arguments)?;
        // cargo builds the package's programs along with them.
        binaries.retain(|binary| is_guest_test(&binary.name));
        if let Some(filter) = &self.filter {
            binaries.retain(|binary| has_test(binary, filter));
            if binaries.is_empty() && self.guest {
                bail!("no guest test's name contains {filter}");
            }
        }
        binaries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(binaries)
    }
}

fn is_guest_test(name: &str) -> bool {
    process::workspace().join(format!("tests/tests/{name}.rs")).is_file()
}

fn guest_tests() -> Result<Vec<String>> {
    let entries = fs::read_dir(process::workspace().join("tests/tests")).context("can't read tests/tests")?;
    let names =
        entries.flatten().map(|entry| entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// Runs `cargo test` with its output shown, and counts.
fn tally_of(cargo: &mut Command) -> Result<Tally> {
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("can't start cargo test")?;
    let mut tee = Tee::loud();
    if let Some(mut stdout) = child.stdout.take() {
        io::copy(&mut stdout, &mut tee)?;
    }
    let status = child.wait()?;
    let mut tally = Tally::read(&tee.text());
    // Did not compile, or a test binary died: without this, a run with no failed test would pass.
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// The binaries are static, so they can be asked here what is in them.
fn has_test(binary: &Artifact, filter: &str) -> bool {
    let listed = process::output(Command::new(&binary.path).args([filter, "--list"]));
    listed.is_ok_and(|text| text.lines().any(|line| line.ends_with(": test")))
}

impl Row {
    fn new(group: &str, name: &str, tally: Tally, started: Instant) -> Self {
        Self { group: group.to_owned(), name: name.to_owned(), tally, elapsed: started.elapsed(), failed_before: None }
    }
}

/// Prints the table, what was left out, and the closing line; the exit status.
fn summary(rows: &[Row], left_out: &[String]) -> i32 {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| a.group.cmp(&b.group).reverse());
    println!();
    println!("{:<14} {:<16} {:>7} {:>7} {:>8} {:>8}", "where", "what", "passed", "failed", "ignored", "seconds");
    let (mut passed, mut failed) = (0, 0);
    for Row { group, name, tally, elapsed, .. } in &rows {
        let Tally { passed: good, failed: bad, ignored, note } = tally;
        let note = note.as_deref().unwrap_or_default();
        println!("{group:<14} {name:<16} {good:>7} {bad:>7} {ignored:>8} {:>8.1}  {note}", elapsed.as_secs_f32());
        passed += good;
        failed += bad;
    }
    println!();
    for text in left_out {
        println!("{text}");
    }
    for Row { group, name, failed_before, .. } in rows {
        if let Some(names) = failed_before {
            println!("{group} {name}: {names} failed at first; the numbers are of a second try, alone");
        }
    }
    println!("{passed} passed, {failed} failed");
    i32::from(failed > 0)
}

fn heading(text: &str) {
    println!("\n== {text}");
    let _ = io::stdout().flush();
}
