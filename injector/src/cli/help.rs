//! The parts of the help that belong to no option.

pub(super) const ABOUT: &str = "Makes Linux kernel memory allocations fail, on purpose and selectively";

pub(super) const LONG_ABOUT: &str = "\
Makes Linux kernel memory allocations fail, on purpose and selectively.

eBPF programs on the kernel's error-injectable allocation functions fail the calls that match every filter. The injector \
prints each failure when it happens. The summary at the end lists the stacks of the failures, with exact counts.

This breaks kernels on purpose. A failed allocation runs code that almost never runs: expect oopses, hangs and \
damaged file systems. Use it in a guest, or on a machine that you can afford to lose.";

pub(super) const AFTER: &str = "Try --help for examples, the grammar of the values, and exit codes.";

pub(super) const LONG_AFTER: &str = "\
Examples:
  Fail 1% of small allocations that may not recurse into the file system, on the whole machine:
    injector --gfp NOFS --order-lt 4 --prob 0.01
  Fail every allocation that a command makes through XFS, and exit with the command's status:
    injector --stack 'xfs_*' -- ./my-test.sh
  Fail the first 100 page allocations of a process, outside of page faults:
    injector --hook page --pid 1234 --times 100 --not-stack handle_mm_fault
  Fail atomic allocations, and zeroed ones that may sleep; write JSON lines to a file:
    injector --gfp ATOMIC --gfp KERNEL,ZERO --prob 1/1000 --format json -o failures.json
  Fail what RPC code allocates for an NFS open, each site once:
    injector --stack 'nfs4_do_open..rpc_*' --once-per-site -- ./nfs-test.sh
  Fail every tenth inode that mount allocates in the mount system call:
    injector --hook slab --cache '*inode*' --comm mount --syscall mount --every 10
  Count what would fail, and where, without failing anything:
    injector --hook bio --prob 1% --dry-run --duration 10s
  Make half of the mounts of btrfs fail with ENOSPC, the same ones each time:
    injector --function open_ctree=ENOSPC --prob 0.5 --seed 1 -- ./btrfs-test.sh
  Write options to a plan file, and run it (docs/plan-files.md):
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
  A flag that a name does not mention may be set or clear. `!X` matches what X does not match.

Some allocations never fail, whatever the options say: those with __GFP_NOFAIL, those from the slab allocator's bootstrap \
cache, those of the injector itself, and those of process 1 unless --pid names it.

Requires: root; Linux 6.1 or newer with CONFIG_FUNCTION_ERROR_INJECTION, \
CONFIG_DEBUG_INFO_BTF (and CONFIG_BPF_KPROBE_OVERRIDE for --backend kprobe); from 6.11 on also CONFIG_FAILSLAB and \
CONFIG_FAIL_PAGE_ALLOC. `injector check` lists what is missing. Most distribution kernels lack some of it; `cargo xtask run` \
boots a guest that has all of it.

Exit codes:
  0  the run ended normally; with a command: the command's own status (128+N if signal N killed it)
  2  wrong input; nothing was attached
  3  this machine lacks something that the run needs; nothing was attached
  70 internal error
  74 input or output failed, for example on a full disk";
