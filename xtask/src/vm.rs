//! `cargo xtask vm`: boots a guest and runs a command in it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use injector_guest::engines::Qemu;
use injector_guest::protocol::Request;
use injector_guest::root::{Image, parse_added};
use injector_guest::{
    Accelerator, BootError, Clock, Command, Engine, GuestEnd, GuestRun, GuestSpec, Initramfs, Streams,
};
use nix::sys::signal::{SigSet, Signal};

use crate::guest_root;
use crate::kernel::{Found, KernelChoice};
use crate::process;
use crate::setup;
use crate::static_build;

/// Exit status when the guest did not boot; a guest that ran and was lost has 120 to 123 (see `GuestEnd::exit_code`).
const EXIT_BOOT_FAILED: i32 = 124;

/// How many of the kernel's complaints are shown at the end; the console's log has all.
const SHOWN_COMPLAINTS: usize = 10;

#[derive(Debug, Args)]
#[command(after_help = "Exit status: CMD's own (128 + N when signal N ended it, 127 when it could not be started); \
120 the guest's kernel panicked, 121 it stalled, 122 time-out, 123 it ended without a status or a panic, 124 it did not boot, 130 it was ended from outside.\n\n\
In the guest: busybox's programs, mkfs.*, mount.nfs and an NFS server, /usr/bin/injector, /lib/modules/injector_test.ko \
and injector_defects.ko, /workloads; all of it in memory. Ctrl-C is sent to CMD; the third ends the guest.")]
pub struct Vm {
    /// Guest kernel, as for `cargo xtask kernel` (7.3, 6.1-debug, 6.12.107-1~deb12u1…), debian:7.3 for Debian's stock kernel, or the path of an image
    #[arg(long, default_value_t)]
    kernel: KernelChoice,
    /// Processors
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory in MiB; the root is in it
    #[arg(long, value_name = "MB", default_value_t = 2048)]
    memory: u32,
    /// A directory of this machine, mounted at /share in the guest
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// How long CMD may take: seconds, or 90s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Count time in executed instructions, on one processor: for measurements that repeat
    #[arg(long)]
    icount: bool,
    /// Also put this file (with its libraries) or directory into the guest
    #[arg(long, value_name = "FILE[:GUESTPATH]")]
    add: Vec<String>,
    /// Also put this program of this machine into the guest (bpftrace, strace…)
    #[arg(long, value_name = "PROGRAM")]
    with: Vec<String>,
    /// More words for the kernel's command line
    #[arg(long, value_name = "WORD")]
    append: Vec<String>,
    /// Leave out the injector and the test modules
    #[arg(long)]
    bare: bool,
    /// The command to run
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Vm {
    pub fn run(&self) -> Result<i32> {
        let kernel = self.kernel.find()?;
        let mut contents = kernel.contents()?;
        if self.bare {
            contents.modules = Vec::new();
        }
        for text in &self.add {
            contents.added.push(parse_added(text).context("--add")?);
        }
        for name in &self.with {
            let path = process::find_program(name).with_context(|| format!("--with {name}: no such program here"))?;
            contents.added.push((path, format!("/usr/bin/{name}")));
        }
        if !self.bare {
            contents.injector = Some(injector()?);
        }
        let guest = Guest::new(&kernel, &guest_root::build(&contents)?)?;
        let mut spec = guest.machine(&self.kernel.to_string())?;
        spec.cpus = Some(self.cpus);
        spec.memory_mb = self.memory;
        spec.share = self.share.as_deref().map(fs::canonicalize).transpose().context("--share")?;
        spec.timeout = self.timeout;
        if self.icount {
            spec.clock = Clock::Instructions;
            spec.cpus = Some(1);
        }
        spec.append.extend(self.append.iter().cloned());
        boot(&spec, &Command::new(self.command.iter().cloned()))
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|error| format!("{error}; write seconds, or 90s, 5m, 1h")),
    }
}

