//! What a task that does not come back is waiting in.

use super::tracer;
use crate::events::frames;

/// The first function of a kernel stack, innermost first, that does not wait on behalf of its callers.
#[must_use]
pub fn what_waits(stack: &[String]) -> Option<&str> {
    stack.iter().map(|frame| frames::function(frame)).find(|name| !is_waiting(name))
}

/// Whether a function waits for what another program sends.
#[must_use]
pub fn is_for_a_peer(function: &str) -> bool {
    PEERS.contains(&function)
}

/// The first of these tasks that waits for something in the kernel, and for no other program: what it waits in, and its stack.
#[must_use]
pub fn what_hangs(tasks: &[u32]) -> Option<(String, Vec<String>)> {
    tasks.iter().find_map(|task| {
        let stack = tracer::kernel_stack(*task);
        let waits_in = what_waits(&stack).filter(|function| !is_for_a_peer(function) && !ASKED.contains(function))?;
        Some((waits_in.to_owned(), stack))
    })
}

/// Functions in which a program waits for a child, for a signal or for some time, as it asked.
const ASKED: &[&str] = &[
    "__do_sys_pause",
    "__do_sys_wait4",
    "__do_sys_waitid",
    "do_nanosleep",
    "hrtimer_nanosleep",
    "kernel_wait4",
    "kernel_waitid",
    "sigsuspend",
];

/// Functions that wait for what another program sends, or does not: a message that was lost for lack of memory is no defect.
const PEERS: &[&str] = &[
    "__skb_wait_for_more_packets",
    "anon_pipe_read",
    "do_poll",
    "do_select",
    "do_sys_poll",
    "ep_poll",
    "futex_do_wait",
    "futex_wait_queue",
    "inet_csk_accept",
    "inet_csk_wait_for_connect",
    "io_cqring_wait",
    "pipe_read",
    "sk_wait_data",
    "unix_stream_data_wait",
    "unix_stream_read_generic",
];

/// Functions that wait on behalf of their callers: the first frame that is none of them says what hangs.
fn is_waiting(function: &str) -> bool {
    const WAITING: &[&str] = &[
        "schedule",
        "io_schedule",
        "mutex_lock",
        "__mutex_lock",
        "rwsem_",
        "down_",
        "down",
        "__down",
        "wait_for_",
        "wait_woken",
        "__wait_",
        "wait_on_",
        "out_of_line_wait",
        "bit_wait",
        "folio_wait",
        "__folio_lock",
        "do_wait",
        "rt_mutex",
        "msleep",
        "usleep",
        "ptrace_",
        "context_switch",
        "__schedule",
        "preempt_schedule",
        "prepare_to_wait",
        "synchronize_",
        "percpu_rwsem",
        "flush_work",
        "__flush_work",
        "__flush_workqueue",
        "kthread_stop",
        "autoremove",
    ];
    WAITING.iter().any(|prefix| function.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_waits_in() {
        let waits_in = |stack: &[&str]| {
            let stack: Vec<String> = stack.iter().map(|name| format!("{name}+0x1/0x2")).collect();
            what_waits(&stack).map(str::to_owned)
        };
        assert_eq!(waits_in(&["wait_woken", "nfs4_proc_lock", "do_setlk"]).as_deref(), Some("nfs4_proc_lock"));
        let receives = waits_in(&["schedule_timeout", "__skb_wait_for_more_packets", "__skb_recv_datagram"]);
        assert!(receives.as_deref().is_some_and(is_for_a_peer), "{receives:?}");
        assert!(PEERS.is_sorted());
    }
}
