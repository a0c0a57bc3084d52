//! Runs a command in a guest: a Linux kernel in QEMU, with its root in memory.
//!
//! ```no_run
//! use injector_guest::{Command, Initramfs, Machine, Streams};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut root = Initramfs::new("target/release/injector-init".as_ref())?;
//! root.program("/bin/busybox".as_ref(), "/bin/busybox")?;
//! root.symlink("/bin/sh", "busybox");
//! root.write("/tmp/root.cpio".as_ref())?;
//! let machine = Machine::new("bzImage".as_ref(), vec!["/tmp/root.cpio".into()]);
//! let outcome = machine.boot(&Command::new(["/bin/sh", "-c", "uname -r"]), Streams::inherit())?;
//! println!("{}", outcome.verdict);
//! # Ok(())
//! # }
//! ```
//!
//! The way data goes: [`Initramfs`] (what the guest has) and [`Command`] (what it runs) become the image that
//! [`Machine::boot`] gives to QEMU. In the guest [`init`] is PID 1; it runs the command and talks [`protocol`] over virtio
//! ports. The host listens to those and to the kernel's [`console`], and ends with a [`Verdict`]. The command itself may
//! send data that must not be lost through a [`DataPort`].

pub mod accelerator;
pub mod console;
pub mod cpio;
mod data;
pub mod init;
pub mod initramfs;
pub mod libraries;
pub mod machine;
pub mod port;
pub mod protocol;
mod qemu;
pub mod root;
pub mod verdict;
mod watch;

pub use accelerator::Accelerator;
pub use initramfs::Initramfs;
pub use machine::{BootError, DIRECTORY_PREFIX, Machine, Streams};
pub use port::DataPort;
pub use protocol::Command;
pub use verdict::{Outcome, Verdict};
