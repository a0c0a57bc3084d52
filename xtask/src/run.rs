//! `cargo xtask run`: runs the injector on this machine if its kernel can be injected into, else in a guest.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use injector_build::Toolchain;

use crate::guest_root::{self, Contents};
use crate::kernel::{Found, KernelChoice};
use crate::packages::Group;
use crate::vm::{self, Guest};
use crate::{process, setup};

/// Starts the injector, waits until it is armed, runs the workload and ends the injector, which then prints its summary.
const DEMO: &str = "/workloads/run-demo.sh";

#[derive(Debug, Args)]
#[command(
    after_help = "Without a CMD after --, the guest runs a workload of its own while the injector injects into the whole \
guest: NFS over loopback on ext4, and XFS.\n\nExample: cargo xtask run -- --gfp NOFS --order-lt 4 --prob 0.01"
)]
pub struct Run {
    /// Use a guest even if this machine's kernel can be injected into
    #[arg(long)]
    guest: bool,
    /// Guest kernel, as for `cargo xtask kernel` (debian:6.12 is Debian's own build, 6.12 the project's, 6.1-debug,
    /// 6.12.107-1~deb12u1…), or the path of an image
    #[arg(long, default_value_t = KernelChoice::stock())]
    kernel: KernelChoice,
    /// The injector's own arguments; see injector --help
    #[arg(last = true, required = true, value_name = "INJECTOR-ARGS")]
    arguments: Vec<String>,
}

impl Run {
    pub fn run(&self) -> Result<i32> {
        let is_guest = self.guest || (nix::unistd::geteuid().is_root() && !may_be_ready());
        let (injector, kernel) = if is_guest && matches!(self.kernel, KernelChoice::Stock(_)) {
            // The kernel comes over the network while the injector is compiled. First the packages: apt-get is one at a time.
            let compiler = Toolchain::find().is_err().then_some(Group::Ebpf);
            setup::packages(&[[Group::Guest, Group::Headers].as_slice(), compiler.as_slice()].concat())?;
            std::thread::scope(|scope| {
                let kernel = scope.spawn(|| self.find());
                let injector = vm::injector()?;
                let kernel = kernel.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                anyhow::Ok((injector, Some(kernel)))
            })?
        } else {
            (vm::injector()?, None)
        };
        if !self.guest {
            match host(&injector) {
                Host::Ready(mut command) => {
                    command.args(&self.arguments);
                    eprintln!("run: this kernel can be injected into: {}", process::shown(&command));
                    let status =
                        command.status().with_context(|| format!("can't start {}", process::shown(&command)))?;
                    return Ok(status.code().unwrap_or(1));
                }
                Host::No(why) => eprintln!("run: {why}; using a guest with kernel {}", self.kernel),
            }
        }
        let (kernel, contents) = kernel.map_or_else(|| self.find(), Ok)?;
        let scripts_only = !self.arguments.iter().any(|word| guest_root::is_workload_program(word));
        let root = guest_root::build(&Contents { injector: Some(injector), scripts_only, ..contents })?;
        let guest = Guest::new(&kernel, &root)?;
        let mut spec = guest.machine(&self.kernel.to_string())?;
        spec.memory_mb = 2048;
        vm::boot(&spec, &injector_guest::Command::new(guest_command(&self.arguments)))
    }

    /// The guest's kernel, and what its root gets of it.
    fn find(&self) -> Result<(Found, Contents)> {
        let kernel = self.kernel.find()?;
        let contents = kernel.contents_without_tests()?;
        Ok((kernel, contents))
    }
}

/// Whether this machine's kernel has the injector's own hooks or the module; `injector check` knows more.
fn may_be_ready() -> bool {
    let release = nix::sys::utsname::uname().map(|names| names.release().to_owned()).unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release);
    let is_module = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("injector_hooks.ko");
    let has_module = |directory: &str| {
        let entries = std::fs::read_dir(modules.join(directory));
        entries.is_ok_and(|entries| entries.flatten().any(|entry| is_module(&entry)))
    };
    Path::new("/sys/kernel/debug/error_injection/list").exists()
        || Path::new("/sys/module/injector_hooks").exists()
        || ["updates", "updates/dkms", "extra"].iter().any(|directory| has_module(directory))
}

/// Whether this machine's kernel can be injected into.
enum Host {
    /// It can: this command runs the injector as root.
    Ready(Command),
    /// It cannot, for this reason.
    No(String),
}

fn host(injector: &Path) -> Host {
    let root = nix::unistd::geteuid().is_root();
    let command = || {
        let mut command = Command::new(if root { injector.as_os_str() } else { "sudo".as_ref() });
        if !root {
            // -n: sudo never asks for a password, since a guest needs none.
            command.arg("-n").arg(injector);
        }
        command
    };
    match command().arg("check").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Host::Ready(command()),
        Ok(_) if !root => Host::No(format!(
            "not root, or this kernel can't be injected into (sudo {} check says why)",
            injector.display()
        )),
        Ok(_) => Host::No(format!("this kernel can't be injected into ({} check says why)", injector.display())),
        Err(error) => Host::No(format!("can't run {}: {error}", process::shown(&command()))),
    }
}

/// The injector itself if its arguments name a command or another verb; else the demo.
fn guest_command(arguments: &[String]) -> Vec<String> {
    let verb = arguments.first().is_some_and(|word| !word.starts_with('-'));
    let has_command = arguments.iter().any(|word| word == "--");
    let asks = arguments.iter().any(|word| matches!(word.as_str(), "-h" | "--help" | "-V" | "--version"));
    let program = if verb || has_command || asks { "/usr/bin/injector" } else { DEMO };
    std::iter::once(program.to_owned()).chain(arguments.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let command = guest_command(&arguments);
        assert_eq!(command[1..], arguments);
        command[0].clone()
    }

    #[test]
    fn the_demo_is_for_runs_without_a_command() {
        assert_eq!(program(&["--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01"]), DEMO);
        assert_eq!(program(&["--prob", "1", "--", "true"]), "/usr/bin/injector");
        assert_eq!(program(&["check", "--json"]), "/usr/bin/injector");
        assert_eq!(program(&["--help"]), "/usr/bin/injector");
    }
}
