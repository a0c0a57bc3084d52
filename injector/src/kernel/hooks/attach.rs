//! In which way a hook is attached.

use crate::kernel::features::{Answer, Feature, Features};
use crate::kernel::hooks_module::{self, HooksModule, ModuleError};
use crate::kernel::{KernelFiles, Options, preemption};
use crate::plan::{Backend, Hook};

/// How one hook is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// By a kprobe, whose program overrides the call.
    Kprobe,
    /// By a BPF_MODIFY_RETURN program.
    FmodRet {
        /// The function's id in vmlinux' BTF.
        function: u32,
    },
    /// By a tracepoint of the module injector_hooks, which overrides the call.
    Module,
}

/// Which ways this kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// bpf_override_return(), unless the kernel says that there is none.
    pub kprobe: bool,
    /// Trampolines that may replace a call, if the build options say so. Whether the kernel knows such programs, it is asked;
    /// whether it can attach them, only attaching one would tell.
    pub fmod_ret: bool,
    /// Tasks are preempted in the kernel, or may be. A program in a trampoline is then preempted too, and until it goes on no
    /// other task's calls on that CPU come to it (`prog->active`, kernel/bpf/trampoline.c, 6.1 and 6.12): hundreds at a time.
    pub preemptible: bool,
}

/// What a trampoline needs besides the list of functions (kernel/bpf/trampoline.c, `register_fentry()`: with ftrace, which
/// owns the entries of functions, only by direct calls; 6.1 and 6.12).
pub const FOR_TRAMPOLINES: [&str; 2] = ["CONFIG_BPF_JIT", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"];
/// What a kprobe's program needs to replace a call.
pub const FOR_OVERRIDES: &str = "CONFIG_BPF_KPROBE_OVERRIDE";

/// Why a hook can't be attached as the plan says.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AttachError {
    /// A trampoline makes the call when the program returns 0.
    #[error("--backend fmod-ret: a failed {0} returns NULL or 0, which only a kprobe can; use --backend auto")]
    Zero(Hook),
    /// Only vmlinux' BTF is looked at.
    #[error(
        "--backend fmod-ret: {hook} is in the module {module}, and only functions of the kernel proper are attached so; use --backend auto"
    )]
    InModule {
        /// The hook.
        hook: Hook,
        /// The module that has the function.
        module: String,
    },
    /// The kernel can't.
    #[error(
        "--backend fmod-ret: this kernel has no trampolines that can replace a call (CONFIG_BPF_JIT, CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS); use --backend kprobe"
    )]
    NoTrampolines,
    /// The kernel's types don't have the function.
    #[error("--backend fmod-ret: the kernel's BTF has no function {0}; use --backend auto")]
    NoType(String),
    /// The kernel can't, and there is no other way.
    #[error(
        "{hook} can only be attached by a kprobe here, and this kernel was built without CONFIG_BPF_KPROBE_OVERRIDE; leave it out"
    )]
    NoOverride {
        /// The hook.
        hook: Hook,
    },
    /// The module hooks what it knows.
    #[error("--backend module: the module has hooks of its own only, and {0} is none of them; use --backend auto")]
    NotInModule(String),
    /// The module can't make it here.
    #[error(transparent)]
    Module(#[from] ModuleError),
}

/// What is known of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The hook.
    pub hook: Hook,
    /// Its function.
    pub function: &'a str,
    /// What a failed call returns.
    pub error: i32,
    /// The module that it is in; `None`: the kernel proper.
    pub module: Option<&'a str>,
    /// Its id in vmlinux' BTF.
    pub id: Option<u32>,
    /// The kernel lists it as injectable, with the type that is expected.
    pub listed: bool,
}

impl Ways {
    /// What the kernel says of its eBPF, and where it does not, its build options; and how it preempts.
    #[must_use]
    pub fn read(files: &KernelFiles, options: Option<&Options>, features: &Features) -> Self {
        let is_on = |option: &&str| options.is_some_and(|options| options.is_on(option));
        let overrides = match features.answer(Feature::Override) {
            Answer::Present => true,
            Answer::Absent => false,
            Answer::Unknown => options.is_none_or(|options| options.is_on(FOR_OVERRIDES)),
        };
        Self {
            kprobe: overrides && !features.lacks(Feature::KprobeLinks),
            fmod_ret: FOR_TRAMPOLINES.iter().all(is_on) && !features.lacks(Feature::ModifyReturn),
            preemptible: options.is_some_and(|options| preemption::is_preemptible(files, options)),
        }
    }

    /// The way for a hook.
    ///
    /// # Errors
    /// There is none, or not the one that is asked for.
    pub fn choose(
        self,
        backend: Backend,
        candidate: Candidate<'_>,
        module: Option<&HooksModule>,
    ) -> Result<Attach, AttachError> {
        let Candidate { hook, function, .. } = candidate;
        let overridable = candidate.listed && self.can_override(candidate.error);
        match (backend, hook) {
            (Backend::Module, Hook::Function(_)) => return Err(AttachError::NotInModule(function.to_owned())),
            (Backend::Auto, Hook::Function(_)) | (Backend::FmodRet | Backend::Kprobe, _) => {}
            (Backend::Auto, _) if overridable => {}
            (Backend::Auto | Backend::Module, _) => {
                hooks_module::serves(module, hook)?;
                return Ok(Attach::Module);
            }
        }
        let fmod_ret = self.by_fmod_ret(candidate);
        match (backend, fmod_ret) {
            (Backend::FmodRet, fmod_ret) => fmod_ret,
            (Backend::Auto, Ok(fmod_ret)) if !(self.preemptible && self.kprobe) => Ok(fmod_ret),
            (_, _) if self.kprobe => Ok(Attach::Kprobe),
            (_, _) => Err(AttachError::NoOverride { hook }),
        }
    }

