//! `--backend`, which all have that attach something.

use clap::Args;

use crate::plan::Backend;

#[derive(Args)]
pub(super) struct BackendArg {
    /// How hooks are attached: auto, fmod-ret, kprobe [default: auto]
    ///
    /// fmod-ret costs half of what a kprobe does and needs no CONFIG_BPF_KPROBE_OVERRIDE, but can't return 0 or NULL, nor be
    /// attached to functions of modules, and on a preemptible kernel it misses calls, which the summary counts. auto takes it
    /// on kernels that are not preemptible or have no other way.
    #[arg(long, value_name = "BACKEND", env = "INJECTOR_BACKEND", hide_env_values = true, help_heading = "Backend")]
    pub(super) backend: Option<Backend>,
}
