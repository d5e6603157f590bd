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
pub struct DnsSockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// Why the name server cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum DnsSocketError {
    /// An address cannot be bound.
    #[error("cannot answer DNS at {address} over {transport}; {}", remedy(.source))]
    BindFailed {
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
    SystemdSockets(#[source] io::Error),
}

impl DnsSockets {
    /// The sockets of the section: what systemd passed, where the section has no addresses. None without a zone. To be
    /// called once, and before any thread is started: what systemd passed is struck out of the environment.
    ///
    /// # Errors
    /// Where an address cannot be bound, or what systemd passes cannot be used.
    pub fn from_systemd_or_bind(section: &DelegatedSection) -> Result<Option<Self>, DnsSocketError> {
        // Also where they are not used: they must not be left to the programs that are started from here.
        let passed = take_from_systemd().map_err(DnsSocketError::SystemdSockets)?;
        let wanted = section.zone.is_some() && section.listen.is_empty();
        match passed {
            Some(passed) if wanted => Ok(Some(passed)),
            Some(_) => {
                tracing::warn!(
                    "the sockets of autocertd-dns.socket are not used: dns.delegated has no zone, or addresses of its own"
                );
                Self::bind_all(section)
            }
            None => Self::bind_all(section),
        }
    }

    /// Sockets at the addresses of the section, or at port 53 of all addresses. None without a zone.
    ///
    /// # Errors
    /// Where an address cannot be bound.
    pub fn bind_all(section: &DelegatedSection) -> Result<Option<Self>, DnsSocketError> {
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
                Err(DnsSocketError::BindFailed { source, .. }) if is_ipv6_unavailable(&source) => {}
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

    fn bind(&mut self, address: SocketAddr) -> Result<(), DnsSocketError> {
        let refused = |transport| move |source| DnsSocketError::BindFailed { address, transport, source };
        self.udp.push(bind_udp(address).map_err(refused("UDP"))?);
        self.tcp.push(bind_tcp(address).map_err(refused("TCP"))?);
        Ok(())
    }
}

/// The sockets of autocertd-dns.socket; none where systemd passes none of its name.
fn take_from_systemd() -> io::Result<Option<DnsSockets>> {
    let names: Vec<String> = sd_notify::listen_fds_with_names()?.map(|(_, name)| name).collect();
    let mut given = ListenFd::from_env();
    let mut sockets = DnsSockets::default();
    for (index, _) in names.iter().enumerate().filter(|(_, name)| *name == SYSTEMD_SOCKET_NAME) {
        // Taken for the wrong kind, a socket stays where it is.
        if let Ok(Some(listener)) = given.take_tcp_listener(index) {
            sockets.tcp.push(listener);
        } else if let Some(socket) = given.take_udp_socket(index)? {
            enable_packet_info(&socket, socket.local_addr()?)?;
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
    let socket = UdpSocket::from(bind_socket(address, SockType::Datagram)?);
    enable_packet_info(&socket, address)?;
    Ok(socket)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind_socket(address, SockType::Stream)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(TcpListener::from(socket))
}

fn bind_socket(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
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
fn enable_packet_info(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

fn is_ipv6_unavailable(error: &io::Error) -> bool {
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
const SYSTEMD_SOCKET_NAME: &str = "dns";
