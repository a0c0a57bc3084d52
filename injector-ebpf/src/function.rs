//! Hooks on any function that the kernel lists, by the name that the run gives: nothing is known of its arguments. One program
//! for each, since a program can't ask what it was attached to (bpf_get_attach_cookie() would tell, but aya 0.14 attaches
//! kprobes without a cookie).

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use injector_common::{HOOK_FUNCTION, MAX_FUNCTIONS};

use crate::hook::{self, Call};

macro_rules! functions {
    ($($number:literal $name:ident)*) => {
        $(
            #[kprobe]
            pub fn $name(ctx: ProbeContext) -> u32 {
                hook::run(&ctx, &Call { hook: HOOK_FUNCTION + $number, gfp: 0, cache: 0, order: 0 });
                0
            }
        )*

        const _: () = assert!([$($number),*].len() == MAX_FUNCTIONS);
    };
}

functions! {
    0 function0
    1 function1
    2 function2
    3 function3
    4 function4
    5 function5
    6 function6
    7 function7
}
