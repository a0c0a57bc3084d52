use super::*;

fn policy() -> Policy {
    Policy::default()
}

fn rule(filter: Filter, policy: Policy) -> Rule {
    Rule::new(Hook::MEMORY.to_vec(), filter, policy)
}

fn plan(filter: Filter, target: Target, policy: Policy) -> Result<Plan, PlanError> {
    Plan::of(rule(filter, policy), target)
}

fn refused(filter: Filter, target: Target, policy: Policy) -> PlanError {
    match plan(filter, target, policy) {
        Ok(plan) => panic!("accepted: {plan:?}"),
        Err(error) => error,
    }
}

fn refused_limits(limits: Limits) -> PlanError {
    let plan = plan(Filter::default(), Target::default(), policy()).unwrap();
    Plan { limits, ..plan }.validate().unwrap_err()
}

#[test]
fn hooks_are_sorted_and_unique() {
    let hooks = vec![Hook::Page, Hook::Slab, Hook::Page];
    assert_eq!(Rule::new(hooks, Filter::default(), policy()).hooks, [Hook::Slab, Hook::Page]);
    let none = Rule::new(vec![], Filter::default(), policy());
    assert_eq!(Plan::of(none, Target::default()), Err(PlanError::NoHook));
}

#[test]
fn contradictions() {
    let pattern: StackPattern = "xfs_*".parse().unwrap();
    let both =
        StackFilter { any_of: vec![pattern.clone().into()], none_of: vec![pattern.clone()], ..StackFilter::default() };
    let filter = Filter { stack: both, ..Filter::default() };
    assert_eq!(refused(filter, Target::default(), policy()), PlanError::StackContradiction(pattern));

    let target = Target { pids: vec![0], ..Target::default() };
    assert_eq!(refused(Filter::default(), target, policy()), PlanError::PidZero);

    let target = Target { command: Some(vec![]), ..Target::default() };
    assert_eq!(refused(Filter::default(), target, policy()), PlanError::EmptyCommand);

    let none = Policy { times: Some(0), ..policy() };
    assert_eq!(refused(Filter::default(), Target::default(), none), PlanError::TimesZero);

    let brief = Limits { duration: Some(Duration::ZERO), ..Limits::default() };
    assert_eq!(refused_limits(brief), PlanError::DurationZero(Duration::ZERO));

    for ms in [0, 99, 3_600_001] {
        let ttl = Duration::from_millis(ms);
        assert_eq!(refused_limits(Limits { ttl, ..Limits::default() }), PlanError::Ttl(ttl));
    }
}

#[test]
fn excluding_some_of_several_stack_patterns_is_no_contradiction() {
    let (a, b): (StackPattern, StackPattern) = ("xfs_*".parse().unwrap(), "nfs_*".parse().unwrap());
    let stack = StackFilter { any_of: vec![a.clone().into(), b.into()], none_of: vec![a], ..StackFilter::default() };
    assert!(plan(Filter { stack, ..Filter::default() }, Target::default(), policy()).is_ok());
}

#[test]
fn probability_may_be_left_out_when_something_bounds_the_damage() {
    let everybody = Target::default();
    let somebody = Target { pids: vec![2], ..Target::default() };
    assert_eq!(policy().default_probability(&everybody), Err(PlanError::NoProbability));
    let five = Policy { times: Some(5), ..policy() };
    assert_eq!(five.default_probability(&everybody), Ok(Probability::ALWAYS));
    assert_eq!(policy().default_probability(&somebody), Ok(Probability::ALWAYS));
}
