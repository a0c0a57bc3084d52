use std::sync::{Arc, Mutex};

use injector_guest::EngineChoice;

use super::*;
use crate::plan::sweep::Journal as Where;

fn plan_of(engine: EngineChoice, command: &[&str], journal: &Path) -> VmPlan {
    let sweep = SweepPlan::new(command.iter().map(OsString::from).collect(), Where::New(journal.to_owned()));
    let image = engine.boots().then(|| PathBuf::from("bzImage"));
    VmPlan::new(sweep, Guests::new(engine, image), journal).unwrap()
}

fn plan(jobs: u32) -> VmPlan {
    let mut plan = plan_of(EngineChoice::QEMU, &["sh", "/workloads/ext4.sh"], "/j/sweep.jsonl".as_ref());
    plan.guests.jobs = jobs;
    plan
}

#[test]
fn parts_of_parts_are_disjoint_and_cover_the_part() {
    let whole = Shard { index: 1, count: 3 };
    let mut plan = plan(4);
    plan.sweep.shard = Some(whole);
    for site in 0..1000 {
        let site = journal::Signature(site);
        let takers = (0..4).filter(|job| plan.shard(*job).unwrap().has(site)).count();
        assert_eq!(takers, usize::from(whole.has(site)), "{site}");
    }
}

#[test]
fn one_job_of_all_has_no_shard() {
    assert_eq!(plan(1).shard(0), None);
    assert_eq!(plan(2).shard(1), Some(Shard { index: 1, count: 2 }));
}

#[test]
fn each_job_has_its_journal() {
    assert_eq!(journals("a/j.jsonl".as_ref(), 1), [PathBuf::from("a/j.jsonl")]);
    assert_eq!(
        journals("a/j.jsonl".as_ref(), 2),
        [PathBuf::from("a/j.jsonl.0-of-2"), PathBuf::from("a/j.jsonl.1-of-2")]
    );
}

#[test]
fn a_guest_gets_its_part_of_the_sweep_and_the_journal() {
    let mut plan = plan(4);
    plan.sweep.depth = 1;
    let command = [OsString::from("sh"), OsString::from("/workload/ext4.sh")];
    let guest = plan.for_guest(3, "/injector-journal.jsonl", &command);
    let expected = SweepPlan {
        command: command.to_vec(),
        shard: Some(Shard { index: 3, count: 4 }),
        journal: Where::Port { so_far: "/injector-journal.jsonl".into() },
        ..plan.sweep.clone()
    };
    assert_eq!(guest, expected);
    plan.guests.engine = "virtme-ng".parse().unwrap();
    let spared: Vec<String> = plan.for_guest(0, "j", &command).spared.iter().map(ToString::to_string).collect();
    assert_eq!(spared, ["p9_*", "v9fs_*", "netfs_*"]);
}

#[test]
fn each_guest_has_what_is_left_of_the_time() {
    let mut plan = plan(1);
    let budget = |plan: &VmPlan| plan.for_guest(0, "j", &[]).budget;
    assert_eq!(budget(&plan), None);
    plan.until = Some(Instant::now() + Duration::from_secs(60));
    let left = budget(&plan).unwrap();
    assert!((50..=60).contains(&left.as_secs()), "{left:?}");
    plan.until = Some(Instant::now());
    assert_eq!(budget(&plan), Some(Duration::from_millis(1)), "it has to record what is left undone");
}

#[test]
fn parts_of_another_number_of_jobs_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("j.jsonl");
    assert!(other_jobs(&journal, 4).is_ok());
    fs::write(directory.path().join("j.jsonl.1-of-2"), "").unwrap();
    fs::write(directory.path().join("j.jsonl.bak-of-mine"), "").unwrap();
    assert!(other_jobs(&journal, 2).is_ok());
    for jobs in [1, 4] {
        let error = other_jobs(&journal, jobs).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::USAGE);
        assert!(error.to_string().contains("j.jsonl.1-of-2"), "{error}");
    }
}

#[test]
fn an_image_that_is_not_there_is_named_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut plan = plan(1);
    let image = |image| Some(GuestKernel::Image { image, modules: None });
    plan.guests.kernel = image(directory.path().join("bzImage"));
    plan.journal = directory.path().join("j");
    let show: Show = Arc::new(|_| {});
    let error = run(&plan, &show).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::USAGE);
    assert!(error.to_string().contains("bzImage: No such file"), "{error}");
    plan.guests.kernel = image(directory.path().to_owned());
    assert!(run(&plan, &show).unwrap_err().to_string().contains("it is not a file"));
    assert!(!plan.journal.exists());
}

