use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::plan::{Contexts, ErrorNumber, Kthreads, NthPer, OrderRange, SizeRange};
use crate::plan::{GfpFilter, StackFilter, TaskFilter};

const NAME: &str = "plan.toml";

fn parse(text: &str) -> Result<Plan, FileError> {
    let mut file = PlanFile::parse(NAME, text)?;
    // As with --all on the command line.
    file.target.all |= !file.target.is_named();
    file.into_plan(Output::default())
}

fn plan(text: &str) -> Plan {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    match parse(text) {
        Ok(plan) => panic!("accepted: {plan:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_file_with_everything() {
    let plan = plan(
        r#"
        dry-run = true
        outcome = true
        duration = "10m"
        ttl = "2s"

        [target]
        pid = [17, 18]
        cgroup = "/sys/fs/cgroup/x"
        follow = true

        [[rule]]
        name = "nfs opens"
        hook = "slab"
        function = ["openat=EINTR", "open_ctree"]
        gfp = ["NOFS", "KERNEL,ZERO"]
        gfp-scope = "raw"
        order = 0
        size = "1K..8K"
        cache = "nfs_*"
        stack = ["nfs4_do_open..rpc_*", "[nfs]"]
        not-stack = "handle_mm_fault"
        caller = "nfs*"
        stack-depth = 5
        syscall = "openat,mount"
        comm = ["mount", "kworker/*"]
        uid = [0, "1000"]
        not-pid = "1,2"
        kthreads = "exclude"
        context = ["task"]
        skip = 10
        space = "64K"
        nth = [3, 1]
        nth-per = "task"
        prob = 0.5
        seed = 0x5eed
        per-site = 2
        rate = "100/s"
        times = 7
        errno = "EIO"

        [[rule]]
        name = "pages"
        hook = ["page", "page-pool"]
        every = 10
        once-per-site = true
        prob = "1/1000"
        "#,
    );
    assert!(plan.dry_run && plan.outcome);
    assert_eq!(plan.limits, Limits { duration: Some(Duration::from_secs(600)), ttl: Duration::from_secs(2) });
    assert_eq!((plan.target.pids.as_slice(), plan.target.follow), ([17, 18].as_slice(), true));
    assert_eq!(plan.target.cgroups, [PathBuf::from("/sys/fs/cgroup/x")]);
    let [opens, pages] = plan.rules.as_slice() else { panic!("two rules: {plan:?}") };
    assert_eq!((opens.name.as_str(), opens.hooks.as_slice()), ("nfs opens", [Hook::Slab].as_slice()));
    assert_eq!(opens.functions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["openat=EINTR", "open_ctree"]);
    assert_eq!((opens.filter.gfp.values().len(), opens.filter.size.bounds()), (2, (1024, 8191)));
    assert_eq!(
        opens.filter.stack.any_of.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["nfs4_do_open..rpc_*", "[nfs]"]
    );
    assert_eq!(opens.filter.syscalls.iter().map(|call| call.name()).collect::<Vec<_>>(), ["openat", "mount"]);
    assert_eq!(
        (opens.filter.task.uids.as_slice(), opens.filter.task.not_pids.as_slice()),
        ([0, 1000].as_slice(), [1, 2].as_slice())
    );
    assert_eq!((opens.filter.kthreads, opens.filter.contexts), (Kthreads::Exclude, Some(Contexts::TASK)));
    let policy = &opens.policy;
    assert_eq!((policy.skip, policy.space, policy.seed, policy.times), (10, 65536, Some(0x5eed), Some(7)));
    assert_eq!((policy.nth.iter().map(|n| n.get()).collect::<Vec<_>>(), policy.nth_per), (vec![1, 3], NthPer::Task));
    assert_eq!((policy.rate, policy.per_site), (NonZeroU64::new(100), NonZeroU64::new(2)));
    assert_eq!(policy.errno.map(ErrorNumber::get), Some(5));
    assert_eq!((pages.name.as_str(), pages.hooks.as_slice()), ("pages", [Hook::Page, Hook::PagePool].as_slice()));
    assert_eq!((pages.policy.every, pages.policy.per_site), (NonZeroU64::new(10), Some(NonZeroU64::MIN)));
    assert_eq!(pages.policy.probability, Probability::new(0.001).unwrap());
}

#[test]
fn the_shortest_file() {
    let shortest = plan("[[rule]]\ntimes = 1");
    assert_eq!(
        (shortest.first().name.as_str(), shortest.first().hooks.as_slice()),
        ("default", Hook::MEMORY.as_slice())
    );
    assert_eq!((shortest.first().policy.probability, shortest.limits.ttl), (Probability::ALWAYS, Limits::DEFAULT_TTL));
    assert_eq!(to_toml(&shortest).unwrap(), "[target]\nall = true\n\n[[rule]]\ntimes = 1\n");
    // With functions, the allocators are left alone.
    assert_eq!(plan("[[rule]]\nfunction = \"open_ctree\"\ntimes = 1").first().hooks, []);
}

#[test]
fn keys_in_the_plural_or_with_underscores() {
    let one = plan("dry_run = true\n[target]\npids = 4\n[[rule]]\nhooks = [\"page\"]\nnot_stack = \"f\"");
    let other = plan("dry-run = true\n[target]\npid = 4\n[[rule]]\nhook = \"page\"\nnot-stack = \"f\"");
    assert_eq!(one, other);
}

#[test]
fn what_is_wrong_is_said_with_line_and_column() {
    for (text, said) in [
        ("", "plan.toml: the plan has no rule; write one at least: [[rule]]"),
        ("rules = 1", "plan.toml:1:1: there is no key `rules`; did you mean `rule`?"),
        ("\n[[rule]]\n  gpf = \"NOFS\"", "plan.toml:3:3: there is no key `gpf`; did you mean `gfp`?"),
        (
            "[target]\ncommand = 1",
            "plan.toml:2:1: there is no key `command`; keys here are: all, pid, cgroup, container, pidns, follow",
        ),
        (
            "[[rule]]\nprob = 1.5",
            "plan.toml:2:8: prob: probability `1.5` is out of range; it goes from 0 (never) to 1 (always), or 0% to 100%",
        ),
        (
            "[[rule]]\nhook = [\"slab\", \"slap\"]",
            "plan.toml:2:17: hook: there is no hook `slap` (hooks are: slab, page, filemap, bio, page-pool, vmalloc, percpu); did you mean slab?",
        ),
        (
            "[[rule]]\nnth = [1, 0]",
            "plan.toml:2:11: nth: `0` is not the number of a match; write whole numbers, counted from 1: 7 or 1,3,5",
        ),
        ("[[rule]]\ngfp = []", "plan.toml:2:7: gfp: the list is empty; leave the key out"),
        ("[[rule]]\norder = true", "plan.toml:2:9: order: neither true nor false can stand here"),
        ("[[rule]]\norder = [1]", "plan.toml:2:9: order: only one value can stand here"),
        (
            "[[rule]]\ntimes = 99999999999999999999",
            "plan.toml:2:9: times: the number is too large; write it as a text: \"99999999999999999999\"",
        ),
        ("dry-run = \"yes\"", "plan.toml:1:11: dry-run: write true or false"),
        ("dry-run = true\ndry_run = true", "plan.toml:2:1: `dry_run` is the same key as `dry-run`"),
        (
            "[rule]\ntimes = 1",
            "plan.toml:1:1: rule is a table of which there can be several: write [[rule]], and its keys below",
        ),
        ("target = 7", "plan.toml:1:10: target is a table: write [target], and its keys below"),
        ("ä = \"ö\"", "plan.toml:1:1: invalid unquoted key, expected letters, numbers, `-`, `_`"),
        ("[[rule]]\ngfp = \"ö", "plan.toml:2:9: invalid basic string, expected `\"`"),
        ("[[rule]]\ncomm = \"öö\" x", "plan.toml:2:13: unexpected key or value, expected newline, `#`"),
        (
            "[[rule]]\ntimes = 1\n\n[[rule]]\nname = \"b\"",
            "plan.toml:1:1: a rule has no name: where there are several, each needs one, for events and the summary; write name = \"…\"",
        ),
        (
            "[[rule]]\nname = \"b\"\ntimes = 1\n\n  [[rule]]\n  name = \"b\"\n  times = 1",
            "plan.toml:5:3: two rules are called `b`; give each a name of its own",
        ),
        (
            "[[rule]]\nname = \"\"\ntimes = 1",
            "plan.toml:1:1: rule name `` is not usable; write 1 to 64 characters, none of them a control character",
        ),
        ("ttl = \"1ms\"\n[[rule]]\ntimes = 1", "plan.toml: --ttl 1ms is out of range; it goes from 100ms to 1h"),
        (
            "[[rule]]\nevery = 2\nnth = 1",
            "plan.toml:1:1: --every and --nth exclude each other; name all numbers with --nth, or leave it out",
        ),
    ] {
        assert_eq!(refused(text), said, "{text}");
        assert_eq!(said.lines().count(), 1);
    }
    assert!(refused("[[rule]]").starts_with("plan.toml:1:1: --prob is required here"));
    let rule = |i| format!("[[rule]]\nname = \"{i}\"\ntimes = 1\n");
    let many = |n: usize| (0..n).map(rule).collect::<String>();
    assert_eq!(plan(&many(8)).rules.len(), 8);
    assert_eq!(refused(&many(9)), "plan.toml: the plan has 9 rules; at most 8 are possible");
}

#[test]
fn a_file_that_is_not_there() {
    let error = PlanFile::read(Path::new("/nonexistent/plan.toml")).unwrap_err().to_string();
    assert_eq!(error, "can't read /nonexistent/plan.toml: No such file or directory (os error 2)");
}

/// A file of a run with a command must not fail the whole machine's allocations when it is used without one.
#[test]
fn what_goes_without_saying_is_said_only_where_it_does_not() {
    let command = Target { command: Some(vec!["x".into()]), ..Target::default() };
    let rule = RuleDraft::default().finish(&command).unwrap();
    let with_command = Plan::of(rule.clone(), command.clone()).unwrap();
    let text = to_toml(&with_command).unwrap();
    assert_eq!(text, "[[rule]]\n");
    assert!(refused(&text).contains("--prob is required"));
    let all = Target { all: true, ..Target::default() };
    let everybody = Plan::of(rule, all).unwrap();
    assert_eq!(to_toml(&everybody).unwrap(), "[target]\nall = true\n\n[[rule]]\nprob = 1\n");
}

#[test]
fn a_path_that_is_no_text() {
    use std::os::unix::ffi::OsStringExt as _;
    let path = PathBuf::from(std::ffi::OsString::from_vec(b"/x/\xff".to_vec()));
    let target = Target { cgroups: vec![path], ..Target::default() };
    let plan = Plan::of(RuleDraft::default().finish(&target).unwrap(), target).unwrap();
    let error = to_toml(&plan).unwrap_err().to_string();
    assert_eq!(error, "the path /x/\u{fffd} is not UTF-8 and can't stand in a plan file");
}

/// Texts that are values of `T`.
fn some<T: std::str::FromStr<Err: fmt::Debug> + Clone + fmt::Debug + 'static>(
    texts: &'static [&'static str],
) -> impl Strategy<Value = Vec<T>> {
    let values: Vec<T> = texts.iter().map(|text| text.parse().unwrap()).collect();
    subsequence(values, 0..=texts.len().min(4))
}

