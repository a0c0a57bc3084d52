use std::time::Duration;

use injector_guest::EngineChoice;

use super::*;
use crate::guests::handover::Handover;
use crate::plan::sweep::{GuestKernel, Leaks, Shard};
use crate::plan::{Backend, Hook, Probability};
use crate::report::{Destination, FORMS, Form};
use crate::run::SocketPlace;

fn words(line: &str) -> Vec<&str> {
    std::iter::once("injector").chain(line.split_ascii_whitespace()).collect()
}

fn plan(line: &str) -> Plan {
    match parse(words(line)) {
        Ok(Command::Run(plan, ..)) => *plan,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    match parse(words(line)) {
        Err(Exit { text, code: ExitCode::USAGE }) => {
            assert_eq!(text.lines().count(), 1, "{text}");
            text.trim_end().to_owned()
        }
        other => panic!("{line}: {other:?}"),
    }
}

fn sweep(words: impl IntoIterator<Item = String>) -> (SweepPlan, Option<Guests>, Reports) {
    let words: Vec<String> = ["injector", "sweep"].map(str::to_owned).into_iter().chain(words).collect();
    match parse(words.clone()) {
        Ok(Command::Sweep { plan, guests, reports, .. }) => (*plan, guests, reports),
        other => panic!("{words:?}: {other:?}"),
    }
}

fn sweep_of(line: &str) -> (SweepPlan, Option<Guests>, Reports) {
    sweep(line.split_ascii_whitespace().map(str::to_owned))
}

#[test]
fn the_main_job() {
    let plan = plan("--gfp NOFS --order-lt 4 --prob 0.01");
    assert_eq!(plan.first().hooks, Hook::MEMORY);
    assert_eq!(plan.first().filter.gfp.values()[0].to_string(), "GFP_NOFS");
    assert_eq!(plan.first().filter.order.bounds(), (0, 3));
    assert_eq!(plan.first().policy.probability, Probability::new(0.01).unwrap());
    assert!(plan.target.is_everybody());
}

#[test]
fn a_command_takes_everything_after_the_dashes() {
    let plan = plan("--order 1..=2 --order-gt 1 -- sh -c x --prob 7 check");
    assert_eq!(plan.target.command.clone().unwrap(), ["sh", "-c", "x", "--prob", "7", "check"]);
    assert_eq!(plan.first().filter.order.bounds(), (2, 2));
    assert_eq!(plan.first().policy.probability, Probability::ALWAYS);
}

#[test]
fn verbs() {
    assert_eq!(parse(words("check")), Ok(Command::Check { json: false }));
    assert_eq!(parse(words("check --json")), Ok(Command::Check { json: true }));
    assert!(refused("--prob 1 check").contains("check"));
    assert!(matches!(
        parse(words("--all --times 1 -v")),
        Ok(Command::Run(_, RunOptions { verbose: true, ebpf_log: false }, _))
    ));
    for help in ["--help", "-h", "--version", "check --help", "plan --help"] {
        assert!(matches!(parse(words(help)), Err(Exit { code: ExitCode::OK, .. })), "{help}");
    }
}

#[test]
fn a_sweep_with_the_defaults_of_everything() {
    let (plan, guests, reports) = sweep_of("-- ./test.sh --depth 1");
    let command = vec!["./test.sh".into(), "--depth".into(), "1".into()];
    assert_eq!(plan, SweepPlan::new(command, Journal::New("sweep.jsonl".into())));
    assert_eq!((guests, reports), (None, Reports::default()));
}

#[test]
fn where_a_sweep_writes() {
    let journal = |line: &str| sweep_of(&format!("{line} -- x")).0.journal;
    assert_eq!(journal("--journal a"), Journal::New("a".into()));
    assert_eq!(journal("--journal a --resume"), Journal::Resume("a".into()));
}

#[test]
fn guests_of_a_sweep() {
    let (_, guests, _) = sweep_of("--vm k --jobs 3 --add /proc/self:/x --with mount --append a=b --append c -- x");
    let guests = guests.expect("guests");
    assert_eq!((guests.jobs, guests.memory_mb, guests.cpus), (3, 2048, None));
    assert_eq!(guests.kernel, Some(GuestKernel::Image { image: "k".into(), modules: None }));
    assert_eq!(guests.engine, EngineChoice::QEMU);
    assert_eq!(guests.added, [("/proc/self".into(), "/x".to_owned())]);
    assert_eq!((guests.programs, guests.append), (vec!["mount".to_owned()], vec!["a=b".to_owned(), "c".to_owned()]));
}

#[test]
fn kernels_of_guests() {
    let kernel = |line: &str| sweep_of(&format!("{line} -- x")).1.and_then(|guests| guests.kernel);
    assert_eq!(kernel("--vm debian:6.12"), Some(GuestKernel::Stock("debian:6.12".parse().unwrap())));
    let modules = Some("/m/6.1".into());
    assert_eq!(kernel("--vm k --modules /m/6.1"), Some(GuestKernel::Image { image: "k".into(), modules }));
    let refused = |line: &str| refused(&format!("sweep {line} -- x"));
    assert_eq!(
        refused("--vm debian:6"),
        "injector: --vm: `debian:6` names no stock kernel: write debian: and a series, as in debian:7.3, or debian:7.3-amd64 for all drivers"
    );
    assert_eq!(
        refused("--vm debian:6.1 --modules /m"),
        "injector: --vm debian:6.1 brings its modules; leave out --modules"
    );
    for line in ["--vm debian:6.1 --engine virtme-ng", "--vm k --modules /m --engine virtme-ng"] {
        assert!(refused(line).contains("name an image, and leave out --modules"), "{line}");
    }
}

#[test]
fn a_plan_keeps_the_options_of_guests_for_a_replay() {
    let (plan, ..) = sweep_of("--jobs 2 --append slab_debug=FZPU --vm debian:7.3 --memory 3072 --only a -- x");
    assert_eq!(plan.guests, ["--vm", "debian:7.3", "--memory", "3072", "--append", "slab_debug=FZPU"]);
    assert_eq!(sweep_of("--only a -- x").0.guests, [""; 0]);
}

#[test]
fn engines() {
    let engine = |line: &str| sweep_of(&format!("{line} -- x")).1.map(|guests| guests.engine.name());
    assert_eq!(engine(""), None);
    assert_eq!(engine("--vm k"), Some("qemu"));
    assert_eq!(engine("--vm k --engine virtme-ng"), Some("virtme-ng"));
    assert_eq!(engine("--engine here"), Some("here"));
    let refused = |line: &str| refused(&format!("sweep {line} -- x"));
    assert_eq!(
        refused("--engine virtme-ng"),
        "injector: --engine virtme-ng boots a kernel; name its image: --vm BZIMAGE"
    );
    assert!(refused("--engine here --vm k").contains("boots no kernel; leave out --vm"));
    assert!(refused("--engine virtme-ng --vm k --with ls").contains("leave out --add and --with"));
    assert!(refused("--engine here --jobs 2").contains("--vm"));
    assert!(refused("--engine xen --vm k").contains("engines are: qemu, virtme-ng, here"));
}

#[test]
fn every_option_of_a_sweep_reaches_its_plan() {
    let words = "--setup s --cleanup c --only ext4_* --only [nfs] --depth 1 --hit 3 --persistent 7 --no-kthreads --shard 1/4 \
                 --budget 90500ms --hang 1500ms --expect-success --keep-going --backend kprobe --leaks slab --kmsg -- x --hit";
    let plan = SweepPlan {
        workload: None,
        guests: Vec::new(),
        setup: Some("s".to_owned()),
        cleanup: Some("c".to_owned()),
        only: ["ext4_*", "[nfs]"].map(|pattern| pattern.parse().expect("a pattern")).into(),
        spared: Vec::new(),
        depth: 1,
        hit: 3,
        persistent: Some(7),
        kthreads: false,
        shard: Some(Shard { index: 1, count: 4 }),
        budget: Some(Duration::from_millis(90_500)),
        hang: Duration::from_millis(1500),
        expect_success: true,
        keep_going: true,
        backend: Backend::Kprobe,
        leaks: Leaks::Slab,
        command: vec!["x".into(), "--hit".into()],
        journal: Journal::New("sweep.jsonl".into()),
        kmsg: true,
        failing: true,
    };
    assert_eq!(sweep_of(words), (plan, None, Reports::default()));
}

#[test]
fn a_plan_file_is_carried_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("plan.json");
    let execute = || parse(["injector".as_ref(), "execute".as_ref(), file.as_os_str()]);
    let plan = SweepPlan::new(vec!["x".into()], Journal::Port { so_far: "j".into() });
    let content = Handover::Sweep(Box::new(plan.clone())).encode().expect("a plan");
    std::fs::write(&file, content).expect("a file");
    let (reports, options) = (Reports::default(), RunOptions::default());
    assert_eq!(execute(), Ok(Command::Sweep { plan: Box::new(plan), guests: None, reports, options }));
    std::fs::write(&file, r#"{"schema":99}"#).expect("a file");
    let Err(Exit { text, code: ExitCode::USAGE }) = execute() else { panic!("another schema is refused") };
    assert!(text.contains("has schema 99"), "{text}");
}

#[test]
fn verbs_around_a_sweep() {
    let Ok(Command::Replay(replay, None)) = parse(words("replay a.jsonl f1")) else { panic!("a replay") };
    assert_eq!((replay.journal, replay.finding, replay.tries), ("a.jsonl".into(), "f1".to_owned(), 1));
    assert_eq!((replay.sites, replay.hang, replay.port), (vec![], Duration::from_secs(45), false));
    let Ok(Command::Minimize(_, Some(guests))) = parse(words("minimize a f1 --vm k")) else { panic!("in a guest") };
    assert_eq!(guests.kernel.as_ref().and_then(GuestKernel::image), Some("k".as_ref()));
    assert_eq!(
        parse(words("merge a b -o c")),
        Ok(Command::Merge { journals: vec!["a".into(), "b".into()], output: Some("c".into()) })
    );
    let html = FORMS.iter().find(|form| form.option == "html").expect("a form");
    let forms = Forms { files: vec![(html, "b".into())], ..Forms::default() };
    let reports = Reports { forms, ..Reports::default() };
    assert_eq!(
        parse(words("report a --html b")),
        Ok(Command::Report { file: "a".into(), finding: None, reports, runs: RunReports::default() })
    );
    assert_eq!(parse(words("step -- a -b")), Ok(Command::Step(vec!["a".into(), "-b".into()])));
    assert_eq!(
        parse(words("sites -v a")),
        Ok(Command::Sites { source: SitesOf::Journal("a".into()), stacks: true, vmlinux: None })
    );
    let Ok(Command::Sites { source: SitesOf::Workload(plan), stacks: false, vmlinux: None }) =
        parse(words("sites -- a b"))
    else {
        panic!("of a workload")
    };
    assert!(!plan.failing && plan.kthreads);
    assert_eq!(plan.command, ["a", "b"]);
}

/// Each form has its option, and those on standard output exclude each other.
#[test]
fn forms_of_a_report() {
    let forms = |line: &str| sweep_of(&format!("{line} -- x")).2.forms;
    assert_eq!(forms(""), Forms::default());
    let option = |form: &Form| match form.to {
        Destination::Stdout => format!("--{}", form.option),
        Destination::File => format!("--{} a", form.option),
    };
    for form in &FORMS {
        let expected = match form.to {
            Destination::Stdout => Forms { stdout: form, ..Forms::default() },
            Destination::File => Forms { files: vec![(form, "a".into())], ..Forms::default() },
        };
        assert_eq!(forms(&option(form)), expected);
    }
    for (a, b) in FORMS.iter().flat_map(|a| FORMS.iter().map(move |b| (a, b))).filter(|(a, b)| a != b) {
        let line = format!("sweep {} {} -- x", option(a), option(b));
        let exclude = a.to == Destination::Stdout && b.to == Destination::Stdout;
        assert_eq!(parse(words(&line)).is_err(), exclude, "{line}");
    }
}

#[test]
fn bad_input_is_one_line_each() {
    for (line, said) in [
        (
            "",
            "injector: --prob is required here: without a target (--pid, --cgroup, -- CMD) or --times, every matching allocation of the whole machine would fail; try --prob 0.01",
        ),
        ("--gfp NOFSS", "injector: --gfp: there is no GFP flag `NOFSS`; did you mean NOFS, NOFAIL?"),
        (
            "--gfp NOFS,KERNEL",
            "injector: --gfp: GFP value `NOFS,KERNEL` can never match: __GFP_FS would have to be set and clear",
        ),
        (
            "--prob 1.5",
            "injector: --prob: probability `1.5` is out of range; it goes from 0 (never) to 1 (always), or 0% to 100%",
        ),
        (
            "--prob -1",
            "injector: --prob: probability `-1` is out of range; it goes from 0 (never) to 1 (always), or 0% to 100%",
        ),
        (
            "--prob nan",
            "injector: --prob: `nan` is not a probability; write a number from 0 to 1 (0.01), a percentage (1%) or a fraction (1/1000)",
        ),
        ("--order 3..1", "injector: --order: order range `3..1` is empty: no allocation can match it"),
        ("--order-lt 0", "injector: --order-lt: order range `less than 0` is empty: no allocation can match it"),
        (
            "--prob 1 --order-lt 2 --order-gt 2",
            "injector: --order, --order-lt, --order-gt: order ranges 0..=1 and 3.. do not overlap: no allocation can match both",
        ),
        (
            "--prob 1 --stack a --not-stack a",
            "injector: --stack a and --not-stack a exclude each other: no stack can match",
        ),
        ("--pid x", "injector: --pid: `x` is not a process id; write the number of a running process"),
        ("--pid -4", "injector: --pid: `-4` is not a process id; write the number of a running process"),
        ("--times 0", "injector: --times 0 would fail nothing; use --prob 0 to count matches without failing any"),
        ("--times 1 --ttl 5", "injector: --ttl: `5` needs a unit: 5s, 5ms, 5m"),
        ("--times 1 --ttl 5ms", "injector: --ttl 5ms is out of range; it goes from 100ms to 1h"),
        (
            "--hook slap",
            "injector: --hook: there is no hook `slap` (hooks are: slab, page, filemap, bio, page-pool, vmalloc, percpu); did you mean slab?",
        ),
        ("--format xml", "injector: --format: there is no format `xml`; formats are: text, json"),
        ("--prob 1 ls -l", "injector: what is `ls`? A command to run comes after `--`: injector [OPTIONS] -- ls …"),
        (
            "--prop 1",
            "injector: unexpected argument '--prop' found; tip: a similar argument exists: '--prob'; try injector --help",
        ),
        ("--prob", "injector: a value is required for '--prob <P>' but none was supplied; try injector --help"),
    ] {
        assert_eq!(refused(line), said, "{line}");
    }
}

#[test]
fn every_option_of_a_rule() {
    let plan = plan(
        "--hook slab,filemap --function open_ctree=ENOSPC --function openat --size 1K..8K --cache kmalloc-* \
         --stack nfs4_do_open..rpc_* --stack [nfs] --not-stack f --caller g --stack-depth 3 --syscall openat,mount \
         --comm mount --comm kworker/* --uid 0,1000 --not-pid 1,2 --kthreads exclude --context task --skip 5 \
         --space 64K --nth 3,1 --nth-per task --seed 0x5eed --per-site 2 --rate 100/s --errno -EIO --times 9 \
         --pid 7 --follow --dry-run --outcome",
    );
    let text = crate::plan::file::to_toml(&plan).unwrap();
    assert_eq!(
        text,
        r#"dry-run = true
outcome = true

[target]
pid = 7
follow = true

[[rule]]
hook = ["slab", "filemap"]
function = ["open_ctree=ENOSPC", "openat"]
size = "1024..=8191"
cache = "kmalloc-*"
stack = ["nfs4_do_open..rpc_*", "[nfs]"]
not-stack = "f"
caller = "g"
stack-depth = 3
syscall = ["openat", "mount"]
comm = ["mount", "kworker/*"]
uid = [0, 1000]
not-pid = [1, 2]
kthreads = "exclude"
context = "task"
skip = 5
space = 65536
nth = [1, 3]
nth-per = "task"
seed = 24301
per-site = 2
rate = "100/s"
times = 9
errno = "EIO"
"#
    );
}

/// What the command line has, a rule of a plan file has.
#[test]
fn a_plan_file_has_the_options_of_the_command_line() {
    let known = crate::plan::PlanFile::parse("x", "[[rule]]\nxyzzy = 1").unwrap_err().to_string();
    let (_, known) = known.split_once("keys here are: ").unwrap();
    let mut known: Vec<&str> = known.split(", ").filter(|key| *key != "name").collect();
    known.sort_unstable();
    let command = command();
    let of_a_rule = command
        .get_arguments()
        .filter(|arg| arg.get_help_heading().is_some_and(|heading| run::RULE.contains(&heading)));
    let options = of_a_rule.filter_map(clap::Arg::get_long);
    // Two ways to write --order.
    let mut options: Vec<&str> = options.filter(|option| !["order-lt", "order-gt"].contains(option)).collect();
    options.sort_unstable();
    assert_eq!(known, options);
}

fn plan_of_file(text: &str, options: &str) -> Result<Command, Exit> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plan.toml");
    std::fs::write(&file, text).unwrap();
    parse(words(&format!("--plan {} {options}", file.display())))
}

