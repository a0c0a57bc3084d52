//! How hooks are attached.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::foreign::Foreign;

/// How hooks are attached: `--backend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// By fmod_ret where the kernel has it, is not preempted itself, and the value to return is not 0 or NULL; else by a kprobe,
    /// if it can; else by the module.
    #[default]
    Auto,
    /// By BPF_MODIFY_RETURN trampolines.
    FmodRet,
    /// By kprobes and bpf_override_return().
    Kprobe,
    /// By the module injector_hooks.
    Module,
}

/// There is no such backend.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no backend `{0}`; backends are: auto, fmod-ret, kprobe, module")]
pub struct UnknownBackend(Foreign);

impl Backend {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::FmodRet, Self::Kprobe, Self::Module];

    /// The name that options have for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::FmodRet => "fmod-ret",
            Self::Kprobe => "kprobe",
            Self::Module => "module",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|backend| backend.name() == text).ok_or_else(|| UnknownBackend(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        let error = "fmod_ret".parse::<Backend>().unwrap_err();
        assert_eq!(error.to_string(), "there is no backend `fmod_ret`; backends are: auto, fmod-ret, kprobe, module");
    }
}
