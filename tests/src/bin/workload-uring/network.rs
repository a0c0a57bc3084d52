//! Sockets: TCP over loopback and a Unix pair.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use injector_tests::steps::{Steps, expect, kernel_result};
use io_uring::squeue::Flags;
use io_uring::{cqueue, opcode};
use nix::sys::socket::{SockaddrIn, SockaddrLike};

use crate::ring::{Ring, fd};

/// What is sent at once.
const SIZE: u32 = 4096;
/// The group of buffers that the kernel chooses from.
const GROUP: u16 = 7;

pub fn run(steps: &mut Steps, ring: &mut Ring) {
    if let Some((client, server)) = connect(steps, ring) {
        talk(steps, ring, &client, &server);
        steps.step("send without a copy", || send_zero_copy(ring, &client, &server));
        steps.step("shutdown", || ring.one(opcode::Shutdown::new(fd(&client), libc::SHUT_RDWR).build()));
    }
    if let Some((one, other)) = steps.step("socket pair", UnixStream::pair) {
        let (one, other) = (one.into(), other.into());
        talk(steps, ring, &one, &other);
        messages(steps, ring, &one, &other);
        chosen_buffer(steps, ring, &one, &other);
    }
}

fn made(number: i32) -> io::Result<OwnedFd> {
    let number = kernel_result(number)?;
    // SAFETY: the kernel has just made it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// Accepting and connecting wait for each other, so they are under way together.
fn connect(steps: &mut Steps, ring: &mut Ring) -> Option<(OwnedFd, OwnedFd)> {
    let listener = steps.step("listener", || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let port = steps.step("port", || Ok(listener.local_addr()?.port()))?;
    let address = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    steps.step("socket, accept, connect", || {
        let request = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0).build();
        let client = made(ring.one(request)? as i32)?;
        let answers = ring.all(&[
            opcode::Accept::new(fd(&listener), ptr::null_mut(), ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build(),
            opcode::Connect::new(fd(&client), address.as_ptr(), address.len()).build(),
        ])?;
        let server = made(answers[0]);
        kernel_result(answers[1])?;
        Ok((client, server?))
    })
}

fn talk(steps: &mut Steps, ring: &mut Ring, from: &OwnedFd, to: &OwnedFd) {
    steps.step("receive, then send", || {
        let receive = opcode::Recv::new(fd(to), ring.back.as_mut_ptr(), SIZE).build();
        let send = opcode::Send::new(fd(from), ring.out.as_ptr(), SIZE).build();
        exchanged(&ring.all(&[receive, send])?)
    });
    steps.step("send, linked with receive", || {
        let send = opcode::Send::new(fd(to), ring.out.as_ptr(), SIZE).build().flags(Flags::IO_LINK);
        let receive = opcode::Recv::new(fd(from), ring.back.as_mut_ptr(), SIZE).build();
        exchanged(&ring.all(&[send, receive])?)
    });
}

fn exchanged(lengths: &[i32]) -> io::Result<()> {
    for &length in lengths {
        expect("the length", kernel_result(length)?, SIZE)?;
    }
    Ok(())
}

/// Two completions: what was sent, and that the memory is free again.
fn send_zero_copy(ring: &mut Ring, client: &OwnedFd, server: &OwnedFd) -> io::Result<()> {
    let started = ring.start(&[opcode::SendZc::new(fd(client), ring.out.as_ptr(), SIZE).build()])?;
    let answer = ring.wait(started.clone())?[0];
    expect("the length", kernel_result(answer.result)?, SIZE)?;
    let receive = opcode::Recv::new(fd(server), ring.back.as_mut_ptr(), SIZE).build();
    expect("the length", ring.one(receive)?, SIZE)?;
    if !cqueue::notif(answer.flags) && cqueue::more(answer.flags) {
        ring.wait(started)?;
    }
    Ok(())
}

fn messages(steps: &mut Steps, ring: &mut Ring, from: &OwnedFd, to: &OwnedFd) {
    steps.step("sendmsg, then recvmsg", || {
        let vector = |base: *mut u8| libc::iovec { iov_base: base.cast(), iov_len: SIZE as usize };
        let mut out = vector(ring.out.as_mut_ptr());
        let mut back = vector(ring.back.as_mut_ptr());
        let message = |vector: &mut libc::iovec| libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: vector,
            msg_iovlen: 1,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        let send = message(&mut out);
        // What the kernel writes to must outlive a request that is given up.
        let receive = Box::leak(Box::new(message(&mut back)));
        expect("the length", ring.one(opcode::SendMsg::new(fd(from), &raw const send).build())?, SIZE)?;
        expect("the length", ring.one(opcode::RecvMsg::new(fd(to), receive).build())?, SIZE)
    });
}

fn chosen_buffer(steps: &mut Steps, ring: &mut Ring, from: &OwnedFd, to: &OwnedFd) {
    steps.step("receive into a buffer of the kernel's choice", || {
        let provide = opcode::ProvideBuffers::new(ring.back.as_mut_ptr(), SIZE as i32, 2, GROUP, 0).build();
        ring.one(provide)?;
        ring.one(opcode::Send::new(fd(from), ring.out.as_ptr(), SIZE).build())?;
        let receive = opcode::Recv::new(fd(to), ptr::null_mut(), SIZE).buf_group(GROUP).build();
        let started = ring.start(&[receive.flags(Flags::BUFFER_SELECT)])?;
        let answer = ring.wait(started)?[0];
        expect("the length", kernel_result(answer.result)?, SIZE)?;
        expect("whether a buffer was chosen", cqueue::buffer_select(answer.flags).is_some(), true)?;
        ring.one(opcode::RemoveBuffers::new(1, GROUP).build()).map(drop)
    });
}
