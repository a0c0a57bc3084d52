use std::{path::Path, process::Command};

use super::*;
use crate::journal;

fn report(name: &str) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals").join(name);
    let mut journal = journal::read(&path).unwrap();
    name.clone_into(&mut journal.name);
    Report::of(&journal)
}

fn exported(report: &Report, title: &str) -> Result<String, NotExportable> {
    let finding = report.findings.iter().find(|found| found.finding.title == title).unwrap();
    script(report, &finding.finding)
}

/// What a script's own functions print: its body up to what it does to the kernel.
fn run(functions: &str, kallsyms: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let symbols = directory.path().join("kallsyms");
    std::fs::write(&symbols, kallsyms).unwrap();
    let start = BODY.find("# add ADDRESS").unwrap();
    let end = BODY.find("put() {").unwrap();
    let body = BODY[start..end].replace("/proc/kallsyms", symbols.to_str().unwrap());
    let output = Command::new("sh").arg("-c").arg(format!("{body}\n{functions}")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

const KALLSYMS: &str = "\
ffffffff81000000 T first
ffffffff81000010 t __pfx_twice
ffffffff81000020 t twice
ffffffff81fffff0 t proc_create.isra.0
ffffffff82000100 t twice
ffffffff82000200 D data
ffffffffffffff00 T high
ffffffffc0000000 t in_module\t[jbd2]
ffffffffc0000040 t after_it\t[jbd2]
";

#[test]
fn the_script_finds_addresses() {
    let of = |exact: &str, loose: &str, same: &str| {
        run(&format!("same={same}; resolve '{exact}' '{loose}' && echo $start $end"), KALLSYMS)
    };
    assert_eq!(of("first+0x1f", "", "yes"), "ffffffff8100001f ffffffff81000020\n");
    assert_eq!(of("first+0x1f", "first", "no"), "ffffffff81000000 ffffffff81000010\n");
    // The first one that there is exactly once, and with what the compiler appends.
    assert_eq!(of("", "gone\ntwice\ndata\nproc_create", "no"), "ffffffff81fffff0 ffffffff82000100\n");
    assert_eq!(of("proc_create+0x1", "", "yes"), "");
    assert_eq!(of("proc_create.isra.0+0x11", "", "yes"), "ffffffff82000001 ffffffff82000002\n");
    assert_eq!(of("in_module+0x8 [jbd2]", "", "yes"), "ffffffffc0000008 ffffffffc0000009\n");
    assert_eq!(of("", "in_module [jbd2]", "no"), "ffffffffc0000000 ffffffffc0000040\n");
    assert_eq!(of("", "twice", "no"), "");
}

#[test]
fn the_script_adds_64_bits() {
    let sums = run("add ffffffff81000000 31; add 00000000ffffffff 1; add ffffffff00000000 4294967295", KALLSYMS);
    assert_eq!(sums, "ffffffff8100001f\n0000000100000000\nffffffffffffffff\n");
}

#[test]
fn a_finding_as_a_script() {
    let report = report("nfs.jsonl");
    let text = exported(&report, "list_del corruption in defect_unwind_order").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/export.sh");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{} differs", path.display());
}

/// One range is too few for two failures of the same kind: the second is made by other means.
#[test]
fn two_failures_have_a_point_each() {
    let report = report("nfs.jsonl");
    let text = exported(&report, "NULL pointer dereference in defect_combined_fallback").unwrap();
    assert!(text.contains("points='failslab fail_function'\nfunction='should_failslab'\nvalue='0xfffffffffffffff4'\n"));
    let places: Vec<&str> = text.lines().filter(|line| line.starts_with("\tarm ")).collect();
    assert!(
        places[0].starts_with("\tarm failslab 1 \"${SKIP:-0}\" 'defect_combined+0x1c [injector_defects]"),
        "{places:?}"
    );
    assert!(places[1].starts_with("\tarm fail_function 1 \"${SKIP:-0}\" 'defect_combined_fallback+0x1b"), "{places:?}");
}

#[test]
fn what_is_not_narrowed_down_is_refused() {
    let report = report("nfs.jsonl");
    let title = "the machine was gone without a word";
    let error = exported(&report, title).unwrap_err();
    assert!(matches!(error, NotExportable::NotNarrowedDown { .. }), "{error}");
    assert!(error.to_string().contains("injector minimize 'nfs.jsonl' dbfefbb4"), "{error}");
}

#[test]
fn other_hooks_and_lost_sites_are_refused() {
    let title = "list_del corruption in defect_unwind_order";
    let mut other = report("nfs.jsonl");
    let site = other.findings.iter().find(|found| found.finding.title == title).unwrap().finding.failures[0].site;
    other.sites.get_mut(&site).unwrap().hook = Some(Hook::Vmalloc);
    assert!(matches!(exported(&other, title), Err(NotExportable::NoPoint { .. })));
    other.sites.get_mut(&site).unwrap().hook = None;
    assert!(matches!(exported(&other, title), Err(NotExportable::NoSite { .. })));
    let row = other.sites.get_mut(&site).unwrap();
    (row.hook, row.stack) = (Some(Hook::Slab), vec!["0xffffffffc0001234".to_owned(), "$(reboot)+0x1".to_owned()]);
    assert!(matches!(exported(&other, title), Err(NotExportable::NoFrame { .. })));
}

/// Text from a journal stays text.
#[test]
fn nothing_gets_out_of_its_quotes() {
    let mut report = report("nfs.jsonl");
    let evil = "'; touch /tmp/evil; '\n$(reboot)\0";
    let title = "list_del corruption in defect_unwind_order";
    let mut finding = report.findings.iter().find(|found| found.finding.title == title).unwrap().finding.clone();
    evil.clone_into(&mut finding.title);
    let config = report.config.as_mut().unwrap();
    (config.kernel.release, config.workload.setup) = (evil.to_owned(), Some(evil.to_owned()));
    config.workload.command = vec![evil.to_owned(), "a b".to_owned()];
    let text = script(&report, &finding).unwrap();
    let head = &text[..text.find(BODY).unwrap()];
    let check = format!("{head}\nprintf '%s|' \"$title\" \"$setup\" \"$1\" \"$2\" $#");
    let output = Command::new("sh").arg("-c").arg(check).output().unwrap();
    let same = evil.trim_end_matches('\0');
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{same}|{same}|{same}|a b|2|"));
    assert!(output.stderr.is_empty());
}

/// Sites that share frames: the one that tells them apart is taken, else one that rules others out.
#[test]
fn the_aim_tells_sites_apart() {
    let mut report = report("nfs.jsonl");
    let template = report.sites.values().next().unwrap().clone();
    report.sites.clear();
    let mut add = |number, frames: &[&str]| {
        let stack = frames.iter().map(|frame| (*frame).to_owned()).collect();
        report.sites.insert(Signature(number), SiteRow { hook: Some(Hook::Slab), stack, ..template.clone() });
    };
    add(1, &["kmalloc+0x1", "alloc+0x1", "left+0x1", "sys+0x1"]);
    add(2, &["kmalloc+0x1", "alloc+0x1", "right+0x1", "sys+0x1"]);
    add(3, &["kmalloc+0x1", "alloc+0x1", "sys+0x1"]);
    let aim = |number| Aim::at(&report, Signature(number), &report.sites[&Signature(number)]).unwrap();
    let one = aim(1);
    assert_eq!((one.exact[0].as_str(), one.shared), ("left+0x1", 0));
    assert_eq!(one.exact_reject, Vec::<String>::new());
    // Each of its frames is in both others: one of them can be ruled out.
    let three = aim(3);
    assert_eq!(three.exact_reject.len(), 1);
    assert_eq!(three.shared, 1);
    assert_eq!(three.loose_reject, ["left"]);
}
