//! Hooks on any function that the kernel lists, by the name that the run gives: nothing is known of its arguments. One pair of
//! programs for each, since a program can't ask what it was attached to (bpf_get_attach_cookie() would tell, but aya 0.14 attaches
//! kprobes without a cookie).

use injector_common::{HOOK_FUNCTION, MAX_FUNCTIONS};

use crate::{
    attach::{Arguments, programs},
    hook::Call,
};

#[inline(always)]
fn call<const NUMBER: u32, A: Arguments>(_: &A) -> Option<Call> {
    Some(Call { hook: HOOK_FUNCTION + NUMBER, gfp: 0, cache: 0, order: 0 })
}

macro_rules! functions {
    ($($number:literal $kprobe:ident $fmod_ret:ident)*) => {
        $(programs!($kprobe, $fmod_ret, call::<$number, _>);)*

        const _: () = assert!([$($number),*].len() == MAX_FUNCTIONS);
    };
}

functions! {
    0 function0 function0_fmod_ret
    1 function1 function1_fmod_ret
    2 function2 function2_fmod_ret
    3 function3 function3_fmod_ret
    4 function4 function4_fmod_ret
    5 function5 function5_fmod_ret
    6 function6 function6_fmod_ret
    7 function7 function7_fmod_ret
}
