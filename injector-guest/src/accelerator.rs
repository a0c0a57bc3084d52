//! Chooses between emulation and KVM.
//!
//! `/dev/kvm` may exist and not work (nested virtualization without support): QEMU then stops or spins. So KVM is
//! used only after a trial boot under it went well, and the answer is remembered.

use std::collections::BTreeMap;
use std::fs;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::{Machine, Streams};
use crate::protocol::Command;
use crate::qemu::Engine;

/// A working KVM boots in about a second.
const TRIAL_TIME: Duration = Duration::from_secs(20);

/// What trials of this process showed, by the kernel's image.
static TRIED: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());

/// What runs the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// Software: always works.
    #[default]
    Emulation,
    /// KVM where a trial boot shows that it works; the answer is kept in this directory.
    Auto(PathBuf),
}

/// What a trial showed, and on what it depends.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    host_kernel: String,
    works: bool,
}

/// An engine, and what to remember once it is known that the machine boots at all.
pub(crate) struct Choice {
    pub engine: Engine,
    unconfirmed: Option<(PathBuf, Trial)>,
}

impl Choice {
    fn of(engine: Engine) -> Self {
        Self { engine, unconfirmed: None }
    }

    /// The machine did boot: what a trial showed was about KVM, and not about a kernel that never boots.
    pub fn confirm(self) {
        if let Some((file, trial)) = self.unconfirmed {
            remember(&file, &trial);
        }
    }
}

pub(crate) fn choose(machine: &Machine) -> Choice {
    let Accelerator::Auto(directory) = &machine.accelerator else {
        return Choice::of(Engine::Tcg);
    };
    if machine.icount || OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Choice::of(Engine::Tcg);
    }
    let file = directory.join("kvm.json");
    let host_kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let engine = |works| if works { Engine::Kvm } else { Engine::Tcg };
    if let Some(works) = remembered(&file, &host_kernel) {
        return Choice::of(engine(works));
    }
    // Guests that are booted at the same time share a trial.
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(works) = tried.get(&machine.kernel) {
        return Choice { engine: engine(*works), unconfirmed: Some((file, Trial { host_kernel, works: *works })) };
    }
    eprintln!("guest: trying whether KVM works here (once; at most {} s)", TRIAL_TIME.as_secs());
    let works = boots_under_kvm(machine);
    tried.insert(machine.kernel.clone(), works);
    eprintln!("guest: KVM {}", if works { "works" } else { "does not work: emulating" });
    Choice { engine: engine(works), unconfirmed: Some((file, Trial { host_kernel, works })) }
}

fn remembered(file: &Path, host_kernel: &str) -> Option<bool> {
    let trial: Trial = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (trial.host_kernel == host_kernel).then_some(trial.works)
}

/// Not being able to remember costs another trial, no more.
fn remember(file: &Path, trial: &Trial) {
    if let (Some(parent), Ok(text)) = (file.parent(), serde_json::to_vec(trial)) {
        let _ = fs::create_dir_all(parent);
        let _ = fs::write(file, text);
    }
}

fn boots_under_kvm(machine: &Machine) -> bool {
    let trial = Machine {
        boot_timeout: TRIAL_TIME,
        timeout: Some(TRIAL_TIME),
        share: None,
        console_log: None,
        accelerator: Accelerator::Emulation,
        ..machine.clone()
    };
    // Which command does not matter: that one can be started does. A root without this file still reports a status.
    let outcome = trial.boot_with(Engine::Kvm, &Command::new(["/bin/true"]), Streams::discard());
    matches!(outcome, Ok(outcome) if matches!(outcome.verdict, crate::Verdict::Exited(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_for_one_host_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deeper/kvm.json");
        assert_eq!(remembered(&file, "6.1"), None);
        remember(&file, &Trial { host_kernel: "6.1".to_owned(), works: false });
        assert_eq!(remembered(&file, "6.1"), Some(false));
        assert_eq!(remembered(&file, "6.2"), None);
    }

    #[test]
    fn a_broken_answer_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kvm.json");
        fs::write(&file, "{").unwrap();
        assert_eq!(remembered(&file, "6.1"), None);
    }
}
