//! What these tests have in common: a guest's kernel and modules, and how the injector is run with them.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use injector::journal::{
    self, Level, Record, Signature, State,
    record::{Armed, Crash},
};

use crate::table::{DEFECTS, Defect, Expected, Needs};

/// Exit code of a sweep with findings.
pub const FOUND: i32 = 1;

/// A directory for journals, and the guest's kernel and modules.
pub struct Ground {
    directory: tempfile::TempDir,
    /// Its image.
    pub kernel: PathBuf,
    module: PathBuf,
    workloads: PathBuf,
}

/// Journals of a test that failed are kept, so that it can be understood.
impl Drop for Ground {
    fn drop(&mut self) {
        if thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!("the journals are in {}", self.directory.path().display());
        }
    }
}

impl Ground {
    pub fn new() -> Self {
        let path = |name: &str| PathBuf::from(env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
        let modules = path("INJECTOR_GUEST_MODULES");
        let module = modules.join("injector_defects.ko");
        assert!(module.is_file(), "there is no {}", module.display());
        Self {
            directory: tempfile::tempdir().unwrap(),
            kernel: path("INJECTOR_GUEST_KERNEL"),
            module,
            workloads: Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/workloads"),
        }
    }

    pub fn journal(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.jsonl"))
    }

    /// Runs the injector with what guests need.
    pub fn injector(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        let (verb, rest) = arguments.split_first().unwrap();
        command.arg(verb).arg("--vm").arg(&self.kernel).args(["--with", "insmod"]);
        command.arg("--add").arg(format!("{}:/lib/modules/injector_defects.ko", self.module.display()));
        command.arg("--add").arg(format!("{}:/workloads", self.workloads.display()));
        command.args(rest).output().unwrap()
    }

    /// Sweeps paths of the module.
    pub fn try_sweep(&self, journal: &str, options: &[&str], paths: &str) -> Output {
        let file = self.journal(journal);
        // The number of lines tells others in the guest how many runs there were.
        let workload = format!("echo >>/tmp/runs; INJECTOR_DEFECTS='{paths}' sh /workloads/defects.sh");
        let mut arguments = vec!["sweep", "--journal", file.to_str().unwrap(), "--hang", "10s"];
        arguments.extend(["--only", "[injector_defects]", "--cleanup", "true"]);
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", &workload]);
        self.injector(&arguments)
    }

    /// Sweeps paths of the module; the exit code must be `code`.
    pub fn sweep(&self, journal: &str, options: &[&str], paths: &str, code: i32) -> State {
        let output = self.try_sweep(journal, options, paths);
        assert_eq!(output.status.code(), Some(code), "{options:?} {paths}\n{}", text(&output));
        self.state(journal)
    }

    /// Every crash in a journal, with the level of the run that was going on.
    pub fn crashes(&self, name: &str) -> Vec<(Crash, Option<Level>)> {
        let journal = journal::read(&self.journal(name)).unwrap();
        let mut armed: Vec<Armed> = Vec::new();
        let mut crashes = Vec::new();
        for record in journal.sections.iter().flat_map(|section| &section.records) {
            match record {
                Record::Armed(run) => armed.push(run.clone()),
                Record::Crash(crash) => {
                    let run = armed.iter().find(|armed| Some(armed.run) == crash.run);
                    crashes.push((crash.clone(), run.map(|armed| armed.level.clone())));
                }
                _ => {}
            }
        }
        crashes
    }

    /// What a journal adds up to.
    pub fn state(&self, journal: &str) -> State {
        State::of(&journal::read(&self.journal(journal)).unwrap())
    }
}

/// What it printed.
pub fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// For tests by hand: whether INJECTOR_TEST_DEFECTS names a defect; it is all if there is no such variable.
pub fn is_wanted(defect: &Defect) -> bool {
    env::var("INJECTOR_TEST_DEFECTS").map_or(true, |names| names.split(' ').any(|name| name == defect.name))
}

/// Paths with their twins.
pub fn with_twins<'a>(defects: impl Iterator<Item = &'a Defect>) -> String {
    let names = defects.flat_map(|defect| [defect.name.to_owned(), format!("{}.twin", defect.name)]);
    names.collect::<Vec<_>>().join(" ")
}

/// Each of these defects is one finding, with a failure in its own code; and nothing else is. `expected`: what this kernel shows.
pub fn assert_found(state: &State, defects: &[&Defect], expected: fn(&Defect) -> Option<Expected>) {
    let findings = state.findings();
    let list = findings.iter().map(|finding| format!("{} {}", finding.verdict, finding.title)).collect::<Vec<_>>();
    let functions = |site: Signature| state.site(site).and_then(|site| site.info.as_ref()).unwrap().stack.clone();
    for defect in defects {
        let inside = format!("defect_{}", defect.name);
        let of_it: Vec<_> = findings
            .iter()
            .filter(|finding| {
                let failures = finding.failures.iter().map(|failure| failure.site);
                failures.into_iter().any(|site| functions(site).iter().any(|frame| frame.contains(&inside)))
                    || finding.title.contains(&inside)
            })
            .collect();
        assert_eq!(of_it.len(), 1, "{}: one finding: {list:#?}", defect.name);
        let expected = expected(defect).unwrap();
        assert_eq!(of_it[0].verdict.name(), expected.verdict, "{}: {list:#?}", defect.name);
    }
    assert_eq!(findings.len(), defects.len(), "nothing else: {list:#?}");
    for finding in &findings {
        for failure in &finding.failures {
            let stack = functions(failure.site);
            let is_correct = |frame: &String| frame.starts_with("twin_") || frame.starts_with("bait_");
            assert!(!stack.iter().any(is_correct), "{stack:#?} is blamed: {finding:#?}");
        }
    }
}

/// What one failure at the first hit, or two of which one leads to the other, can show without extra checks.
pub fn by_default() -> Vec<&'static Defect> {
    let needs = |defect: &&Defect| matches!(defect.needs, Needs::Default | Needs::Depth2);
    let shows = |defect: &&Defect| defect.plain.is_some_and(|plain| !matches!(plain.verdict, "leak" | "error"));
    DEFECTS.iter().filter(needs).filter(shows).collect()
}
