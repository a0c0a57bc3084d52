//! Hooks on any function that the kernel lists, by the name that the run gives: nothing is known of its arguments. Programs for
//! each: what it was attached to a program can only ask at the cost of a call (bpf_get_attach_cookie()).

use injector_common::{HOOK_FUNCTION, MAX_FUNCTIONS};

use crate::{attach::programs, hook::Prototype};

macro_rules! functions {
    ($($number:literal)*) => {
        $(programs!(
            concat!("function", $number),
            Prototype { hook: HOOK_FUNCTION + $number, gfp: None, cache: None, order: None }
        );)*

        const _: () = assert!([$($number),*].len() == MAX_FUNCTIONS);
    };
}

functions!(0 1 2 3 4 5 6 7);