fn filters() -> impl Strategy<Value = Filter> {
    let stack = (
        some(&["nfs4_do_open..rpc_*", "[nfs]", "f+1-0x20", "a..b..c..d", "0x10-0x20"]),
        some(&["handle_mm_fault", "xfs_[!a-c]*"]),
        some(&["alloc_inode", "[ext4]"]),
        prop::option::of(1u32..9),
    )
        .prop_map(|(any_of, none_of, caller, depth)| {
            let depth = depth.and_then(NonZeroU32::new).filter(|_| !any_of.is_empty() || !none_of.is_empty());
            StackFilter { any_of, none_of, caller, depth }
        });
    let task = (
        prop_oneof![
            some(&["mount", "kworker/*", "Web Content", " ", "\"'\\", "1"]),
            "[^\u{0}\\[]{1,3}".prop_map(|text| vec![text.parse().unwrap()]),
        ],
        prop::collection::vec(any::<u32>(), 0..8),
        prop::collection::vec(1u32.., 0..8),
    )
        .prop_map(|(comms, uids, not_pids)| TaskFilter { comms, uids, not_pids });
    let sites = prop_oneof![some(&["0123456789abcdef", "ffffffffffffffff"]), some(&["fs/open.c:1", "mm/slub.c:12"])];
    let size = (any::<u64>(), any::<u64>()).prop_map(|(a, b)| SizeRange::new(a.min(b), a.max(b)).unwrap());
    let order = (0..=63u32, 0..=63u32).prop_map(|(a, b)| OrderRange::new(a.min(b), a.max(b)).unwrap());
    (
        (some(&["NOFS", "KERNEL,!ZERO", "!NOIO"]), select(vec!["effective", "raw"])),
        prop_oneof![Just(OrderRange::ALL), order],
        prop_oneof![Just(SizeRange::ALL), size],
        (some(&["dentry", "kmalloc-*", ":A-*"]), sites),
        stack,
        some(&["openat", "mount", "io_uring_enter"]),
        task,
        select(vec![Kthreads::Any, Kthreads::Only, Kthreads::Exclude]),
        select(vec!["", "", "task", "task,nmi", "softirq"]),
    )
        .prop_map(|((gfp, scope), order, size, (caches, sites), stack, syscalls, task, kthreads, contexts)| {
            Filter {
                gfp: GfpFilter::any_of(gfp).unwrap(),
                gfp_scope: scope.parse().unwrap(),
                order,
                size,
                caches,
                sites,
                stack,
                syscalls,
                task,
                kthreads,
                contexts: contexts.parse().ok(),
            }
        })
}

