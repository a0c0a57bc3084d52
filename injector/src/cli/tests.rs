use super::*;
use crate::plan::{Hook, Probability};

fn words(line: &str) -> Vec<&str> {
    std::iter::once("injector").chain(line.split_ascii_whitespace()).collect()
}

fn plan(line: &str) -> Plan {
    match parse(words(line)) {
        Ok(Command::Run(plan, _)) => *plan,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    match parse(words(line)) {
        Err(Exit { text, code: EXIT_USAGE }) => {
            assert_eq!(text.lines().count(), 1, "{text}");
            text.trim_end().to_owned()
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_main_job() {
    let plan = plan("--gfp NOFS --order-lt 4 --prob 0.01");
    assert_eq!(plan.hooks, Hook::ALL);
    assert_eq!(plan.filter.gfp.values()[0].to_string(), "GFP_NOFS");
    assert_eq!(plan.filter.order.bounds(), (0, 3));
    assert_eq!(plan.policy.probability, Probability::new(0.01).unwrap());
    assert!(plan.target.is_everybody());
}

#[test]
fn a_command_takes_everything_after_the_dashes() {
    let plan = plan("--order 1..=2 --order-gt 1 -- sh -c x --prob 7 check");
    assert_eq!(plan.target.command.unwrap(), ["sh", "-c", "x", "--prob", "7", "check"]);
    assert_eq!(plan.filter.order.bounds(), (2, 2));
    assert_eq!(plan.policy.probability, Probability::ALWAYS);
}

#[test]
fn verbs() {
    assert_eq!(parse(words("check")), Ok(Command::Check { json: false }));
    assert_eq!(parse(words("check --json")), Ok(Command::Check { json: true }));
    assert!(refused("--prob 1 check").contains("check"));
    assert!(matches!(parse(words("--times 1 -v")), Ok(Command::Run(_, RunOptions { verbose: true, ebpf_log: false }))));
    for help in ["--help", "-h", "--version", "check --help"] {
        assert!(matches!(parse(words(help)), Err(Exit { code: EXIT_OK, .. })), "{help}");
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
            "injector: --order, --order-lt, --order-gt: order ranges 0..=1 and 3.. have no order in common: no allocation can match both",
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
        ("--hook slap", "injector: --hook: there is no hook `slap` (hooks are: slab, page); did you mean slab?"),
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
fn the_definition_is_sound() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}
