//! TCP and UDP over loopback, by IPv4 and IPv6, and what can be set of their sockets.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use injector_tests::steps::{PATIENCE, Steps, expect, wait_readable};
use nix::sys::socket::{self, MsgFlags, SockProtocol, SockaddrStorage, sockopt};

/// What is sent at once: more than a page, less than a socket's buffer.
const LENGTH: usize = 20_000;
/// Of the groups that belong to one machine.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0xfb);
/// The loopback device's number in every network namespace.
const LOOPBACK: u32 = 1;

pub fn run(steps: &mut Steps) {
    steps.step("bring up lo", bring_up_loopback);
    tcp(steps, "TCP over IPv4", Ipv4Addr::LOCALHOST.into());
    tcp(steps, "TCP over IPv6", Ipv6Addr::LOCALHOST.into());
    udp(steps, "UDP over IPv4", Ipv4Addr::LOCALHOST.into());
    udp(steps, "UDP over IPv6", Ipv6Addr::LOCALHOST.into());
}

fn bring_up_loopback() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut name = [0; libc::IFNAMSIZ];
    name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    let mut request = libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } };
    let fd = socket.as_raw_fd();
    // SAFETY: the request is whole and lives as long as the call.
    nix::errno::Errno::result(unsafe { libc::ioctl(fd, libc::SIOCGIFFLAGS as _, &mut request) })?;
    // SAFETY: the kernel wrote the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    if flags & libc::IFF_UP as i16 == 0 {
        request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as i16;
        // SAFETY: as above.
        nix::errno::Errno::result(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &request) })?;
    }
    Ok(())
}

fn tcp(steps: &mut Steps, what: &str, address: IpAddr) {
    let step = |part: &str| format!("{what}: {part}");
    let Some(listener) = steps.step(&step("listen"), || TcpListener::bind((address, 0))) else { return };
    let Some(local) = steps.step(&step("listener's address"), || listener.local_addr()) else { return };
    let Some(mut client) = steps.step(&step("connect"), || TcpStream::connect_timeout(&local, PATIENCE)) else {
        return;
    };
    let accept = || wait_readable(listener.as_fd()).and_then(|()| listener.accept());
    let Some((mut server, _)) = steps.step(&step("accept"), accept) else { return };
    for stream in [&client, &server] {
        steps.step(&step("time-outs"), || {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))
        });
    }
    tcp_options(steps, &step("options"), &client, address);
    let sent = [0x5a; LENGTH];
    steps.step(&step("write"), || client.write_all(&sent));
    steps.step(&step("read"), || read_all(&mut server, &sent));
    steps.step(&step("sendmsg"), || {
        let vectors = [IoSlice::new(&sent[..100]), IoSlice::new(&sent[100..LENGTH])];
        let flags = MsgFlags::MSG_NOSIGNAL;
        let length = socket::sendmsg::<SockaddrStorage>(server.as_raw_fd(), &vectors, &[], flags, None)?;
        expect("what was sent", length, LENGTH)
    });
    steps.step(&step("read the answer"), || read_all(&mut client, &sent));
    steps.step(&step("zero copy"), || {
        set(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
        let flags = MsgFlags::from_bits_retain(libc::MSG_ZEROCOPY);
        socket::send(client.as_raw_fd(), &sent, flags)?;
        read_all(&mut server, &sent)
    });
    steps.step(&step("urgent data"), || {
        socket::send(client.as_raw_fd(), b"!", MsgFlags::MSG_OOB)?;
        wait_readable(server.as_fd())?;
        expect("the length", socket::recv(server.as_raw_fd(), &mut [0], MsgFlags::MSG_OOB)?, 1)
    });
    // No second connection waits for the first one's port.
    if address.is_ipv6() {
        steps.step(&step("linger"), || {
            socket::setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).map_err(Into::into)
        });
    }
    steps.step(&step("shut down"), || client.shutdown(Shutdown::Write));
}

fn tcp_options(steps: &mut Steps, what: &str, client: &TcpStream, address: IpAddr) {
    let fd = client.as_raw_fd();
    steps.step(what, || {
        client.set_nodelay(true)?;
        socket::setsockopt(client, sockopt::KeepAlive, &true)?;
        socket::setsockopt(client, sockopt::TcpKeepIdle, &60)?;
        socket::setsockopt(client, sockopt::SndBuf, &65536)?;
        socket::setsockopt(client, sockopt::RcvBuf, &65536)?;
        socket::setsockopt(client, sockopt::BindToDevice, &"lo".into())?;
        Ok(())
    });
    steps.step(&format!("{what} of IP"), || match address {
        IpAddr::V4(_) => set(fd, libc::IPPROTO_IP, libc::IP_TOS, 0x10),
        IpAddr::V6(_) => set(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 0x10),
    });
    steps.step(&format!("{what}: congestion control"), || {
        let algorithm = socket::getsockopt(client, sockopt::TcpCongestion)?;
        Ok(socket::setsockopt(client, sockopt::TcpCongestion, &algorithm)?)
    });
    steps.step(&format!("{what}: socket filter"), || accept_all_filter(fd));
}