    /// Whether a listed function can be made to return this, in one way or another.
    #[must_use]
    pub fn can_override(self, error: i32) -> bool {
        self.kprobe || (self.fmod_ret && error != 0)
    }

    fn by_fmod_ret(self, candidate: Candidate<'_>) -> Result<Attach, AttachError> {
        let Candidate { hook, function, error, module, id, listed: _ } = candidate;
        if error == 0 {
            return Err(AttachError::Zero(hook));
        }
        if let Some(module) = module {
            return Err(AttachError::InModule { hook, module: module.to_owned() });
        }
        if !self.fmod_ret {
            return Err(AttachError::NoTrampolines);
        }
        let function = id.ok_or_else(|| AttachError::NoType(function.to_owned()))?;
        Ok(Attach::FmodRet { function })
    }
}

#[cfg(test)]
mod tests {
    use injector_common::hooks::MODULE_PROTOCOL;

    use super::*;
    use crate::kernel::hooks_module::HookedFunction;
    use crate::plan::FunctionName;

    const SLAB: Candidate<'static> = Candidate {
        hook: Hook::Slab,
        function: "should_failslab",
        error: -12,
        module: None,
        id: Some(7),
        listed: true,
    };
    const BOTH: Ways = Ways { kprobe: true, fmod_ret: true, preemptible: false };

    #[test]
    fn auto_takes_fmod_ret_where_it_can() {
        let auto = |ways: Ways, candidate| ways.choose(Backend::Auto, candidate, None);
        assert_eq!(auto(BOTH, SLAB), Ok(Attach::FmodRet { function: 7 }));
        for candidate in [
            Candidate { error: 0, ..SLAB },
            Candidate { module: Some("btrfs"), ..SLAB },
            Candidate { id: None, ..SLAB },
        ] {
            assert_eq!(auto(BOTH, candidate), Ok(Attach::Kprobe), "{candidate:?}");
        }
        assert_eq!(auto(Ways { fmod_ret: false, ..BOTH }, SLAB), Ok(Attach::Kprobe));
        assert_eq!(auto(Ways { preemptible: true, ..BOTH }, SLAB), Ok(Attach::Kprobe), "it sees every call");
        let no_choice = Ways { preemptible: true, kprobe: false, ..BOTH };
        assert_eq!(auto(no_choice, SLAB), Ok(Attach::FmodRet { function: 7 }));
        assert_eq!(auto(Ways { kprobe: false, ..BOTH }, SLAB), Ok(Attach::FmodRet { function: 7 }));
        let null = Candidate { hook: Hook::Function(FunctionName::new("f")), error: 0, ..SLAB };
        assert_eq!(auto(Ways { kprobe: false, ..BOTH }, null), Err(AttachError::NoOverride { hook: null.hook }));
    }

    #[test]
    fn auto_takes_the_module_where_the_kernel_does_not_let_a_hook_be_overridden() {
        let module = HooksModule {
            version: MODULE_PROTOCOL.to_string(),
            functions: vec![HookedFunction {
                hook: "slab".to_owned(),
                function: "should_failslab".to_owned(),
                prototype: String::new(),
                other: None,
            }],
            missing: Vec::new(),
            ftrace_off: false,
        };
        let choose = |ways: Ways, backend, candidate| ways.choose(backend, candidate, Some(&module));
        let unlisted = Candidate { listed: false, ..SLAB };
        let neither = Ways { kprobe: false, fmod_ret: false, preemptible: false };
        assert_eq!(choose(BOTH, Backend::Auto, SLAB), Ok(Attach::FmodRet { function: 7 }));
        assert_eq!(choose(BOTH, Backend::Auto, unlisted), Ok(Attach::Module));
        assert_eq!(choose(neither, Backend::Auto, SLAB), Ok(Attach::Module));
        assert_eq!(choose(BOTH, Backend::Module, SLAB), Ok(Attach::Module));
        assert_eq!(choose(BOTH, Backend::Kprobe, SLAB), Ok(Attach::Kprobe));
        let missing = neither.choose(Backend::Auto, SLAB, None);
        assert_eq!(missing, Err(AttachError::Module(ModuleError::NotLoaded)));
        let function = Candidate { hook: Hook::Function(FunctionName::new("f")), function: "f", ..SLAB };
        assert_eq!(choose(BOTH, Backend::Auto, function), Ok(Attach::FmodRet { function: 7 }));
        assert_eq!(choose(BOTH, Backend::Module, function), Err(AttachError::NotInModule("f".to_owned())));
        let page = Candidate { hook: Hook::Page, ..SLAB };
        let unknown = AttachError::Module(ModuleError::Unknown { hook: Hook::Page });
        assert_eq!(choose(BOTH, Backend::Module, page), Err(unknown));
    }

    #[test]
    fn what_is_asked_for_is_done_or_refused() {
        assert_eq!(BOTH.choose(Backend::Kprobe, SLAB, None), Ok(Attach::Kprobe));
        let refused = |ways: Ways, candidate| ways.choose(Backend::FmodRet, candidate, None).unwrap_err();
        assert_eq!(refused(BOTH, Candidate { error: 0, ..SLAB }), AttachError::Zero(Hook::Slab));
        assert_eq!(refused(Ways { fmod_ret: false, ..BOTH }, SLAB), AttachError::NoTrampolines);
        assert_eq!(refused(BOTH, Candidate { id: None, ..SLAB }), AttachError::NoType("should_failslab".into()));
        let module = Candidate { module: Some("btrfs"), ..SLAB };
        assert!(refused(BOTH, module).to_string().contains("in the module btrfs"));
    }
}
