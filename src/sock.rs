#![allow(unsafe_code)]
//! Unix stream sockets: the control socket's listeners, clients with their credentials, sd_notify. No framing (wire::ipc), no policy.
//!
//! System calls: socket, bind, listen, accept4, connect, sendto, recvfrom, getsockopt, close, unlinkat, fchmodat.
//!
//! # Safety
//! SO_PEERCRED is read by a raw getsockopt into three integers: rustix's own type cannot hold pid 0, which a peer in another pid
//! namespace has.

use crate::fault::Errno;
use crate::raw;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// The file multipathd listens on.
pub const NAMED: &str = "/run/multipathd.socket";
/// The address multipathd listens on without a file (Linux abstract namespace), less the leading NUL.
pub const ABSTRACT: &str = "/org/kernel/linux/storage/multipathd";

fn fault(e: rustix::io::Errno) -> Errno {
    Errno(e.raw_os_error() as u16)
}

/// Where a socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address<'a> {
    Path(&'a str),
    Abstract(&'a str),
}

impl Address<'_> {
    /// `@name` is abstract, anything else a path (as MULTIPATH_SOCKET_NAME and NOTIFY_SOCKET write it).
    pub fn parse(text: &str) -> Address<'_> {
        match text.strip_prefix('@') {
            Some(name) => Address::Abstract(name),
            None => Address::Path(text),
        }
    }

    fn emit(self) -> Result<SocketAddrUnix, Errno> {
        match self {
            Address::Path(path) => SocketAddrUnix::new(path).map_err(fault),
            Address::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(fault),
        }
    }
}

/// Who is at the other end, at the time of its connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Listens at `address`, non-blocking. A path left behind by a dead process is replaced; one that answers is not: `EADDRINUSE`.
pub fn listen(address: Address<'_>) -> Result<OwnedFd, Errno> {
    const EADDRINUSE: Errno = Errno(98);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
        .map_err(fault)?;
    let name = address.emit()?;
    let mut bound = rustix::net::bind(&socket, &name).map_err(fault);
    if bound == Err(EADDRINUSE)
        && let Address::Path(path) = address
        && !answers(address)
    {
        let _ = rustix::fs::unlink(path);
        bound = rustix::net::bind(&socket, &name).map_err(fault);
    }
    bound?;
    if let Address::Path(path) = address {
        // Anyone may look (credentials decide what else): as the peer's socket.
        let _ = rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o666));
    }
    rustix::net::listen(&socket, 64).map_err(fault)?;
    Ok(socket)
}

/// The next client, if one waits.
pub fn accept(listener: &OwnedFd) -> Result<Option<(OwnedFd, Peer)>, Errno> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(client) => {
            let peer = peer(&client)?;
            Ok(Some((client, peer)))
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => Ok(None),
        Err(e) => Err(fault(e)),
    }
}

fn peer(client: &OwnedFd) -> Result<Peer, Errno> {
    const SOL_SOCKET: usize = 1;
    const SO_PEERCRED: usize = 17;
    let mut credentials = [0u32; 3];
    let mut length = 12u32;
    // SAFETY: twelve bytes of room are given with their length; the descriptor is open.
    let result = unsafe {
        raw::syscall6(
            raw::nr::GETSOCKOPT,
            client.as_raw_fd() as usize,
            SOL_SOCKET,
            SO_PEERCRED,
            credentials.as_mut_ptr() as usize,
            &raw mut length as usize,
            0,
        )
    };
    raw::check(result)?;
    Ok(Peer { pid: credentials[0], uid: credentials[1], gid: credentials[2] })
}

/// Connects to a listener; blocking afterwards.
pub fn connect(address: Address<'_>) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(fault)?;
    rustix::net::connect(&socket, &address.emit()?).map_err(fault)?;
    Ok(socket)
}

/// Does anybody listen there? Without waiting: a listener that hangs with a full queue (`EAGAIN`) is one too.
pub fn answers(address: Address<'_>) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else { return false };
    let Ok(name) = address.emit() else { return false };
    matches!(rustix::net::connect(&socket, &name), Ok(()) | Err(rustix::io::Errno::AGAIN))
}

