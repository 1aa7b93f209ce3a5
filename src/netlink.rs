//! Kernel uevents from the kernel's own multicast group: no udev is needed. Parsing is wire::uevent's, meaning the engine's.
//!
//! Subscribe before scanning, or what comes in between is lost. No SO_PASSCRED: kernel events carry pid 0, and the sender's netlink
//! address says the same.
//!
//! System calls: socket, bind, setsockopt, recvfrom.

use crate::fault::Errno;
use crate::raw::errno;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};

/// Largest event (lib/kobject_uevent.c: 2048 bytes of variables and the header) with room to spare.
pub const LARGEST: usize = 4096;

/// Kernel events; udevd's re-broadcast is group 2 and not for us.
const GROUP_KERNEL: u32 = 1;

/// Receive memory asked for: a storm of ten thousand events waits here while the main thread is busy.
const RECEIVE: usize = 16 << 20;

/// The subscription.
pub struct Uevents {
    fd: OwnedFd,
}

/// What one receive gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Length of an event from the kernel, in the caller's buffer.
    Event(usize),
    /// Someone else sent it, or it was cut: not to be looked at.
    Foreign,
    /// Nothing waits.
    Nothing,
    /// Events were dropped: look at everything again.
    Overrun,
}

impl Uevents {
    pub fn open() -> Result<Uevents, Errno> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )
        .map_err(errno)?;
        // Forced beyond rmem_max with CAP_NET_ADMIN; without it what the system allows has to do.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE).is_err() {
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&fd, RECEIVE);
        }
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, GROUP_KERNEL)).map_err(errno)?;
        Ok(Uevents { fd })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next event, without waiting.
    pub fn receive(&self, buffer: &mut [u8; LARGEST]) -> Result<Received, Errno> {
        match rustix::net::recvfrom(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((length, full, sender)) => {
                let kernel = sender
                    .and_then(|a| SocketAddrNetlink::try_from(a).ok())
                    .is_some_and(|a| a.pid() == 0 && a.groups() & GROUP_KERNEL != 0);
                let whole = full <= buffer.len() && length <= buffer.len();
                Ok(if kernel && whole { Received::Event(length) } else { Received::Foreign })
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Received::Nothing),
            Err(rustix::io::Errno::NOBUFS) => Ok(Received::Overrun),
            Err(e) => Err(errno(e)),
        }
    }
}
