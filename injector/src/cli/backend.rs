//! `--backend`, for all verbs that attach programs.

use clap::Args;

use crate::plan::Backend;

#[derive(Args)]
pub(super) struct BackendArg {
    /// How hooks are attached: auto, fmod-ret, kprobe, module [default: auto]
    ///
    /// fmod-ret costs half as much as kprobe and needs no CONFIG_BPF_KPROBE_OVERRIDE. But it can't return 0 or NULL, can't be
    /// attached to functions of modules, and misses calls on a preemptible kernel; the summary counts those. auto chooses fmod-ret
    /// on kernels that are not preemptible, and where kprobe is not possible. module needs the kernel module injector_hooks, and
    /// nothing else of the kernel's error injection; auto chooses it for hooks that the kernel does not let be overridden. It is
    /// loaded if it is installed.
    #[arg(long, value_name = "BACKEND", env = "INJECTOR_BACKEND", hide_env_values = true, help_heading = "Backend")]
    pub(super) backend: Option<Backend>,
}
