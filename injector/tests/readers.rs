//! Every reader of text and bytes from outside, with damaged fixtures and arbitrary bytes: none panics, hangs, or lets what
//! steers a terminal into its messages. A short run by default; `INJECTOR_READER_CASES=1000000 cargo test --release -p injector
//! --test readers NAME` is the long one. What once failed is kept in proptest-regressions/.

use std::{
    fs,
    path::{Path, PathBuf},
};

use injector::{
    check::{self, Caller, Needs},
    cli,
    control::{self, Request, Status},
    foreign::steers,
    journal,
    kernel::{
        Features, KernelFiles, Options, Survey,
        btf::{Btf, Wanted},
        caches::Caches,
        features::Answer,
        gfp::GfpBits,
        hooks::Injectable,
        hooks_module::HooksModule,
        kallsyms::Kallsyms,
        modules::Modules,
    },
    oracle::slabs::Slabs,
    plan::{Output, PlanFile},
    report::{self, Report},
};
use proptest::{prelude::*, sample::Index, test_runner::Config};

fn cases(fast: u32) -> Config {
    let cases = std::env::var("INJECTOR_READER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(fast);
    // The inputs are large: to shrink them for long helps nobody.
    Config { cases, max_shrink_iters: 200, ..Config::default() }
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// What damage does to bytes.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// A piece of it again, elsewhere.
    Again(Index, usize, Index),
    Cut(Index),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let words = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..8),
        Just(b"\"".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"[[".to_vec()),
        Just(b"\x1b[2J\xe2\x80\xae".to_vec()),
        Just(b"99999999999999999999".to_vec()),
        Just(b"-1".to_vec()),
        Just(vec![0xff; 4]),
        Just(vec![0; 8]),
    ];
    let one = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        (any::<Index>(), words).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), 1usize..200).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<Index>(), 1usize..2000, any::<Index>()).prop_map(|(at, length, to)| Damage::Again(at, length, to)),
        any::<Index>().prop_map(Damage::Cut),
    ];
    proptest::collection::vec(one, 1..6)
}

fn damaged(bytes: &[u8], all: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for damage in all {
        let place = |at: &Index, bytes: &Vec<u8>| at.index(bytes.len() + 1);
        match damage {
            _ if bytes.is_empty() => {}
            Damage::Set(at, byte) => *at.get_mut(&mut bytes) = *byte,
            Damage::Flip(at, mask) => *at.get_mut(&mut bytes) ^= mask,
            Damage::Insert(at, more) => {
                let at = place(at, &bytes);
                bytes.splice(at..at, more.iter().copied());
            }
            Damage::Remove(at, length) => {
                let at = place(at, &bytes);
                let end = bytes.len().min(at + length);
                bytes.drain(at..end);
            }
            Damage::Again(at, length, to) => {
                let (at, to) = (place(at, &bytes), place(to, &bytes));
                let piece = bytes[at..bytes.len().min(at + length)].to_vec();
                bytes.splice(to..to, piece);
            }
            Damage::Cut(at) => bytes.truncate(place(at, &bytes)),
        }
    }
    bytes
}

/// One of the fixtures, damaged, or arbitrary bytes.
fn input(fixtures: Vec<PathBuf>) -> impl Strategy<Value = Vec<u8>> {
    assert!(!fixtures.is_empty());
    let read = |path: &PathBuf| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let fixtures: Vec<Vec<u8>> = fixtures.iter().map(read).collect();
    prop_oneof![
        9 => (any::<Index>(), damage()).prop_map(move |(which, damage)| damaged(&fixtures[which.index(fixtures.len())], &damage)),
        1 => proptest::collection::vec(any::<u8>(), 0..400),
    ]
}

/// A message for a terminal.
fn harmless(message: impl std::fmt::Display) -> Result<(), TestCaseError> {
    let message = message.to_string();
    let shown = injector::foreign::lines(&message);
    prop_assert!(!shown.chars().any(|c| steers(c) && c != '\n' && c != '\t'));
    prop_assert!(message.len() < 20_000, "{} bytes: {}", message.len(), &shown.chars().take(300).collect::<String>());
    Ok(())
}

