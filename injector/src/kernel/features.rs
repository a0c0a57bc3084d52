//! What of the kernel's eBPF the programs and their loader use, and whether this kernel has it.
//!
//! The kernel is asked for each thing: by a program of a few instructions, a map, or a call with a wrong argument. Its version
//! says little (RHEL 9 calls itself 5.14 and has the eBPF of 6.11), and so do its types: the helpers of `enum bpf_func_id` are
//! not for all kinds of programs, and some depend on an option. Only the verifier knows.

mod probe;

use std::sync::OnceLock;

use super::KernelFiles;

/// One of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Ring buffers.
    RingBuffer,
    /// Arrays that are mapped into memory.
    MappedArrays,
    /// Tables that are read in a few calls.
    BatchedLookup,
    /// Atomic instructions that return what was there.
    Atomics,
    /// Kernel memory.
    KernelMemory,
    /// Call chains.
    Stacks,
    /// A helper that makes loops.
    Loops,
    /// The better one of these.
    BpfLoop,
    /// The current task's members.
    CurrentTask,
    /// The current task's cgroup.
    CgroupId,
    /// The cgroups around it.
    AncestorCgroupId,
    /// The registers that a system call was made with.
    UserRegisters,
    /// Programs on tracepoints.
    RawTracepoints,
    /// Signals to one thread.
    ThreadSignals,
    /// Calls that are replaced at a kprobe.
    Override,
    /// Programs that are attached to kprobes by a link.
    KprobeLinks,
    /// Calls that are replaced in a trampoline.
    ModifyReturn,
}

/// What needs a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeededBy {
    /// Every run.
    EveryRun,
    /// A run that attaches by kprobes.
    Kprobes,
    /// A run that attaches by fmod_ret.
    Trampolines,
    /// A run whose target is a cgroup, or a command, which gets one.
    Cgroups,
    /// A run that knows which system call a failure happens in.
    SystemCalls,
    /// A run that follows system calls or tasks.
    Tracepoints,
    /// A sweep.
    Sweeps,
    /// Nothing: there is another way.
    Nothing,
}

/// What is known of a feature.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The feature.
    pub feature: Feature,
    /// What the kernel calls it.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// The first release that has it. Nothing depends on this: it is for people.
    pub since: &'static str,
    /// Where the kernel's source has it.
    pub source: &'static str,
    /// What needs it.
    pub needed_by: NeededBy,
}

/// What the kernel says of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it.
    Present,
    /// It has not.
    Absent,
    /// It does not say, or not to this process.
    Unknown,
}

/// All features, by what needs them. What Linux 5.4 has already is left out: without a ring buffer (5.8) nothing runs.
pub const TABLE: &[Row] = &[
    Row {
        feature: Feature::RingBuffer,
        name: "BPF_MAP_TYPE_RINGBUF",
        purpose: "to report failures",
        since: "5.8",
        source: "kernel/bpf/ringbuf.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::MappedArrays,
        name: "BPF_F_MMAPABLE",
        purpose: "to arm and to count without system calls",
        since: "5.5",
        source: "kernel/bpf/arraymap.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::BatchedLookup,
        name: "BPF_MAP_LOOKUP_BATCH",
        purpose: "to read the histogram",
        since: "5.6",
        source: "kernel/bpf/hashtab.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::Atomics,
        name: "BPF_FETCH and BPF_CMPXCHG",
        purpose: "to count exactly on several CPUs",
        since: "5.12",
        source: "kernel/bpf/verifier.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::KernelMemory,
        name: "bpf_probe_read_kernel()",
        purpose: "to read a cache's size and name",
        since: "5.5",
        source: "kernel/trace/bpf_trace.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::Stacks,
        name: "bpf_get_stack()",
        purpose: "to know the site",
        since: "4.18",
        source: "kernel/bpf/stackmap.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::Loops,
        name: "bpf_loop() or bpf_for_each_map_elem()",
        purpose: "to look at each frame of a stack",
        since: "5.13",
        source: "kernel/bpf/bpf_iter.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::CurrentTask,
        name: "bpf_get_current_task_btf()",
        purpose: "to read the task's flags",
        since: "5.11",
        source: "kernel/trace/bpf_trace.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::CgroupId,
        name: "bpf_get_current_cgroup_id()",
        purpose: "to report a failure's cgroup",
        since: "4.18",
        source: "kernel/bpf/helpers.c",
        needed_by: NeededBy::EveryRun,
    },
    Row {
        feature: Feature::Override,
        name: "bpf_override_return()",
        purpose: "to override a call by a kprobe",
        since: "4.16",
        source: "kernel/trace/bpf_trace.c",
        needed_by: NeededBy::Kprobes,
    },
    Row {
        feature: Feature::KprobeLinks,
        name: "BPF_LINK_CREATE of perf events",
        purpose: "to attach to a kprobe",
        since: "5.15",
        source: "kernel/bpf/syscall.c",
        needed_by: NeededBy::Kprobes,
    },
    Row {
        feature: Feature::ModifyReturn,
        name: "BPF_MODIFY_RETURN",
        purpose: "to override a call by fmod_ret",
        since: "5.7",
        source: "kernel/bpf/trampoline.c",
        needed_by: NeededBy::Trampolines,
    },
    Row {
        feature: Feature::AncestorCgroupId,
        name: "bpf_get_current_ancestor_cgroup_id() at kprobes",
        purpose: "to know the tasks of a command or of a cgroup",
        since: "5.15",
        source: "kernel/trace/bpf_trace.c",
        needed_by: NeededBy::Cgroups,
    },
    Row {
        feature: Feature::UserRegisters,
        name: "bpf_task_pt_regs()",
        purpose: "to know the system call",
        since: "5.15",
        source: "kernel/trace/bpf_trace.c",
        needed_by: NeededBy::SystemCalls,
    },
    Row {
        feature: Feature::RawTracepoints,
        name: "BPF_PROG_TYPE_RAW_TRACEPOINT",
        purpose: "to follow system calls and children",
        since: "4.17",
        source: "kernel/trace/bpf_trace.c",
        needed_by: NeededBy::Tracepoints,
    },
    Row {
        feature: Feature::ThreadSignals,
        name: "bpf_send_signal_thread()",
        purpose: "to stop a task after a failure",
        since: "5.5",
        source: "kernel/trace/bpf_trace.c",
        needed_by: NeededBy::Sweeps,
    },
    Row {
        feature: Feature::BpfLoop,
        name: "bpf_loop()",
        purpose: "to look at frames faster",
        since: "5.17",
        source: "kernel/bpf/bpf_iter.c",
        needed_by: NeededBy::Nothing,
    },
];

