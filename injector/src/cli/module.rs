//! `injector module`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::module_setup::Request;

const LONG: &str = "\
Build, install and load the kernel module injector_hooks

Most distributions' kernels don't let eBPF programs override calls. On these, the injector needs the module injector_hooks. It \
hooks the allocators by ftrace and asks the injector's programs. Loading it changes nothing until a run is armed. The injector \
loads it on demand, once it is installed.

The module's sources are part of this program. Building needs the kernel's headers, make and a compiler.";

const AFTER: &str = "\
Examples:
  injector module install                       build it for the running kernel, and install it
  injector module install --dkms                let DKMS build it, also for kernels to come
  injector module build --kernel linux/ -o .    build it for a kernel of your own
  injector module remove                        unload and remove it

Exit codes: 0 success; 1 the build failed; 2 wrong input; 3 something is missing here, or forbids it";

/// Build, install and load the kernel module that makes a distribution's kernel injectable
#[derive(Args)]
#[command(long_about = LONG, after_long_help = AFTER)]
pub(super) struct ModuleArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build it
    Build {
        #[command(flatten)]
        kernel: KernelArg,

        /// Write it to this file or into this directory
        #[arg(short, long, value_name = "FILE", default_value = "injector_hooks.ko")]
        output: PathBuf,
    },
    /// Build it and install it into /lib/modules/RELEASE/updates
    Install {
        #[command(flatten)]
        kernel: KernelArg,

        /// Write its sources to /usr/src, and have DKMS build and install it
        #[arg(long)]
        dkms: bool,

        /// Install it below this directory, as packages do
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Load it, if it is installed
    Load,
    /// Say whether it is installed and loaded, and what it hooks here
    Status,
    /// Unload and remove it, and take it from DKMS
    Remove {
        /// The kernel's release, as `uname -r` says it [default: the running kernel]
        #[arg(long, value_name = "RELEASE")]
        kernel: Option<String>,

        /// Remove it from below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
}

/// Which kernel it is built for.
#[derive(Args)]
struct KernelArg {
    /// A kernel's release, or the directory of its headers or build tree [default: the running kernel]
    ///
    /// What has a slash is a directory.
    #[arg(long, value_name = "RELEASE|DIR")]
    kernel: Option<String>,
}

impl ModuleArgs {
    pub(super) fn into_request(self) -> Request {
        match self.verb {
            Verb::Build { kernel: KernelArg { kernel }, output } => Request::Build { kernel, output },
            Verb::Install { kernel: KernelArg { kernel }, dkms, root } => Request::Install { kernel, dkms, root },
            Verb::Load => Request::Load,
            Verb::Status => Request::Status,
            Verb::Remove { kernel, root } => Request::Remove { kernel, root },
        }
    }
}
