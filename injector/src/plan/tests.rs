use super::*;

fn policy() -> Policy {
    Policy::default()
}

fn everybody() -> Target {
    Target { all: true, ..Target::default() }
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
    let plan = plan(Filter::default(), everybody(), policy()).unwrap();
    Plan { limits, ..plan }.validate().unwrap_err()
}

#[test]
fn hooks_are_sorted_and_unique() {
    let hooks = vec![Hook::Page, Hook::Slab, Hook::Page];
    assert_eq!(Rule::new(hooks, Filter::default(), policy()).hooks, [Hook::Slab, Hook::Page]);
    let none = Rule::new(vec![], Filter::default(), policy());
    assert_eq!(Plan::of(none, everybody()), Err(PlanError::NoHook));
}

#[test]
fn contradictions() {
    let pattern: StackPattern = "xfs_*".parse().unwrap();
    let both =
        StackFilter { any_of: vec![pattern.clone().into()], none_of: vec![pattern.clone()], ..StackFilter::default() };
    let filter = Filter { stack: both, ..Filter::default() };
    assert_eq!(
        refused(filter, everybody(), policy()),
        PlanError::StackContradiction {
            option: "--stack",
            wanted: Box::new(pattern.clone()),
            unwanted: Box::new(pattern)
        }
    );

    let target = Target { pids: vec![0], ..Target::default() };
    assert_eq!(refused(Filter::default(), target, policy()), PlanError::PidZero);

    let target = Target { command: Some(vec![]), ..Target::default() };
    assert_eq!(refused(Filter::default(), target, policy()), PlanError::EmptyCommand);

    let none = Policy { times: Some(0), ..policy() };
    assert_eq!(refused(Filter::default(), everybody(), none), PlanError::TimesZero);

    let brief = Limits { duration: Some(Duration::ZERO), ..Limits::default() };
    assert_eq!(refused_limits(brief), PlanError::DurationZero(Duration::ZERO));

    for ms in [0, 99, 3_600_001] {
        let ttl = Duration::from_millis(ms);
        assert_eq!(refused_limits(Limits { ttl, ..Limits::default() }), PlanError::Ttl(ttl));
    }
}

/// What the options of a rule (keys as in a plan file) are refused for.
fn refused_rule(keys: &str, target: &Target) -> String {
    let mut file = PlanFile::parse("x", &format!("[[rule]]\n{keys}\ntimes = 1\n")).unwrap();
    file.target = target.clone();
    match file.into_plan(Output::default()) {
        Ok(plan) => panic!("{keys}: accepted: {plan:?}"),
        Err(error) => error.to_string().trim_start_matches("x:1:1: ").to_owned(),
    }
}

fn accepted_rule(keys: &str, target: &Target) {
    let mut file = PlanFile::parse("x", &format!("[[rule]]\n{keys}\ntimes = 1\n")).unwrap();
    file.target = target.clone();
    file.into_plan(Output::default()).unwrap_or_else(|error| panic!("{keys}: {error}"));
}

#[test]
fn filters_on_facts_that_no_hook_has() {
    let everybody = everybody();
    for (keys, said) in [
        (
            "hook='bio'\ngfp='NOFS'",
            "--gfp can never match here: it is about GFP flags, which only calls of slab, page, filemap, page-pool, vmalloc, percpu have",
        ),
        (
            "hook='filemap'\norder=1",
            "--order can never match here: it is about an order, which only calls of slab, page, vmalloc, percpu have",
        ),
        (
            "hook='filemap,bio,page-pool'\nsize=64",
            "--size can never match here: it is about a size, which only calls of slab, page, vmalloc, percpu have",
        ),
        (
            "hook='page'\ncache='dentry'",
            "--cache can never match here: it is about a slab cache, which only calls of slab have",
        ),
        (
            "function='open_ctree'\nspace=1",
            "--space can never match here: it is about a size, which only calls of slab, page, vmalloc, percpu have",
        ),
    ] {
        assert_eq!(refused_rule(keys, &everybody), said, "{keys}");
    }
    for keys in
        ["hook='slab,page,bio'\ncache='dentry'", "hook='slab'\nfunction='f'\nsize=64", "hook='page-pool'\ngfp='ATOMIC'"]
    {
        accepted_rule(keys, &everybody);
    }
    let useless = "--errno is of no use here: page can only return true, page-pool, vmalloc and percpu only NULL, and a function with an error of its own only that";
    for keys in ["hook='page,page-pool'\nerrno='EIO'", "function='f=EIO'\nerrno='EIO'"] {
        assert_eq!(refused_rule(keys, &everybody), useless, "{keys}");
    }
    accepted_rule("function=['f=EIO', 'g']\nerrno='EIO'", &everybody);
    for keys in ["hook='filemap'\nerrno='EEXIST'", "hook='slab,filemap'\nerrno='17'"] {
        assert!(refused_rule(keys, &everybody).contains("filemap"), "{keys}");
    }
    // What filemap returns here is ENOMEM.
    for keys in ["hook='filemap'\nerrno='EAGAIN'", "hook='slab'\nerrno='EEXIST'", "hook='filemap'\nfunction='f=EEXIST'"]
    {
        accepted_rule(keys, &everybody);
    }
}

