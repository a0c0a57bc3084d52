//! Hooks by the numbers that the eBPF side has for them.

use injector_common::{HOOK_BIO, HOOK_FILEMAP, HOOK_FUNCTION, HOOK_PAGE, HOOK_PAGE_POOL, HOOK_SLAB, config::Whose};

use crate::kernel::hooks::Attach;
use crate::plan::{FunctionName, Hook};

/// The hooks of a rule. Those with names of their own have the same number always, functions in the order in which the rule
/// names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    functions: Vec<FunctionName>,
}

impl Hooks {
    /// With these functions.
    #[must_use]
    pub fn new(hooks: impl IntoIterator<Item = Hook>) -> Self {
        let function = |hook| match hook {
            Hook::Function(name) => Some(name),
            _ => None,
        };
        Self { functions: hooks.into_iter().filter_map(function).collect() }
    }

    /// The hook with this number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Hook> {
        match number {
            HOOK_SLAB => Some(Hook::Slab),
            HOOK_PAGE => Some(Hook::Page),
            HOOK_FILEMAP => Some(Hook::Filemap),
            HOOK_BIO => Some(Hook::Bio),
            HOOK_PAGE_POOL => Some(Hook::PagePool),
            _ => {
                let place = usize::try_from(number.checked_sub(HOOK_FUNCTION)?).ok()?;
                self.functions.get(place).copied().map(Hook::Function)
            }
        }
    }

    /// The number of a hook; `None`: a function that the rule does not name.
    #[must_use]
    pub fn number(&self, hook: Hook) -> Option<u32> {
        match hook {
            Hook::Slab => Some(HOOK_SLAB),
            Hook::Page => Some(HOOK_PAGE),
            Hook::Filemap => Some(HOOK_FILEMAP),
            Hook::Bio => Some(HOOK_BIO),
            Hook::PagePool => Some(HOOK_PAGE_POOL),
            Hook::Function(name) => {
                let place = self.functions.iter().position(|known| *known == name)?;
                Some(HOOK_FUNCTION + u32::try_from(place).ok()?)
            }
        }
    }
}

/// What signatures of a hook's sites begin with: the same in every run, so of a function not its number but its name.
#[must_use]
pub fn id(hook: Hook) -> u32 {
    match hook {
        Hook::Function(name) => {
            let hash = name
                .as_str()
                .bytes()
                .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            hash | 1 << 31
        }
        named => Hooks::default().number(named).unwrap_or_default(),
    }
}

/// The name of a hook's program in the eBPF object, which has one for each way to attach, and for whose calls are looked at.
#[must_use]
pub fn program(number: u32, attach: Attach, whose: Whose) -> String {
    let hook = match number {
        HOOK_SLAB => "slab".to_owned(),
        HOOK_PAGE => "page".to_owned(),
        HOOK_FILEMAP => "filemap".to_owned(),
        HOOK_BIO => "bio".to_owned(),
        HOOK_PAGE_POOL => "page_pool".to_owned(),
        function => format!("function{}", function - HOOK_FUNCTION),
    };
    let whose = match whose {
        Whose::Anyones => "",
        Whose::Pid => "_pid",
        Whose::Cgroup => "_cgroup",
        Whose::Target => "_target",
    };
    let attach = match attach {
        Attach::Kprobe => "",
        Attach::FmodRet { .. } => "_fmod_ret",
    };
    format!("{hook}{whose}{attach}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_back() {
        let function = |name| Hook::Function(FunctionName::new(name));
        let all: Vec<Hook> =
            Hook::NAMED.into_iter().chain([function("open_ctree"), function("__x64_sys_openat")]).collect();
        let hooks = Hooks::new(all.clone());
        for hook in all {
            assert_eq!(hooks.number(hook).and_then(|number| hooks.get(number)), Some(hook));
        }
        let number = hooks.number(function("__x64_sys_openat")).unwrap();
        assert_eq!(program(number, Attach::Kprobe, Whose::Anyones), "function1");
        assert_eq!(program(number, Attach::FmodRet { function: 7 }, Whose::Pid), "function1_pid_fmod_ret");
        assert_eq!((hooks.get(99), hooks.number(function("f"))), (None, None));
    }

    #[test]
    fn ids_do_not_depend_on_the_run() {
        let name = Hook::Function(FunctionName::new("open_ctree"));
        assert_eq!((id(Hook::Slab), id(Hook::Page)), (0, 1), "signatures in journals begin with these");
        assert_eq!(id(name), id(Hook::Function(FunctionName::new("open_ctree"))));
        assert!(id(name) >= 1 << 31);
    }
}
