//! What takes time: poll, timeouts, links that break, cancellation.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use injector_tests::steps::{Steps, expect, kernel_result};
use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Timespec;
use nix::fcntl::OFlag;
use nix::unistd;

use crate::ring::{Ring, fd};

static SHORT: Timespec = Timespec::new().nsec(1_000_000);
static LONG: Timespec = Timespec::new().sec(60);

pub fn run(steps: &mut Steps, ring: &mut Ring) {
    steps.step("timeout", || {
        let answer = ring.all(&[opcode::Timeout::new(&raw const SHORT).build()])?[0];
        expect("the answer", answer, -libc::ETIME)
    });
    steps.step("timeout that is removed", || {
        let timeout = ring.start(&[opcode::Timeout::new(&raw const LONG).build()])?;
        let removed = ring.one(opcode::TimeoutRemove::new(timeout.start).build());
        expect("the timeout's answer", ring.wait(timeout)?[0].result, -libc::ECANCELED)?;
        removed.map(drop)
    });
    steps.step("poll", || poll(ring));
    steps.step("poll that is removed", || {
        cancelled(
            ring,
            |ring, pipe| ring.start(&[opcode::PollAdd::new(fd(pipe), libc::POLLIN as u32).build()]),
            |request| opcode::PollRemove::new(request).build(),
        )
    });
    steps.step("read that is cancelled", || {
        cancelled(
            ring,
            |ring, pipe| {
                let read = opcode::Read::new(fd(pipe), ring.back.as_mut_ptr(), 1).build();
                ring.start(&[read])
            },
            |request| opcode::AsyncCancel::new(request).build(),
        )
    });
    steps.step("read with a timeout", || {
        let (from, _to) = pipe()?;
        let read = opcode::Read::new(fd(&from), ring.back.as_mut_ptr(), 1).build().flags(Flags::IO_LINK);
        let answers = ring.all(&[read, opcode::LinkTimeout::new(&raw const SHORT).build()])?;
        expect_one_of("the read's answer", answers[0], [-libc::ECANCELED, -libc::EINTR])?;
        expect("the timeout's answer", answers[1], -libc::ETIME)
    });
    steps.step("links", || {
        let nop = || opcode::Nop::new().build();
        let answers = ring.all(&[nop().flags(Flags::IO_LINK), nop().flags(Flags::IO_HARDLINK), nop()])?;
        for answer in answers {
            kernel_result(answer)?;
        }
        Ok(())
    });
    steps.step("link that breaks", || {
        let fails = opcode::Read::new(io_uring::types::Fd(-1), ring.back.as_mut_ptr(), 1).build();
        let answers = ring.all(&[fails.flags(Flags::IO_LINK), opcode::Nop::new().build()])?;
        expect("the answers", answers, vec![-libc::EBADF, -libc::ECANCELED])
    });
    steps.step("drained", || {
        let drained = opcode::Nop::new().build().flags(Flags::IO_DRAIN);
        kernel_result(ring.all(&[opcode::Nop::new().build(), drained])?[1])
    });
    steps.step("splice", || splice(ring));
    steps.step("message to another ring", || {
        let mut other = Ring::new()?;
        // The other ring takes it for its own first request's completion.
        let number = io_uring::types::Fd(std::os::fd::AsRawFd::as_raw_fd(&other.ring));
        ring.one(opcode::MsgRingData::new(number, 5, 0, None).build())?;
        expect("the message", other.wait(0..1)?[0].result, 5)
    });
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(unistd::pipe2(OFlag::O_CLOEXEC)?)
}

fn expect_one_of(what: &str, got: i32, expected: [i32; 2]) -> io::Result<()> {
    if expected.contains(&got) {
        Ok(())
    } else {
        kernel_result(got).and_then(|got| expect(what, got as i32, expected[0]))
    }
}

fn poll(ring: &mut Ring) -> io::Result<()> {
    let (from, to) = pipe()?;
    let poll = ring.start(&[opcode::PollAdd::new(fd(&from), libc::POLLIN as u32).build()])?;
    File::from(to).write_all(b"x")?;
    let events = kernel_result(ring.wait(poll)?[0].result)?;
    expect("whether it can be read", events & libc::POLLIN as u32 != 0, true)
}

/// Starts something on an empty pipe, which waits for ever, and cancels it.
fn cancelled(
    ring: &mut Ring,
    start: impl FnOnce(&mut Ring, &OwnedFd) -> io::Result<std::ops::Range<u64>>,
    cancel: impl FnOnce(u64) -> io_uring::squeue::Entry,
) -> io::Result<()> {
    let (from, to) = pipe()?;
    let started = start(ring, &from)?;
    let answer = ring.one(cancel(started.start));
    if answer.is_err() {
        // Not cancelled: it ends when nobody can write any more.
        drop(to);
        ring.wait(started)?;
        return answer.map(drop);
    }
    expect_one_of("its answer", ring.wait(started)?[0].result, [-libc::ECANCELED, -libc::EINTR])
}

/// From one pipe into another, and a copy of it.
fn splice(ring: &mut Ring) -> io::Result<()> {
    let (from, to) = pipe()?;
    let (from_2, to_2) = pipe()?;
    unistd::write(&to, &[1; 100])?;
    expect("the length", ring.one(opcode::Tee::new(fd(&from), fd(&to_2), 100).build())?, 100)?;
    expect("the length", ring.one(opcode::Splice::new(fd(&from_2), -1, fd(&to), -1, 100).build())?, 100)
}