#[test]
fn the_command_line_wins_over_the_file() {
    let file = "outcome = true\nduration = '1m'\nttl = '1s'\n[target]\npid = 7\n[[rule]]\ngfp = 'NOFS'";
    let plan = |options: &str| match plan_of_file(file, options) {
        Ok(Command::Run(plan, ..)) => *plan,
        other => panic!("{options}: {other:?}"),
    };
    let as_it_is = plan("");
    assert_eq!((as_it_is.target.pids.as_slice(), as_it_is.outcome, as_it_is.dry_run), ([7].as_slice(), true, false));
    assert_eq!(as_it_is.limits.duration, Some(Duration::from_secs(60)));
    let other = plan("--duration 2s --ttl 2s --dry-run --quiet -o x --follow");
    assert_eq!((other.limits.duration, other.limits.ttl), (Some(Duration::from_secs(2)), Duration::from_secs(2)));
    assert!(other.dry_run && other.output.quiet && other.target.follow && other.target.pids == [7]);
    let command = plan("-- x --pid 3");
    assert_eq!(
        (command.target.pids.as_slice(), command.target.command.map(|words| words.len())),
        ([].as_slice(), Some(3))
    );
}

#[test]
fn options_of_a_rule_belong_into_the_file() {
    for option in
        ["--gfp NOFS", "--times 3", "--hook slab", "--function f", "--once-per-site", "--nth-per run", "--prob 1"]
    {
        let Err(exit) = plan_of_file("[[rule]]\ntimes = 1", option) else { panic!("{option}: accepted") };
        let name = option.split(' ').next().unwrap();
        assert_eq!(
            (exit.code, exit.text),
            (
                ExitCode::USAGE,
                format!(
                    "injector: --plan takes hooks, filters and policy from its file: {name} belongs into a [[rule]] of it\n"
                )
            )
        );
    }
}

