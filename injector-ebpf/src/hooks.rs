//! The programs of all hooks: of those in the table, and of those on functions that a run names.

use injector_common::{
    hooks::{Arguments, FUNCTION, MAX_FUNCTIONS, NAMED, Number},
    named_hooks,
};

use crate::{
    attach::{module_programs, programs},
    types::Prototype,
};

macro_rules! programs_of_rows {
    ($($(#[$doc:meta])* $variant:ident $program:ident { $($row:tt)* })*) => {
        $(programs!(stringify!($program), {
            const NUMBER: u32 = Number::$variant as u32;
            Prototype { hook: NUMBER, arguments: NAMED[NUMBER as usize].arguments }
        });
        module_programs!(stringify!($program), {
            const NUMBER: u32 = Number::$variant as u32;
            Prototype { hook: NUMBER, arguments: NAMED[NUMBER as usize].arguments.at_tracepoint() }
        });)*
    };
}
named_hooks!(programs_of_rows);

// Nothing is known of a function's arguments. There are programs for each, because a program can ask what it was attached to
// only at the cost of a call (bpf_get_attach_cookie()).
macro_rules! programs_of_functions {
    ($($number:literal)*) => {
        $(programs!(
            concat!("function", $number),
            Prototype { hook: FUNCTION + $number, arguments: Arguments::NONE }
        );)*

        const _: () = assert!([$($number),*].len() == MAX_FUNCTIONS);
    };
}
programs_of_functions!(0 1 2 3 4 5 6 7);
