//! Unix sockets: streams, datagrams, pairs, descriptors and credentials in messages.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

use injector_tests::steps::{PATIENCE, Steps, expect, wait_readable};
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials, sockopt,
};

const NAME: &str = "injector-workload-sockets";

pub fn run(steps: &mut Steps) {
    stream(steps);
    datagram(steps);
    pair(steps);
    messages(steps);
}

fn stream(steps: &mut Steps) {
    let Some(address) = steps.step("unix: name", || SocketAddr::from_abstract_name(NAME)) else { return };
    let Some(listener) = steps.step("unix stream: listen", || UnixListener::bind_addr(&address)) else { return };
    let Some(mut client) = steps.step("unix stream: connect", || UnixStream::connect_addr(&address)) else { return };
    let accept = || wait_readable(listener.as_fd()).and_then(|()| listener.accept());
    let Some((mut server, _)) = steps.step("unix stream: accept", accept) else { return };
    steps.step("unix stream: time-outs", || {
        server.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(PATIENCE))
    });
    // More than one buffer's worth.
    let sent = [7; 40_000];
    steps.step("unix stream: write", || client.write_all(&sent));
    steps.step("unix stream: read", || {
        let mut got = [0; 40_000];
        server.read_exact(&mut got)?;
        expect("what came", got == sent, true)
    });
}

fn datagram(steps: &mut Steps) {
    let Some(address) = steps.step("unix: name", || SocketAddr::from_abstract_name(NAME)) else { return };
    let Some(receiver) = steps.step("unix datagram: bind", || UnixDatagram::bind_addr(&address)) else { return };
    let Some(sender) = steps.step("unix datagram: socket", UnixDatagram::unbound) else { return };
    steps.step("unix datagram: time-out", || receiver.set_read_timeout(Some(PATIENCE)));
    steps.step("unix datagram: send", || sender.send_to_addr(&[8; 500], &address).map(drop));
    steps.step("unix datagram: receive", || expect("the length", receiver.recv(&mut [0; 1000])?, 500));
}

fn pair(steps: &mut Steps) {
    let pair = |kind| socket::socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC);
    let Some((one, other)) = steps.step("unix pair of packets", || Ok(pair(SockType::SeqPacket)?)) else { return };
    steps.step("unix pair: send", || Ok(socket::send(one.as_raw_fd(), b"packet", MsgFlags::empty())?));
    steps.step("unix pair: receive", || {
        wait_readable(other.as_fd())?;
        expect("the length", socket::recv(other.as_raw_fd(), &mut [0; 100], MsgFlags::empty())?, 6)
    });
}

/// Descriptors and credentials, and a socket that is sent through itself: what only the kernel's collector can free.
fn messages(steps: &mut Steps) {
    let pair = || socket::socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC);
    let Some((one, other)) = steps.step("unix pair", || Ok(pair()?)) else { return };
    let Some(file) = steps.step("file to send", || File::open("/proc/self/comm")) else { return };
    steps.step("send descriptors", || {
        let fds = [file.as_raw_fd(), one.as_raw_fd()];
        send(one.as_raw_fd(), &[ControlMessage::ScmRights(&fds)])
    });
    let received = steps.step("receive descriptors", || {
        wait_readable(other.as_fd())?;
        receive(other.as_raw_fd())
    });
    steps.step("read through what came", || {
        let mut fds = received.iter().flatten();
        let file = fds.next().ok_or_else(|| io::Error::other("no descriptor came"))?;
        let mut text = String::new();
        File::from(file.try_clone()?).read_to_string(&mut text)?;
        expect("whether there is text", text.is_empty(), false)
    });
    steps.step("credentials", || {
        socket::setsockopt(&other, sockopt::PassCred, &true)?;
        let me = UnixCredentials::new();
        send(one.as_raw_fd(), &[ControlMessage::ScmCredentials(&me)])?;
        wait_readable(other.as_fd())?;
        receive(other.as_raw_fd()).map(drop)
    });
    steps.step("a socket in itself", || {
        let (one, other) = pair()?;
        let fds = [one.as_raw_fd(), other.as_raw_fd()];
        send(one.as_raw_fd(), &[ControlMessage::ScmRights(&fds)])
    });
}

fn send(socket: RawFd, control: &[ControlMessage<'_>]) -> io::Result<()> {
    let sent = socket::sendmsg::<()>(socket, &[IoSlice::new(b"x")], control, MsgFlags::empty(), None)?;
    expect("what was sent", sent, 1)
}

/// The descriptors that come with one byte.
fn receive(socket: RawFd) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut control = nix::cmsg_space!([RawFd; 4], UnixCredentials);
    let mut vectors = [IoSliceMut::new(&mut byte)];
    let message = socket::recvmsg::<()>(socket, &mut vectors, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            // SAFETY: the kernel has just made them for this process, and nobody else knows of them.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(fds)
}
