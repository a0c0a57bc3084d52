//! The catalogue of workloads, and what is shown of one and of a campaign, as golden files: tests/golden/workload*,
//! tests/golden/campaign.*. `UPDATE_GOLDEN=1 cargo test -p injector --test workloads` writes them anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use injector::{
    exit::ExitCode,
    journal,
    plan::workload::WorkloadFile,
    report::{
        Report,
        campaign::{self, CampaignReport, NotRun},
        known,
    },
    workloads::{
        Catalogue,
        list::{self, Entry},
    },
};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn golden(name: &str, write: impl Fn(&mut dyn io::Write) -> io::Result<()>) {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    // Not where the checkout is.
    let text = String::from_utf8(bytes).unwrap().replace(env!("CARGO_MANIFEST_DIR"), "INJECTOR");
    let path = here("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name}: UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn every_workload_of_the_catalogue_is_one() {
    let catalogue = Catalogue::find(Some(&here("../workloads"))).unwrap();
    let all = catalogue.all(None).unwrap();
    assert!(all.len() > 20, "{} workloads", all.len());
    for file in &all {
        assert!(!file.tags.is_empty(), "{}: no tags", file.name);
        assert!(file.programs.is_empty() || !file.packages.is_empty(), "{}: programs without packages", file.name);
        let commands = file.commands(true);
        let guest: Vec<String> = file.added().into_iter().map(|(_, guest)| guest).collect();
        let words = commands.run.iter().chain(&commands.setup).chain(&commands.cleanup);
        let scripts = words.flat_map(|text| text.split_whitespace()).filter(|word| word.starts_with("/workloads/"));
        for script in scripts.filter(|word| word.ends_with(".sh")) {
            let (place, guest) =
                file.added().into_iter().find(|(_, guest)| script.starts_with(guest.as_str())).unwrap();
            let path = place.join(script.strip_prefix(&guest).unwrap().trim_start_matches('/'));
            assert!(path.is_file(), "{}: there is no {}", file.name, path.display());
        }
        let left = ["@dir@", "@lib@", "@modules@"].iter().any(|place| commands.run.join(" ").contains(place));
        assert!(!left, "{}: {:?} {guest:?}", file.name, commands.run);
    }
}

#[test]
fn every_script_of_the_catalogue_is_one() {
    let directory = here("../workloads");
    let scripts = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    for directory in scripts {
        for script in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if script.extension().is_some_and(|end| end == "sh") {
                assert!(Command::new("sh").arg("-n").arg(&script).status().unwrap().success(), "{}", script.display());
            }
        }
    }
}

#[test]
fn the_list() {
    let files = Catalogue::find(Some(&here("tests/workloads"))).unwrap().all(None).unwrap();
    let entries: Vec<Entry> = files.iter().map(Entry::new).collect();
    golden("workloads.txt", |out| list::text(&entries, out));
    golden("workloads.json", |out| list::json(&entries, out));
    golden("workload.txt", |out| list::details(&entries[0], &files[0], out));
}

