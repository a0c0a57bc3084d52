//! QEMU, with the guest's root in memory.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process;

use crate::accelerator;
use crate::end::{GuestEnd, GuestRun};
use crate::engine::{BootError, Engine, Root, file_error};
use crate::host::ports::{Ports, escaped};
use crate::host::process::ConsoleAt;
use crate::host::{self, Launch};
use crate::initramfs::Initramfs;
use crate::protocol::{self, COMMAND_FILE, Command, SHARE_TAG, VIRTUAL_TIME};
use crate::spec::{Clock, GuestSpec, VIRTUAL_SHIFT};
use crate::streams::Streams;

const PROGRAM: &str = "qemu-system-x86_64";
const REMEDY: &str = "Debian: apt-get install --no-install-recommends qemu-system-x86 seabios";

/// Boots the spec's kernel in QEMU; its images are the guest's root.
#[derive(Debug, Clone, Copy)]
pub struct Qemu;

impl Engine for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn about(&self) -> &'static str {
        "QEMU, with a root in memory"
    }

    fn boots(&self) -> bool {
        true
    }

    fn root(&self) -> Root {
        Root::Images
    }

    fn run(&self, spec: &GuestSpec, command: &Command, streams: Streams) -> Result<GuestRun, BootError> {
        // Any command will do for a trial: it shows that one can be started. A root without this file still reports a status.
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
    let directory = host::directory()?;
    let initrd = directory.path().join("initrd");
    let mut command = command.clone();
    if spec.clock == Clock::Virtual && !kvm {
        command = command.env(VIRTUAL_TIME, "1");
    }
    write_initrd(spec, &initrd, &command)?;
    let ports = Ports::listen(directory.path())?;
    let mut process = process::Command::new(PROGRAM);
    process.args(arguments(spec, kvm, &initrd, &ports.arguments()));
    host::run(spec, Launch { process, program: PROGRAM, remedy: REMEDY, console: ConsoleAt::Stdout }, &ports, streams)
}

/// The spec's images, the command and the spec's files, as one image.
fn write_initrd(spec: &GuestSpec, path: &Path, command: &Command) -> Result<(), BootError> {
    let mut initrd = file_error(path, File::create(path))?;
    for image in &spec.images {
        let mut image_file = file_error(image, File::open(image))?;
        file_error(image, io::copy(&mut image_file, &mut initrd))?;
    }
    let command = Command { share: spec.share.is_some(), ..command.clone() };
    let mut overlay = Initramfs::overlay();
    overlay.text(COMMAND_FILE, &String::from_utf8_lossy(&protocol::encode(&command)));
    for (path, content) in &spec.files {
        overlay.bytes(path, content);
    }
    overlay.write_to(initrd)?;
    Ok(())
}

/// The arguments for one boot.
fn arguments(spec: &GuestSpec, kvm: bool, initrd: &Path, ports: &[String]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    if kvm {
        add(&["-machine", "pc", "-accel", "kvm", "-cpu", "host"]);
    } else {
        // One thread for all processors: with one each, a kernel that patches its code (a kprobe is put on a function that
        // another processor is in) ran stale translations and crashed, without any injector (QEMU 7.2, Linux 6.12).
        add(&["-machine", "pc", "-accel", "tcg,thread=single", "-cpu", "max"]);
    }
    // Counting instructions: time is what the guest executed; with one processor it repeats to a tenth of a percent.
    match spec.clock {
        Clock::Instructions => add(&["-icount", "shift=0,sleep=off"]),
        Clock::Virtual if !kvm => add(&["-icount", &format!("shift={VIRTUAL_SHIFT},sleep=off")]),
        Clock::Virtual | Clock::Host => {}
    }
    add(&["-smp", &spec.processors(!kvm).to_string(), "-m", &format!("{}M", spec.memory_mb)]);
    add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    add(&["-device", "virtio-rng-pci"]);
    add(&ports.iter().map(String::as_str).collect::<Vec<_>>());
    add(&spec.device_arguments().iter().map(String::as_str).collect::<Vec<_>>());
    if let Some(share) = &spec.share {
        let path = escaped(share);
        add(&["-virtfs", &format!("local,path={path},mount_tag={SHARE_TAG},security_model=none")]);
    }
    // An emulated timer that is late, on a busy machine, is not a broken one.
    let mut append = "console=ttyS0 quiet panic=-1 no_timer_check".to_owned();
    for word in &spec.append {
        append.push(' ');
        append.push_str(word);
    }
    add(&["-append", &append]);
    arguments.extend([OsString::from("-kernel"), spec.kernel.clone().into()]);
    arguments.extend([OsString::from("-initrd"), initrd.into()]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(spec: &GuestSpec, kvm: bool) -> String {
        let ports = ["-device".to_owned(), "PORTS".to_owned()];
        let words = arguments(spec, kvm, Path::new("/tmp/initrd"), &ports);
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn instructions_are_counted_on_any_number_of_cpus() {
        let mut spec = GuestSpec::new("bzImage".as_ref(), Vec::new());
        spec.cpus = Some(4);
        assert!(words(&spec, false).contains("-smp 4 "));
        spec.clock = Clock::Instructions;
        let counted = words(&spec, false);
        assert!(counted.contains("-icount shift=0,sleep=off -smp 4 "), "{counted}");
        spec.clock = Clock::Virtual;
        assert!(words(&spec, false).contains("-icount shift=2,sleep=off -smp 4 "));
        spec.cpus = None;
        assert!(words(&spec, false).contains("-icount shift=2,sleep=off -smp 1 "));
        assert!(words(&spec, true).contains("-smp 2 "));
        assert!(!words(&spec, true).contains("-icount"), "KVM has no such clock");
    }

    #[test]
    fn commas_in_a_shared_path_are_doubled() {
        let mut spec = GuestSpec::new("bzImage".as_ref(), Vec::new());
        spec.share = Some("/data/a,b".into());
        assert!(words(&spec, true).contains("path=/data/a,,b,mount_tag"));
    }

    #[test]
    fn devices_come_with_what_is_behind_them() {
        let mut spec = GuestSpec::new("bzImage".as_ref(), Vec::new());
        spec.devices =
            vec!["-drive if=none,id=d,driver=null-co,size=64M".to_owned(), "nvme,serial=1,drive=d".to_owned()];
        let words = words(&spec, false);
        assert!(
            words.contains("PORTS -drive if=none,id=d,driver=null-co,size=64M -device nvme,serial=1,drive=d -append")
        );
    }

    #[test]
    fn the_command_line_is_as_expected() {
        let spec =
            GuestSpec { append: vec!["kasan_multi_shot".to_owned()], ..GuestSpec::new("bzImage".as_ref(), Vec::new()) };
        assert_eq!(
            words(&spec, false),
            "-nodefaults -no-user-config -no-reboot -display none -machine pc -accel tcg,thread=single -cpu max -smp 2 \
             -m 1024M -chardev stdio,id=console,signal=off -serial chardev:console -device virtio-rng-pci -device PORTS \
             -append console=ttyS0 quiet panic=-1 no_timer_check kasan_multi_shot -kernel bzImage -initrd /tmp/initrd"
        );
    }
}
