//! `cargo xtask run`: the injector's main job, here if this kernel allows it, else in a guest.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;

use crate::guest_root::{self, Contents};
use crate::module;
use crate::process;
use crate::vm::{self, Guest, KernelChoice};

/// Starts the injector, waits until it is armed, runs the workload, ends the injector: its summary is the end.
const DEMO: &str = "/workloads/run-demo.sh";

#[derive(Debug, Args)]
#[command(
    after_help = "Without a CMD after --, the guest runs a workload of its own while the injector works on the whole \
machine: NFS over loopback on ext4, and XFS.\n\nExample: cargo xtask run -- --gfp NOFS --order-lt 4 --prob 0.01"
)]
pub struct Run {
    /// Use a guest even if this machine's kernel can be injected into
    #[arg(long)]
    guest: bool,
    /// Guest kernel, as for `cargo xtask kernel` (7.3, 6.1-debug, 6.12.107-1~deb12u1…), or the path of a bzImage
    #[arg(long, default_value_t)]
    kernel: KernelChoice,
    /// What the injector is given; see injector --help
    #[arg(last = true, required = true, value_name = "INJECTOR-ARGS")]
    arguments: Vec<String>,
}

impl Run {
    pub fn run(&self) -> Result<i32> {
        let injector = vm::injector()?;
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
        let (image, kernel) = self.kernel.find()?;
        let modules = kernel.as_ref().map(module::build).transpose()?.unwrap_or_default();
        let root = guest_root::build(&Contents { injector: Some(injector), modules, ..Contents::default() })?;
        let guest = Guest::new(image, &root)?;
        let mut machine = guest.machine(&self.kernel.to_string())?;
        machine.memory_mb = 2048;
        vm::boot(&machine, &injector_guest::Command::new(guest_command(&self.arguments)))
    }
}

/// Whether this machine's kernel can be injected into.
enum Host {
    /// With the command that runs the injector as root.
    Ready(Command),
    No(String),
}

fn host(injector: &Path) -> Host {
    let root = nix::unistd::geteuid().is_root();
    let command = || {
        let mut command = Command::new(if root { injector.as_os_str() } else { "sudo".as_ref() });
        if !root {
            // Never asks for a password: the guest needs none.
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

/// The injector itself if it is given a command, or does something else than injecting.
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
