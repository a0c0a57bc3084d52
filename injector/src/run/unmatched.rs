//! Which filters let no call through: a pattern that the kernel has a function for can still match nothing, because the
//! function is in no stack.

use std::rc::Rc;

use injector_common::counters::Counters;

use crate::{events::Unmatched, plan::Filter};

/// A condition on stacks: the option, the pattern, and whether no call's stack was so.
pub(super) type StackCondition<'a> = (&'static str, &'a str, bool);

/// Those of a rule. `counters`: of all its hooks together.
pub(super) fn of_rule(
    rule: &Rc<str>,
    filter: &Filter,
    counters: &Counters,
    stacks: &[StackCondition<'_>],
) -> Vec<Unmatched> {
    let Counters { calls, stacks: walked, matches, .. } = *counters;
    let unmatched = |option: &str, pattern: Option<&str>, calls| Unmatched {
        rule: rule.clone(),
        option: option.to_owned(),
        pattern: pattern.map(str::to_owned),
        calls,
    };
    if walked > 0 {
        let none = stacks.iter().filter(|(.., none)| *none);
        let none: Vec<_> = none.map(|(option, pattern, _)| unmatched(option, Some(pattern), walked)).collect();
        if !none.is_empty() || matches > 0 || stacks.is_empty() {
            return none;
        }
        // Each pattern was in some stack, and no stack was as all options want it.
        let mut options: Vec<&str> = stacks.iter().map(|(option, ..)| *option).collect();
        options.dedup();
        return vec![unmatched(&options.join(" with "), None, walked)];
    }
    let others = filter.options_before_stacks();
    if matches > 0 || calls == 0 || others.is_empty() {
        return Vec::new();
    }
    vec![unmatched(&others.join(" with "), None, calls)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(filter: &str, [calls, stacks, matches]: [u64; 3], conditions: &[StackCondition<'_>]) -> Vec<String> {
        let mut filters = Filter::default();
        if !filter.is_empty() {
            filters.caches = vec![filter.parse().expect("a cache")];
        }
        let counters = Counters { calls, stacks, matches, ..Counters::default() };
        of_rule(&"r".into(), &filters, &counters, conditions).iter().map(Unmatched::describe).collect()
    }

    #[test]
    fn a_pattern_that_is_in_no_stack() {
        let conditions = [("--stack", "getname_flags", true)];
        assert_eq!(said("", [70, 53, 0], &conditions), ["0 of 53 calls had getname_flags in their stack (--stack)"]);
        let conditions = [("--stack", "vfs_*", false), ("--stack", "a..b", true), ("--caller", "c", true)];
        assert_eq!(
            said("", [70, 53, 2], &conditions),
            ["0 of 53 calls had a..b in their stack (--stack)", "0 of 53 calls were made by c (--caller)"]
        );
        assert!(said("", [70, 53, 2], &[("--stack", "vfs_*", false)]).is_empty());
    }

    #[test]
    fn patterns_that_no_call_has_together() {
        let conditions = [("--stack", "vfs_*", false), ("--stack", "ksys_*", false), ("--caller", "c", false)];
        assert_eq!(said("", [70, 53, 0], &conditions), ["0 of 53 calls matched --stack with --caller"]);
    }

    #[test]
    fn calls_that_do_not_come_to_the_stack() {
        let conditions = [("--stack", "vfs_*", true)];
        assert_eq!(said("dentry", [70, 0, 0], &conditions), ["0 of 70 calls matched --cache"]);
        assert_eq!(said("dentry", [70, 0, 0], &[]), ["0 of 70 calls matched --cache"]);
        assert!(said("dentry", [70, 0, 1], &[]).is_empty());
        assert!(said("dentry", [0, 0, 0], &conditions).is_empty(), "nobody allocated");
        assert!(said("", [70, 0, 0], &[]).is_empty(), "no filter is to blame");
    }
}
