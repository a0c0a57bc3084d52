//! Hooks on any function that the kernel lists, by the name that the run gives: nothing is known of its arguments. Programs for
//! each: what it was attached to a program can only ask at the cost of a call (bpf_get_attach_cookie()).

use injector_common::{HOOK_FUNCTION, MAX_FUNCTIONS};

use crate::{
    attach::{Arguments, programs},
    hook::{Call, Signature},
};

#[inline(always)]
fn call<const NUMBER: u32, A: Arguments>(_: &A) -> Option<Call> {
    Some(Call { hook: HOOK_FUNCTION + NUMBER, gfp: 0, cache: 0, order: 0 })
}

macro_rules! functions {
    ($($number:literal)*) => {
        $(programs!(
            concat!("function", $number),
            Signature { hook: HOOK_FUNCTION + $number, gfp: None, call: call::<$number, _> }
        );)*

        const _: () = assert!([$($number),*].len() == MAX_FUNCTIONS);
    };
}

functions!(0 1 2 3 4 5 6 7);