/// Sends without ever waiting and without SIGPIPE; how much was taken.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map_err(fault)
}

/// Sends all of it, waiting: for one-shot clients only.
pub fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or(&[]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(fault(e)),
        }
    }
    Ok(())
}

/// Receives what is there; 0 at the end, `EAGAIN` when nothing waits (on a non-blocking socket).
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((n, _)) => return Ok(n),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(fault(e)),
        }
    }
}

/// Waits until something can be received, at most `millis`.
pub fn wait_readable(socket: &OwnedFd, millis: u32) -> bool {
    let timeout = rustix::time::Timespec { tv_sec: i64::from(millis / 1000), tv_nsec: i64::from(millis % 1000) * 1_000_000 };
    let mut fds = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(n) if n > 0)
}

/// The service manager's socket (sd_notify(3)), opened once at start.
pub struct Notify {
    socket: OwnedFd,
    to: SocketAddrUnix,
}

impl Notify {
    /// `address` is the value of NOTIFY_SOCKET.
    pub fn open(address: &str) -> Result<Notify, Errno> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
            .map_err(fault)?;
        Ok(Notify { socket, to: Address::parse(address).emit()? })
    }

    /// One datagram such as `READY=1\nSTATUS=up`. Lost when the manager does not read: never waited for.
    pub fn send(&self, text: &str) -> Result<(), Errno> {
        rustix::net::sendto(&self.socket, text.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &self.to).map(|_| ()).map_err(fault)
    }
}

/// An end of a socket for epoll.
pub fn fd(socket: &OwnedFd) -> rustix::fd::BorrowedFd<'_> {
    socket.as_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn name(what: &str) -> std::string::String {
        format!("corepath-test-{}-{what}", std::process::id())
    }

    #[test]
    fn a_client_is_known_by_its_credentials() {
        let name = name("peer");
        let listener = listen(Address::Abstract(&name)).unwrap();
        assert_eq!(accept(&listener).unwrap().map(|(_, p)| p), None);
        let client = connect(Address::Abstract(&name)).unwrap();
        let (server, peer) = accept(&listener).unwrap().unwrap();
        assert_eq!(peer.pid, std::process::id());
        send_all(&client, b"hello").unwrap();
        let mut buffer = [0u8; 16];
        assert_eq!(receive(&server, &mut buffer), Ok(5));
        assert_eq!(receive(&server, &mut buffer), Err(Errno::AGAIN));
        drop(client);
        assert_eq!(receive(&server, &mut buffer), Ok(0));
    }

    #[test]
    fn a_dead_socket_file_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(name("file"));
        let path = path.to_str().unwrap();
        drop(listen(Address::Path(path)).unwrap());
        let live = listen(Address::Path(path)).unwrap();
        assert_eq!(listen(Address::Path(path)).map(|_| ()), Err(Errno(98)));
        // Hung, with its queue full: still alive.
        let mut queue = std::vec::Vec::new();
        while queue.len() < 200 && answers(Address::Path(path)) {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let waiting = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            let _ = rustix::net::connect(&waiting, &SocketAddrUnix::new(path).unwrap());
            queue.push(waiting);
        }
        assert_eq!(queue.len(), 200);
        assert_eq!(listen(Address::Path(path)).map(|_| ()), Err(Errno(98)));
        drop(live);
        assert!(!answers(Address::Path(path)));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nobody_who_does_not_read_can_hold_us() {
        let name = name("slow");
        let listener = listen(Address::Abstract(&name)).unwrap();
        let _client = connect(Address::Abstract(&name)).unwrap();
        let (server, _) = accept(&listener).unwrap().unwrap();
        let block = [0u8; 4096];
        let mut sent = 0;
        let end = loop {
            match send(&server, &block) {
                Ok(n) => sent += n,
                Err(e) => break e,
            }
            assert!(sent < 1 << 30);
        };
        assert_eq!(end, Errno::AGAIN);
    }
}
