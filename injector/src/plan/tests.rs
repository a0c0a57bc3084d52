use super::*;

fn policy() -> Policy {
    Policy { probability: Probability::ALWAYS, times: None, duration: None, ttl: Policy::DEFAULT_TTL }
}

fn plan(filter: Filter, target: Target, policy: Policy) -> Result<Plan, PlanError> {
    Plan::new(Hook::ALL.to_vec(), filter, target, policy, Output::default())
}

fn refused(filter: Filter, target: Target, policy: Policy) -> PlanError {
    match plan(filter, target, policy) {
        Ok(plan) => panic!("accepted: {plan:?}"),
        Err(error) => error,
    }
}

#[test]
fn hooks_are_sorted_and_unique() {
    let hooks = vec![Hook::Page, Hook::Slab, Hook::Page];
    let plan = Plan::new(hooks, Filter::default(), Target::default(), policy(), Output::default()).unwrap();
    assert_eq!(plan.hooks, [Hook::Slab, Hook::Page]);
    let none = Plan::new(vec![], Filter::default(), Target::default(), policy(), Output::default());
    assert_eq!(none, Err(PlanError::NoHook));
}

#[test]
fn contradictions() {
    let pattern: StackPattern = "xfs_*".parse().unwrap();
    let both = StackFilter { any_of: vec![pattern.clone()], none_of: vec![pattern.clone()] };
    let filter = Filter { stack: both, ..Filter::default() };
    assert_eq!(refused(filter, Target::default(), policy()), PlanError::StackContradiction(pattern));

    let target = Target { pids: vec![0], ..Target::default() };
    assert_eq!(refused(Filter::default(), target, policy()), PlanError::PidZero);

    let target = Target { command: Some(vec![]), ..Target::default() };
    assert_eq!(refused(Filter::default(), target, policy()), PlanError::EmptyCommand);

    let none = Policy { times: Some(0), ..policy() };
    assert_eq!(refused(Filter::default(), Target::default(), none), PlanError::TimesZero);

    let brief = Policy { duration: Some(Duration::ZERO), ..policy() };
    assert_eq!(refused(Filter::default(), Target::default(), brief), PlanError::DurationZero(Duration::ZERO));

    for ms in [0, 99, 3_600_001] {
        let ttl = Duration::from_millis(ms);
        assert_eq!(refused(Filter::default(), Target::default(), Policy { ttl, ..policy() }), PlanError::Ttl(ttl));
    }
}

#[test]
fn excluding_some_of_several_stack_patterns_is_no_contradiction() {
    let (a, b): (StackPattern, StackPattern) = ("xfs_*".parse().unwrap(), "nfs_*".parse().unwrap());
    let stack = StackFilter { any_of: vec![a.clone(), b], none_of: vec![a] };
    assert!(plan(Filter { stack, ..Filter::default() }, Target::default(), policy()).is_ok());
}

#[test]
fn probability_may_be_left_out_when_something_bounds_the_damage() {
    let everybody = Target::default();
    let somebody = Target { pids: vec![2], ..Target::default() };
    assert_eq!(Policy::default_probability(&everybody, None), Err(PlanError::NoProbability));
    assert_eq!(Policy::default_probability(&everybody, Some(5)), Ok(Probability::ALWAYS));
    assert_eq!(Policy::default_probability(&somebody, None), Ok(Probability::ALWAYS));
}

#[test]
fn serialized() {
    let filter = Filter {
        gfp: GfpFilter::any_of(vec!["NOFS|!nowarn".parse().unwrap()]).unwrap(),
        order: "0..4".parse().unwrap(),
        stack: StackFilter { any_of: vec!["[nfs]".parse().unwrap()], none_of: vec![] },
        ..Filter::default()
    };
    let target = Target { command: Some(vec!["true".into(), "x".into()]), ..Target::default() };
    let plan = plan(filter, target, Policy { duration: Some(Duration::from_secs(90)), ..policy() }).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "hooks": ["slab", "page"],
            "filter": {
                "gfp": ["GFP_NOFS,!__GFP_NOWARN"], "gfp_scope": "effective", "order": "0..=3",
                "stack": {"any_of": ["[nfs]"], "none_of": []}
            },
            "target": {"pids": [], "cgroups": [], "command": ["true", "x"]},
            "policy": {"probability": 1.0, "times": null, "duration": "1m30s", "ttl": "5s"},
            "output": {"format": "text", "path": null, "top": 10, "quiet": false}
        })
    );
}
