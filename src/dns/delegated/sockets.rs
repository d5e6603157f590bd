//! Where the name server answers: the addresses of the settings, else the sockets that systemd passes, else port 53 of
//! all addresses. Always over UDP and TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use listenfd::ListenFd;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};

use crate::config::dns::DelegatedSection;

/// Sockets that are bound and not served yet. The kernel keeps what comes meanwhile.
#[derive(Debug, Default)]
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// Why the name server cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// An address cannot be bound.
    #[error("cannot answer DNS at {address} over {transport}; {}", remedy(.source))]
    Refused {
        /// The address.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// What systemd passes cannot be used.
    #[error(
        "the sockets that systemd passes cannot be used for DNS; autocertd-dns.socket shows how they are to be, or set dns.delegated.listen"
    )]
    Passed(#[source] io::Error),
}

impl Sockets {
    /// The sockets of the section: what systemd passed, where the section has no addresses. None without a zone. To be
    /// called once, and before any thread is started: what systemd passed is struck out of the environment.
    ///
    /// # Errors
    /// Where an address cannot be bound, or what systemd passes cannot be used.
    pub fn passed_or_bound(section: &DelegatedSection) -> Result<Option<Self>, SocketError> {
        // Also where they are not used: they must not be left to the programs that are started from here.
        let passed = passed().map_err(SocketError::Passed)?;
        let wanted = section.zone.is_some() && section.listen.is_empty();
        match passed {
            Some(passed) if wanted => Ok(Some(passed)),
            Some(_) => {
                tracing::warn!(
                    "the sockets of autocertd-dns.socket are not used: dns.delegated has no zone, or addresses of its own"
                );
                Self::bound(section)
            }
            None => Self::bound(section),
        }
    }

    /// Sockets at the addresses of the section, or at port 53 of all addresses. None without a zone.
    ///
    /// # Errors
    /// Where an address cannot be bound.
    pub fn bound(section: &DelegatedSection) -> Result<Option<Self>, SocketError> {
        if section.zone.is_none() {
            return Ok(None);
        }
        let mut sockets = Self::default();
        for address in &section.listen {
            sockets.bind(*address)?;
        }
        if section.listen.is_empty() {
            sockets.bind((Ipv4Addr::UNSPECIFIED, DNS_PORT).into())?;
            match sockets.bind((Ipv6Addr::UNSPECIFIED, DNS_PORT).into()) {
                Err(SocketError::Refused { source, .. }) if is_without_ipv6(&source) => {}
                bound => bound?,
            }
        }
        Ok(Some(sockets))
    }

    /// Where questions are answered over UDP.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// For the runtime of the caller.
    pub(super) fn into_tokio(self) -> io::Result<(Vec<tokio::net::UdpSocket>, Vec<tokio::net::TcpListener>)> {
        let udp = self.udp.into_iter().map(|socket| {
            socket.set_nonblocking(true)?;
            tokio::net::UdpSocket::from_std(socket)
        });
        let tcp = self.tcp.into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        });
        Ok((udp.collect::<io::Result<_>>()?, tcp.collect::<io::Result<_>>()?))
    }

    fn bind(&mut self, address: SocketAddr) -> Result<(), SocketError> {
        let refused = |transport| move |source| SocketError::Refused { address, transport, source };
        self.udp.push(bind_udp(address).map_err(refused("UDP"))?);
        self.tcp.push(bind_tcp(address).map_err(refused("TCP"))?);
        Ok(())
    }
}

/// The sockets of autocertd-dns.socket; none where systemd passes none of its name.
fn passed() -> io::Result<Option<Sockets>> {
    let names: Vec<String> = sd_notify::listen_fds_with_names()?.map(|(_, name)| name).collect();
    let mut given = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for (index, _) in names.iter().enumerate().filter(|(_, name)| *name == PASSED_NAME) {
        // Taken for the wrong kind, a socket stays where it is.
        if let Ok(Some(listener)) = given.take_tcp_listener(index) {
            sockets.tcp.push(listener);
        } else if let Some(socket) = given.take_udp_socket(index)? {
            tell_asked_address(&socket, socket.local_addr()?)?;
            sockets.udp.push(socket);
        }
    }
    match (sockets.udp.is_empty(), sockets.tcp.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(sockets)),
        (true, false) => Err(io::Error::other("there is none for UDP (ListenDatagram=)")),
        (false, true) => Err(io::Error::other("there is none for TCP (ListenStream=)")),
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from(bound(address, SockType::Datagram)?);
    tell_asked_address(&socket, address)?;
    Ok(socket)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address, SockType::Stream)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(TcpListener::from(socket))
}

fn bound(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if kind == SockType::Stream {
        // Connections of a predecessor must not keep its successor from the port.
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Has each packet tell which address it was sent to.
fn tell_asked_address(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let without = [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|code| without.contains(&code))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "enable autocertd-dns.socket, with which systemd opens the port, or give this program the right to (CAP_NET_BIND_SERVICE)"
        }
        io::ErrorKind::AddrInUse => {
            "another program answers there, often systemd-resolved: name addresses of this host that are free in dns.delegated.listen"
        }
        _ => "name addresses of this host in dns.delegated.listen",
    }
}

const DNS_PORT: u16 = 53;
/// `FileDescriptorName=` of autocertd-dns.socket.
const PASSED_NAME: &str = "dns";