fn policies() -> impl Strategy<Value = Policy> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<NonZeroU64>(), any::<NonZeroU64>());
    let asked = prop::collection::vec(any::<bool>(), 9);
    (numbers, asked, 0.0..=1.0, prop::collection::vec(any::<NonZeroU64>(), 1..8), 1..=4095u16).prop_map(
        |((skip, space, seed, times, every, per_site), asked, probability, mut nth, errno)| {
            nth.sort_unstable();
            nth.dedup();
            let nth = if asked[0] { nth } else { Vec::new() };
            Policy {
                skip: if asked[1] { skip } else { 0 },
                space: if asked[2] { space } else { 0 },
                every: (asked[3] && !asked[0]).then_some(every),
                nth_per: if asked[0] && asked[4] { NthPer::Task } else { NthPer::Run },
                nth,
                probability: Probability::new(probability).unwrap_or_default(),
                seed: asked[5].then_some(seed),
                per_site: asked[6].then_some(per_site),
                rate: asked[7].then_some(per_site),
                times: asked[8].then_some(times),
                errno: asked[4].then(|| ErrorNumber::new(errno).unwrap()),
            }
        },
    )
}

fn rules() -> impl Strategy<Value = RuleDraft> {
    let hooks = subsequence(Hook::NAMED.to_vec(), 0..=Hook::NAMED.len());
    let functions = some(&["open_ctree", "openat=EINTR", "f=NULL", "g=4000", "h.isra.0=TRUE"]);
    (hooks, functions, filters(), policies()).prop_map(|(hooks, functions, filter, policy)| RuleDraft {
        name: None,
        hooks,
        functions,
        filter,
        probability: Some(policy.probability),
        policy,
        once_per_site: false,
    })
}

