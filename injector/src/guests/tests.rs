use super::{job::arguments, *};

fn plan(jobs: u32) -> VmPlan {
    let command = vec!["sh".to_owned(), "/workloads/ext4.sh".to_owned()];
    VmPlan { jobs, ..VmPlan::new("bzImage".as_ref(), command, "/j/sweep.jsonl".as_ref()).unwrap() }
}

#[test]
fn parts_of_parts_are_disjoint_and_cover_the_part() {
    let whole = Shard { index: 1, count: 3 };
    let plan = VmPlan { shard: Some(whole), ..plan(4) };
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
fn the_guest_is_told_its_part_and_the_journal() {
    let mut plan = plan(1);
    plan.options = vec!["--depth".to_owned(), "2".to_owned()];
    let words = |shard| arguments(&plan, shard, &plan.command).join(" ");
    let sweep = "/usr/bin/injector sweep --journal-port /injector-journal.jsonl";
    assert_eq!(words(None), format!("{sweep} --depth 2 -- sh /workloads/ext4.sh"));
    let part = Some(Shard { index: 3, count: 4 });
    assert_eq!(words(part), format!("{sweep} --shard 3/4 --depth 2 -- sh /workloads/ext4.sh"));
}

#[test]
fn each_guest_has_what_is_left_of_the_time() {
    let mut plan = plan(1);
    let budget = |plan: &VmPlan| {
        let words = arguments(plan, None, &plan.command);
        let at = words.iter().position(|word| word == "--budget").unwrap();
        words[at + 1].strip_suffix("ms").unwrap().parse::<u128>().unwrap()
    };
    plan.until = Some(Instant::now() + Duration::from_secs(60));
    let left = budget(&plan);
    assert!((50_000..=60_000).contains(&left), "{left}");
    plan.until = Some(Instant::now());
    assert_eq!(budget(&plan), 1, "it has to say what is left undone");
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
    plan.image = directory.path().join("bzImage");
    plan.journal = directory.path().join("j");
    let show: Show = std::sync::Arc::new(|_| {});
    let error = run(&plan, &show).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::USAGE);
    assert!(error.to_string().contains("bzImage: No such file"), "{error}");
    plan.image = directory.path().to_owned();
    assert!(run(&plan, &show).unwrap_err().to_string().contains("it is no file"));
    assert!(!plan.journal.exists());
}

#[test]
fn the_gravest_error_is_that_of_the_job_that_failed_by_itself() {
    let job = |result| JobEnd { journal: PathBuf::new(), boots: 1, crashes: 0, booting: Duration::ZERO, result };
    let end = VmEnd { jobs: vec![job(Err(VmError::Interrupted)), job(Ok(())), job(Err(VmError::TooManyBoots(3)))] };
    assert!(matches!(end.error(), Some(VmError::TooManyBoots(3))));
    assert!(VmEnd { jobs: vec![job(Ok(()))] }.error().is_none());
}

#[test]
fn the_jobs_journals_become_one() {
    let directory = tempfile::tempdir().unwrap();
    let plan = VmPlan { journal: directory.path().join("j"), ..plan(3) };
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
