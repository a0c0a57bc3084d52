//! virtme-ng: boots a kernel with this machine's files as its root, over 9p, as many kernel developers do.
//!
//! Nothing of virtme-ng's own input and output is used but the kernel's console: without udev its ports are not found, and it
//! rewrites plain files that it writes to. The command's output goes through ports of ours, as in QEMU, and an agent in the guest
//! reports the command's status.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process;

use crate::accelerator;
use crate::end::{GuestEnd, GuestRun};
use crate::engine::{BootError, Engine, Root, file_error, write_files};
use crate::host::ports::Ports;
use crate::host::process::ConsoleAt;
use crate::host::{self, Launch};
use crate::protocol::{self, AGENT_COMMAND, Command};
use crate::spec::GuestSpec;
use crate::streams::Streams;

const PROGRAM: &str = "vng";
const REMEDY: &str = "virtme-ng: pip install virtme-ng, or Debian: apt-get install virtme-ng qemu-system-x86 seabios";

/// Boots the spec's kernel by virtme-ng.
#[derive(Debug, Clone, Copy)]
pub struct VirtmeNg;

impl Engine for VirtmeNg {
    fn name(&self) -> &'static str {
        "virtme-ng"
    }

    fn about(&self) -> &'static str {
        "virtme-ng (vng), with this machine's files, read-only"
    }

    fn boots(&self) -> bool {
        true
    }

    fn root(&self) -> Root {
        Root::Host
    }

    /// After a failure in p9_client_clunk() the guest and QEMU disagree about file handles, and every later exec fails. Reads
    /// of 9p go through netfs, without a frame of 9p in their stacks.
    fn spared(&self) -> &'static [&'static str] {
        &["p9_*", "v9fs_*", "netfs_*"]
    }

    fn run(&self, spec: &GuestSpec, command: &Command, streams: Streams) -> Result<GuestRun, BootError> {
        let choice = accelerator::choose(spec, |trial| {
            let run = boot(trial, true, &Command::new(["/bin/true"]), Streams::discard());
            matches!(run, Ok(GuestRun { end: GuestEnd::Exited(_), .. }))
        });
        let run = boot(spec, choice.kvm, command, streams);
        if run.is_ok() {
            choice.confirm();
        }
        run
    }
}

fn boot(spec: &GuestSpec, kvm: bool, command: &Command, streams: Streams) -> Result<GuestRun, BootError> {
    write_files(spec)?;
    // The guest sees this machine's /tmp, but not its /var/tmp or /run.
    let made = tempfile::Builder::new().prefix(crate::spec::DIRECTORY_PREFIX).tempdir_in("/tmp");
    let directory = file_error(Path::new("/tmp"), made)?;
    let here = file_error(Path::new("."), std::env::current_dir())?;
    let command = Command {
        directory: command.directory.clone().or_else(|| Some(here.to_string_lossy().into_owned())),
        ..command.clone()
    };
    let command_file = directory.path().join("command.json");
    file_error(&command_file, fs::write(&command_file, protocol::encode(&command)))?;
    let agent = std::env::current_exe().and_then(fs::canonicalize);
    let agent = file_error(Path::new("/proc/self/exe"), agent)?;
    let ports = Ports::listen(directory.path())?;
    let mut process = process::Command::new(PROGRAM);
    process.args(arguments(spec, kvm, &agent, &command_file, &ports.arguments()));
    host::run(spec, Launch { process, program: PROGRAM, remedy: REMEDY, console: ConsoleAt::Stderr }, &ports, streams)
}

/// The arguments for one boot.
fn arguments(spec: &GuestSpec, kvm: bool, agent: &Path, command: &Path, ports: &[String]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--run".into(), spec.kernel.clone().into()];
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    if !kvm {
        add(&["--disable-kvm"]);
    }
    // Our ports are PCI devices, which a microvm has not. The root is 9p also where virtiofs is there: `spared` is about 9p.
    add(&["--disable-microvm", "--force-9p"]);
    add(&[
        "--cpus",
        &spec.processors(false).to_string(),
        "--memory",
        &format!("{}M", spec.memory_mb),
        "--user",
        "root",
    ]);
    // Shows the console; `quiet` keeps the boot short.
    add(&["--verbose", "--append", "quiet", "--append", "no_timer_check"]);
    for word in &spec.append {
        add(&["--append", word]);
    }
    // It goes through a shell on its way to QEMU.
    let ports: Vec<String> = ports.iter().chain(&spec.device_arguments()).map(|word| quoted(word)).collect();
    add(&[&format!("--qemu-opts={}", ports.join(" "))]);
    // So does this, in the guest.
    let variable = format!("{AGENT_COMMAND}={}", command.display());
    add(&["--exec", &format!("exec env {} {}", quoted(&variable), quoted(&agent.to_string_lossy()))]);
    arguments
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-=,:+".contains(character);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(spec: &GuestSpec, kvm: bool, agent: &str) -> Vec<String> {
        let ports = ["-device".to_owned(), "virtserialport,name=x".to_owned()];
        let words = arguments(spec, kvm, agent.as_ref(), "/tmp/d/command.json".as_ref(), &ports);
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_command_line_is_as_expected() {
        let spec = GuestSpec {
            append: vec!["kasan_multi_shot".to_owned()],
            ..GuestSpec::new("b/bzImage".as_ref(), Vec::new())
        };
        assert_eq!(
            words(&spec, false, "/usr/bin/injector"),
            [
                "--run",
                "b/bzImage",
                "--disable-kvm",
                "--disable-microvm",
                "--force-9p",
                "--cpus",
                "2",
                "--memory",
                "1024M",
                "--user",
                "root",
                "--verbose",
                "--append",
                "quiet",
                "--append",
                "no_timer_check",
                "--append",
                "kasan_multi_shot",
                "--qemu-opts=-device virtserialport,name=x",
                "--exec",
                "exec env INJECTOR_AGENT_COMMAND=/tmp/d/command.json /usr/bin/injector",
            ]
        );
        assert!(!words(&spec, true, "/usr/bin/injector").contains(&"--disable-kvm".to_owned()));
    }

    #[test]
    fn words_for_a_shell_are_quoted() {
        assert_eq!(quoted("/a/b-c_d.e=f,g:h"), "/a/b-c_d.e=f,g:h");
        assert_eq!(quoted("it's here"), "'it'\\''s here'");
        let spec = GuestSpec::new("bzImage".as_ref(), Vec::new());
        assert!(words(&spec, false, "/my programs/injector").last().unwrap().ends_with(" '/my programs/injector'"));
    }

    #[test]
    fn a_machine_without_virtme_ng_says_how_to_get_it() {
        let error = BootError::Program { program: PROGRAM, remedy: REMEDY, error: std::io::ErrorKind::NotFound.into() };
        let text = error.to_string();
        assert!(text.starts_with("vng: ") && text.contains("pip install virtme-ng"), "{text}");
    }
}
