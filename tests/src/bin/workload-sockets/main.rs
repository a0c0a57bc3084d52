//! Sockets, pipes and epoll: a small mix for being run under injection. In the guest it is /workloads/sockets.
//!
//! One thread, the same system calls every time, nothing outside the machine: TCP and UDP over loopback by IPv4 and
//! IPv6, Unix sockets with descriptors in messages, netlink, epoll, splice. Ports are the kernel's choice, names are
//! abstract, so nothing is left behind, but for the loopback device, which stays up.

mod inet;
mod netlink;
mod pipes;
mod unix;

use std::process::ExitCode;

use injector_tests::Steps;

fn main() -> ExitCode {
    // Every failure comes back from a system call: a tracer can repeat it, so there is no need to do it here.
    Steps::main("sockets", 1, |steps| {
        inet::run(steps);
        unix::run(steps);
        netlink::run(steps);
        pipes::run(steps);
    })
}
