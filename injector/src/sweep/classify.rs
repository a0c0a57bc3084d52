//! Where a site lies: in which module or subsystem, and in what part of a task's life.

use injector_common::record::{CONTEXT_TASK, SITE_KTHREAD, SITE_PAGE_FAULT};
use injector_log::allocator;

use crate::{
    events::frames::function,
    journal::record::{Place, Site},
};

/// Prefixes of function names and the subsystem that they belong to, for code that is built into the kernel: no symbol says
/// from which directory it comes. The first that matches counts; those further up are more special.
const SUBSYSTEMS: &[(&str, &str)] = &[
    ("ext4_", "ext4"),
    ("__ext4_", "ext4"),
    ("mb_cache_", "ext4"),
    ("jbd2_", "jbd2"),
    ("__jbd2_", "jbd2"),
    ("kjournald2", "jbd2"),
    ("xfs_", "xfs"),
    ("xlog_", "xfs"),
    ("xchk_", "xfs"),
    ("kmem_alloc", "xfs"),
    ("btrfs_", "btrfs"),
    ("__btrfs_", "btrfs"),
    ("open_ctree", "btrfs"),
    ("alloc_extent_state", "btrfs"),
    ("set_extent_bit", "btrfs"),
    ("__set_extent_bit", "btrfs"),
    ("clear_extent_bit", "btrfs"),
    ("alloc_extent_buffer", "btrfs"),
    ("zstd_", "btrfs"),
    ("nfsd", "nfsd"),
    ("exp_", "nfsd"),
    ("expkey_", "nfsd"),
    ("fh_verify", "nfsd"),
    ("nlm", "lockd"),
    ("lockd", "lockd"),
    ("nfs_", "nfs"),
    ("nfs3_", "nfs"),
    ("nfs4_", "nfs"),
    ("_nfs4_", "nfs"),
    ("nfs41_", "nfs"),
    ("nfs42_", "nfs"),
    ("_nfs42_", "nfs"),
    ("__nfs", "nfs"),
    ("rpc_", "sunrpc"),
    ("__rpc_", "sunrpc"),
    ("rpcb_", "sunrpc"),
    ("call_", "sunrpc"),
    ("xprt_", "sunrpc"),
    ("xs_", "sunrpc"),
    ("svc_", "sunrpc"),
    ("svcauth_", "sunrpc"),
    ("cache_", "sunrpc"),
    ("xdr_", "sunrpc"),
    ("unix_gid", "sunrpc"),
    ("ip_map", "sunrpc"),
    ("io_uring", "io_uring"),
    ("io_", "io_uring"),
    ("__io_", "io_uring"),
    ("p9_", "9p"),
    ("v9fs_", "9p"),
    ("fuse_", "fuse"),
    ("ovl_", "overlayfs"),
    ("shmem_", "tmpfs"),
    ("ramfs_", "ramfs"),
    ("debugfs_", "debugfs"),
    ("proc_", "proc"),
    ("pde_", "proc"),
    ("kernfs_", "kernfs"),
    ("sysfs_", "kernfs"),
    ("kobject_", "driver core"),
    ("device_", "driver core"),
    ("loop_", "loop"),
    ("lo_", "loop"),
    ("virtblk_", "virtio"),
    ("virtqueue_", "virtio"),
    ("virtnet_", "virtio"),
    ("tcp_", "tcp"),
    ("udp", "udp"),
    ("ip6_", "ipv6"),
    ("inet6_", "ipv6"),
    ("ip_", "ipv4"),
    ("inet_", "ipv4"),
    ("__ip_", "ipv4"),
    ("unix_", "af_unix"),
    ("netlink_", "netlink"),
    ("rtnl_", "netlink"),
    ("rtnetlink_", "netlink"),
    ("packet_", "packet"),
    ("skb_", "net"),
    ("__alloc_skb", "net"),
    ("sock_", "net"),
    ("__sock_", "net"),
    ("__sys_s", "net"),
    ("sk_", "net"),
    ("neigh_", "net"),
    ("dst_", "net"),
    ("ep_", "epoll"),
    ("do_epoll", "epoll"),
    ("bio_", "block"),
    ("blk_", "block"),
    ("blkdev_", "block"),
    ("blkg_", "block"),
    ("submit_bio", "block"),
    ("__submit_bio", "block"),
    ("bdev_", "block"),
    ("add_disk", "block"),
    ("disk_", "block"),
    ("elevator_", "block"),
    ("dd_", "block"),
    ("alloc_buffer_head", "buffer"),
    ("folio_alloc_buffers", "buffer"),
    ("alloc_page_buffers", "buffer"),
    ("create_empty_buffers", "buffer"),
    ("__getblk", "buffer"),
    ("bdev_getblk", "buffer"),
    ("iomap_", "iomap"),
    ("bpf_", "bpf"),
    ("cgroup_", "cgroup"),
    ("mem_cgroup_", "memcg"),
    ("crypto_", "crypto"),
    ("posix_acl_", "vfs"),
    ("alloc_fs_context", "vfs"),
    ("vfs_", "vfs"),
    ("d_alloc", "vfs"),
    ("__d_alloc", "vfs"),
    ("alloc_inode", "vfs"),
    ("alloc_empty_file", "vfs"),
    ("alloc_file", "vfs"),
    ("getname", "vfs"),
    ("alloc_super", "vfs"),
    ("sget", "vfs"),
    ("alloc_vfsmnt", "vfs"),
    ("simple_xattr_", "vfs"),
    ("setxattr", "vfs"),
    ("path_", "vfs"),
    ("do_mount", "vfs"),
    ("path_mount", "vfs"),
    ("inotify_", "fsnotify"),
    ("fsnotify_", "fsnotify"),
    ("fanotify_", "fsnotify"),
    ("locks_", "vfs"),
    ("posix_lock", "vfs"),
    ("alloc_pipe_info", "vfs"),
    ("pipe_", "vfs"),
    ("splice_", "vfs"),
    ("iter_file_splice", "vfs"),
    ("do_splice", "vfs"),
    ("seq_", "vfs"),
    ("single_open", "vfs"),
    ("alloc_fdtable", "vfs"),
    ("copy_mnt_ns", "vfs"),
    ("do_execve", "exec"),
    ("bprm_", "exec"),
    ("load_elf_", "exec"),
    ("load_script", "exec"),
    ("copy_process", "fork"),
    ("dup_mm", "fork"),
    ("copy_mm", "fork"),
    ("kernel_clone", "fork"),
    ("exc_page_fault", "page fault"),
    ("kthread", "kthread"),
    ("workqueue_", "workqueue"),
    ("alloc_workqueue", "workqueue"),
    ("do_exit", "exit"),
    ("do_group_exit", "exit"),
    ("mmap_region", "mm"),
    ("do_mmap", "mm"),
    ("do_munmap", "mm"),
    ("__split_vma", "mm"),
    ("mprotect_", "mm"),
    ("do_brk", "mm"),
];

