//! `cargo xtask setup`: installs what is missing, or says how.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use injector_build::Toolchain;

use crate::kernel::{NEWEST, Spec};
use crate::packages::Group;
use crate::process;

/// Exit status when something must be installed first and this process may not do it.
pub const EXIT_MISSING: i32 = 3;

/// The LLVM that Debian's rustc-web is built with; bpf-linker must be built with the same.
const LLVM: &str = "22";

/// Something that only root can install.
#[derive(Debug)]
pub struct NeedsInstall {
    packages: Vec<String>,
}

impl NeedsInstall {
    fn install_command(&self) -> String {
        format!("apt-get install -y --no-install-recommends {}", self.packages.join(" "))
    }
}

impl fmt::Display for NeedsInstall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packages are missing; install them with:\n  sudo {}", self.install_command())
    }
}

impl std::error::Error for NeedsInstall {}

#[derive(Debug, Args)]
pub struct Setup {
    /// What to set up: ebpf (compile the eBPF programs), kernel (build guest kernels), guest (boot guests); default: all
    #[arg(value_name = "PART", value_parser = ["ebpf", "kernel", "guest"])]
    parts: Vec<String>,
}

impl Setup {
    pub fn run(&self) -> Result<()> {
        let wanted = |part: &str| self.parts.is_empty() || self.parts.iter().any(|name| name == part);
        let mut groups = Vec::new();
        if wanted("ebpf") && Toolchain::find().is_err() {
            groups.push(Group::Ebpf);
        }
        if wanted("kernel") {
            // A kernel that is built already is only wanted for its modules.
            if Spec::plain(NEWEST).cached().is_none() {
                groups.push(Group::Kernel);
            }
            groups.push(Group::Module);
        }
        if wanted("guest") {
            groups.push(Group::Guest);
        }
        // One call for all packages: without root, one command to copy.
        packages(&groups)?;
        if wanted("ebpf") {
            toolchain()?;
        }
        eprintln!("setup: all there");
        Ok(())
    }
}

/// The eBPF toolchain, set up if it is not there.
pub fn toolchain() -> Result<Toolchain> {
    if let Ok(toolchain) = Toolchain::find() {
        return Ok(toolchain);
    }
    packages(&[Group::Ebpf])?;
    if let Ok(toolchain) = Toolchain::find() {
        return Ok(toolchain);
    }
    build_linker()?;
    Ok(Toolchain::find()?)
}

/// rustfmt and clippy, which a minimal installation of Rust lacks.
pub fn rust_components() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let there =
            process::cargo().args([subcommand, "--version"]).output().is_ok_and(|output| output.status.success());
        if !there {
            eprintln!("setup: rustup component add {component}");
            process::run(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn build_linker() -> Result<()> {
    eprintln!("setup: building bpf-linker (half a minute, once)");
    let feature = format!("llvm-{LLVM}");
    let mut cargo = install_tool("bpf-linker", "^0.13");
    cargo
        .args(["--no-default-features", "--features", &feature])
        // The work is LLVM's. Of its own code little runs, and it is compiled in half the time.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        // Read by its build script; without it, it looks for llvm-config along PATH.
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
    process::run(&mut cargo).context("bpf-linker could not be built")
}

/// cargo-deb, built if it is not there.
pub fn cargo_deb() -> Result<PathBuf> {
    let own = injector_build::tools_dir().join("bin/cargo-deb");
    if own.is_file() {
        return Ok(own);
    }
    if let Some(installed) = process::find_program("cargo-deb") {
        return Ok(installed);
    }
    eprintln!("setup: building cargo-deb (about 2 minutes, once)");
    process::run(&mut install_tool("cargo-deb", "^3.8")).context("cargo-deb could not be built")?;
    Ok(own)
}

/// `cargo install`, into the project's own directory.
fn install_tool(name: &str, version: &str) -> Command {
    let mut cargo = process::cargo();
    cargo
        .args(["install", name, "--version", version, "--locked", "--root"])
        .arg(injector_build::tools_dir())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    cargo
}

/// Installs what is missing of these groups: as root with apt-get, else the error has the command.
pub fn packages(groups: &[Group]) -> Result<()> {
    let mut missing: Vec<String> = groups.iter().flat_map(|group| group.missing()).collect();
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let needs = NeedsInstall { packages: missing };
    if process::find_program("apt-get").is_none() {
        bail!("this machine has no apt-get; install what these Debian packages contain: {}", needs.packages.join(" "));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(needs.into());
    }
    eprintln!("setup: {}", needs.install_command());
    let _services = NoServices::new();
    if install(&needs.packages).is_err() {
        // Lists that are old, or not there at all, as on a fresh machine.
        eprintln!("setup: apt-get update");
        process::run(Command::new("apt-get").args(["update", "-q"]))?;
        install(&needs.packages)?;
    }
    let still: Vec<String> = groups.iter().flat_map(|group| group.missing()).collect();
    if !still.is_empty() {
        bail!("installed, but not found: {}; does this system follow Debian's paths?", still.join(" "));
    }
    Ok(())
}

fn install(packages: &[String]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    process::run(&mut apt)
}

/// Keeps packages that bring daemons (rpcbind, the NFS server) from starting them on this machine: only the guest is
/// to run them. Debian asks /usr/sbin/policy-rc.d; where the administrator has one, it decides.
struct NoServices {
    placed: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Self {
        let place = || -> std::io::Result<()> {
            fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755))
        };
        Self { placed: !Path::new(Self::POLICY).exists() && place().is_ok() }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.placed {
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_root_the_message_has_the_exact_command() {
        let needs = NeedsInstall { packages: vec!["flex".to_owned(), "bison".to_owned()] };
        assert!(needs.to_string().ends_with("\n  sudo apt-get install -y --no-install-recommends flex bison"));
    }
}
