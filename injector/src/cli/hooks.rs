//! `injector hooks`

use clap::Args;

use crate::hook_list::NamePattern;

const LONG: &str = "\
List the functions that can be made to fail on this kernel, each with the option that does it

The list is /sys/kernel/debug/error_injection/list. In it the kernel says which functions may return an error instead of \
being called. For some of them the injector has a hook with a name. It knows the facts of a call (GFP flags, size, cache…), \
which filters need. Any other function can be named with --function.";

const AFTER: &str = "\
The type says what a function may return. --function NAME=ERROR chooses it; --function NAME alone takes the first:
  ERRNO       ENOMEM or any other error, by its name or as a number from 1 to 4095
  ERRNO_NULL  the same, or NULL
  NULL        NULL
  TRUE        TRUE (1), whatever that means to the function's callers

The list names the functions of system calls. --function takes the names of system calls, too: --function openat=EACCES. They \
stand for the calls of 64-bit programs. The calls of 32-bit programs (__ia32_sys_*, __ia32_compat_sys_*) have functions of \
their own. No call of a 64-bit program reaches the old forms at the end of the list (__x64_sys_stat).

Examples:
  injector hooks                 all functions
  injector hooks btrfs           functions with btrfs in their name or in their module's name
  injector hooks '*open*at*'     a glob

Exit codes: 0 success, 2 nothing matches the pattern, 3 the kernel has no list, or it can't be read from here";

/// List the functions that can be made to fail on this kernel, each with the option that does it
#[derive(Args)]
#[command(long_about = LONG, after_long_help = AFTER)]
pub(super) struct HooksArgs {
    /// One JSON object instead of the table
    #[arg(long)]
    pub(super) json: bool,

    /// Only functions with this text in their name, hook, module or system call; * ? [ ] make it a glob
    #[arg(value_name = "PATTERN")]
    pub(super) pattern: Option<NamePattern>,
}
