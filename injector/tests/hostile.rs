//! Hostile input, full devices and closed pipes, against the program itself. None of it gets as far as touching the kernel.

use std::{
    fs::{self, File},
    io::{BufReader, Read as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use injector::{
    foreign::steers,
    journal::{self, Journal},
    report::{self, Report},
};
use serde_json::Value;

fn journals(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals").join(name)
}

fn injector() -> Command {
    let mut injector = Command::new(env!("CARGO_BIN_EXE_injector"));
    injector.stdin(Stdio::null());
    injector
}

fn run(arguments: &[&str]) -> Output {
    injector().args(arguments).output().expect("the program")
}

/// The exit code and the one line on standard error.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    (output.status.code(), text)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_target_that_got_lost_is_not_the_whole_machine() {
    for arguments in [
        &["--prob", "0.5", "--"][..],
        &["--stack", "xfs_*", "--prob", "0.5", "--"],
        &["--prob", "0.5", "--", ""],
        &["--prob", "0.5", "--pid", ""],
        &["--prob", "0.5", "--cgroup", ""],
        &["--prob", "0.5"],
        &["--hook", "page", "--times", "1"],
        &["--not-pid", "7", "--prob", "0.5"],
        &["--all", "--prob", "0.5", "--pid", "7"],
    ] {
        let plan: Vec<&str> = ["plan"].iter().chain(arguments).copied().collect();
        for arguments in [arguments, &plan] {
            assert_eq!(refused(arguments).0, Some(2), "{arguments:?}");
        }
    }
    let main_job = ["plan", "--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01"];
    for arguments in [&main_job[..], &["plan", "--all", "--prob", "0.5"], &["plan", "--prob", "0.5", "--dry-run"]] {
        assert_eq!(run(arguments).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_plan_file_can_lose_its_target_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = directory.path().join("plan.toml");
    for (file, code) in [
        ("[target]\n[[rule]]\nprob = 0.5\n", 2),
        ("[target]\nfollow = false\n[[rule]]\nprob = 0.5\n", 2),
        ("[target]\ncgroup = \"\"\n[[rule]]\n", 2),
        ("[[rule]]\nprob = 0.5\n", 2),
        ("[target]\nall = true\npid = 7\n[[rule]]\n", 2),
        ("[target]\nall = true\n[[rule]]\nprob = 0.5\n", 0),
    ] {
        fs::write(&plan, file).expect("writable");
        assert_eq!(run(&["plan", "--plan", text(&plan)]).status.code(), Some(code), "{file}");
    }
    // What is printed makes the same plan.
    let printed = run(&["plan", "--plan", text(&plan)]).stdout;
    assert!(String::from_utf8_lossy(&printed).contains("all = true"));
}

#[test]
fn an_output_is_never_an_input_or_another_output() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let whole = fs::read(journals("nfs.jsonl")).expect("a journal");
    fs::write(at("journal"), &whole).expect("writable");
    fs::hard_link(at("journal"), at("hard")).expect("a link");
    symlink("journal", at("soft")).expect("a link");
    let (journal, out) = (at("journal"), at("out"));
    for option in ["--html", "--junit"] {
        for name in ["journal", "hard", "soft"] {
            let (code, line) = refused(&["report", text(&journal), option, text(&at(name))]);
            assert_eq!(code, Some(2), "{line}");
            assert_eq!(fs::read(&journal).expect("it is there"), whole);
        }
    }
    assert_eq!(refused(&["report", text(&journal), "--html", text(&out), "--junit", text(&out)]).0, Some(2));
    assert_eq!(refused(&["merge", text(&journal), "-o", text(&at("soft"))]).0, Some(2));
    assert_eq!(refused(&["sweep", "--journal", text(&out), "--html", text(&out), "--", "true"]).0, Some(2));
    assert_eq!(fs::read(&journal).expect("it is there"), whole);
    assert!(!out.exists());
    let plan = at("plan.toml");
    fs::write(&plan, "[[rule]]\ngfp = \"NOFS\"\nprob = 0.5\n").expect("writable");
    assert_eq!(refused(&["--plan", text(&plan), "-o", text(&plan)]).0, Some(2));
    // A run that can't start leaves what an earlier one wrote.
    fs::write(&out, "precious").expect("writable");
    let output = run(&["--prob", "0", "-o", text(&out), "--", "/no/such/program"]);
    assert!(!output.status.success());
    assert_eq!(fs::read_to_string(&out).expect("it is there"), "precious");
}

#[test]
fn what_can_not_be_written_leaves_what_was_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    fs::write(&out, "precious").expect("writable");
    // No file may grow beyond this: as on a full disk, but for the number of the error.
    let nfs = journals("nfs.jsonl");
    for command in ["report J --html O", "report J --junit O", "merge J -o O"] {
        let command = command.replace('J', text(&nfs)).replace('O', text(&out));
        let script = format!("trap '' XFSZ; ulimit -f 1; exec {} {command}", env!("CARGO_BIN_EXE_injector"));
        let output = Command::new("sh").args(["-c", &script]).output().expect("sh");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{command}: {said}");
        assert_eq!(fs::read_to_string(&out).expect("it is there"), "precious", "{command}");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "{command}: something is left");
    }
}