/// Attaches a classic BPF program that lets everything pass.
fn accept_all_filter(fd: RawFd) -> io::Result<()> {
    let mut code = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: u32::MAX }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    let length = size_of_val(&program) as u32;
    // SAFETY: the program and its one instruction live as long as the call, which copies them.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), length) };
    nix::errno::Errno::result(result).map(drop).map_err(Into::into)
}

/// A socket option that is a number.
fn set(fd: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value lives as long as the call.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), size_of::<i32>() as u32) };
    nix::errno::Errno::result(result).map(drop).map_err(Into::into)
}

fn read_all(stream: &mut TcpStream, expected: &[u8]) -> io::Result<()> {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got)?;
    expect("what came", got == expected, true)
}

fn udp(steps: &mut Steps, what: &str, address: IpAddr) {
    let step = |part: &str| format!("{what}: {part}");
    let bind = || -> io::Result<(UdpSocket, SocketAddr)> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let local = socket.local_addr()?;
        Ok((socket, local))
    };
    let Some((receiver, to)) = steps.step(&step("bind"), bind) else { return };
    let Some((sender, _)) = steps.step(&step("bind another"), bind) else { return };
    let mut buffer = [0; 9000];
    steps.step(&step("send"), || sender.send_to(&[1; 100], to).map(drop));
    steps.step(&step("receive"), || expect("the length", receiver.recv_from(&mut buffer)?.0, 100));
    steps.step(&step("connect"), || sender.connect(to));
    steps.step(&step("send what is long"), || sender.send(&[2; 8000]).map(drop));
    steps.step(&step("receive it"), || expect("the length", receiver.recv(&mut buffer)?, 8000));
    steps.step(&step("time stamps and errors"), || {
        socket::setsockopt(&receiver, sockopt::ReceiveTimestamp, &true)?;
        match address {
            IpAddr::V4(_) => set(sender.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1),
            IpAddr::V6(_) => set(sender.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
        }
    });
    steps.step(&step("send by sendmsg"), || {
        let vectors = [IoSlice::new(&[3; 50]), IoSlice::new(&[4; 50])];
        socket::sendmsg::<()>(sender.as_raw_fd(), &vectors, &[], MsgFlags::empty(), None)?;
        Ok(())
    });
    steps.step(&step("receive by recvmsg"), || {
        let mut control = nix::cmsg_space!(nix::sys::time::TimeVal);
        let mut vectors = [IoSliceMut::new(&mut buffer)];
        let message = socket::recvmsg::<SockaddrStorage>(
            receiver.as_raw_fd(),
            &mut vectors,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        expect("the length", message.bytes, 100)
    });
    // Nobody is there: the error comes back on the socket.
    drop(receiver);
    steps.step(&step("send to nobody"), || sender.send(&[5; 10]).map(drop));
    steps.step(&step("read the error"), || {
        let error = sender.recv(&mut buffer).err().and_then(|error| error.raw_os_error());
        expect("the error", error, Some(libc::ECONNREFUSED))
    });
    steps.step(&step("join a group"), || match address {
        IpAddr::V4(_) => {
            sender.join_multicast_v4(&GROUP_V4, &Ipv4Addr::LOCALHOST)?;
            sender.leave_multicast_v4(&GROUP_V4, &Ipv4Addr::LOCALHOST)
        }
        IpAddr::V6(_) => {
            sender.join_multicast_v6(&GROUP_V6, LOOPBACK)?;
            sender.leave_multicast_v6(&GROUP_V6, LOOPBACK)
        }
    });
    steps.step(&step("raw socket"), || raw(address));
}

/// A raw socket that nothing is sent to.
fn raw(address: IpAddr) -> io::Result<()> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (socket::AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (socket::AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = socket::SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(family, socket::SockType::Raw, flags, protocol)?;
    let address = SockaddrStorage::from(SocketAddr::new(address, 0));
    Ok(socket::bind(socket.as_raw_fd(), &address)?)
}
