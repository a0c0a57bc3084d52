//! What is planted, and what a sweep should say of it. Data only: the tests on the host's side read it too.

/// What a sweep must be told, or do by itself, to reach a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: one failure, at the first hit of its site in a system call.
    Default,
    /// The failure at the second hit of its site in a system call (`--hit 2`).
    Hit2,
    /// All hits of its site failed (`--persistent`).
    Persistent,
    /// A second failure, at a site that the first one leads to. The default depth is 2.
    Depth2,
    /// A sweep without other defects: nothing works after it.
    Alone,
}

/// What the sweep should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `oops`, `warning`, `hang`, `leak`, `wedged`, `error`.
    pub verdict: &'static str,
    /// Stands in the first line of the kernel's complaint, or in kmemleak's report; empty when the kernel says nothing.
    pub title: &'static str,
    /// The function that the complaint names: where it happened, or for a leak where the object was allocated.
    /// Empty when it names none.
    pub function: &'static str,
}

/// A planted defect: the file `name`, and `name.twin` without the defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defect {
    /// The file in [`DIRECTORY`].
    pub name: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
    /// How it is reached.
    pub needs: Needs,
    /// On a kernel without extra checks; `None`: such a kernel can't show it.
    pub plain: Option<Expected>,
    /// On the debug kernel.
    pub debug: Option<Expected>,
}

impl Defect {
    /// The file of the correct path.
    pub fn twin(&self) -> String {
        format!("{}.twin", self.name)
    }
}

const fn expected(verdict: &'static str, title: &'static str, function: &'static str) -> Option<Expected> {
    Some(Expected { verdict, title, function })
}

const NULL: &str = "BUG: kernel NULL pointer dereference, address: ";
/// What KASAN's inline checks make of a NULL dereference: they fault on the shadow first.
const NULL_KASAN: &str = "KASAN: null-ptr-deref in range [0x00000000000000";

/// A NULL dereference in `function`.
const fn null(function: &'static str) -> Option<Expected> {
    expected("oops", NULL, function)
}

/// The same on the debug kernel.
const fn null_kasan(function: &'static str) -> Option<Expected> {
    expected("oops", NULL_KASAN, function)
}

