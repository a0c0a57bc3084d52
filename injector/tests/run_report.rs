//! What people and programs read of a run, as golden files: tests/golden/report-run.*, from the runs in tests/runs; and that
//! no file makes the reader panic. `UPDATE_GOLDEN=1 cargo test -p injector --test run_report` writes them anew; look at the
//! difference before you commit it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use injector::{
    report::run::{self, Diff, ReadError, Run},
    symbols::Line,
};
use proptest::prelude::*;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn read(name: &str) -> Run {
    let mut run = run::read(&data(name)).expect("a run");
    // The golden files must not depend on where the checkout is.
    run.file = name.to_owned();
    run
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).expect("it can be read")
}

/// With some source lines, as the kernel's debug information has them.
fn with_lines() -> Run {
    let mut run = read("runs/files.jsonl");
    let line = |function: &str, file: &str, line, inlined| Line {
        function: function.to_owned(),
        file: file.to_owned(),
        line,
        inlined,
    };
    run.lines.insert(
        "do_syscall_64+0x4c".to_owned(),
        vec![
            line("do_syscall_x64", "arch/x86/entry/common.c", 47, true),
            line("do_syscall_64", "arch/x86/entry/common.c", 78, false),
        ],
    );
    run
}

fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("it can be written");
    String::from_utf8(bytes).expect("UTF-8")
}

fn compare(name: &str, got: &str) {
    let path = data("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).expect("it can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, expected, "{} differs", path.display());
}

#[test]
fn text() {
    let text = written(|out| run::text(&with_lines(), 3, out));
    assert!(!text.contains('\x1b'), "a terminal would obey it");
    compare("report-run.txt", &text);
}

#[test]
fn text_of_what_the_sink_writes() {
    compare("report-run-sink.txt", &written(|out| run::text(&read("golden/run.jsonl"), 0, out)));
}

#[test]
fn folded() {
    let folded = written(|out| run::folded(&with_lines(), out));
    let counts = folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), with_lines().failures);
    compare("report-run.folded", &folded);
}

#[test]
fn csv() {
    let table = written(|out| run::csv(&with_lines(), out));
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let columns = reader.headers().unwrap().len();
    let rows: Vec<_> = reader.records().map(|row| row.unwrap()).collect();
    assert!(rows.iter().all(|row| row.len() == columns));
    assert_eq!(rows.len(), with_lines().sites.len());
    compare("report-run.csv", &table);
}

#[test]
fn json() {
    let text = written(|out| run::json(&with_lines(), out));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["schema"], 1);
    compare("report-run.json", &text);
}

#[test]
fn flamegraph() {
    let svg = written(|out| run::flamegraph(&with_lines(), out));
    assert_eq!(svg, written(|out| run::flamegraph(&with_lines(), out)), "the same again");
    compare("report-run.svg", &svg);
}

