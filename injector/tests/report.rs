//! What people and tools read of a sweep, as golden files: tests/golden/sweep.*, from the journals in tests/journals.
//! `UPDATE_GOLDEN=1 cargo test -p injector --test report` writes them anew; look at the difference before you commit it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use injector::{
    journal::{self, Journal},
    report::{self, Report},
    symbols::Line,
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals").join(name)
}

fn read(name: &str) -> Journal {
    let mut journal = journal::read(&data(name)).expect("a journal");
    // The golden files must not depend on where the checkout is.
    journal.name = name.to_owned();
    journal
}

fn findings() -> Report {
    Report::of(&read("nfs.jsonl"))
}

fn line(function: &str, file: &str, line: u32, inlined: bool) -> Line {
    Line { function: function.to_owned(), file: file.to_owned(), line, inlined }
}

/// The findings, with some source lines as the kernel's debug information has them.
fn with_lines() -> Report {
    let mut report = findings();
    let lines = [
        ("full_proxy_write+0x4d", vec![line("full_proxy_write", "fs/debugfs/file.c", 328, false)]),
        ("vfs_write+0xc0", vec![line("vfs_write", "fs/read_write.c", 681, false)]),
        (
            "do_syscall_64+0x4c",
            vec![
                line("do_syscall_x64", "arch/x86/entry/common.c", 47, true),
                line("do_syscall_64", "arch/x86/entry/common.c", 78, false),
            ],
        ),
    ];
    report.lines = lines.into_iter().map(|(frame, lines)| (frame.to_owned(), lines)).collect();
    report
}

fn nothing_found() -> Report {
    let shards = [read("ext4-0-of-2.jsonl"), read("ext4-1-of-2.jsonl")];
    let mut merged = journal::merge(&shards).expect("shards of one sweep");
    merged.name = "ext4 merged.jsonl".to_owned();
    Report::of(&merged)
}

fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("it can be written");
    String::from_utf8(bytes).expect("UTF-8")
}

fn compare(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).expect("it can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, expected, "{} differs", path.display());
}

#[test]
fn text() {
    let text = written(|out| report::text(&findings(), out));
    assert!(!text.contains('\x1b'), "a terminal would obey it");
    compare("sweep.txt", &text);
}

#[test]
fn text_with_source_lines() {
    compare("sweep-lines.txt", &written(|out| report::text(&with_lines(), out)));
}

/// The other forms differ from those without lines in nothing else.
#[test]
fn source_lines_are_added_to_stacks() {
    type Write = fn(&Report) -> String;
    let all: [(&str, Write); 2] = [
        ("sites", |report| written(|out| report::sites(report, true, out))),
        ("html", |report| written(|out| report::html(report, out))),
    ];
    for (form, write) in all {
        let (with, without) = (write(&with_lines()), write(&findings()));
        let with = with.replace(" arch/x86/entry/common.c:78", "").replace(" fs/read_write.c:681", "");
        let with = with.replace(" fs/debugfs/file.c:328", "");
        let inlined = "do_syscall_x64 arch/x86/entry/common.c:47 (inlined)";
        let (added, rest): (Vec<&str>, Vec<&str>) = with.lines().partition(|line| line.contains(inlined));
        assert!(added.len() > 5, "{form}");
        assert_eq!(rest, without.lines().collect::<Vec<_>>(), "{form}");
    }
    for write in [report::ktap, report::junit] {
        assert_eq!(written(|out| write(&with_lines(), out)), written(|out| write(&findings(), out)));
    }
    let value: serde_json::Value =
        serde_json::from_str(&written(|out| report::json(&with_lines(), out))).expect("it can be read");
    let inlined = &value["lines"]["do_syscall_64+0x4c"][0];
    assert_eq!(
        (&inlined["function"], &inlined["line"], &inlined["inlined"]),
        (&"do_syscall_x64".into(), &47.into(), &true.into())
    );
}

#[test]
fn text_where_nothing_was_found() {
    compare("sweep-nothing.txt", &written(|out| report::text(&nothing_found(), out)));
}

