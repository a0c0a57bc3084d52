//! The engines. To add one, write its file and give it a line in [`ENGINES`].

mod here;
mod qemu;
mod virtme_ng;

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use crate::engine::Engine;

pub use here::Here;
pub use qemu::Qemu;
pub use virtme_ng::VirtmeNg;

/// All engines, in the order of the help.
pub static ENGINES: [&dyn Engine; 3] = [&Qemu, &VirtmeNg, &Here];

/// One of the [`ENGINES`], by name.
#[derive(Clone, Copy)]
pub struct EngineChoice(&'static dyn Engine);

impl EngineChoice {
    /// QEMU with a root in memory: what guests run under unless another engine is named.
    pub const QEMU: Self = Self(&Qemu);
    /// This machine.
    pub const HERE: Self = Self(&Here);
}

impl Deref for EngineChoice {
    type Target = dyn Engine;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl fmt::Debug for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for EngineChoice {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for EngineChoice {}

/// There is no engine of this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no engine `{name}`; engines are: {}", names().collect::<Vec<_>>().join(", "))]
pub struct UnknownEngine {
    /// What was asked for.
    name: String,
}

impl FromStr for EngineChoice {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = ENGINES.into_iter().find(|engine| engine.name() == name);
        found.map(Self).ok_or_else(|| UnknownEngine { name: name.to_owned() })
    }
}

/// The engines' names.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENGINES.into_iter().map(Engine::name)
}

/// A line for each engine, for `--help`.
pub fn help() -> String {
    ENGINES.into_iter().map(|engine| format!("{}: {}", engine.name(), engine.about())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Root;

    #[test]
    fn every_engine_is_found_by_its_name() {
        for engine in ENGINES {
            let choice: EngineChoice = engine.name().parse().unwrap();
            assert_eq!(choice.name(), engine.name());
            assert!(!engine.about().is_empty() && !engine.about().contains('\n'));
        }
        let mut names: Vec<_> = names().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ENGINES.len(), "two engines have the same name");
    }

    #[test]
    fn an_unknown_engine_is_refused_with_the_names_of_all() {
        let error = "xen".parse::<EngineChoice>().unwrap_err().to_string();
        assert_eq!(error, "there is no engine `xen`; engines are: qemu, virtme-ng, here");
    }

    #[test]
    fn a_root_in_memory_needs_no_sparing_and_a_root_over_9p_does() {
        assert_eq!((EngineChoice::QEMU.root(), EngineChoice::QEMU.spared().len()), (Root::Images, 0));
        assert_eq!(VirtmeNg.root(), Root::Host);
        assert!(VirtmeNg.spared().contains(&"p9_*"));
        assert!(!EngineChoice::HERE.boots());
    }
}
