//! Which calls match: the conditions of a rule, as plan files have them too.

use serde::Serialize;

use super::error::long_paths;
use super::file::{FileError, Keys, Printer, differs};
use super::{
    CachePattern, Contexts, GfpFilter, GfpScope, Hook, Kthreads, OrderRange, PlanError, SiteName, SizeRange,
    SourceLine, StackFilter, Syscall, TaskFilter, stack, task,
};

/// Conditions on a call's facts and stack. A call that has no such fact (a bio has no size) is not matched by a condition on
/// it, whatever the condition says.
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
    /// Its site: any of these; empty: no such condition.
    pub sites: Vec<SiteName>,
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

/// A fact that the calls of some hooks lack.
pub(super) struct Fact {
    /// The option that looks at it.
    pub(super) option: &'static str,
    /// Its name, for messages.
    pub(super) name: &'static str,
    /// Whether the calls of a hook have it.
    pub(super) has: fn(Hook) -> bool,
}

impl Fact {
    /// The error where no call of the rule's hooks has it.
    pub(super) fn is_missing(&self) -> PlanError {
        let Self { option, name, has } = *self;
        let hooks: Vec<&str> = Hook::NAMED.into_iter().filter(|hook| has(*hook)).map(Hook::name).collect();
        PlanError::NoSuchFact { option, fact: name, hooks: hooks.join(", ") }
    }
}

impl Filter {
    /// Whether it makes sense by itself.
    pub(super) fn validate(&self) -> Result<(), PlanError> {
        let Self {
            gfp: _,
            gfp_scope: _,
            order: _,
            size: _,
            caches: _,
            sites,
            stack,
            syscalls,
            task,
            kthreads,
            contexts: _,
        } = self;
        let signatures = sites.iter().filter(|site| matches!(site, SiteName::Signature(_))).count();
        if signatures > 0 && signatures < sites.len() {
            return Err(PlanError::SitesOfTwoKinds);
        }
        if signatures > SiteName::MAX_SIGNATURES {
            return Err(PlanError::TooManySites(signatures));
        }
        if let Some((option, wanted, unwanted)) = stack.contradiction() {
            let (wanted, unwanted) = (Box::new(wanted.clone()), Box::new(unwanted.clone()));
            return Err(PlanError::StackContradiction { option, wanted, unwanted });
        }
        let paths = long_paths(&stack.any_of);
        if paths > StackFilter::MAX_PATHS {
            return Err(PlanError::TooManyPaths(paths));
        }
        if stack.depth.is_some() && stack.any_of.is_empty() && stack.none_of.is_empty() {
            return Err(PlanError::DepthAlone);
        }
        if *kthreads == Kthreads::Only && !syscalls.is_empty() {
            return Err(PlanError::KthreadsInSyscall);
        }
        let TaskFilter { comms: _, uids, not_pids } = task;
        if *kthreads == Kthreads::Only && !uids.is_empty() && !uids.contains(&0) {
            return Err(PlanError::KthreadsOfUser);
        }
        for (option, ids) in [("--uid", uids), ("--not-pid", not_pids)] {
            if ids.len() > TaskFilter::MAX_IDS {
                return Err(PlanError::TooManyIds { option, count: ids.len() });
            }
        }
        if not_pids.contains(&0) {
            return Err(PlanError::NotPidZero);
        }
        Ok(())
    }

