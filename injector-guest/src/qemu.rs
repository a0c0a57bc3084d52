//! QEMU's command line, and the process.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::machine::Machine;
use crate::protocol::{CONTROL_PORT, DATA_PORT, SHARE_TAG, STDERR_PORT, STDOUT_PORT};

/// The binary.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Software.
    Tcg,
    /// The host's processor.
    Kvm,
}

/// Sockets that QEMU connects to, one per port.
pub struct Sockets<'a> {
    pub stdout: &'a Path,
    pub stderr: &'a Path,
    pub control: &'a Path,
    pub data: &'a Path,
}

/// The arguments for one boot.
pub fn arguments(machine: &Machine, engine: Engine, initrd: &Path, sockets: &Sockets<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    match engine {
        // One thread for all processors: with one each, a kernel that patches its code (a kprobe is put on a function that
        // another processor is in) ran stale translations and crashed, without any injector (QEMU 7.2, Linux 6.12).
        Engine::Tcg => add(&["-machine", "pc", "-accel", "tcg,thread=single", "-cpu", "max"]),
        Engine::Kvm => add(&["-machine", "pc", "-accel", "kvm", "-cpu", "host"]),
    }
    // Counting instructions: time is what the guest executed; with one processor it repeats to a tenth of a percent.
    if machine.icount {
        add(&["-icount", "shift=0,sleep=off"]);
    }
    add(&["-smp", &machine.cpus.to_string(), "-m", &format!("{}M", machine.memory_mb)]);
    add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    add(&["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
    let Sockets { stdout, stderr, control, data } = sockets;
    let ports = [(STDOUT_PORT, stdout), (STDERR_PORT, stderr), (CONTROL_PORT, control), (DATA_PORT, data)];
    for (number, (name, path)) in (1..).zip(ports) {
        add(&["-chardev", &format!("socket,id=port{number},path={}", escaped(path))]);
        add(&["-device", &format!("virtserialport,nr={number},chardev=port{number},name={name}")]);
    }
    if let Some(share) = &machine.share {
        let path = escaped(share);
        add(&["-virtfs", &format!("local,path={path},mount_tag={SHARE_TAG},security_model=none")]);
    }
    // An emulated timer that is late, on a busy machine, is not a broken one.
    let mut append = "console=ttyS0 quiet panic=-1 no_timer_check".to_owned();
    for word in &machine.append {
        append.push(' ');
        append.push_str(word);
    }
    add(&["-append", &append]);
    arguments.extend([OsString::from("-kernel"), machine.kernel.clone().into()]);
    arguments.extend([OsString::from("-initrd"), initrd.into()]);
    arguments
}

/// Starts QEMU: its standard output is the guest's console, standard error is its own.
pub fn start(arguments: &[OsString]) -> io::Result<Child> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C is for the command in the guest, not for QEMU.
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe, and nothing is allocated between fork and exec.
    unsafe {
        // Not outliving us, however we end.
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
    }
    command.spawn()
}

/// In QEMU's options a comma is doubled.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(machine: &Machine, engine: Engine) -> String {
        let path = Path::new("/tmp/s");
        let sockets = Sockets { stdout: path, stderr: path, control: path, data: path };
        let words = arguments(machine, engine, Path::new("/tmp/initrd"), &sockets);
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn instructions_are_counted_on_any_number_of_cpus() {
        let mut machine = Machine::new("bzImage".as_ref(), Vec::new());
        machine.cpus = 4;
        assert!(words(&machine, Engine::Tcg).contains("-smp 4 "));
        machine.icount = true;
        let counted = words(&machine, Engine::Tcg);
        assert!(counted.contains("-icount shift=0,sleep=off -smp 4 "), "{counted}");
    }

    #[test]
    fn commas_in_a_shared_path_are_doubled() {
        let mut machine = Machine::new("bzImage".as_ref(), Vec::new());
        machine.share = Some("/data/a,b".into());
        assert!(words(&machine, Engine::Kvm).contains("path=/data/a,,b,mount_tag"));
    }
}
