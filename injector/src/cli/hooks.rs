//! `injector hooks`

use clap::Args;

use crate::hook_list::NamePattern;

const LONG: &str = "\
List the functions that can be failed here, with the option that does it

They are those of /sys/kernel/debug/error_injection/list: the kernel's own word on which functions may return an error \
instead of being called. For five of them the injector has a hook with a name, which knows what the call is about (GFP \
flags, size, cache…), so that filters work; any other can be named with --function.";

const AFTER: &str = "\
The type says what a function may return. --function NAME=ERROR chooses; --function NAME alone takes the first:
  ERRNO       ENOMEM or any other error, by its name or as a number from 1 to 4095
  ERRNO_NULL  the same, or NULL
  NULL        NULL
  TRUE        TRUE (1), whatever that means to the function's callers

System calls are listed by their function, and taken by their name: --function openat=EACCES. Only calls of 64-bit programs are \
meant; those of 32-bit programs (__ia32_sys_*, __ia32_compat_sys_*) are functions of their own, and \
so are the old forms at the end of the list (__x64_sys_stat), to which no call of a 64-bit program leads.

Examples:
  injector hooks                 all
  injector hooks btrfs           those with btrfs in their name, or of that module
  injector hooks '*open*at*'     a glob

Exit codes: 0, 2 nothing matches the pattern, 3 the kernel has no list, or it can't be read from here";

/// List the functions that can be failed here, with the option that does it
#[derive(Args)]
#[command(long_about = LONG, after_long_help = AFTER)]
pub(super) struct HooksArgs {
    /// One JSON object instead of the table
    #[arg(long)]
    pub(super) json: bool,

    /// Only those with this in their name (or hook, module, system call); * ? [ ] make it a glob
    #[arg(value_name = "PATTERN")]
    pub(super) pattern: Option<NamePattern>,
}
