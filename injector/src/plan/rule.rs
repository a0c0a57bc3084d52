//! A rule: what is failed when.

use serde::Serialize;

use super::{
    CachePattern, Contexts, Function, GfpFilter, GfpScope, Hook, Kthreads, OrderRange, PlanError, Policy, SizeRange,
    StackFilter, Syscall, TaskFilter,
};

/// Which calls of which hooks are failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// What it is called in events and in the summary.
    pub name: String,
    /// What is attached to, each hook once.
    pub hooks: Vec<Hook>,
    /// Functions by name that are attached to as well; which they are, the kernel says.
    pub functions: Vec<Function>,
    /// Which calls match.
    pub filter: Filter,
    /// Which matches are failed.
    pub policy: Policy,
}

/// Conditions on a call's facts and stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Its GFP flags.
    pub gfp: GfpFilter,
    /// Which GFP flags.
    pub gfp_scope: GfpScope,
    /// Its order.
    pub order: OrderRange,
    /// Its size in bytes.
    pub size: SizeRange,
    /// Its slab cache: any of these; empty: no such condition.
    pub caches: Vec<CachePattern>,
    /// Its stack.
    pub stack: StackFilter,
    /// The system call that it is made in: any of these; empty: no such condition.
    pub syscalls: Vec<Syscall>,
    /// The task that makes it.
    pub task: TaskFilter,
    /// Whether kernel threads make it.
    pub kthreads: Kthreads,
    /// In what context it is made; `None`: in any without a target or a condition on the task, else in task context.
    pub contexts: Option<Contexts>,
}

impl Rule {
    /// What the only rule is called.
    pub const DEFAULT_NAME: &str = "default";

    /// A rule without a name, on these hooks.
    #[must_use]
    pub fn new(hooks: Vec<Hook>, filter: Filter, policy: Policy) -> Self {
        let mut hooks = hooks;
        hooks.sort_unstable();
        hooks.dedup();
        Self { name: Self::DEFAULT_NAME.to_owned(), hooks, functions: Vec::new(), filter, policy }
    }

    /// Whether it makes sense by itself.
    ///
    /// # Errors
    /// Its parts contradict each other.
    pub fn validate(&self) -> Result<(), PlanError> {
        let Self { name: _, hooks, functions, filter, policy } = self;
        if hooks.is_empty() && functions.is_empty() {
            return Err(PlanError::NoHook);
        }
        if let Some(pattern) = filter.stack.contradiction() {
            return Err(PlanError::StackContradiction(pattern.clone()));
        }
        if policy.times == Some(0) {
            return Err(PlanError::TimesZero);
        }
        Ok(())
    }
}
