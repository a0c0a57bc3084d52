//! Route netlink: what there is, and an address that comes and goes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use injector_tests::steps::{Steps, kernel_result, wait_readable};
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};

/// Of the block for documentation: nobody has it.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// The loopback device's number in every network namespace.
const LOOPBACK: u32 = 1;
const HEADER: usize = size_of::<libc::nlmsghdr>();
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;

pub fn run(steps: &mut Steps) {
    let Some(socket) = steps.step("netlink socket", open) else { return };
    let dump = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    for (what, kind, body) in [
        ("netlink: links", libc::RTM_GETLINK, 16),
        ("netlink: addresses", libc::RTM_GETADDR, 8),
        ("netlink: routes", libc::RTM_GETROUTE, 12),
        ("netlink: neighbours", libc::RTM_GETNEIGH, 12),
    ] {
        // A body of zeros asks for all there are.
        steps.step(what, || request(&socket, kind, dump, &vec![0; body]));
    }
    let acknowledge = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let create = acknowledge | (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
    steps.step("netlink: add an address", || request(&socket, libc::RTM_NEWADDR, create, &address()));
    steps.step("netlink: remove it", || request(&socket, libc::RTM_DELADDR, acknowledge, &address()));
}

fn open() -> io::Result<OwnedFd> {
    let protocol = SockProtocol::NetlinkRoute;
    let socket = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

/// struct ifaddrmsg with the attributes IFA_LOCAL and IFA_ADDRESS.
fn address() -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, 32, 0, libc::RT_SCOPE_HOST];
    body.extend(LOOPBACK.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        body.extend(8_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(ADDRESS.octets());
    }
    body
}

/// Sends a request and reads the answer to its end; an error that it contains is returned.
fn request(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let length = (HEADER + body.len()) as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number, and the port, which the kernel fills in.
    message.extend([0; 8]);
    message.extend(body);
    socket::send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = vec![0; 32 * 1024];
    loop {
        wait_readable(socket.as_fd())?;
        let length = socket::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        if last(&answer[..length])? {
            return Ok(());
        }
    }
}

/// Whether these messages end the answer.
fn last(mut messages: &[u8]) -> io::Result<bool> {
    let number = |bytes: &[u8]| bytes.try_into().map(i32::from_ne_bytes).unwrap_or_default();
    while messages.len() >= HEADER {
        let length = number(&messages[..4]) as usize;
        if !(HEADER..=messages.len()).contains(&length) {
            break;
        }
        match u16::from_ne_bytes([messages[4], messages[5]]) {
            // Both begin with an error number, which is 0 when all went well.
            NLMSG_ERROR | NLMSG_DONE if length >= HEADER + 4 => {
                return kernel_result(number(&messages[HEADER..HEADER + 4])).map(|_| true);
            }
            _ => messages = &messages[length.next_multiple_of(4).min(messages.len())..],
        }
    }
    Ok(false)
}