/// The subsystem that a frame's function name belongs to.
fn subsystem(function: &str) -> Option<&'static str> {
    SUBSYSTEMS.iter().find(|(prefix, _)| function.starts_with(prefix)).map(|(_, name)| *name)
}

/// A site's module: of its frames, innermost first, the first that is in a loadable module or that the table knows. What is
/// left belongs to the function that the kernel was entered by.
#[must_use]
pub fn module(stack: &[String]) -> String {
    for frame in stack {
        if let Some((_, module)) = frame.split_once(" [") {
            return module.trim_end_matches(']').to_owned();
        }
        if let Some(name) = subsystem(function(frame)) {
            return name.to_owned();
        }
    }
    let entry = stack.iter().rev().map(|frame| function(frame)).find_map(|name| {
        let call = name.strip_prefix("__x64_sys_").or_else(|| name.strip_prefix("__do_sys_"))?;
        Some(format!("{call}()"))
    });
    entry.unwrap_or_else(|| "kernel".to_owned())
}

/// Who asked for the memory: the first function that is no allocator's and does not allocate for its caller.
#[must_use]
pub fn caller(site: &Site) -> Option<String> {
    let mut functions = site.stack.iter().map(|frame| function(frame));
    functions.find(|name| allocator::kind(name).is_none()).map(str::to_owned)
}

/// The place of a site, from what the hook knew and its frames.
#[must_use]
pub fn place(context: u32, flags: u32, stack: &[String]) -> Place {
    let has = |names: &[&str]| stack.iter().any(|frame| names.contains(&function(frame)));
    if context != CONTEXT_TASK {
        Place::Interrupt
    } else if flags & SITE_KTHREAD != 0 {
        Place::Kthread
    } else if flags & SITE_PAGE_FAULT != 0 {
        Place::PageFault
    } else if has(&["__x64_sys_execve", "__x64_sys_execveat", "__ia32_sys_execve", "__ia32_compat_sys_execve"]) {
        Place::Exec
    } else if !has(&["do_syscall_64", "do_syscall_x64", "do_int80_syscall_32", "do_int80_emulation"])
        || has(&["task_work_run", "do_exit", "syscall_exit_to_user_mode", "exit_to_user_mode_prepare"])
    {
        Place::Other
    } else {
        Place::SystemCall
    }
}

#[cfg(test)]
mod tests {
    use injector_common::record::CONTEXT_SOFTIRQ;

    use super::*;

    fn stack(frames: &[&str]) -> Vec<String> {
        frames.iter().map(|&frame| frame.to_owned()).collect()
    }

    #[test]
    fn the_innermost_frame_that_is_known_names_the_module() {
        let frames = stack(&["kmem_cache_alloc+0x1", "alloc_buffer_head+0x2", "ext4_bread+0x3", "do_syscall_64+0x4"]);
        assert_eq!(module(&frames), "buffer");
        assert_eq!(module(&stack(&["kmalloc+0x1", "frob+0x2 [nfs]", "vfs_write+0x3"])), "nfs");
        assert_eq!(module(&stack(&["kmalloc+0x1", "frob+0x2", "__x64_sys_bdflush+0x3"])), "bdflush()");
        assert_eq!(module(&[]), "kernel");
    }

    #[test]
    fn places() {
        let call = stack(&["kmalloc+0x1", "vfs_write+0x3", "__x64_sys_write+0x1", "do_syscall_64+0x4"]);
        assert_eq!(place(CONTEXT_TASK, 0, &call), Place::SystemCall);
        assert_eq!(place(CONTEXT_TASK, SITE_PAGE_FAULT, &call), Place::PageFault);
        assert_eq!(place(CONTEXT_TASK, SITE_KTHREAD, &stack(&["kmalloc+0x1", "kthread+0x3"])), Place::Kthread);
        assert_eq!(place(CONTEXT_SOFTIRQ, SITE_KTHREAD, &call), Place::Interrupt);
        let exec = stack(&["kmalloc+0x1", "bprm_execve+0x3", "__x64_sys_execve+0x1", "do_syscall_64+0x4"]);
        assert_eq!(place(CONTEXT_TASK, 0, &exec), Place::Exec);
        let work = stack(&["kfree+0x1", "task_work_run+0x3", "do_syscall_64+0x4"]);
        assert_eq!(place(CONTEXT_TASK, 0, &work), Place::Other);
        assert_eq!(place(CONTEXT_TASK, 0, &stack(&["kmalloc+0x1", "ret_from_fork+0x4"])), Place::Other);
    }
}
