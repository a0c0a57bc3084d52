//! What the eBPF side reports: sites (exact, in a map) and failures (best effort, through the ring buffer).

/// Most frames that a site keeps. The kernel's own limit, `kernel.perf_event_max_stack`, is 127 by default.
pub const MAX_FRAMES: usize = 127;
/// Length of `comm` with its NUL (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;
/// How much of a cache's name is kept, with its NUL.
pub const CACHE_NAME_LEN: usize = 32;

/// A site and how often it was failed: an entry of the histogram, keyed by its signature. It is also sent through the ring
/// buffer when it is new: asking the map for it while the programs run would keep them off the asking CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SiteRecord {
    /// The signature of the site.
    pub signature: u64,
    /// Failures at this site.
    pub count: u64,
    /// Times that it was reached; counted only where sites are chosen ([`crate::config::Config::sites_on`]).
    pub hits: u64,
    /// How many failures it may still have; as above.
    pub allowed: u64,
    /// The last attempt that reached it; as above.
    pub attempt: u64,
    /// How often that attempt has; as above.
    pub attempt_hits: u32,
    /// How often it was reached with no failure before in the attempt, or outside of any; as above.
    pub clean: u32,
    /// The hook's number.
    pub hook: u32,
    /// `CONTEXT_*`, when it was first reached.
    pub context: u32,
    /// `SITE_*` bits.
    pub flags: u32,
    /// How many of `frames` are used.
    pub frames_len: u32,
    /// With `--outcome`: failures by what became of them, at `OUTCOME_*`.
    pub outcomes: [u64; OUTCOMES],
    /// Return addresses, innermost first, beginning with the hook's caller.
    pub frames: [u64; MAX_FRAMES],
}

/// `SiteRecord::flags`: first reached in a kernel thread.
pub const SITE_KTHREAD: u32 = 1;
/// `SiteRecord::flags`: in a page fault.
pub const SITE_PAGE_FAULT: u32 = 2;
/// `SiteRecord::flags`: first reached after a failure in the same attempt.
pub const SITE_AFTER_FAILURE: u32 = 4;
/// [`SiteRecord::flags`]: it may be failed again as the first of an attempt, for what that leads to.
pub const SITE_AGAIN: u32 = 8;

impl SiteRecord {
    /// No frames, no failures.
    pub const ZERO: Self = Self {
        signature: 0,
        count: 0,
        hits: 0,
        allowed: 0,
        attempt: 0,
        attempt_hits: 0,
        clean: 0,
        hook: 0,
        context: CONTEXT_UNKNOWN,
        flags: 0,
        frames_len: 0,
        outcomes: [0; OUTCOMES],
        frames: [0; MAX_FRAMES],
    };
}

/// The system call returned -ENOMEM.
pub const OUTCOME_ENOMEM: u32 = 0;
/// The system call returned an error other than ENOMEM.
pub const OUTCOME_ERROR: u32 = 1;
/// It did not return an error: nobody noticed.
pub const OUTCOME_MASKED: u32 = 2;
/// It did not return: a signal ended the task.
pub const OUTCOME_SIGNAL: u32 = 3;
/// The failure was not in a system call.
pub const OUTCOME_OUTSIDE: u32 = 4;
/// How many kinds there are.
pub const OUTCOMES: usize = 5;

/// How many sites' failures in one system call are told apart; what goes beyond stays without an outcome.
pub const MAX_PENDING: usize = 16;

/// A system call with failures in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// How many of `sites` are used.
    pub len: u32,
    /// The number of the system call.
    pub syscall: u32,
    /// The sites that failed in it, by signature.
    pub sites: [u64; MAX_PENDING],
    /// Failures at each of the sites.
    pub counts: [u64; MAX_PENDING],
}

impl Pending {
    /// None.
    pub const NONE: Self = Self { len: 0, syscall: 0, sites: [0; MAX_PENDING], counts: [0; MAX_PENDING] };
}

/// What became of a site's failures in a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OutcomeRecord {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// SiteRecord signature.
    pub site: u64,
    /// How many failures.
    pub count: u64,
    /// What the system call returned, or the wait status of the task that did not come back.
    pub result: i64,
    /// Process id (tgid).
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Number of the system call; [`NO_SYSCALL`]: in none.
    pub syscall: u32,
    /// `OUTCOME_*`.
    pub kind: u32,
    /// Name of the task.
    pub comm: [u8; COMM_LEN],
}

/// `OutcomeRecord::syscall`: the failure was not in a system call.
pub const NO_SYSCALL: u32 = u32::MAX;

/// One failure. Its stack is the site's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Failure {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// SiteRecord signature.
    pub site: u64,
    /// Cgroup id of the task.
    pub cgroup: u64,
    /// Object size in bytes (slab), `PAGE_SIZE << order` (page).
    pub size: u64,
    /// The hook's number.
    pub hook: u32,
    /// The argument of the hook.
    pub gfp: u32,
    /// The argument less what the task's NOFS or NOIO scope takes away.
    pub effective_gfp: u32,
    /// Order asked for; for a slab call the order that its object size needs.
    pub order: u32,
    /// Process id (tgid).
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// CPU number.
    pub cpu: u32,
    /// `CONTEXT_*`.
    pub context: u32,
    /// What the kernel got: a negated errno, or 1 for `true`.
    pub error: i32,
    /// Explicit padding.
    pub _pad: u32,
    /// Name of the task.
    pub comm: [u8; COMM_LEN],
    /// Name of the slab cache; empty for the page hook.
    pub cache: [u8; CACHE_NAME_LEN],
}

/// In task context.
pub const CONTEXT_TASK: u32 = 0;
/// Serving a softirq.
pub const CONTEXT_SOFTIRQ: u32 = 1;
/// In a hardware interrupt.
pub const CONTEXT_HARDIRQ: u32 = 2;
/// In a non-maskable interrupt.
pub const CONTEXT_NMI: u32 = 3;
/// The preempt count could not be read.
pub const CONTEXT_UNKNOWN: u32 = 4;

const _: () = {
    assert!(size_of::<SiteRecord>() == 64 + 8 * OUTCOMES + 8 * MAX_FRAMES);
    // The user side tells the kinds of record by their length.
    assert!(size_of::<SiteRecord>() != size_of::<Failure>() && size_of::<OutcomeRecord>() != size_of::<Failure>());
    assert!(size_of::<OutcomeRecord>() == 48 + COMM_LEN && size_of::<Pending>() == 8 + 16 * MAX_PENDING);
    assert!(size_of::<Failure>() == 32 + 40 + COMM_LEN + CACHE_NAME_LEN);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), integers only, no implicit padding (asserted above), any bit pattern is valid.
    unsafe impl aya::Pod for super::SiteRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Failure {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Pending {}
}
