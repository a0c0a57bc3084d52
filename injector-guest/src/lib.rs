//! Runs a command under a kernel: in a guest of QEMU or virtme-ng, or on this machine.
//!
//! ```no_run
//! use injector_guest::{Command, Engine, GuestSpec, Initramfs, Streams, engines::Qemu};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut root = Initramfs::new("target/release/injector-init".as_ref())?;
//! root.program("/bin/busybox".as_ref(), "/bin/busybox")?;
//! root.symlink("/bin/sh", "busybox");
//! root.write("/tmp/root.cpio".as_ref())?;
//! let spec = GuestSpec::new("bzImage".as_ref(), vec!["/tmp/root.cpio".into()]);
//! let run = Qemu.run(&spec, &Command::new(["/bin/sh", "-c", "uname -r"]), Streams::inherit())?;
//! println!("{}", run.end);
//! # Ok(())
//! # }
//! ```
//!
//! [`GuestSpec`] (with an [`Initramfs`], where the engine needs one) and [`Command`] go to an [`Engine`]; the [`engines`] are a
//! table. In a guest, [`init`] runs the command, as PID 1 or as an agent, and talks [`protocol`] over virtio ports. On the host
//! the `host` module listens to those and to the kernel's [`console`], until the [`GuestEnd`] is known. The command may send data
//! that must not be lost through a [`DataPort`].

mod accelerator;
pub mod console;
pub mod cpio;
mod drain;
pub mod end;
pub mod engine;
pub mod engines;
mod host;
pub mod init;
pub mod initramfs;
pub mod libraries;
pub mod port;
pub mod protocol;
pub mod root;
pub mod spec;
pub mod streams;

pub use end::{GuestEnd, GuestRun};
pub use engine::{BootError, Engine, Root};
pub use engines::EngineChoice;
pub use initramfs::Initramfs;
pub use port::DataPort;
pub use protocol::Command;
pub use spec::{Accelerator, Clock, GuestSpec};
pub use streams::Streams;
