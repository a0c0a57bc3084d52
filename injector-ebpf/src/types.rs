//! The types that files of this crate share.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use injector_common::{config::MAX_PATHS, hooks};

/// What the kernel hands to a program, as far as all ways to attach have it: helpers take the pointer.
pub struct Context {
    /// A kprobe's registers, or the arguments of an fmod_ret program or of a tracepoint.
    pub pointer: *mut c_void,
}

impl EbpfContext for Context {
    fn as_ptr(&self) -> *mut c_void {
        self.pointer
    }
}

/// The arguments of the hooked function.
pub trait Arguments {
    /// Argument `n`, from 0: of a narrower one only the lower bits mean something.
    fn argument(&self, n: usize) -> Option<u64>;
}

/// A call, as the hook's arguments have it.
pub struct Call {
    /// The hook's number.
    pub hook: u32,
    /// Flags asked for; 0 for hooks that have none.
    pub gfp: u32,
    /// What is allocated: the address of the slab cache, or the size in bytes; 0 for hooks that have neither.
    pub subject: u64,
    /// Order asked for; not known yet for a call that has a size or a cache, 0 for hooks that have none.
    pub order: u32,
}

/// What a hook's programs know of it.
pub struct Prototype {
    /// The hook's number.
    pub hook: u32,
    /// Where its function has the facts of a call.
    pub arguments: hooks::Arguments,
}

/// What else is known of a call that will be failed.
pub struct Facts {
    /// Flags less what the task's scope takes away.
    pub effective_gfp: u32,
    /// Order asked for, or needed.
    pub order: u32,
    /// Bytes: of the object, or of the pages; 0 for hooks that have none.
    pub size: u64,
    /// `CONTEXT_*`.
    pub context: u32,
    /// What the caller gets.
    pub error: i32,
    /// CLOCK_MONOTONIC nanoseconds.
    pub time: u64,
    /// SiteRecord signature.
    pub site: u64,
}

/// What one walk of the stack found.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Walk {
    /// The site's signature.
    pub signature: u64,
    /// Frames are as `--stack` says.
    pub any: u32,
    /// Some frame is in a function that `--not-stack` names.
    pub none: u32,
    /// The allocator's caller: `CALLER_*`.
    pub caller: u32,
    /// Frames from there on.
    pub callers: u32,
    /// 1: the task is in a system call.
    pub syscall: u32,
    /// Some frame is in code that was not there at the start.
    pub unknown: u32,
    /// 1: the task handles a page fault.
    pub page_fault: u32,
    /// Frames that belong to the site.
    pub len: u32,
    /// How many functions of each path have been found, from the innermost.
    pub paths: [u32; MAX_PATHS],
}

/// `Walk::caller`: not come to yet.
pub const CALLER_UNSEEN: u32 = 0;
/// `Walk::caller`: one that is asked for, or any is fine.
pub const CALLER_ACCEPTED: u32 = 1;
/// [`Walk::caller`]: no function of `--caller` called the allocator.
pub const CALLER_OTHER: u32 = 2;

impl Walk {
    /// No stack has been walked.
    pub const NONE: Self = Self {
        signature: 0,
        any: 0,
        none: 0,
        caller: CALLER_UNSEEN,
        callers: 0,
        syscall: 0,
        unknown: 0,
        page_fault: 0,
        len: 0,
        paths: [0; MAX_PATHS],
    };
}