    /// The facts that are looked at and that the calls of some hooks lack.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let gfp = Fact { option: "--gfp", name: "GFP flags", has: Hook::has_gfp };
        let order = Fact { option: "--order", name: "an order", has: Hook::has_size };
        let size = Fact { option: "--size", name: "a size", has: Hook::has_size };
        let cache = Fact { option: "--cache", name: "a slab cache", has: Hook::has_cache };
        let facts = [
            (!self.gfp.is_all(), gfp),
            (!self.order.is_all(), order),
            (!self.size.is_all(), size),
            (!self.caches.is_empty(), cache),
        ];
        facts.into_iter().filter_map(|(looked_at, fact)| looked_at.then_some(fact))
    }

    /// The signatures that its sites must have; empty: any.
    #[must_use]
    pub fn signatures(&self) -> Vec<u64> {
        let signature = |site: &SiteName| match site {
            SiteName::Signature(signature) => Some(*signature),
            SiteName::Line(_) => None,
        };
        self.sites.iter().filter_map(signature).collect()
    }

    /// The lines of the sources that its sites must be on; empty: any.
    pub fn lines(&self) -> impl Iterator<Item = &SourceLine> {
        self.sites.iter().filter_map(|site| match site {
            SiteName::Line(line) => Some(line),
            SiteName::Signature(_) => None,
        })
    }

    /// Whether it says which calls are meant, and not only which are not.
    pub(super) fn is_narrow(&self) -> bool {
        let Self { gfp, gfp_scope: _, order, size, caches, sites, stack, syscalls, task, kthreads, contexts } = self;
        let StackFilter { any_of, none_of: _, caller, depth: _ } = stack;
        let TaskFilter { comms, uids, not_pids: _ } = task;
        !gfp.is_all()
            || !order.is_all()
            || !size.is_all()
            || !caches.is_empty()
            || !sites.is_empty()
            || !any_of.is_empty()
            || !caller.is_empty()
            || !syscalls.is_empty()
            || !comms.is_empty()
            || !uids.is_empty()
            || *kthreads == Kthreads::Only
            || contexts.is_some()
    }

    /// The options that are about the task.
    fn conditions_on_task(&self) -> impl Iterator<Item = &'static str> {
        let conditions = [
            (!self.task.comms.is_empty(), "--comm"),
            (!self.task.uids.is_empty(), "--uid"),
            (!self.task.not_pids.is_empty(), "--not-pid"),
            (self.kthreads != Kthreads::Any, "--kthreads"),
            (!self.syscalls.is_empty(), "--syscall"),
        ];
        conditions.into_iter().filter_map(|(is_asked, option)| is_asked.then_some(option))
    }

    /// The first option that is about the task, if there is one. In an interrupt, the task is a bystander.
    #[must_use]
    pub fn condition_on_task(&self) -> Option<&'static str> {
        self.conditions_on_task().next()
    }

    /// The options that a call must fulfil before anybody looks at its stack.
    #[must_use]
    pub fn options_before_stacks(&self) -> Vec<&'static str> {
        let contexts = self.contexts.map(|_| "--context");
        self.facts().map(|fact| fact.option).chain(self.conditions_on_task()).chain(contexts).collect()
    }

    /// Reads the keys of a plan file.
    pub(super) fn read(keys: &mut Keys<'_>) -> Result<Self, FileError> {
        let gfp = keys.any("gfp", str::parse)?;
        Ok(Self {
            gfp: GfpFilter::any_of(gfp).map_err(|error| keys.error(error))?,
            gfp_scope: keys.one("gfp-scope", str::parse)?.unwrap_or_default(),
            order: keys.one("order", str::parse)?.unwrap_or_default(),
            size: keys.one("size", str::parse)?.unwrap_or_default(),
            caches: keys.any("cache", str::parse)?,
            sites: keys.any("site", str::parse)?,
            stack: StackFilter {
                any_of: keys.any("stack", str::parse)?,
                none_of: keys.any("not-stack", str::parse)?,
                caller: keys.any("caller", str::parse)?,
                depth: keys.one("stack-depth", stack::parse_depth)?,
            },
            syscalls: keys.list("syscall", str::parse)?,
            task: TaskFilter {
                comms: keys.any("comm", str::parse)?,
                uids: keys.list("uid", task::parse_uid)?,
                not_pids: keys.list("not-pid", task::parse_pid)?,
            },
            kthreads: keys.one("kthreads", str::parse)?.unwrap_or_default(),
            contexts: keys.joined("context", str::parse)?,
        })
    }

    /// Writes the keys of a plan file: what differs from the defaults.
    pub(super) fn write(&self, file: &mut Printer) {
        let Self { gfp, gfp_scope, order, size, caches, sites, stack, syscalls, task, kthreads, contexts } = self;
        let StackFilter { any_of, none_of, caller, depth } = stack;
        let TaskFilter { comms, uids, not_pids } = task;
        file.texts("gfp", gfp.values());
        file.text("gfp-scope", differs(*gfp_scope));
        file.number("order", differs(*order));
        file.number("size", differs(*size));
        file.texts("cache", caches);
        file.texts("site", sites);
        file.texts("stack", any_of);
        file.texts("not-stack", none_of);
        file.texts("caller", caller);
        file.number("stack-depth", *depth);
        file.texts("syscall", syscalls);
        file.texts("comm", comms);
        file.numbers("uid", uids);
        file.numbers("not-pid", not_pids);
        file.text("kthreads", differs(*kthreads));
        file.text("context", *contexts);
    }
}