#[test]
fn functions() {
    let everybody = everybody();
    let eight: Vec<String> = (0..8).map(|i| format!("'f{i}'")).collect();
    accepted_rule(&format!("function=[{}]", eight.join(",")), &everybody);
    assert_eq!(
        refused_rule(&format!("function=[{},'g']", eight.join(",")), &everybody),
        "9 functions are too many for one rule; at most 8 are possible"
    );
    assert_eq!(
        refused_rule("function=['f', 'f=EIO']", &everybody),
        "--function f is given twice; a rule fails a function in one way"
    );
    // Not past the guards of the hook.
    assert_eq!(
        refused_rule("function='should_failslab'", &everybody),
        "--function should_failslab is the hook slab; write --hook slab, and --errno for another error"
    );
}

#[test]
fn in_an_interrupt_the_task_is_a_bystander() {
    let everybody = everybody();
    let process = Target { pids: vec![7], ..Target::default() };
    let keys = "context='softirq'";
    accepted_rule(keys, &everybody);
    accepted_rule("context='task'\nsyscall='mount'\nnth=1\nnth-per='task'", &process);
    assert_eq!(
        refused_rule(keys, &process),
        "--context softirq can't go with a target: in an interrupt the task is a bystander; leave one of them out"
    );
    for (filter, named) in [
        ("comm='x'", "--comm"),
        ("uid=0", "--uid"),
        ("not-pid=1", "--not-pid"),
        ("kthreads='exclude'", "--kthreads"),
        ("syscall='mount'", "--syscall"),
        ("nth=1\nnth-per='task'", "--nth-per task"),
    ] {
        let said = refused_rule(&format!("context='task,nmi'\n{filter}"), &everybody);
        assert!(said.starts_with(&format!("--context task,nmi can't go with {named}: ")), "{said}");
    }
}

#[test]
fn tasks_that_can_not_be() {
    let everybody = everybody();
    let process = Target { pids: vec![7], ..Target::default() };
    let command = Target { command: Some(vec!["x".into()]), ..Target::default() };
    assert_eq!(
        refused_rule("kthreads='only'\nsyscall='mount'", &everybody),
        "--kthreads only and --syscall exclude each other: kernel threads make no system calls"
    );
    assert_eq!(
        refused_rule("kthreads='only'", &command),
        "--kthreads only can't match here: no kernel thread belongs to the command; leave the command out"
    );
    accepted_rule("kthreads='only'\nuid=0", &everybody);
    accepted_rule("kthreads='only'", &process);
    assert_eq!(
        refused_rule("not-pid=[7,8]", &process),
        "--pid 7 and --not-pid 7 exclude each other: no process is left"
    );
    accepted_rule("not-pid=7", &Target { follow: true, ..process.clone() });
    accepted_rule("not-pid=7", &Target { pids: vec![7, 8], ..Target::default() });
    assert_eq!(refused_rule("not-pid=0", &everybody), "--not-pid 0 is not a process; name the id of a running one");
    let nine = "[1,2,3,4,5,6,7,8,9]";
    assert_eq!(refused_rule(&format!("uid={nine}"), &everybody), "9 --uid values are too many; at most 8 are possible");
    assert_eq!(
        refused_rule(&format!("not-pid={nine}"), &everybody),
        "9 --not-pid values are too many; at most 8 are possible"
    );
    let follow = Target { follow: true, ..command };
    assert!(refused_rule("", &follow).contains("--follow goes with --pid"));
}

#[test]
fn policies_that_contradict_themselves() {
    let everybody = everybody();
    for (keys, said) in [
        ("every=2\nnth=1", "--every and --nth exclude each other; name all numbers with --nth, or leave it out"),
        ("nth-per='task'", "--nth-per needs --nth: it says whose matches --nth counts"),
        (
            "per-site=2\nonce-per-site=true",
            "--once-per-site and --per-site exclude each other: the first is --per-site 1",
        ),
        ("nth='1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17'", "--nth has 17 numbers; at most 16 are possible"),
    ] {
        assert_eq!(refused_rule(keys, &everybody), said, "{keys}");
    }
    accepted_rule("nth='1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,16,1'\nseed=1\nskip=2", &everybody);
}

#[test]
fn stacks_that_are_too_much() {
    let everybody = everybody();
    accepted_rule("stack=['a..b', 'a..c', 'a..d', 'a..e', 'f', 'g']", &everybody);
    assert_eq!(
        refused_rule("stack=['a..b', 'a..c', 'a..d', 'a..e', 'a..f', 'g']", &everybody),
        "5 of the --stack values are paths of several functions (a..b); at most 4 are possible"
    );
    accepted_rule("not-stack='f'\nstack-depth=1", &everybody);
    assert_eq!(
        refused_rule("caller='f'\nstack-depth=1", &everybody),
        "--stack-depth needs --stack or --not-stack: it says how far they look"
    );
}

#[test]
fn excluding_some_of_several_stack_patterns_is_no_contradiction() {
    let (a, b): (StackPattern, StackPattern) = ("xfs_*".parse().unwrap(), "nfs_*".parse().unwrap());
    let stack = StackFilter { any_of: vec![a.clone().into(), b.into()], none_of: vec![a], ..StackFilter::default() };
    assert!(plan(Filter { stack, ..Filter::default() }, everybody(), policy()).is_ok());
}

#[test]
fn probability_may_be_left_out_when_something_bounds_the_damage() {
    let everybody = everybody();
    let somebody = Target { pids: vec![2], ..Target::default() };
    assert_eq!(policy().default_probability(&everybody), Err(PlanError::NoProbability));
    let five = Policy { times: Some(5), ..policy() };
    assert_eq!(five.default_probability(&everybody), Ok(Probability::ALWAYS));
    assert_eq!(policy().default_probability(&somebody), Ok(Probability::ALWAYS));
}