fn nowhere(form: fn(&Report, &mut dyn std::io::Write) -> std::io::Result<()>, report: &Report) -> String {
    let mut bytes = Vec::new();
    form(report, &mut bytes).expect("it can be written");
    String::from_utf8(bytes).expect("UTF-8")
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn plan_files(bytes in input(files(&at("tests/cli/plans")))) {
        let text = String::from_utf8_lossy(&bytes);
        match PlanFile::parse("plan.toml", &text).and_then(|file| file.into_plan(Output::default())) {
            Ok(plan) => {
                let printed = injector::plan::file::to_toml(&plan).expect("text");
                let again = PlanFile::parse("again", &printed).and_then(|file| file.into_plan(Output::default()));
                prop_assert_eq!(again.expect("what is printed can be read"), plan);
            }
            Err(error) => harmless(error)?,
        }
    }

    #[test]
    fn options(words in proptest::collection::vec(
        prop_oneof![
            Just("--gfp"), Just("--order"), Just("--size"), Just("--stack"), Just("--not-stack"), Just("--caller"),
            Just("--cache"), Just("--prob"), Just("--nth"), Just("--rate"), Just("--errno"), Just("--function"),
            Just("--hook"), Just("--context"), Just("--pid"), Just("--duration"), Just("--all"), Just("--"), Just("plan"),
            Just("sweep"), Just("--shard"), Just("report"), Just("hooks"), Just("--seed"),
        ].prop_map(str::to_owned).boxed().prop_union("[A-Z0-9_!,./=*?\\[\\]a-z%+-]{0,20}|\\PC{0,40}".boxed()),
        0..8,
    )) {
        if let Err(exit) = cli::parse(["injector".to_owned()].into_iter().chain(words))
            && exit.code != injector::exit::ExitCode::OK
        {
            prop_assert_eq!(exit.text.lines().count(), 1, "{}", exit.text);
            harmless(&exit)?;
        }
    }

    #[test]
    fn requests_and_answers(line in "\\PC{0,200}|\\{\"do\":\"[a-z]*\",\"[a-z]*\":[0-9\\[\\]\"a-z=]*\\}", bytes in
        proptest::collection::vec(any::<u8>(), 0..200)) {
        for line in [&*line, &*String::from_utf8_lossy(&bytes)] {
            if let Err(error) = Request::from_line(line) {
                harmless(error)?;
            }
            if let Ok(control::Answer::Done(status)) = control::Answer::from_line(line) {
                let _: &Status = &status;
                harmless(status)?;
            }
        }
    }

    #[test]
    fn logs(bytes in input(files(&at("../injector-log/tests/splats")))) {
        let mut complaints = 0;
        let read = injector_log::reader::read(&*bytes, &mut |reported| {
            complaints += 1;
            assert!(reported.first_line <= reported.last_line);
            Ok(())
        });
        match read {
            Ok(summary) => prop_assert_eq!(summary.complaints, complaints),
            Err(error) => harmless(error)?,
        }
        let objects = injector_log::kmemleak::parse(&String::from_utf8_lossy(&bytes));
        let _ = injector_log::kmemleak::group(&objects);
    }

    #[test]
    fn btf(bytes in input(vec![at("tests/data/6.12.117/sys/kernel/btf/vmlinux"), at("tests/data/6.1.192/sys/kernel/btf/vmlinux")])) {
        let wanted = Wanted { structs: &["task_struct", "kmem_cache"], functions: &["should_failslab"], enumerators: &[] };
        match Btf::parse(bytes, wanted) {
            Ok(btf) => {
                let _ = btf.member_offset("task_struct", "comm");
                let _ = btf.prototype("should_failslab");
                btf.enumerators().for_each(drop);
                let _ = GfpBits::from_btf(&btf);
            }
            Err(error) => harmless(error)?,
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn journals(bytes in input(files(&at("tests/journals")).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")).collect())) {
        match journal::read_from(&*bytes, "j") {
            Ok(journal) => {
                let report = Report::of(&journal);
                for form in [report::text, report::ktap, report::junit, report::html, report::json] {
                    nowhere(form, &report);
                }
                let text = nowhere(report::text, &report) + &nowhere(report::ktap, &report);
                prop_assert!(!text.chars().any(|c| steers(c) && c != '\n' && c != '\t'));
                let _ = journal::merge(&[journal.clone(), journal]).map(|merged| Report::of(&merged));
            }
            Err(error) => harmless(error)?,
        }
    }

    #[test]
    fn runs(bytes in input(vec![at("tests/runs/files.jsonl"), at("tests/runs/files-again.jsonl")])) {
        match report::run::read_from(&*bytes, "r") {
            Ok(run) => {
                let mut text = Vec::new();
                report::run::text(&run, 0, &mut text).expect("it can be written");
                let shown = String::from_utf8(text).expect("UTF-8");
                prop_assert!(!shown.chars().any(|c| steers(c) && c != '\n' && c != '\t'));
                for form in [report::run::csv, report::run::folded, report::run::html] {
                    form(&run, &mut std::io::sink()).expect("it can be written");
                }
                // Without stacks there is none.
                let _ = report::run::flamegraph(&run, &mut std::io::sink());
            }
            Err(error) => harmless(error)?,
        }
    }

    /// A kernel whose files are damaged: kallsyms, the list of injectable functions, modules, mounts, options, caches…
    #[test]
    fn kernels(damage in proptest::collection::vec((any::<Index>(), damage()), 1..4), which in any::<Index>()) {
        let releases = ["6.12.117", "6.1.192"];
        let root = at("tests/data").join(which.get(&releases)).join("");
        let originals: Vec<PathBuf> =
            files(&root).into_iter().filter(|path| !path.components().any(|part| part.as_os_str() == "splats")).collect();
        let copy = tempfile::tempdir().expect("a directory");
        for path in &originals {
            let to = copy.path().join(path.strip_prefix(&root).expect("below"));
            fs::create_dir_all(to.parent().expect("a directory")).expect("writable");
            fs::copy(path, to).expect("a copy");
        }
        for (which, damage) in &damage {
            let path = which.get(&originals);
            let to = copy.path().join(path.strip_prefix(&root).expect("below"));
            fs::write(&to, damaged(&fs::read(path).expect("a file"), damage)).expect("writable");
        }
        let kernel = KernelFiles::new(copy.path());
        let survey = Survey::of_another(&kernel, Features::with(|_| Answer::Present));
        harmless(check::run(&kernel, &survey, &Caller::this(&kernel), &Needs::all()))?;
        let _ = (Injectable::read(&kernel), Options::read(&kernel), Modules::read(&kernel), HooksModule::read(&kernel));
        let _ = (Caches::read(&kernel), Slabs::read(&kernel));
        if let Ok(symbols) = Kallsyms::read(&kernel) {
            for address in [0, 0xffff_ffff_8100_0000, u64::MAX] {
                let _ = symbols.lookup_return(address);
            }
            let _ = symbols.ranges(&["xfs_*".parse().expect("a pattern")]);
        }
    }
}