/// What a kernel has of [`TABLE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features(Vec<Answer>);

impl Features {
    /// Of the kernel that these files are of: the running one is asked, once in the life of this process; of others nothing is
    /// known. `function`: the id, in the kernel's types, of a function that may be overridden.
    #[must_use]
    pub fn of(files: &KernelFiles, function: Option<u32>) -> Self {
        static RUNNING: OnceLock<Features> = OnceLock::new();
        if !files.are_of_running_kernel() {
            return Self::with(|_| Answer::Unknown);
        }
        RUNNING.get_or_init(|| Self::with(|feature| probe::ask(feature, function))).clone()
    }

    /// With these answers.
    #[must_use]
    pub fn with(answer: impl Fn(Feature) -> Answer) -> Self {
        Self(TABLE.iter().map(|row| answer(row.feature)).collect())
    }

    /// What the kernel says of a feature.
    #[must_use]
    pub fn answer(&self, feature: Feature) -> Answer {
        let known = self.rows().find(|(row, _)| row.feature == feature);
        known.map_or(Answer::Unknown, |(_, answer)| answer)
    }

    /// Whether the kernel says that it has it.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.answer(feature) == Answer::Present
    }

    /// Whether the kernel says that it has not.
    #[must_use]
    pub fn lacks(&self, feature: Feature) -> bool {
        self.answer(feature) == Answer::Absent
    }

    /// The table, with the answers.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Row, Answer)> {
        TABLE.iter().zip(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_has_its_own_row_and_name() {
        for (i, row) in TABLE.iter().enumerate() {
            let others = &TABLE[i + 1..];
            assert!(others.iter().all(|other| other.feature != row.feature && other.name != row.name), "{}", row.name);
        }
    }

    #[test]
    fn answers_are_those_of_the_feature() {
        let features = Features::with(|feature| match feature {
            Feature::Atomics => Answer::Absent,
            Feature::BpfLoop => Answer::Unknown,
            _ => Answer::Present,
        });
        assert!(features.lacks(Feature::Atomics) && !features.has(Feature::Atomics));
        assert!(!features.lacks(Feature::BpfLoop) && !features.has(Feature::BpfLoop));
        assert!(features.has(Feature::ModifyReturn));
        assert_eq!(features.rows().filter(|(_, answer)| *answer == Answer::Present).count(), TABLE.len() - 2);
    }

    #[test]
    fn of_a_kernel_that_does_not_run_nothing_is_known() {
        let features = Features::of(&KernelFiles::new("/nonexistent"), Some(1));
        assert!(features.rows().all(|(_, answer)| answer == Answer::Unknown));
    }

    /// docs/kernel.md has the same table.
    #[test]
    fn the_document_has_each_row() {
        let document = include_str!("../../../docs/kernel.md");
        for Row { name, since, source, .. } in TABLE {
            let row = |line: &&str| line.contains(&format!("| `{name}` |")) && line.contains(source);
            let line = document.lines().find(row).unwrap_or_else(|| panic!("no row for {name}"));
            assert!(line.contains(&format!("| {since} ")), "{line}");
        }
    }
}