/// Builds the injector as one static file.
pub fn injector() -> Result<PathBuf> {
    setup::toolchain()?;
    static_build::binary("injector", "injector")
}

/// A kernel with a root. It boots as often as wanted.
pub struct Guest {
    image: PathBuf,
    words: Vec<String>,
    root: Image,
}

impl Guest {
    pub fn new(kernel: &Found, root: &Initramfs) -> Result<Self> {
        Ok(Self { image: kernel.image.clone(), words: kernel.words(), root: Image::new(root)? })
    }

    /// What to boot; the console is logged under `name`.
    pub fn machine(&self, name: &str) -> Result<GuestSpec> {
        let directory = process::target_dir().join("guest");
        fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
        let name = name.rsplit('/').next().unwrap_or(name);
        let mut spec = GuestSpec::new(&self.image, vec![self.root.path().to_owned()]);
        spec.accelerator = Accelerator::Auto(injector_build::cache_dir());
        spec.console_log = Some(directory.join(format!("console-{name}.log")));
        spec.append = self.words.clone();
        Ok(spec)
    }
}

/// Boots with this process's output and signals, and returns the exit status to pass on.
pub fn boot(spec: &GuestSpec, command: &Command) -> Result<i32> {
    let streams = streams_with_signals()?;
    match Qemu.run(spec, command, streams) {
        Ok(run) => {
            report(spec, &run);
            Ok(run.end.exit_code())
        }
        Err(error @ BootError::BootFailed { .. }) => {
            eprintln!("guest: {error}");
            Ok(EXIT_BOOT_FAILED)
        }
        Err(error) => bail!(error),
    }
}

/// Prints on standard error how the guest ended.
pub fn report(spec: &GuestSpec, run: &GuestRun) {
    eprintln!("{}", account(spec, run).join("\n"));
}

/// How the guest ended, and its kernel's complaints.
pub fn account(spec: &GuestSpec, run: &GuestRun) -> Vec<String> {
    let GuestRun { end, boot, run, complaints, .. } = run;
    let mut lines: Vec<String> = complaints
        .iter()
        .take(SHOWN_COMPLAINTS)
        .map(|complaint| format!("guest: its kernel said: {complaint}"))
        .collect();
    if let GuestEnd::Panic(text) | GuestEnd::Reset(text) = end {
        lines.push(text.clone());
    }
    if !matches!(end, GuestEnd::Exited(_)) {
        lines.push(format!("guest: {end}"));
    }
    if let Some(log) = &spec.console_log
        && (!complaints.is_empty() || !matches!(end, GuestEnd::Exited(_)))
    {
        lines.push(format!("guest: console: {}", log.display()));
    }
    lines.push(format!("guest: booted in {:.1} s, ran for {:.1} s", boot.as_secs_f32(), run.as_secs_f32()));
    lines
}

/// From here on Ctrl-C goes to the command in the guest. The third Ctrl-C, or SIGTERM, ends the guest.
fn streams_with_signals() -> Result<Streams> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    // Before any thread of the guest's is started: they all inherit it, so only the one below gets the signals.
    signals.thread_block().context("can't block SIGINT")?;
    let (sender, requests) = mpsc::channel();
    let streams = Streams { requests: Some(requests), ..Streams::inherit() };
    let stop = Arc::clone(&streams.stop);
    thread::spawn(move || {
        for count in 1.. {
            let Ok(signal) = signals.wait() else { return };
            if count >= 3 || signal == Signal::SIGTERM {
                stop.store(true, Ordering::SeqCst);
                return;
            }
            eprintln!("guest: {signal} is passed on to the command");
            let _ = sender.send(Request::Signal { number: signal as i32 });
        }
    });
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_have_units() {
        assert_eq!(parse_time("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("5m"), Ok(Duration::from_secs(300)));
        assert!(parse_time("soon").unwrap_err().contains("write seconds"));
    }
}
