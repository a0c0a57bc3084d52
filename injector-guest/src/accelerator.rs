//! Chooses between emulation and KVM.
//!
//! `/dev/kvm` may exist and not work (nested virtualization without support): QEMU then stops or spins. So KVM is
//! used only after a trial boot under it has succeeded, and the result is remembered.

use std::collections::BTreeMap;
use std::fs;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::{Accelerator, Clock, GuestSpec};

/// A working KVM boots in about a second.
const TRIAL_TIME: Duration = Duration::from_secs(20);

/// Results of this process's trials, by the kernel's image.
static TRIED: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());

/// The result of a trial, and the host kernel that it is valid for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    host_kernel: String,
    works: bool,
}

/// Whether to use KVM, and the trial to remember once the guest has booted.
pub(crate) struct Choice {
    pub kvm: bool,
    unconfirmed: Option<(PathBuf, Trial)>,
}

impl Choice {
    fn of(kvm: bool) -> Self {
        Self { kvm, unconfirmed: None }
    }

    /// The guest has booted, so the trial showed something about KVM and not about a kernel that never boots.
    pub fn confirm(self) {
        if let Some((file, trial)) = self.unconfirmed {
            remember(&file, &trial);
        }
    }
}

/// Chooses for a guest. `boots_under_kvm` makes the trial: it boots this spec under KVM and tells whether a command ran.
pub(crate) fn choose(spec: &GuestSpec, boots_under_kvm: impl FnOnce(&GuestSpec) -> bool) -> Choice {
    let Accelerator::Auto(directory) = &spec.accelerator else {
        return Choice::of(false);
    };
    if spec.clock == Clock::Instructions || OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Choice::of(false);
    }
    let file = directory.join("kvm.json");
    let host_kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    if let Some(works) = remembered(&file, &host_kernel) {
        return Choice::of(works);
    }
    // Guests that boot at the same time share a trial.
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(works) = tried.get(&spec.kernel) {
        return Choice { kvm: *works, unconfirmed: Some((file, Trial { host_kernel, works: *works })) };
    }
    eprintln!("guest: trying whether KVM works here (once; at most {} s)", TRIAL_TIME.as_secs());
    let works = boots_under_kvm(&trial(spec));
    tried.insert(spec.kernel.clone(), works);
    eprintln!("guest: KVM {}", if works { "works" } else { "does not work: emulating" });
    Choice { kvm: works, unconfirmed: Some((file, Trial { host_kernel, works })) }
}

/// The same guest for a trial: it has little time and leaves no traces.
fn trial(spec: &GuestSpec) -> GuestSpec {
    GuestSpec {
        boot_timeout: TRIAL_TIME,
        timeout: Some(TRIAL_TIME),
        share: None,
        console_log: None,
        accelerator: Accelerator::Emulation,
        ..spec.clone()
    }
}

fn remembered(file: &Path, host_kernel: &str) -> Option<bool> {
    let trial: Trial = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (trial.host_kernel == host_kernel).then_some(trial.works)
}

/// An error here only costs another trial.
fn remember(file: &Path, trial: &Trial) {
    if let (Some(parent), Ok(text)) = (file.parent(), serde_json::to_vec(trial)) {
        let _ = fs::create_dir_all(parent);
        let _ = fs::write(file, text);
    }
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
