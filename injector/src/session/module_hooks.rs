//! The hooks that the module injector_hooks makes for this process: for as long as its device is open.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
};

use crate::kernel::{KernelFiles, hooks_module};
use crate::plan::Hook;

/// The device.
const DEVICE: &str = "/dev/injector_hooks";

/// The open device. Closing it unhooks what was hooked, if nobody else wants it; if the process dies, the kernel closes it.
#[derive(Debug)]
pub(super) struct ModuleHooks {
    _device: File,
    /// Calls of each hook that the module had not asked about before.
    missed_before: Vec<(Hook, u64)>,
}

/// Why the module does not hook something.
#[derive(Debug, thiserror::Error)]
pub enum ModuleHooksError {
    /// No device.
    #[error("{DEVICE} can't be opened: {0}; is devtmpfs mounted on /dev?")]
    Device(io::Error),
    /// Another one may change where the function goes on.
    #[error(
        "the module injector_hooks can't hook {function}: something else has changed it, or ftrace is off; look for live patches in /sys/kernel/livepatch and at kernel.ftrace_enabled"
    )]
    Busy {
        /// The function.
        function: String,
    },
    /// Something else.
    #[error("the module injector_hooks can't hook {function}: {error}")]
    Function {
        /// The function.
        function: String,
        /// What the kernel says.
        error: io::Error,
    },
}

crate::exit::has_exit_code!(ModuleHooksError => MISSING);

impl ModuleHooks {
    /// Has the module hook what these hooks need. Nothing is asked before a program is attached to a tracepoint.
    pub(super) fn open(hooks: &[Hook]) -> Result<Self, ModuleHooksError> {
        let mut device = OpenOptions::new().read(true).write(true).open(DEVICE).map_err(ModuleHooksError::Device)?;
        let names: Vec<&str> = hooks.iter().map(|hook| hook.name()).collect();
        // In one piece: what it has of a name is a name.
        let written = device.write_all(names.join(" ").as_bytes());
        written.map_err(|error| {
            let mut function = String::new();
            let _ = device.read_to_string(&mut function);
            if error.raw_os_error() == Some(libc::EBUSY) {
                ModuleHooksError::Busy { function }
            } else {
                ModuleHooksError::Function { function, error }
            }
        })?;
        let missed = |hook: &Hook| (*hook, hooks_module::missed(&KernelFiles::default(), *hook));
        Ok(Self { _device: device, missed_before: hooks.iter().map(missed).collect() })
    }

    /// How many calls of a hook the module has not asked about since, whoever made them.
    pub(super) fn missed(&self, hook: Hook) -> u64 {
        let before = self.missed_before.iter().find(|(of, _)| *of == hook);
        let missed = |before: u64| hooks_module::missed(&KernelFiles::default(), hook).saturating_sub(before);
        before.map_or(0, |(_, before)| missed(*before))
    }
}