#[test]
fn a_plan_is_printed() {
    assert_eq!(
        parse(words("plan --gfp NOFS --prob 1% --function f -q -- x")),
        Err(refuse(
            "--gfp can never match here: it is about GFP flags, which only calls of slab, page, filemap, page-pool, vmalloc, percpu have"
        ))
    );
    assert_eq!(
        parse(words("plan --gfp NOFS --prob 1% -q -- x")),
        Ok(Command::Plan("[[rule]]\ngfp = \"GFP_NOFS\"\nprob = 0.01\n".to_owned()))
    );
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn while_it_runs() {
    let live = |line: &str| match parse(words(line)) {
        Ok(Command::Run(_, _, live)) => live,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(live("--all --times 1"), LiveOptions::default());
    assert_eq!(live("--all --times 1 --control --no-status").control, Some(SocketPlace::Default));
    assert_eq!(live("--all --control=/tmp/x --times 1").control, Some(SocketPlace::Path("/tmp/x".into())));
    assert_eq!(live("--all --metrics [::1]:0 --times 1").metrics, Some("[::1]:0".parse().unwrap()));
    for address in ["9099", "localhost:9099", "127.0.0.1", "127.0.0.1:70000"] {
        let text = refused(&format!("--times 1 --metrics {address}"));
        assert!(text.contains(address) && text.contains("127.0.0.1:9099"), "{text}");
    }
}

#[test]
fn control() {
    let control = |line: &str| match parse(words(line)) {
        Ok(Command::Control { run, request, json }) => (run, request, json),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(control("ctl pause"), (Which::Only, Request::Pause {}, false));
    assert_eq!(control("ctl --pid 7 status --json"), (Which::Process(7), Request::Status {}, true));
    let changes = ["a.prob=0.05", "times=3"].map(|text| text.parse().unwrap()).to_vec();
    let (run, request, _) = control("ctl --socket /tmp/x set a.prob=5% times=3");
    assert_eq!((run, request), (Which::Socket("/tmp/x".into()), Request::Set { changes }));
    assert!(refused("ctl set").contains("CHANGE"));
    assert!(refused("ctl set prob=7").contains("out of range"));
    assert!(refused("ctl --pid 1 --socket x stop").contains("cannot be used with"));
}

#[test]
fn a_campaign_hands_the_options_of_guests_on() {
    let line = "campaign loop --workloads tests/workloads -o out --vm debian:7.3 --jobs 2 --memory 100 --add /bin/sh:/x \
                --with ls --with-module a? --device b,c --append d --time real -- --leaks off";
    let Ok(Command::Campaign(plan)) = parse(words(line)) else { panic!("a campaign") };
    let options: Vec<_> = plan.options.iter().map(|word| word.to_string_lossy()).collect();
    assert_eq!(
        options.join(" "),
        "--vm debian:7.3 --memory 100 --add /bin/sh:/x --with ls --with-module a? --device b,c --append d --time real \
         --jobs 2 --workloads tests/workloads --leaks off"
    );
    assert_eq!((plan.jobs, plan.workloads.len()), (2, 1));
}

#[test]
fn a_workload_gives_and_options_win() {
    let sweep = |rest: &str| sweep_of(&format!("--vm k --workload loop --workloads tests/workloads {rest}"));
    let (plan, guests, _) = sweep("");
    let guests = guests.expect("guests");
    assert_eq!(plan.command[0], "sh");
    assert_eq!((plan.workload.as_deref(), plan.budget), (Some("loop"), Some(Duration::from_secs(120))));
    assert_eq!((guests.memory_mb, guests.programs.as_slice()), (3072, ["sh".to_owned()].as_slice()));
    assert_eq!(guests.modules, ["loop".parse().expect("a module")]);
    let (plan, guests, _) = sweep("--budget 1m --memory 100 --with-module ext4 --cleanup c");
    let guests = guests.expect("guests");
    assert_eq!((plan.budget, plan.cleanup.as_deref()), (Some(Duration::from_secs(60)), Some("c")));
    assert_eq!((guests.memory_mb, guests.modules.len()), (100, 2));
    assert!(refused("sweep --workload loop --workloads tests/workloads -- x").contains("--workload"));
}