#[test]
fn html() {
    let page = written(|out| run::html(&with_lines(), out));
    for foreign in ["http-equiv=\"refresh\"", "src=", "href=", "onload", "onclick", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(page.matches("<script").count(), 1, "the one that is known by its hash");
    compare("report-run.html", &page);
}

#[test]
fn text_of_others_is_text_in_html() {
    let evil = "<script>alert(1)</script>\u{1b}[2J\"'&";
    let mut run = with_lines();
    run.sites[0].stack[0] = evil.to_owned();
    run.sites[0].tasks.count(evil);
    run.sites[0].hook = evil.to_owned();
    run.rules[0].name = evil.to_owned();
    run.syscalls[0].syscall = Some(evil.to_owned());
    run.file = evil.to_owned();
    run.remarks.push(evil.to_owned());
    run.start.as_mut().unwrap().kernel = evil.to_owned();
    let (page, svg) = (written(|out| run::html(&run, out)), written(|out| run::flamegraph(&run, out)));
    assert!(!page.contains("<script>alert") && !page.contains('\x1b'), "{page}");
    assert!(!svg.contains("<script>alert") && !svg.contains('\x1b'), "{svg}");
    assert!(!written(|out| run::text(&run, 0, out)).contains('\x1b'));
}

#[test]
fn nothing_failed() {
    let mut run = read("runs/files.jsonl");
    (run.failures, run.lines_of_failures) = (0, 0);
    run.sites.clear();
    assert!(written(|out| run::text(&run, 0, out)).contains("\nno site failed\n"));
    assert!(written(|out| run::flamegraph(&run, out)).contains("No failures"));
    assert!(written(|out| run::html(&run, out)).contains("No failures"));
    assert_eq!(written(|out| run::folded(&run, out)), "");
}

#[test]
fn differences() {
    let (a, b) = (read("runs/files.jsonl"), read("runs/files-again.jsonl"));
    let diff = Diff::new(&a, &b);
    assert!(diff.has_other_sites());
    let all = |diff: &Diff| diff.new.len() + diff.changed.len() + diff.same;
    assert_eq!(all(&diff), b.sites.len());
    assert_eq!(diff.gone.len() + diff.changed.len() + diff.same, a.sites.len());
    compare("report-diff.txt", &written(|out| diff.text(out)));
    compare("report-diff.json", &written(|out| run::json(&diff, out)));
    let same = Diff::new(&a, &a);
    assert_eq!((same.has_other_sites(), same.changed.len(), same.same), (false, 0, a.sites.len()));
}

#[test]
fn runs_of_different_kernels_are_compared_by_functions() {
    let a = read("runs/files.jsonl");
    let mut b = a.clone();
    b.start.as_mut().unwrap().build_id = Some("another".to_owned());
    for site in &mut b.sites {
        site.site.0 ^= 1;
        for frame in &mut site.stack {
            *frame = frame.replace("+0x", "+0x1");
        }
    }
    let diff = Diff::new(&a, &b);
    assert_eq!((diff.by, diff.has_other_sites(), diff.changed.len()), (run::By::Functions, false, 0));
    assert!(written(|out| diff.text(out)).contains("the kernels are different ones"));
}

/// What can be counted of a run, however its end is missing.
fn counts(run: &Run) -> (u64, u64, Vec<u64>) {
    let mut sites: Vec<u64> = run.sites.iter().map(|site| site.lines_of_failures).filter(|count| *count > 0).collect();
    sites.sort_unstable();
    (run.failures, run.lines_of_failures, sites)
}

#[test]
fn a_killed_run_is_counted_by_its_lines() {
    let text = String::from_utf8(bytes("runs/files.jsonl")).unwrap();
    let (lines, summary) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(summary.contains("\"type\":\"summary\""));
    let killed = run::read_from(lines.as_bytes(), "killed.jsonl").unwrap();
    let whole = read("runs/files.jsonl");
    assert!(killed.end.is_none());
    assert_eq!((killed.failures, killed.failures), (whole.lines_of_failures, killed.lines_of_failures));
    assert_eq!(killed.remarks.len(), 1);
    assert!(killed.remarks[0].starts_with("the run's last line is not there"), "{:?}", killed.remarks);
    let page = written(|out| run::text(&killed, 1, out));
    assert!(page.contains("file: the run's last line is not there: what is counted are the lines of"), "{page}");
}

#[test]
fn damaged_lines_are_left_out_and_told() {
    let text = String::from_utf8(bytes("runs/files.jsonl")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let of_failure = |line: &&str| line.contains("\"type\":\"failure\"");
    let damaged = lines.iter().position(of_failure).unwrap();
    lines[damaged] = &lines[damaged][..40];
    lines.insert(5, "{\"type\":\"ended\"}");
    lines.insert(6, "{\"schema\":2,\"type\":\"weather\"}");
    lines.insert(7, "{\"schema\":3,\"type\":\"failure\"}");
    let run = run::read_from(lines.join("\n").as_bytes(), "f").unwrap();
    let whole = read("runs/files.jsonl");
    assert_eq!(run.lines_of_failures, whole.lines_of_failures - 1);
    assert_eq!(run.failures, whole.failures, "the summary knows");
    let remarks = run.remarks.join("\n");
    assert_eq!(run.remarks.len(), 5, "{remarks}");
    for remark in [
        format!("line {} is left out: EOF while parsing", damaged + 1),
        "line 6 is left out: it has no type and schema".to_owned(),
        "line 7 is left out: nothing of a run is of type `weather`".to_owned(),
        "line 8 is left out: it has schema 3 instead of 2".to_owned(),
        format!("the lines of {} failures are there, not of {}", run.lines_of_failures, whole.lines_of_failures),
    ] {
        assert!(remarks.contains(&remark), "{remark}\nin\n{remarks}");
    }
}

#[test]
fn many_damaged_lines_are_counted() {
    let mut text = bytes("runs/files.jsonl");
    for _ in 0..3000 {
        text.extend(b"x\n");
    }
    let run = run::read_from(&*text, "f").unwrap();
    assert_eq!(run.remarks.len(), 21);
    assert_eq!(run.remarks[20], "2980 more lines are left out");
}

#[test]
fn a_second_run_is_left_out() {
    let one = bytes("runs/files.jsonl");
    let lines = one.iter().filter(|byte| **byte == b'\n').count();
    let run = run::read_from(&*[&one[..], &one[..]].concat(), "f").unwrap();
    assert_eq!(counts(&run), counts(&read("runs/files.jsonl")));
    assert_eq!(run.remarks, [format!("line {}: another run begins here; it is left out", lines + 1)]);
}

#[test]
fn a_run_without_its_first_line() {
    let text = bytes("runs/files.jsonl");
    let second = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let run = run::read_from(&text[second..], "f").unwrap();
    assert!(run.start.is_none());
    assert_eq!(counts(&run), counts(&read("runs/files.jsonl")));
    assert!(run.remarks[0].starts_with("the run's first line is not there"), "{:?}", run.remarks);
    for form in [|run: &Run, out: &mut dyn Write| run::text(run, 0, out), run::html, run::flamegraph, run::csv] {
        written(|out| form(&run, out));
    }
}

#[test]
fn what_is_no_run_is_refused_with_the_line() {
    let refused = |text: &[u8]| run::read_from(text, "f").expect_err("no run").to_string();
    assert_eq!(refused(b""), "f is empty");
    assert_eq!(refused(b"{\"type\":\"begin\",\"schema\":1}\n"), "f is a sweep's journal, not a run's file");
    assert_eq!(refused(b"\n"), "f is not the file of a run: line 1 does not belong to one (EOF while parsing a value)");
    assert_eq!(refused(b"a\0\n"), "f is not the file of a run: line 1 does not belong to one (it holds NUL bytes)");
    assert_eq!(refused(b"\xff\n"), "f is not the file of a run: line 1 does not belong to one (it is not text)");
    assert_eq!(
        refused(b"{}\n[]\n"),
        "f is not the file of a run: line 1 does not belong to one (it has no type and schema)"
    );
    assert_eq!(
        refused(b"{\"schema\":1,\"type\":\"start\",\"version\":\"0.1.0\"}\n"),
        format!(
            "f, line 1: written by injector 0.1.0 with schema 1; this is injector {} and knows schema 2",
            env!("CARGO_PKG_VERSION")
        )
    );
    // Nobody waits for the end of a file that has nothing.
    let endless = io::BufReader::new(io::repeat(b'\n'));
    assert!(matches!(run::read_from(endless, "f"), Err(ReadError::NotARun { line: 1, .. })));
    let endless = io::BufReader::new(io::repeat(b'x').take(150 << 20));
    assert!(refused_read(endless).ends_with("(it has no end within 128 MiB)"));
}

fn refused_read(input: impl io::BufRead) -> String {
    run::read_from(input, "f").expect_err("no run").to_string()
}

use std::io::Read as _;

/// A number anywhere in the file, as big as there are.
#[test]
fn huge_numbers_are_added_up_somehow() {
    let text = String::from_utf8(bytes("runs/files.jsonl")).unwrap();
    let members =
        "time_ns|size|calls|matches|failures|lost|count|enomem|masked|open|delivered|suppressed|passed|elapsed_ns";
    let numbers = regex::Regex::new(&format!("(\"(?:{members})\":)[0-9]+")).unwrap();
    let huge = numbers.replace_all(&text, format!("${{1}}{}", u64::MAX).as_str());
    let run = run::read_from(huge.as_bytes(), "f").expect("a run");
    assert_eq!((run.failures, run.sites[0].count), (u64::MAX, u64::MAX));
    for form in [|run: &Run, out: &mut dyn Write| run::text(run, 0, out), run::html, run::flamegraph, run::csv] {
        written(|out| form(&run, out));
    }
    written(|out| Diff::new(&run, &run).text(out));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = run::read_from(&*bytes, "f");
    }

    #[test]
    fn no_damage_panics(at in any::<proptest::sample::Index>(), with in proptest::collection::vec(any::<u8>(), 1..20)) {
        let mut text = bytes("runs/files.jsonl");
        let at = at.index(text.len());
        for (byte, with) in text[at..].iter_mut().zip(with) {
            *byte = with;
        }
        if let Ok(run) = run::read_from(&*text, "f") {
            for form in [|run: &Run, out: &mut dyn Write| run::text(run, 0, out), run::html, run::flamegraph, run::csv] {
                written(|out| form(&run, out));
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_a_beginning(at in any::<proptest::sample::Index>()) {
        let text = bytes("runs/files.jsonl");
        let at = at.index(text.len());
        // The same without the line that is torn. It may be whole, but for its newline.
        let end = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let whole = serde_json::from_slice::<serde_json::Value>(&text[end..at]).is_ok();
        let lines = if whole { at } else { end };
        match (run::read_from(&text[..at], "f"), run::read_from(&text[..lines], "f")) {
            (Ok(mut cut), Ok(beginning)) => {
                if !whole && end < at {
                    let torn = text[..end].iter().filter(|byte| **byte == b'\n').count() + 1;
                    let remark = cut.remarks.remove(0);
                    prop_assert_eq!(remark, format!("line {torn}, the last one, is torn and left out"));
                }
                prop_assert_eq!(cut, beginning);
            }
            (Err(_), Err(_)) => prop_assert_eq!(lines, 0),
            (cut, beginning) => prop_assert!(false, "{:?} but {:?}", cut.is_ok(), beginning.is_ok()),
        }
    }
}
