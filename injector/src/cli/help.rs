//! The parts of the help that belong to no option.

pub(super) const ABOUT: &str = "Makes Linux kernel memory allocations fail, on purpose and with aim";

pub(super) const LONG_ABOUT: &str = "\
Makes Linux kernel memory allocations fail, on purpose and with aim.

eBPF programs on the kernel's error-injectable allocation functions fail the calls that match every filter; failures \
are streamed as they happen, and the end shows the stacks where they were injected, with counts.

This breaks kernels on purpose. Failed allocations lead into code that almost never runs: expect oopses, hangs and \
damaged file systems. Use it in a guest, or on a machine that you can afford to lose.";

pub(super) const AFTER: &str = "Try --help for the grammar of the values, examples and exit codes.";

pub(super) const LONG_AFTER: &str = "\
Examples:
  Fail 1% of small allocations that may not recurse into the file system, on the whole machine:
    injector --gfp NOFS --order-lt 4 --prob 0.01
  Fail everything that a command allocates through XFS, and pass its exit status on:
    injector --stack 'xfs_*' -- ./my-test.sh
  Fail the first 100 page allocations of a process, outside of page faults:
    injector --hook page --pid 1234 --times 100 --not-stack handle_mm_fault
  Atomic allocations, or zeroed ones that may sleep; one JSON object per line into a file:
    injector --gfp ATOMIC --gfp KERNEL,ZERO --prob 1/1000 --format json -o failures.json
  What RPC code allocates on behalf of an NFS open, each place once:
    injector --stack 'nfs4_do_open..rpc_*' --once-per-site -- ./nfs-test.sh
  Every tenth inode that mount allocates, inside the system call mount:
    injector --hook slab --cache '*inode*' --comm mount --syscall mount --every 10
  How much would fail, and where, without failing anything:
    injector --hook bio --prob 1% --dry-run --duration 10s
  A mount of btrfs that runs out of space, the same way each time:
    injector --function open_ctree=ENOSPC --prob 0.5 --seed 1 -- ./btrfs-test.sh
  The same options as a file, and a run of that file (docs/plan-files.md):
    injector plan --gfp NOFS --prob 1% > plan.toml
    injector --plan plan.toml --duration 1m

GFP values (--gfp):
  NOFS      DIRECT_RECLAIM and IO, without FS
  NOIO      DIRECT_RECLAIM, without IO and FS
  KERNEL    DIRECT_RECLAIM, IO and FS, without HARDWALL and HIGHMEM
  USER      DIRECT_RECLAIM, IO, FS and HARDWALL, without HIGHMEM
  HIGHUSER  DIRECT_RECLAIM, IO, FS, HARDWALL and HIGHMEM, movable or not
  ATOMIC    HIGH and KSWAPD_RECLAIM, without DIRECT_RECLAIM
  NOWAIT    KSWAPD_RECLAIM, without DIRECT_RECLAIM and HIGH
  ZERO, NOWARN, __GFP_COMP…  a single flag: that bit
  Flags that a name does not mention may be set or not. `!X` matches what X does not.

Never failed, whatever the options say: allocations with __GFP_NOFAIL, the slab allocator's bootstrap cache, the \
injector itself, process 1 unless --pid names it.

Requires: root; Linux 6.1 or newer with CONFIG_FUNCTION_ERROR_INJECTION, \
CONFIG_DEBUG_INFO_BTF (and CONFIG_BPF_KPROBE_OVERRIDE for --backend kprobe), from 6.11 on also CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC. `injector check` says what is \
missing. Most distributions' kernels lack some of it; `cargo xtask run` boots a guest that has it all.

Exit codes:
  0  the run ended as it should; with a command: the command's own status (128+N when signal N killed it)
  1  internal error
  2  bad input: nothing was attached
  3  something that the run needs is missing on this machine: nothing was attached";
