//! io_uring: a small mix for being run under injection. In the guest it is /workloads/uring.
//!
//! One thread of its own (the kernel adds workers for what would block), the same requests every time: files, fixed
//! files and buffers, sockets, poll, timeouts, links, cancellation. Everything is below one directory in the place
//! for temporary files, and is removed at the end and at the start.

mod files;
mod network;
mod ring;
mod waiting;

use std::process::ExitCode;

use injector_tests::Steps;
use ring::Ring;

/// A failure in a request comes back in its completion, not from a system call, so it is this program that repeats the
/// request: as often as a request has sites, and some.
const ATTEMPTS: u32 = 64;

fn main() -> ExitCode {
    Steps::main("uring", ATTEMPTS, |steps| {
        let Some(mut ring) = steps.step("ring", Ring::new) else { return };
        files::run(steps, &mut ring);
        network::run(steps, &mut ring);
        waiting::run(steps, &mut ring);
        steps.step("ring whose completions wait for the asker", || Ring::deferred()?.nop());
    })
}