#[test]
fn full_devices_and_closed_pipes() {
    let nfs = journals("nfs.jsonl");
    let commands: [(&[&str], i32); 6] = [
        (&["--help"], 0),
        (&["--version"], 0),
        (&["sweep", "--help"], 0),
        (&["plan", "--gfp", "NOFS", "--prob", "0.1"], 0),
        (&["report", text(&nfs)], 1),
        (&["merge", text(&nfs)], 0),
    ];
    for (arguments, code) in commands {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let output = injector().args(arguments).stdout(full).output().expect("the program");
        assert_eq!(output.status.code(), Some(74), "{arguments:?} to a full device");
        let mut child =
            injector().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(code), 0), "{arguments:?} to a closed pipe");
    }
}

#[test]
fn empty_is_not_clean() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().join("empty");
    fs::write(&empty, "").expect("writable");
    let nfs = journals("nfs.jsonl");
    for arguments in [
        &["report", text(&empty)][..],
        &["sites", text(&empty)],
        &["merge", text(&nfs), text(&empty)],
        &["merge", text(&empty)],
    ] {
        let (code, line) = refused(arguments);
        assert_eq!(code, Some(2), "{line}");
        assert!(line.contains("is empty"), "{line}");
    }
    // A sweep that began and failed nothing.
    let first = fs::read_to_string(&nfs).expect("a journal").lines().next().expect("a line").to_owned();
    fs::write(&empty, first + "\n").expect("writable");
    let output = run(&["report", text(&empty)]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no site was failed"));
}

const HOSTILE: &str = "\u{1b}[2J\u{202e}\u{9b}\u{2028}\nx\ty\u{7}\r";

/// Puts a hostile text behind each string of a value, but for those that say what kind of line it is.
fn spoil(value: &mut Value) {
    match value {
        Value::String(text) => text.push_str(HOSTILE),
        Value::Array(values) => values.iter_mut().for_each(spoil),
        Value::Object(members) => members.iter_mut().for_each(|(_, value)| spoil(value)),
        _ => {}
    }
}

/// A journal in which one member of each line that stays one is spoilt, a journal for each such member.
fn spoilt(journal: &Path) -> Vec<Journal> {
    let whole = fs::read_to_string(journal).expect("a journal");
    let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let members: std::collections::BTreeSet<String> =
        lines.iter().filter_map(Value::as_object).flat_map(|line| line.keys().cloned()).collect();
    let spoil_member = |member: &String| {
        let lines: Vec<String> = lines
            .iter()
            .map(|line| {
                let mut line = line.clone();
                if let Some(value) = line.get_mut(member).filter(|_| member != "type") {
                    spoil(value);
                }
                line.to_string()
            })
            .collect();
        journal::read_from(BufReader::new(lines.join("\n").as_bytes()), &format!("name{HOSTILE}")).ok()
    };
    members.iter().filter_map(spoil_member).collect()
}

#[test]
fn nothing_of_a_journal_steers_a_terminal() {
    let mut read = 0;
    for name in ["nfs.jsonl", "ext4-0-of-2.jsonl"] {
        for journal in spoilt(&journals(name)).into_iter().filter(|journal| !journal.sections.is_empty()) {
            read += 1;
            let report = Report::of(&journal);
            type Form = fn(&Report, &mut dyn std::io::Write) -> std::io::Result<()>;
            let stacks: Form = |report, out| report::sites(report, true, out);
            for form in [report::text as Form, report::ktap, stacks] {
                let mut bytes = Vec::new();
                form(&report, &mut bytes).expect("it can be written");
                let text = String::from_utf8(bytes).expect("UTF-8");
                let bad = text.lines().find(|line| line.chars().any(|c| steers(c) && c != '\t'));
                assert_eq!(bad, None, "{}", journal.name.escape_debug());
            }
            let mut bytes = Vec::new();
            report::junit(&report, &mut bytes).expect("it can be written");
            let text = String::from_utf8(bytes).expect("UTF-8");
            let forbidden = |c: char| c.is_control() && !"\t\n\r".contains(c) || matches!(c, '\u{fffe}' | '\u{ffff}');
            assert_eq!(text.chars().find(|c| forbidden(*c)), None, "XML forbids it");
        }
    }
    assert!(read > 20, "only {read} journals could be read");
}