#[test]
fn the_error_is_that_of_the_job_that_failed_first() {
    let job = |result| JobEnd { journal: PathBuf::new(), boots: 1, crashes: 0, booting: Duration::ZERO, result };
    let end = VmEnd { jobs: vec![job(Err(VmError::Interrupted)), job(Ok(())), job(Err(VmError::TooManyBoots(3)))] };
    assert!(matches!(end.error(), Some(VmError::TooManyBoots(3))));
    assert!(VmEnd { jobs: vec![job(Ok(()))] }.error().is_none());
}

#[test]
fn the_jobs_journals_become_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut plan = plan(3);
    plan.journal = directory.path().join("j");
    let job = |journal| JobEnd { journal, boots: 1, crashes: 0, booting: Duration::ZERO, result: Ok(()) };
    let end = VmEnd { jobs: journals(&plan.journal, 3).into_iter().map(job).collect() };
    for (number, path) in end.journals().iter().enumerate().take(2) {
        let sweep = format!("{number}");
        fs::write(path, format!("{}{{\"type\":\"plain\",\"elapsed\":1.0,\"status\":0}}\n", begin(&sweep))).unwrap();
    }
    // The third job never wrote anything.
    let united = end.unite(&plan).unwrap();
    assert_eq!(united.sections.len(), 2);
    assert_eq!(journal::read(&plan.journal).unwrap().sections, united.sections);
    // Again, as after a sweep that was resumed.
    assert_eq!(end.unite(&plan).unwrap().sections, united.sections);
    fs::write(&end.journals()[2], begin("2").replace("\"release\":\"r\"", "\"release\":\"other\"")).unwrap();
    assert!(matches!(end.unite(&plan), Err(VmError::Apart(_))));
    assert_eq!(journal::read(&plan.journal).unwrap().sections, united.sections);
}

/// A stand-in for the injector, which runs here as the guest's does: it is given the plan file.
fn run_here(script: &str) -> (Result<VmEnd, VmError>, Vec<String>, tempfile::TempDir) {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let mut plan = plan_of(EngineChoice::HERE, &["true"], &directory.path().join("j"));
    plan.injector = directory.path().join("injector");
    fs::write(&plan.injector, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&plan.injector, fs::Permissions::from_mode(0o755)).unwrap();
    let shown = Arc::<Mutex<Vec<String>>>::default();
    let lines = Arc::clone(&shown);
    let show: Show = Arc::new(move |line| lines.lock().unwrap().push(line.to_string()));
    let end = run(&plan, &show);
    let shown = shown.lock().unwrap().clone();
    (end, shown, directory)
}

#[test]
fn this_machine_is_an_engine_of_the_controller_too() {
    let (end, shown, directory) =
        run_here(r#"[ "$1" = execute ] && cat "$2"; echo; echo "no such workload" >&2; exit 2"#);
    let end = end.unwrap();
    assert!(matches!(end.error(), Some(VmError::Usage(said)) if said == "no such workload"), "{:?}", end.error());
    assert!(
        shown.iter().any(|line| line.starts_with(r#"{"schema":1,"plan":{"sweep":{"command":["true"]"#)),
        "{shown:#?}"
    );
    assert!(!directory.path().join("j").exists());
}

#[test]
fn a_damaged_kernel_of_this_machine_cannot_be_replaced() {
    let end = run_here("exit 75").0.unwrap();
    assert!(matches!(end.error(), Some(VmError::Damaged)));
    assert_eq!(end.error().unwrap().exit_code(), ExitCode::REBOOT);
    // One that does not get anywhere is not started for ever.
    let (end, shown, _) = run_here("kill -9 $$");
    assert!(matches!(end.unwrap().error(), Some(VmError::NoProgress { boots: 3, .. })), "{shown:#?}");
}

/// The first line of a journal.
pub fn begin(sweep: &str) -> String {
    let begin = concat!(
        r#"{"type":"begin","schema":1,"sweep":"SWEEP","part":0,"boot":null,"version":"0","time":"t","#,
        r#""kernel":{"release":"r","version":"v","build_id":null,"config":null},"#,
        r#""workload":{"command":[],"setup":null,"cleanup":null,"digest":""},"#,
        r#""options":{"depth":1,"hit":1,"persistent":null,"kthreads":true,"only":[],"expect_success":false},"#,
        "\"shard\":null}\n"
    );
    begin.replace("SWEEP", sweep)
}