/// All of the module, in its order.
pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "missing_check",
        what: "kmalloc's result is not checked",
        needs: Needs::Default,
        plain: null("defect_missing_check"),
        debug: null_kasan("defect_missing_check"),
    },
    Defect {
        name: "page_check",
        what: "alloc_page's result is not checked",
        needs: Needs::Default,
        plain: null("defect_page_check"),
        debug: null_kasan("defect_page_check"),
    },
    Defect {
        name: "err_ptr",
        what: "the callee returns ERR_PTR(), the caller checks for NULL",
        needs: Needs::Default,
        plain: expected("oops", "BUG: unable to handle page fault for address: fffffffffffffff4", "defect_err_ptr"),
        debug: expected("oops", "BUG: unable to handle page fault for address: fffffffffffffff4", "defect_err_ptr"),
    },
    Defect {
        name: "uninit_use",
        what: "the object is used though initialising it failed half-way",
        needs: Needs::Default,
        plain: expected("oops", "general protection fault, probably for non-canonical address", "defect_uninit_use"),
        debug: expected("oops", "general protection fault, probably for non-canonical address", "defect_uninit_use"),
    },
    Defect {
        name: "leak_first",
        what: "the first allocation is not freed when the second fails",
        needs: Needs::Default,
        plain: expected("leak", "", "injector_defects_leak_first"),
        debug: expected("leak", "unreferenced object", "defect_leak_first"),
    },
    Defect {
        name: "ref_leak",
        what: "a reference is not dropped",
        needs: Needs::Default,
        plain: expected("leak", "", "injector_defects_ref_leak"),
        debug: expected("leak", "unreferenced object", "defect_ref_leak"),
    },
    Defect {
        name: "double_free",
        what: "callee and caller both free",
        needs: Needs::Default,
        // The object is handed out twice, and the list's checks see it.
        plain: expected("warning", "list_add double add", "double_free_plain_pair"),
        debug: expected("oops", "BUG: KASAN: double-free in", "defect_double_free"),
    },
    Defect {
        name: "uaf_unwind",
        what: "the unwinding reads what it has freed",
        needs: Needs::Default,
        plain: None,
        debug: expected("oops", "BUG: KASAN: slab-use-after-free in defect_uaf_unwind", "defect_uaf_unwind"),
    },
    Defect {
        name: "unwind_order",
        what: "an object is freed before it is off its list",
        needs: Needs::Default,
        plain: expected("warning", "list_del corruption", "defect_unwind_order"),
        debug: expected("oops", "BUG: KASAN: slab-use-after-free in __list_del_entry_valid", "defect_unwind_order"),
    },
    Defect {
        name: "second_hit",
        what: "a loop is unwound wrongly when its second allocation fails",
        needs: Needs::Hit2,
        plain: null("defect_second_hit"),
        debug: null_kasan("defect_second_hit"),
    },
    Defect {
        name: "combined",
        what: "the fallback of a failed allocation is not checked",
        needs: Needs::Depth2,
        plain: null("defect_combined_fallback"),
        debug: null_kasan("defect_combined_fallback"),
    },
    Defect {
        name: "nofs_scope",
        what: "not checked in a memalloc_nofs_save() scope",
        needs: Needs::Default,
        plain: null("defect_nofs_scope_step"),
        debug: null_kasan("defect_nofs_scope_step"),
    },
    Defect {
        name: "lock_held",
        what: "a mutex stays locked",
        needs: Needs::Default,
        plain: expected("hang", "blocked for more than", "defect_lock_held"),
        debug: expected("hang", "blocked for more than", "defect_lock_held"),
    },
    Defect {
        name: "sleep_atomic",
        what: "sleeps with a spinlock held",
        needs: Needs::Default,
        plain: expected("warning", "BUG: scheduling while atomic", "defect_sleep_atomic"),
        debug: expected("warning", "BUG: sleeping function called from invalid context", "defect_sleep_atomic"),
    },
    Defect {
        name: "infinite_retry",
        what: "tries again for ever",
        needs: Needs::Persistent,
        // It reschedules, so no watchdog of the kernel's notices.
        plain: expected("hang", "", "defect_infinite_retry"),
        debug: expected("hang", "", "defect_infinite_retry"),
    },
    Defect {
        name: "swallowed",
        what: "a failure is not reported, and breaks the next call",
        needs: Needs::Default,
        plain: null("defect_swallowed"),
        debug: null_kasan("defect_swallowed"),
    },
    Defect {
        name: "workqueue",
        what: "kmalloc's result is not checked in a kworker",
        needs: Needs::Default,
        plain: null("defect_workqueue_work"),
        debug: null_kasan("defect_workqueue_work"),
    },
    Defect {
        name: "warn_on",
        what: "WARN_ON() when an allocation fails",
        needs: Needs::Default,
        plain: expected("warning", "WARNING: ", "defect_warn_on"),
        debug: expected("warning", "WARNING: ", "defect_warn_on"),
    },
    Defect {
        name: "bug_on",
        what: "BUG_ON() when an allocation fails",
        needs: Needs::Default,
        plain: expected("oops", "kernel BUG at injector_defects_state.c:", "defect_bug_on"),
        debug: expected("oops", "kernel BUG at injector_defects_state.c:", "defect_bug_on"),
    },
    Defect {
        name: "misreported",
        what: "the failure comes back as -EINVAL",
        needs: Needs::Default,
        plain: expected("error", "", ""),
        debug: expected("error", "", ""),
    },
    Defect {
        name: "stays_busy",
        what: "what was claimed before the failure is never given back: -EBUSY from then on",
        needs: Needs::Alone,
        plain: expected("wedged", "", ""),
        debug: expected("wedged", "", ""),
    },
];

/// Files that have no defect.
pub const BAITS: &[&str] = &["bait.nofail", "bait.mempool", "bait.kvmalloc", "bait.kept", "bait.rcu", "bait.polite"];
