//! epoll, pipes, splice, and the files that are only descriptors.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use injector_tests::steps::{PATIENCE, Steps, expect, wait_readable};
use nix::fcntl::{self, FcntlArg, OFlag, SpliceFFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{self, MFdFlags};
use nix::sys::sendfile;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use nix::unistd;

const LENGTH: usize = 20_000;

pub fn run(steps: &mut Steps) {
    epoll(steps);
    pipes(steps);
}

fn epoll(steps: &mut Steps) {
    let create = || Ok(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
    let Some(epoll) = steps.step("epoll", create) else { return };
    let Some(outer) = steps.step("another epoll", create) else { return };
    let event = || Ok(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let Some(event) = steps.step("eventfd", event) else { return };
    let timer = || Ok(TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?);
    let timer = steps.step("timerfd", timer);
    let signal = || Ok(SignalFd::with_flags(&SigSet::from(Signal::SIGUSR1), SfdFlags::SFD_CLOEXEC)?);
    let signal = steps.step("signalfd", signal);
    let read = |data| EpollEvent::new(EpollFlags::EPOLLIN, data);
    let others = [timer.as_ref().map(AsFd::as_fd), signal.as_ref().map(AsFd::as_fd)];
    for fd in others.into_iter().flatten() {
        steps.step("epoll: add what stays silent", || Ok(epoll.add(fd, read(0))?));
    }
    steps.step("epoll: add", || Ok(epoll.add(&event, read(1))?));
    steps.step("epoll: add an epoll", || Ok(outer.add(&epoll.0, read(2))?));
    steps.step("eventfd: write", || Ok(event.write(1)?));
    steps.step("epoll: wait", || {
        let mut events = [EpollEvent::empty(); 4];
        let timeout = EpollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
        let count = outer.wait(&mut events, timeout)?;
        expect("the event", (count, events[0].data()), (1, 2))
    });
    let changed = || Ok(epoll.modify(&event, &mut EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 3))?);
    steps.step("epoll: modify", changed);
    steps.step("epoll: delete", || Ok(epoll.delete(&event)?));
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?)
}

fn memory_file() -> io::Result<File> {
    Ok(memfd::memfd_create(c"injector-workload", MFdFlags::MFD_CLOEXEC)?.into())
}

fn pipes(steps: &mut Steps) {
    let Some((from, to)) = steps.step("pipe", pipe) else { return };
    let Some((from_2, to_2)) = steps.step("another pipe", pipe) else { return };
    let Some(mut file) = steps.step("memory file", memory_file) else { return };
    steps.step("pipe: size", || Ok(fcntl::fcntl(&to, FcntlArg::F_SETPIPE_SZ(256 * 1024))?));
    let bytes = [9; LENGTH];
    steps.step("pipe: write", || expect("the length", unistd::write(&to, &bytes)?, LENGTH));
    steps.step("tee", || expect("the length", fcntl::tee(&from, &to_2, LENGTH, SpliceFFlags::empty())?, LENGTH));
    steps.step("splice to a file", || splice(&from, &file));
    steps.step("splice to nowhere", || splice(&from_2, &File::options().write(true).open("/dev/null")?));
    steps.step("splice from a file", || {
        file.rewind()?;
        splice(&file, &to)
    });
    steps.step("pipe: read", || {
        let mut got = [0; LENGTH];
        expect("the length", unistd::read(&from, &mut got)?, LENGTH)?;
        expect("what came", got == bytes, true)
    });
    steps.step("vmsplice", || {
        let length = fcntl::vmsplice(&to, &[IoSlice::new(&bytes[..4096])], SpliceFFlags::empty())?;
        expect("the length", length, 4096)
    });
    sockets(steps, &mut file, &from);
    steps.step("pipe: notification", asynchronous);
}

/// From a file and from a pipe into a socket.
fn sockets(steps: &mut Steps, file: &mut File, pipe: &OwnedFd) {
    let Some((one, mut other)) = steps.step("socket pair", UnixStream::pair) else { return };
    steps.step("socket pair: time-out", || other.set_read_timeout(Some(PATIENCE)));
    steps.step("splice to a socket", || {
        let moved = fcntl::splice(pipe, None, &one, None, 4096, SpliceFFlags::empty())?;
        expect("the length", moved, 4096)?;
        other.read_exact(&mut [0; 4096])
    });
    steps.step("sendfile", || {
        let mut offset = 0;
        let length = sendfile::sendfile(&one, &*file, Some(&mut offset), LENGTH)?;
        expect("the length", length, LENGTH)?;
        other.read_exact(&mut [0; LENGTH])
    });
}

/// All of it at once, or it is an error.
fn splice(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    let moved = fcntl::splice(from, None, to, None, LENGTH, SpliceFFlags::empty())?;
    expect("the length", moved, LENGTH)
}

/// Asynchronous notification of a pipe, which the kernel keeps a list of. Without an owner nobody gets a signal.
fn asynchronous() -> io::Result<()> {
    let (from, to) = pipe()?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_ASYNC;
    fcntl::fcntl(&from, FcntlArg::F_SETFL(flags))?;
    File::from(to).write_all(b"x")?;
    wait_readable(from.as_fd())
}
