//! What the programs and their loader use of the kernel's eBPF: a line for all that is there, and one for each that is not.

use super::{Check, GUEST};
use crate::kernel::Features;
use crate::kernel::features::{Answer, NeededBy, Row};

const NAME: &str = "eBPF";

/// `is_needed`: by the run.
pub(super) fn checks(features: &Features, is_needed: impl Fn(NeededBy) -> bool) -> Vec<Check> {
    // For what nothing needs there is another way.
    let rows = || features.rows().filter(|(row, _)| row.needed_by != NeededBy::Nothing);
    let count = |wanted: Answer| rows().filter(|(_, answer)| *answer == wanted).count();
    let (all, there) = (rows().count(), count(Answer::Present));
    let summary = match count(Answer::Unknown) {
        0 => Check::found(NAME, format!("{there} of the {all} features that the injector uses")),
        unknown => Check::unknown(
            NAME,
            format!(
                "{unknown} of the {all} features that the injector uses: the kernel does not say, or not to this process"
            ),
        ),
    };
    let absent = rows().filter(|(_, answer)| *answer == Answer::Absent);
    let absent = absent.map(|(row, _)| missing(row).required_if(is_needed(row.needed_by)));
    std::iter::once(summary).chain(absent).collect()
}

fn missing(row: &Row) -> Check {
    let Row { name, purpose, since, needed_by, .. } = row;
    let newer = format!("use Linux {since} or newer, or a kernel with its eBPF, {GUEST}");
    let (whom, remedy) = match needed_by {
        NeededBy::EveryRun => ("every run", newer),
        NeededBy::Kprobes => ("kprobes", format!("use --backend fmod-ret where there is fmod_ret; else {newer}")),
        NeededBy::Trampolines => ("--backend fmod-ret", format!("use --backend kprobe; else {newer}")),
        NeededBy::Cgroups => ("commands and --cgroup", format!("use --pid; else {newer}")),
        NeededBy::SystemCalls => {
            ("--syscall and --outcome", format!("leave --syscall and --outcome out; else {newer}"))
        }
        NeededBy::Tracepoints => {
            ("--outcome, --follow and sweeps", format!("leave --outcome and --follow out; else {newer}"))
        }
        NeededBy::Sweeps => ("sweeps", newer),
        NeededBy::Nothing => ("nothing", newer),
    };
    Check::missing(&format!("{NAME}: {name}"), format!("not there; {purpose}, for {whom}"), remedy)
}