fn targets() -> impl Strategy<Value = Target> {
    let cgroups = subsequence(["/sys/fs/cgroup/a", "/b c/\"d\"\n"].map(PathBuf::from).to_vec(), 0..=2);
    let containers = subsequence(["3f2a9c", "web-one"].map(|name| name.parse().unwrap()).to_vec(), 0..=2);
    let namespaces = subsequence(["7", "/proc/1/ns/pid"].map(|name| name.parse().unwrap()).to_vec(), 0..=2);
    let others = (cgroups, containers, namespaces);
    (prop::collection::vec(1u32.., 0..3), others, any::<bool>(), any::<bool>()).prop_map(
        |(pids, (cgroups, containers, pid_namespaces), follow, command)| Target {
            all: false,
            follow: follow && !pids.is_empty(),
            pids,
            cgroups,
            containers,
            pid_namespaces,
            command: command.then(|| vec!["x".into()]),
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same_plan(
        drafts in prop::collection::vec(rules(), 1..4),
        names in subsequence(vec!["a", "b c", "\"", "ä", "1", "default"], 4),
        target in prop_oneof![Just(Target { all: true, ..Target::default() }), targets()],
        flags: (bool, bool),
        backend in select(&Backend::ALL[..]),
        times in (prop::option::of(1u64..1 << 40), 100u64..3_600_000),
    ) {
        let mut rules: Vec<Rule> = Vec::new();
        let only = drafts.len() == 1;
        for (draft, name) in drafts.into_iter().zip(names) {
            let name = (!only || name != "1").then(|| name.to_owned());
            // Half of what is put together at random contradicts itself.
            if let Ok(rule) = (RuleDraft { name, ..draft }).finish(&target) {
                rules.push(rule);
            }
        }
        let limits = Limits { duration: times.0.map(Duration::from_millis), ttl: Duration::from_millis(times.1) };
        let output = Output::default();
        let plan = Plan { rules, backend, target, limits, dry_run: flags.0, outcome: flags.1, vmlinux: None, output };
        prop_assume!(plan.validate().is_ok());
        let text = to_toml(&plan).unwrap();
        let mut file = PlanFile::parse(NAME, &text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        file.target.command.clone_from(&plan.target.command);
        let again = file.into_plan(Output::default()).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(&again, &plan, "{}", text);
        prop_assert_eq!(to_toml(&again).unwrap(), text);
    }

    #[test]
    fn never_panics(text in "(\\[\\[rule\\]\\]\n)?(gfp|nth|order|uid|[a-z]{1,3}) = [\\[\"0-9a-zA-Z,.\\]-]{0,9}|\\PC*") {
        if let Err(error) = parse(&text) {
            prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
        }
    }
}
