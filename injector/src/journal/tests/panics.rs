//! Machines that go down at any moment: a sweep that goes on from its journal ends as if nothing had happened.
//!
//! The sweep here is a model: it asks the state what is left, arms, fails, writes. Its files are torn as a crash tears
//! them: what was synced stays, of the rest any part may be lost.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::select};

use super::samples::{begin, crash, ended, failed};
use crate::sweep::{
    Verdict,
    journal::{
        Attempt, Record, Signature, State, read_from,
        record::{Armed, Crash, CrashKind, Level, Outcome},
        to_line,
    },
};

const ONCE: Attempt = Attempt { level: Level::Run, hit: 1, persistent: None, after: None };

/// What a site does to the kernel when it is failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Fine,
    Masked,
    Wrong,
    Fatal,
}

/// A file on a disk whose writes may be lost until they are synced.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    synced: usize,
}

struct Model<'a> {
    kernel: &'a [Code],
    disk: Disk,
    state: State,
    /// At which of its writes the machine goes down, each with how much of what was not synced is kept.
    panics: Vec<(usize, prop::sample::Index)>,
    writes: usize,
}

/// The machine went down.
struct Gone;

impl Model<'_> {
    fn write(&mut self, record: &Record, sync: bool) -> Result<(), Gone> {
        self.disk.bytes.extend(to_line(record).expect("a line").bytes());
        self.writes += 1;
        let panic = self.panics.iter().position(|(at, _)| *at == self.writes);
        if let Some(panic) = panic {
            let (_, keep) = self.panics.remove(panic);
            let lost = self.disk.bytes.len() - self.disk.synced;
            self.disk.bytes.truncate(self.disk.synced + keep.index(lost + 1));
            return Err(Gone);
        }
        if sync {
            self.disk.synced = self.disk.bytes.len();
        }
        self.state.apply(record);
        Ok(())
    }

    /// Sites that are armed next. One that was armed when the machine went down is armed with fewer others.
    fn next(&self) -> Option<Vec<Signature>> {
        let all = (0..self.kernel.len()).map(|site| Signature(site as u64));
        let left: Vec<Signature> =
            all.filter(|site| !self.state.is_done(*site, &ONCE) && !self.state.is_barred(*site, None)).collect();
        let suspects = |site: &Signature| {
            let armed = self.state.unattributed().filter_map(|down| down.armed.as_ref()?.sites.as_ref());
            armed.filter(|sites| sites.contains(site)).map(Vec::len).min()
        };
        let first = *left.first()?;
        let most = suspects(&first).map_or(4, |armed| armed / 2).max(1);
        Some(left.into_iter().take(most).collect())
    }

    fn sweep(&mut self) -> Result<(), Gone> {
        while let Some(sites) = self.next() {
            let run = self.state.next_run();
            let armed = Armed { run, level: Level::Run, sites: Some(sites.clone()), first: None };
            self.write(&Record::Armed(armed), true)?;
            for site in sites {
                let outcome = match self.kernel[usize::try_from(site.0).expect("small")] {
                    Code::Fine => Outcome::Clean,
                    Code::Masked => Outcome::Masked,
                    Code::Wrong => Outcome::Misreported { error: "EIO".to_owned() },
                    Code::Fatal => {
                        // Who watches from outside writes it down.
                        let title = format!("BUG in function_{site}");
                        self.write(&crash(run, &title), true)?;
                        return Err(Gone);
                    }
                };
                self.write(&failed(run, site, outcome), false)?;
            }
            self.write(&ended(run), true)?;
        }
        Ok(())
    }

    /// Boots again and goes on.
    fn resume(&mut self) -> Result<bool, Gone> {
        let journal = read_from(&self.disk.bytes[..], "j").expect("a journal");
        self.disk.bytes.truncate(usize::try_from(journal.tail.whole).expect("small"));
        if self.disk.bytes.last().is_some_and(|byte| *byte != b'\n') {
            self.disk.bytes.push(b'\n');
        }
        self.disk.synced = self.disk.bytes.len();
        self.state = State::of(&journal);
        if let Some(armed) = self.state.unfinished() {
            let title = "Kernel panic: sysrq triggered crash".to_owned();
            let crash = Crash { run: Some(armed.run), kind: CrashKind::Panic, title, splat: String::new() };
            self.write(&Record::Crash(crash), true)?;
        }
        let begin = begin("s", self.state.next_part());
        self.write(&Record::Begin(Box::new(begin)), true)?;
        self.sweep().map(|()| true)
    }
}

/// Verdicts and titles at the end; the journal as it was written.
fn run(kernel: &[Code], panics: Vec<(usize, prop::sample::Index)>) -> (BTreeMap<Signature, Verdict>, Vec<String>) {
    let mut model = Model { kernel, disk: Disk::default(), state: State::default(), panics, writes: 0 };
    for _boot in 0..1000 {
        if model.resume().unwrap_or(false) {
            let journal = read_from(&model.disk.bytes[..], "j").expect("a journal");
            assert_eq!(journal.remarks, [], "nothing torn is left behind");
            assert_eq!(journal.sections.len(), 1);
            let state = State::of(&journal);
            let verdicts = state.sites().iter().map(|(site, state)| (*site, state.verdict)).collect();
            return (verdicts, state.findings().into_iter().map(|finding| finding.title).collect());
        }
    }
    panic!("it never comes to an end");
}

fn expected(kernel: &[Code]) -> BTreeMap<Signature, Verdict> {
    let verdict = |code| match code {
        Code::Fine => Verdict::Clean,
        Code::Masked => Verdict::Masked,
        Code::Wrong => Verdict::Error,
        Code::Fatal => Verdict::Oops,
    };
    kernel.iter().enumerate().map(|(site, code)| (Signature(site as u64), verdict(*code))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn at_random_moments(
        kernel in proptest::collection::vec(select(vec![Code::Fine, Code::Masked, Code::Wrong, Code::Fatal]), 1..12),
        panics in proptest::collection::vec((1_usize..60, any::<prop::sample::Index>()), 0..20),
    ) {
        let undisturbed = run(&kernel, vec![]);
        prop_assert_eq!(&undisturbed.0, &expected(&kernel), "each site is done, and judged for what it does");
        let fatal = kernel.iter().filter(|code| **code == Code::Fatal).count();
        prop_assert_eq!(undisturbed.1.len(), fatal, "each defect is one finding");
        prop_assert_eq!(run(&kernel, panics), undisturbed);
    }
}
