//! What an engine boots, how large it is, and how long it may take.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Begins the name of the temporary directory that a running guest has. It stays behind if the injector is killed.
pub const DIRECTORY_PREFIX: &str = "injector-guest-";

/// Whether a guest's instructions are emulated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// They are emulated, which always works.
    #[default]
    Emulation,
    /// They run under KVM if a trial boot shows that it works. The result is kept in this directory.
    Auto(PathBuf),
}

/// What a guest's clock counts. Only QEMU's emulation has another one than the host's time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The host's time.
    #[default]
    Host,
    /// Executed instructions, a nanosecond each: for measurements that repeat. The guest is emulated, KVM or not.
    Instructions,
    /// Where the guest is emulated: executed instructions, [`VIRTUAL_SHIFT`]. Waiting takes no time: when no processor has
    /// anything to do, the clock jumps to the next timer. Under KVM the host's time.
    Virtual,
}

/// One instruction takes two to the power of this nanoseconds of virtual time.
pub const VIRTUAL_SHIFT: u32 = 2;

/// A guest that an engine can boot. One value boots as often as wanted.
#[derive(Debug, Clone)]
pub struct GuestSpec {
    /// The kernel's image (bzImage). An engine that boots nothing ignores it.
    pub kernel: PathBuf,
    /// Images of the root, unpacked one after the other. An engine whose guests have this machine's files ignores them.
    pub images: Vec<PathBuf>,
    /// Number of processors; none: see [`GuestSpec::processors`].
    pub cpus: Option<u32>,
    /// Memory in MiB; a root in memory takes part of it.
    pub memory_mb: u32,
    /// A directory of the host that QEMU mounts at `/share`.
    pub share: Option<PathBuf>,
    /// More words for the kernel's command line.
    pub append: Vec<String>,
    /// More devices, as QEMU's `-device` names them. One that begins with `-` is another option of QEMU's with its value.
    pub devices: Vec<String>,
    /// What its clock counts.
    pub clock: Clock,
    /// Emulation or KVM.
    pub accelerator: Accelerator,
    /// How long the command may take.
    pub timeout: Option<Duration>,
    /// How long the guest may show no sign of life.
    pub stall: Duration,
    /// How long booting may take.
    pub boot_timeout: Duration,
    /// A file that gets the kernel's console.
    pub console_log: Option<PathBuf>,
    /// Files that are there before the command starts: path and content. Where the command sees this machine's files, the
    /// engine writes them on this machine, and the caller removes them.
    pub files: Vec<(String, Vec<u8>)>,
}

impl GuestSpec {
    /// A guest with 1 GiB of memory, and no limit to the command's time.
    pub fn new(kernel: &Path, images: Vec<PathBuf>) -> Self {
        Self {
            kernel: kernel.to_owned(),
            images,
            cpus: None,
            memory_mb: 1024,
            share: None,
            append: Vec::new(),
            devices: Vec::new(),
            clock: Clock::default(),
            accelerator: Accelerator::default(),
            timeout: None,
            // Emulated guests are slow, and a kernel under test may be busy with nothing else for a while.
            stall: Duration::from_secs(60),
            boot_timeout: Duration::from_secs(180),
            console_log: None,
            files: Vec::new(),
        }
    }

    /// QEMU's arguments for the devices.
    pub(crate) fn device_arguments(&self) -> Vec<String> {
        let words = |device: &String| match device.split_once(' ') {
            Some((option, value)) if option.starts_with('-') => [option.to_owned(), value.trim().to_owned()],
            _ => ["-device".to_owned(), device.clone()],
        };
        self.devices.iter().flat_map(words).collect()
    }

    /// How many processors the guest has: as many as were asked for; otherwise one in virtual time, and two.
    ///
    /// In virtual time QEMU before 8.1 begins with the first processor again whenever a timer fires, so others that are to run
    /// wait as long as the first one spins: 6.1 does not boot with two (it waits for the second in do_boot_cpu(),
    /// arch/x86/kernel/smpboot.c).
    pub(crate) fn processors(&self, emulated: bool) -> u32 {
        let virtual_time = emulated && self.clock == Clock::Virtual;
        self.cpus.unwrap_or(if virtual_time { 1 } else { 2 })
    }
}