/// The program itself: exit codes and errors of bad input.
#[test]
fn bad_input_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bad.toml"), "description = \"x\"\nmoduls = [\"a\"]\nrun = \"true\"\n").unwrap();
    let injector = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_injector")).args(words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (catalogue, bad) = (here("tests/workloads"), directory.path().join("bad.toml"));
    let (catalogue, bad) = (catalogue.to_str().unwrap(), bad.to_str().unwrap());
    let (code, text) = injector(&["sweep", "--vm", "k", "--workload", "lop", "--workloads", catalogue]);
    assert_eq!(
        (code, text.contains("there is no workload `lop`") && text.contains("did you mean loop?")),
        (Some(2), true),
        "{text}"
    );
    let (code, text) = injector(&["sweep", "--vm", "k", "--workload", bad]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("bad.toml:2:1: there is no key `moduls`; did you mean `modules`?"), "{text}");
    let (code, text) = injector(&["sweep", "--vm", "k", "--workload", "nothing-here", "--workloads", catalogue]);
    assert_eq!(code, Some(ExitCode::MISSING.0), "{text}");
    assert!(text.contains("apt-get install no-such-package"), "{text}");
    let out = directory.path().join("out");
    let out = out.to_str().unwrap();
    for (words, says) in [
        (vec!["campaign", "-o", out], "no workload is named"),
        (vec!["campaign", "-o", out, "--tag", "x", "--workloads", catalogue], "tags are: block, net"),
        (vec!["campaign", "-o", out, "loop", "--workloads", catalogue, "--", "--hitt", "2"], "--hitt"),
        (vec!["campaign", "-o", out, "loop", "--workloads", catalogue, "--engine", "qemu"], "--vm"),
    ] {
        let (code, text) = injector(&words);
        assert_eq!((code, text.contains(says)), (Some(2), true), "{words:?}: {text}");
    }
}

/// A campaign in which nothing can run says so, and starting it again changes nothing.
#[test]
fn what_cannot_run_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let campaign = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        command.args(["campaign", "nothing-here", "--vm", "k", "--json", "--workloads"]).arg(here("tests/workloads"));
        let output = command.arg("-o").arg(directory.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let first = campaign();
    assert_eq!(first.0, Some(ExitCode::NOTHING_FAILED.0), "{first:?}");
    assert!(first.1.contains("this machine lacks: no-such-program-1, no-such-program-2"), "{}", first.1);
    assert_eq!(first, campaign());
    assert_eq!(fs::read_to_string(directory.path().join("report.json")).unwrap(), first.1);
}

/// The journals of two sweeps that found the same, and a third.
fn reports() -> Vec<(String, Report)> {
    let read = |name: &str, shown: &str| {
        let mut journal = journal::read(&here("tests/journals").join(name)).unwrap();
        shown.clone_into(&mut journal.name);
        let mut report = Report::of(&journal);
        report.mark_known(&known::read(&here("tests/golden/sweep-known.list")).unwrap_or_default());
        report
    };
    vec![
        ("nfs".to_owned(), read("nfs.jsonl", "out/nfs.jsonl")),
        ("nfs-again".to_owned(), read("nfs.jsonl", "out/nfs-again.jsonl")),
        ("ext4".to_owned(), read("ext4-0-of-2.jsonl", "out/ext4.jsonl")),
    ]
}

#[test]
fn a_defect_of_several_workloads_is_one() {
    let reports = reports();
    let report = CampaignReport::new(
        &reports,
        vec![NotRun { workload: "nothing-here".to_owned(), why: "this machine lacks a program".to_owned() }],
    );
    // Machines that went down without a word may have done so for different reasons.
    assert_eq!(report.defects.len(), reports[0].1.findings.len() + 1);
    assert!(report.defects.iter().any(|defect| defect.seen.len() == 2));
    assert!(!report.complete && report.has_failed());
    golden("campaign.txt", |out| campaign::text(&report, out));
    golden("campaign.json", |out| campaign::json(&report, out));
}

#[test]
fn the_workload_of_a_finding_is_in_its_replay() {
    let text = fs::read_to_string(here("tests/journals/nfs.jsonl")).unwrap();
    let named = text.replace("\"workload\":{", "\"workload\":{\"name\":\"my nfs\",");
    assert_ne!(text, named);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    fs::write(&path, named).unwrap();
    let report = Report::of(&journal::read(&path).unwrap());
    assert!(report.findings[0].replay.ends_with(" --workload 'my nfs'"), "{}", report.findings[0].replay);
}

#[test]
fn a_workload_of_the_catalogue_can_be_read_alone() {
    let file = WorkloadFile::read(&here("../workloads/device-mapper")).unwrap();
    assert_eq!(file.name, "device-mapper");
    assert_eq!(file.commands(true).run, ["sh", "/workloads/device-mapper/run.sh", "run"]);
}
