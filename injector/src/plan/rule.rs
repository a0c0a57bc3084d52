//! A rule: what is failed when.

use std::num::NonZeroU64;

use serde::Serialize;

use super::filter::Fact;
use super::{Contexts, ErrorNumber, Filter, Function, Hook, Kthreads, NthPer, PlanError, Policy, Probability, Target};

/// Which calls of which hooks are failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// What it is called in events and in the summary.
    pub name: String,
    /// What is attached to, each hook once.
    pub hooks: Vec<Hook>,
    /// Functions by name that are attached to as well; which they are, the kernel says.
    pub functions: Vec<Function>,
    /// The conditions on calls.
    pub filter: Filter,
    /// Which matches are failed.
    pub policy: Policy,
}

/// A rule as it is written down: some of it goes without saying.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleDraft {
    /// Its name; `None`: the only rule's.
    pub name: Option<String>,
    /// What is attached to; empty: the functions, or the allocators' hooks where there are none.
    pub hooks: Vec<Hook>,
    /// Functions by name.
    pub functions: Vec<Function>,
    /// The conditions on calls.
    pub filter: Filter,
    /// Which matches are failed, but for the probability.
    pub policy: Policy,
    /// How likely each match is; `None`: [`Policy::default_probability`].
    pub probability: Option<Probability>,
    /// Each site is failed once at most.
    pub once_per_site: bool,
}

impl RuleDraft {
    /// The rule, for this target.
    ///
    /// # Errors
    /// Its parts contradict each other, or something must be said after all.
    pub fn finish(self, target: &Target) -> Result<Rule, PlanError> {
        let Self { name, mut hooks, functions, filter, mut policy, probability, once_per_site } = self;
        if hooks.is_empty() && functions.is_empty() {
            hooks = Hook::MEMORY.to_vec();
        }
        if once_per_site {
            if policy.per_site.is_some() {
                return Err(PlanError::OnceAndPerSite);
            }
            policy.per_site = Some(NonZeroU64::MIN);
        }
        policy.nth.sort_unstable();
        policy.nth.dedup();
        policy.probability = match probability {
            Some(probability) => probability,
            None => policy.default_probability(target)?,
        };
        let mut rule = Rule { functions, ..Rule::new(hooks, filter, policy) };
        if let Some(name) = name {
            rule.name = name;
        }
        rule.validate()?;
        rule.validate_for(target)?;
        Ok(rule)
    }
}

impl Rule {
    /// What the only rule is called.
    pub const DEFAULT_NAME: &str = "default";
    /// How many characters a name can have.
    pub const MAX_NAME: usize = 64;
    /// How many functions by name a rule can have: each is a hook of its own.
    pub const MAX_FUNCTIONS: usize = injector_common::hooks::MAX_FUNCTIONS;

    /// A rule without a name, on these hooks.
    #[must_use]
    pub fn new(hooks: Vec<Hook>, filter: Filter, policy: Policy) -> Self {
        let mut hooks = hooks;
        hooks.sort_unstable();
        hooks.dedup();
        Self { name: Self::DEFAULT_NAME.to_owned(), hooks, functions: Vec::new(), filter, policy }
    }

    /// Whether it is about some calls only: it names functions, or has a filter that is not only an exclusion.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        !self.functions.is_empty() || self.filter.is_narrow()
    }

    /// Whether it makes sense by itself.
    ///
    /// # Errors
    /// Its parts contradict each other.
    pub fn validate(&self) -> Result<(), PlanError> {
        let Self { name, hooks, functions, filter, policy } = self;
        if name.trim().is_empty() || name.chars().count() > Self::MAX_NAME || name.chars().any(char::is_control) {
            return Err(PlanError::RuleName(name.clone()));
        }
        if hooks.is_empty() && functions.is_empty() {
            return Err(PlanError::NoHook);
        }
        if functions.len() > Self::MAX_FUNCTIONS {
            return Err(PlanError::TooManyFunctions(functions.len()));
        }
        for (i, function) in functions.iter().enumerate() {
            if let Some(other) = functions[..i].iter().find(|other| other.bare_name() == function.bare_name()) {
                let (first, second) = (other.name.as_str().into(), function.name.as_str().into());
                let is_same = first == second;
                return Err(if is_same {
                    PlanError::SameFunction(first)
                } else {
                    PlanError::SameSystemCall(first, second)
                });
            }
            if let Some(hook) = Hook::NAMED.into_iter().find(|hook| hook.has_function(&function.name)) {
                return Err(PlanError::FunctionIsHook { function: function.name.clone(), hook });
            }
        }
        self.validate_facts()?;
        filter.validate()?;
        policy.validate()
    }

    /// Whether the hooks' calls have what the rule looks at. One hook that has it is enough: calls of the others don't match.
    fn validate_facts(&self) -> Result<(), PlanError> {
        let Self { name: _, hooks, functions, filter, policy } = self;
        let space = (policy.space > 0).then_some(Fact { option: "--space", name: "a size", has: Hook::has_size });
        for fact in filter.facts().chain(space) {
            if !hooks.iter().copied().any(fact.has) {
                return Err(fact.is_missing());
            }
        }
        let sized: Vec<Hook> = hooks.iter().copied().filter(|hook| hook.has_size()).collect();
        let both = !filter.order.is_all() && !filter.size.is_all();
        if both && !sized.is_empty() && !sized.iter().any(|hook| hook.has_some(filter.order, filter.size)) {
            let hooks = sized.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(", ");
            return Err(PlanError::SizeAndOrder { size: filter.size, order: filter.order, hooks });
        }
        let free =
            hooks.iter().any(|hook| hook.has_errno()) || functions.iter().any(|function| function.error.is_none());
        if policy.errno.is_some() && !free {
            return Err(PlanError::NoErrno);
        }
        // __filemap_get_folio(), do_read_cache_folio() and filemap_get_pages() (mm/filemap.c, 6.1 and 6.12) start again then, in a
        // loop that a signal does not end. No other error makes them.
        if policy.errno == Some(ErrorNumber::EEXIST) && hooks.contains(&Hook::Filemap) {
            return Err(PlanError::FilemapExists);
        }
        Ok(())
    }

    /// Whether it makes sense for this target.
    ///
    /// # Errors
    /// Target and filters contradict each other.
    pub fn validate_for(&self, target: &Target) -> Result<(), PlanError> {
        let Self { name: _, hooks: _, functions: _, filter, policy } = self;
        if let Some(contexts) = filter.contexts
            && contexts != Contexts::TASK
        {
            let of_target = (!target.is_everybody()).then_some("a target");
            let of_policy = (policy.nth_per == NthPer::Task).then_some("--nth-per task");
            if let Some(condition) = of_target.or(filter.condition_on_task()).or(of_policy) {
                return Err(PlanError::Bystander { contexts, condition });
            }
        }
        let Target { all: _, pids, cgroups, containers, pid_namespaces, command, follow } = target;
        let others = !cgroups.is_empty() || !containers.is_empty() || !pid_namespaces.is_empty();
        if filter.kthreads == Kthreads::Only && command.is_some() && pids.is_empty() && !others {
            return Err(PlanError::KthreadsOfCommand);
        }
        // The children of an excluded process are not excluded.
        if let Some(first) = pids.first()
            && !others
            && command.is_none()
            && !follow
            && pids.iter().all(|pid| filter.task.not_pids.contains(pid))
        {
            return Err(PlanError::PidContradiction(*first));
        }
        Ok(())
    }
}