#[test]
fn text_of_an_empty_journal() {
    let journal = journal::read_from(&b""[..], "empty.jsonl").expect("it can be read");
    compare("sweep-empty.txt", &written(|out| report::text(&Report::of(&journal), out)));
}

#[test]
fn sites() {
    compare("sweep-sites.txt", &written(|out| report::sites(&findings(), false, out)));
    compare("sweep-sites-stacks.txt", &written(|out| report::sites(&nothing_found(), true, out)));
}

#[test]
fn ktap() {
    compare("sweep.ktap", &written(|out| report::ktap(&findings(), out)));
}

#[test]
fn junit() {
    compare("sweep.junit.xml", &written(|out| report::junit(&findings(), out)));
}

#[test]
fn html() {
    let html = written(|out| report::html(&findings(), out));
    compare("sweep.html", &html);
}

#[test]
fn json() {
    compare("sweep.json", &written(|out| report::json(&findings(), out)));
}

/// What a kernel, a task or a module may be called to break a report.
const HOSTILE: &str = "</pre><script>alert(1)</script>]]>&\"'\u{1b}[2J\r\n\u{0}not ok 1 # SKIP";

/// The same journal with hostile text wherever text can be.
fn hostile() -> Report {
    let text = std::fs::read_to_string(data("nfs.jsonl")).expect("a journal");
    let hostile = serde_json::to_string(HOSTILE).expect("a string");
    let hostile = hostile.trim_matches('"');
    let mut changed = 0;
    let lines = text.lines().map(|line| {
        let mut line = line.to_owned();
        for (from, to) in [
            (r#""module":""#, format!(r#""module":"{hostile}"#)),
            (r#""title":""#, format!(r#""title":"{hostile}"#)),
            (r#""splat":""#, format!(r#""splat":"{hostile}"#)),
            (r#""comm":""#, format!(r#""comm":"{hostile}"#)),
            (r#""gfp":""#, format!(r#""gfp":"{hostile}"#)),
            (r#""error":""#, format!(r#""error":"{hostile}"#)),
            (r#""why":""#, format!(r#""why":"{hostile}"#)),
            (r#""release":""#, format!(r#""release":"{hostile}"#)),
            (r#""command":["#, format!(r#""command":["{hostile}","#)),
            (r#""setup":""#, format!(r#""setup":"{hostile}"#)),
            (r#""stack":["#, format!(r#""stack":["{hostile}","#)),
            (r#""name":""#, format!(r#""name":"{hostile}"#)),
        ] {
            changed += line.matches(from).count();
            line = line.replace(from, &to);
        }
        line + "\n"
    });
    let lines: String = lines.collect();
    assert!(changed > 100, "the journal is written in another way: {changed}");
    let mut report = Report::of(&journal::read_from(lines.as_bytes(), HOSTILE).expect("a journal"));
    let inlined = [line(HOSTILE, HOSTILE, 1, true), line(HOSTILE, HOSTILE, 2, false)];
    report.lines = with_lines().lines.into_keys().map(|frame| (frame, inlined.to_vec())).collect();
    report
}

#[test]
fn hostile_text_in_a_terminal() {
    let report = hostile();
    for text in [
        written(|out| report::text(&report, out)),
        written(|out| report::sites(&report, true, out)),
        written(|out| report::ktap(&report, out)),
        written(|out| report::mail(&report, out)),
        written(|out| report::known::write_list(&report, out)),
        written(|out| report::SweepDiff::new(&findings(), &report).text(out)),
    ] {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "a terminal would obey it");
    }
}

/// Whether each result is bad, and how many directives it has.
fn results(report: &Report) -> Vec<(bool, usize)> {
    let ktap = written(|out| report::ktap(report, out));
    let result = |line: &str| {
        let (bad, rest) = line.strip_prefix("not ").map_or((false, line), |rest| (true, rest));
        rest.starts_with("ok ").then(|| (bad, rest.matches('#').count()))
    };
    ktap.lines().filter_map(|line| result(line.trim_start())).collect()
}

#[test]
fn hostile_text_in_ktap() {
    // Reasons of skips hold a `#`, behind the directive, where it means nothing.
    // The names are others, and so is the order.
    let directives = |report: &Report| {
        let mut all: Vec<_> = results(report).into_iter().map(|(bad, n)| (bad, n > 0)).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(directives(&findings()), directives(&hostile()));
    assert_eq!(results(&findings()).iter().filter(|(bad, _)| *bad).count(), 9);
}

#[test]
fn hostile_text_in_html() {
    for report in [findings(), hostile()] {
        let html = written(|out| report::html(&report, out));
        assert!(!html.contains("<script"), "{}", report.journal);
        assert!(!html.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        // Every tag is closed in its order: nothing broke out.
        let mut open = Vec::new();
        for tag in html.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag has an end");
            let name = tag.split([' ', '\n']).next().unwrap_or_default();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                None if ["!DOCTYPE", "meta", "br"].contains(&name) => {}
                None => open.push(name),
            }
        }
        assert_eq!(open, Vec::<&str>::new());
        // One file: nothing is fetched, nothing is run.
        for outside in [" src=", "url(", "@import", "http:", "https:", "<link", "javascript:", " on"] {
            let found =
                html.split('<').skip(1).filter_map(|tag| tag.split_once('>')).any(|(tag, _)| tag.contains(outside));
            assert!(!found, "{outside}");
        }
    }
}

#[test]
fn hostile_text_in_xml() {
    for report in [findings(), hostile()] {
        let xml = written(|out| report::junit(&report, out));
        assert!(!xml.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "not allowed in XML");
        let read = quick_junit::Report::deserialize_from_str(&xml).expect("it can be read");
        assert_eq!(read.failures, 7);
        assert_eq!(read.test_suites.iter().map(|suite| suite.skipped).sum::<usize>(), 4);
    }
}

#[test]
fn json_says_its_version_and_can_be_read() {
    let value: serde_json::Value =
        serde_json::from_str(&written(|out| report::json(&hostile(), out))).expect("it can be read");
    assert_eq!(value["schema"], report::SCHEMA);
}

/// docs/sweep-formats.md says what every member of the JSON and of the journal means.
#[test]
fn formats_are_documented() {
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sweep-formats.md");
    let documentation = std::fs::read_to_string(documentation).expect("the documentation");
    let mut values: Vec<serde_json::Value> = ["nfs.jsonl", "ext4-0-of-2.jsonl"]
        .iter()
        .flat_map(|name| {
            std::fs::read_to_string(data(name)).expect("a journal").lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .map(|line| serde_json::from_str(&line).expect("JSON"))
        .collect();
    values.push(serde_json::from_str(&written(|out| report::json(&with_lines(), out))).expect("JSON"));
    let mut missing = std::collections::BTreeSet::new();
    while let Some(value) = values.pop() {
        match value {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    let signature = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
                    let frame = name.contains("+0x");
                    if !signature && !frame && !documentation.contains(&format!("`{name}`")) {
                        missing.insert(name);
                    }
                    values.push(value);
                }
            }
            serde_json::Value::Array(all) => values.extend(all),
            _ => {}
        }
    }
    assert!(missing.is_empty(), "docs/sweep-formats.md does not say what these are: {missing:?}");
}

/// One bad site among very many must be seen.
#[test]
fn a_small_part_of_a_bar_is_wide_enough() {
    let html = written(|out| report::html(&findings(), out));
    let bars = html.split("<svg").skip(1).map(|bar| bar.split("</svg>").next().expect("an end"));
    let mut bars_seen = 0;
    for bar in bars {
        let value = |rect: &str, name: &str| -> f64 {
            let (_, rest) = rect.split_once(&format!(" {name}=\"")).expect("an attribute");
            rest.split('"').next().expect("an end").parse().expect("a number")
        };
        let mut end = 0.0;
        for rect in bar.split("<rect").skip(1) {
            assert!((value(rect, "x") - end).abs() < 0.2, "{bar}");
            assert!(value(rect, "width") >= 12.0, "{bar}");
            end = value(rect, "x") + value(rect, "width");
        }
        assert!((end - 1000.0).abs() < 0.2, "{bar}");
        bars_seen += 1;
    }
    assert_eq!(bars_seen, 10);
}

/// The findings, some of them known by a list and by a journal.
fn with_known() -> Report {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("known.txt");
    let text = "# of an older kernel\n\
                warning: task hung in write @ defect_infinite_retry.isra.0\n\
                leak: leak of injector_leak_first in defect_leak_first @ somebody_else\n\
                oops: the machine was gone without a word\n\
                warning: WARNING in gone_one @ defect_missing_check\n\
                warning: WARNING in gone_two @ not_reached\n\
                warning: WARNING in gone_three\n";
    std::fs::write(&list, text).expect("it can be written");
    let mut known = report::known::read(&list).expect("a list");
    for known in &mut known {
        known.file = "known.txt".to_owned();
    }
    let mut report = findings();
    report.mark_known(&known);
    report
}

fn known_titles(report: &Report) -> Vec<&str> {
    let known = report.findings.iter().filter(|found| found.known.is_some());
    known.map(|found| found.finding.title.as_str()).collect()
}

#[test]
fn known_findings_are_listed_apart() {
    let report = with_known();
    assert_eq!(known_titles(&report), ["the machine was gone without a word", "task hung in write"]);
    assert!(report.has_new_findings());
    compare("sweep-known.txt", &written(|out| report::text(&report, out)));
    compare("sweep-known.ktap", &written(|out| report::ktap(&report, out)));
    let xml = written(|out| report::junit(&report, out));
    let (all, new) = (written(|out| report::junit(&findings(), out)), xml.matches("<failure").count());
    assert_eq!((all.matches("<failure").count(), new), (7, 5));
    let html = written(|out| report::html(&report, out));
    assert!(html.contains("known (known.txt)") && html.contains("6 findings, 2 of them known"));
}

/// The list that a report writes, and its journal, make all of it known; so nothing is new.
#[test]
fn a_report_knows_its_own_findings() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("list");
    let text = written(|out| report::known::write_list(&findings(), out));
    compare("sweep-list.txt", &text);
    std::fs::write(&list, text).expect("it can be written");
    for path in [list, data("nfs.jsonl")] {
        let mut report = findings();
        report.mark_known(&report::known::read(&path).expect("known findings"));
        assert!(!report.has_new_findings() && report.not_found.is_empty(), "{}", path.display());
        assert!(!written(|out| report::ktap(&report, out)).contains("not ok"));
        assert!(!written(|out| report::junit(&report, out)).contains("<failure"));
    }
}

#[test]
fn other_files_are_no_known_findings() {
    let of_run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs/files.jsonl");
    let golden = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    for (path, says) in [
        (of_run, "a run has no findings"),
        (golden("sweep.junit.xml"), "line 1 is no finding"),
        (golden("sweep.json"), "line 1 is no finding"),
        (data("no-such-file"), "No such file"),
    ] {
        let error = report::known::read(&path).expect_err("no known findings").to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn two_sweeps_compared() {
    let mut after = findings();
    after.journal = "after.jsonl".to_owned();
    let (gone, moved) = (0, 3);
    assert_eq!(after.findings[moved].finding.title, "task hung in write");
    // One is gone; one comes from elsewhere; one is new; a function has lost its sites.
    after.findings.remove(gone);
    let elsewhere = after.findings[0].finding.failures[0].site;
    after.findings[moved - 1].finding.failures.truncate(1);
    after.findings[moved - 1].finding.failures[0].site = elsewhere;
    let mut new = after.findings[0].clone();
    new.finding.title = "WARNING in something_new".to_owned();
    new.finding.id = "12345678".to_owned();
    after.findings.push(new);
    after.sites.retain(|_, site| site.function() != "defect_combined");
    let diff = report::SweepDiff::new(&findings(), &after);
    assert!(diff.has_other_findings());
    compare("sweep-diff.txt", &written(|out| diff.text(out)));
    compare("sweep-diff.json", &written(|out| report::run::json(&diff, out)));
    let same = report::SweepDiff::new(&findings(), &findings());
    assert!(!same.has_other_findings() && same.new_sites.is_empty() && same.gone_sites.is_empty());
}

/// Another build of the same code: offsets and signatures differ, functions do not.
#[test]
fn sweeps_of_different_kernels_are_compared_by_functions() {
    let mut other = findings();
    other.config.as_mut().expect("a kernel").kernel.build_id = Some("00".to_owned());
    let sites = std::mem::take(&mut other.sites);
    for (journal::Signature(number), mut site) in sites {
        for frame in &mut site.stack {
            *frame = frame.replace("+0x", "+0xf");
        }
        other.sites.insert(journal::Signature(!number), site);
    }
    for found in &mut other.findings {
        for failure in &mut found.finding.failures {
            failure.site = journal::Signature(!failure.site.0);
        }
    }
    let diff = report::SweepDiff::new(&findings(), &other);
    assert_eq!(diff.by, report::run::By::Functions);
    assert!(!diff.has_other_findings(), "{:?}", diff.findings);
    assert_eq!((diff.new_sites.len(), diff.gone_sites.len()), (0, 0));
}

/// A report of one finding, with source lines of both stacks.
fn one(title: &str) -> Report {
    let mut report = with_lines();
    report.select(title).expect("a finding");
    report.lines.insert(
        "defect_missing_check+0x1b [injector_defects]".to_owned(),
        vec![line("defect_missing_check", "tests/module/injector_defects/a_long_name_of_a_source_file.c", 52, false)],
    );
    report
}

#[test]
fn mail() {
    compare("mail.txt", &written(|out| report::mail(&one("NULL pointer dereference in defect_missing"), out)));
    compare("mail-pair.txt", &written(|out| report::mail(&one("9c04ebf8"), out)));
    compare("mail-suspects.txt", &written(|out| report::mail(&one("dbfefbb4"), out)));
}

#[test]
fn mails_are_narrow_and_say_first_what_was_injected() {
    let report = findings();
    let all = written(|out| report::mail(&report, out));
    let mails: Vec<&str> = all.split(&"=".repeat(72)).collect();
    assert_eq!(mails.len(), report.findings.len());
    for mail in mails {
        let (header, body) = mail.trim_start().split_once("\n\n").expect("a header");
        assert!(header.starts_with("Subject: ") && body.lines().next().is_some_and(|line| line.contains("injected")));
        // Only what was copied is longer: logs, commands, hashes are indented or one word.
        let long = mail.lines().filter(|line| line.chars().count() > 72 && !line.starts_with("  "));
        assert_eq!(long.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[test]
fn an_unknown_finding_lists_the_closest() {
    let error = findings().select("NULL pointer dereference in defect_missing_chekc").expect_err("there is none");
    let error = error.to_string();
    assert!(error.contains("the closest are 401b8125 NULL pointer dereference in defect_missing_check; "), "{error}");
    let error = findings().select("NULL").expect_err("there are two").to_string();
    assert!(error.starts_with("several findings begin with `NULL`; use an id: "), "{error}");
}

#[test]
fn lava() {
    let text = written(|out| report::lava(&with_known(), out));
    compare("sweep.lava", &text);
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let hostile = written(|out| report::lava(&hostile(), out));
    for name in names.chain(hostile.lines().filter_map(|line| line.split(' ').next())) {
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)), "{name}");
    }
}

#[test]
fn kcidb() {
    compare("sweep.kcidb.json", &written(|out| report::kcidb(&with_known(), out)));
}

#[test]
fn sarif() {
    let text = written(|out| report::sarif(&with_lines(), out));
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["runs"][0]["results"], serde_json::json!([]), "no line is known of what failed");
    assert_eq!(value["runs"][0]["properties"]["findingsWithoutLine"], 6);
    compare("sweep.sarif", &written(|out| report::sarif(&one("401b8125"), out)));
}

/// The same code at other offsets, in copies with other names: the names of the tests stay.
#[test]
fn names_of_tests_are_the_same_in_another_build() {
    let names = |report: &Report| -> Vec<String> {
        written(|out| report::lava(report, out)).lines().map(str::to_owned).collect()
    };
    let mut other = findings();
    for (_, site) in other.sites.iter_mut() {
        for frame in &mut site.stack {
            *frame = frame.replacen("+0x", ".isra.0+0xf", 1);
        }
    }
    assert_eq!(names(&findings()), names(&other));
}