#[test]
fn messages_are_short_and_harmless() {
    let long = "N".repeat(100_000);
    let steering = format!("NOFS{HOSTILE}");
    let missing = format!("/no/such{HOSTILE}");
    for arguments in [
        &["--gfp", &long][..],
        &["--gfp", &steering],
        &["--stack", &format!("{steering}[")],
        &["--prob", &steering],
        &["--errno", &long],
        &["--function", &steering, "--prob", "1"],
        &["--syscall", &long],
        &["--format", &steering],
        &["--metrics", &steering],
        &["--pid", &steering],
        &["sweep", "--shard", &long, "--", "true"],
        &["report", &missing],
        &["merge", &missing],
        &["diff", &missing, &missing],
        &["--plan", &missing],
        &["--html", &missing],
        &[&steering],
        &[&long],
        &["ctl", "set", &long],
    ] {
        let (code, line) = refused(arguments);
        let shown: Vec<String> = arguments.iter().map(|argument| argument.chars().take(20).collect()).collect();
        assert_eq!(code, Some(2), "{shown:?}: {line}");
        assert!(line.len() < 2000, "{shown:?}: {} bytes", line.len());
        assert_eq!(line.trim_end_matches('\n').chars().find(|c| steers(*c)), None, "{shown:?}: {line:?}");
    }
}

#[test]
fn plan_files_are_quoted_and_bounded() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = directory.path().join("plan.toml");
    for file in
        ["\"a\\u001b[2J\\u202eb\" = 1\n".to_owned(), format!("{} = 1\n", "k".repeat(100_000)), "\x1b[2J".to_owned()]
    {
        fs::write(&plan, file).expect("writable");
        let (code, line) = refused(&["--plan", text(&plan)]);
        assert_eq!((code, line.trim_end().chars().find(|c| steers(*c))), (Some(2), None), "{line:?}");
        assert!(line.len() < 1000, "{} bytes", line.len());
    }
    let start = Instant::now();
    let (code, line) = refused(&["--plan", "/dev/zero"]);
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("more than 1024 KiB"), "{line}");
    fs::write(&plan, "# x\n".repeat(400_000)).expect("writable");
    assert_eq!(refused(&["--plan", text(&plan)]).0, Some(2));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn long_words_are_answered_at_once() {
    let start = Instant::now();
    let word = "n".repeat(100_000);
    for option in ["--gfp", "--errno", "--syscall", "--hook", "--context"] {
        assert_eq!(refused(&[option, &word, "--prob", "1"]).0, Some(2));
    }
    // A debug build on a busy machine; it took 10 s each.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn many_sections_are_refused() {
    let first =
        fs::read_to_string(journals("nfs.jsonl")).expect("a journal").lines().next().expect("a line").to_owned();
    let mut begin: Value = serde_json::from_str(&first).expect("JSON");
    let mut lines = String::new();
    for i in 0..5000 {
        begin["sweep"] = format!("{i:032x}").into();
        lines += &format!("{begin}\n");
    }
    let start = Instant::now();
    let error = journal::read_from(lines.as_bytes(), "j").expect_err("too many");
    assert!(error.to_string().contains("more than 1024 sweeps"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let some: String = lines.lines().take(1000).map(|line| format!("{line}\n")).collect();
    assert_eq!(journal::read_from(some.as_bytes(), "j").expect("a journal").sections.len(), 1000);
}

#[test]
fn contradictions_are_noticed() {
    for (arguments, says) in [
        (&["--size", "3", "--order", "5"][..], "--order 5"),
        (&["--hook", "page", "--size", "4K", "--order", "1"], "--size 4096"),
        (&["--kthreads", "only", "--uid", "1000"], "--uid"),
        (&["--stack", "a", "--not-stack", "a*"], "--not-stack a*"),
        (&["--caller", "kmalloc_reserve", "--not-stack", "kmalloc_*"], "--caller"),
        (&["--function", "openat=EIO", "--function", "__x64_sys_openat=EACCES"], "--function"),
        (&["--errno=-1"], "-1"),
    ] {
        let all = [&["plan", "--prob", "0.1"], arguments].concat();
        let (code, line) = refused(&all);
        assert_eq!(code, Some(2), "{line}");
        assert!(line.contains(says), "{line}");
    }
    for arguments in [
        &["--size", "8K", "--order", "1"][..],
        &["--size", "..=64", "--order", "0"],
        &["--hook", "page", "--size", "8K", "--order", "1"],
        &["--kthreads", "only", "--uid", "0,1000"],
        &["--stack", "a", "--stack", "b", "--not-stack", "a*"],
        &["--stack", "a*", "--not-stack", "ab*"],
        // The copies that the compiler made of it are not excluded.
        &["--stack", "ab", "--not-stack", "a?"],
        &["--errno=-12"],
    ] {
        let all = [&["plan", "--all", "--prob", "0.1"], arguments].concat();
        assert_eq!(run(&all).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn formulas_are_no_cells() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs/files.jsonl");
    let mut whole = String::new();
    File::open(run).expect("a run").read_to_string(&mut whole).expect("text");
    let spoilt = whole.replace("\"slab\"", "\"=1+1\"").replace("kmalloc-", "@kmalloc-");
    let run = report::run::read_from(spoilt.as_bytes(), "r").expect("a run");
    let mut bytes = Vec::new();
    report::run::csv(&run, &mut bytes).expect("it can be written");
    let table = String::from_utf8(bytes).expect("UTF-8");
    let cells = table.lines().flat_map(|line| line.split(','));
    let bad = cells.map(|cell| cell.trim_start_matches('"')).find(|cell| cell.starts_with(['=', '+', '-', '@', '\t']));
    assert_eq!(bad, None);
}
