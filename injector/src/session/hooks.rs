//! Hooks by the numbers that the eBPF side has for them.

use injector_common::{config::Whose, hooks};

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
        let named = usize::try_from(number).ok().and_then(|number| Hook::NAMED.get(number));
        named.copied().or_else(|| {
            let place = usize::try_from(number.checked_sub(hooks::FUNCTION)?).ok()?;
            self.functions.get(place).copied().map(Hook::Function)
        })
    }

    /// The number of a hook; `None`: a function that the rule does not name.
    #[must_use]
    pub fn number(&self, hook: Hook) -> Option<u32> {
        match hook {
            Hook::Function(name) => {
                let place = self.functions.iter().position(|known| *known == name)?;
                Some(hooks::FUNCTION + u32::try_from(place).ok()?)
            }
            named => named.number(),
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
        named => named.number().unwrap_or_default(),
    }
}

/// The name of a hook's program in the eBPF object, which has one for each way to attach, and for whose calls are looked at.
#[must_use]
pub fn program(number: u32, attach: Attach, whose: Whose) -> String {
    let hook = match hooks::NAMED.get(number as usize) {
        Some(row) => row.program.to_owned(),
        None => format!("function{}", number - hooks::FUNCTION),
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
        Attach::Module => "_module",
    };
    format!("{hook}{whose}{attach}")
}

/// The tracepoint of the module injector_hooks that asks for a hook (module/trace.h); none of functions.
#[must_use]
pub fn tracepoint(hook: Hook) -> Option<String> {
    hook.row().map(|row| format!("injector_{}_tp", row.program))
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
