//! Addresses on loopback that no other test can have. All of 127.0.0.0/8 is loopback, so each server gets an IP address
//! of its own, and its port is free on it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram};
use std::sync::{Mutex, PoisonError};

/// An IP address on loopback that nobody else is given while this process lives.
///
/// # Panics
/// Where no network of loopback can be reserved.
pub fn own_ip() -> Ipv4Addr {
    static RESERVED: Mutex<Option<Network>> = Mutex::new(None);
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ip) = reserved.as_mut().and_then(Network::next_host) {
        return ip;
    }
    reserved.insert(Network::reserve_one()).next_host().unwrap_or_else(|| unreachable!("a new network has hosts"))
}

/// An address on loopback at which nothing listens, and nothing will but who is given it here.
pub fn own_address() -> SocketAddr {
    (own_ip(), PORT).into()
}

/// An address at 127.0.0.1 that no other test is given while this process lives, and at which nothing listens: for
/// programs that listen only at addresses that an interface has.
///
/// # Panics
/// Where no port is free.
pub fn own_port() -> SocketAddr {
    let addresses = INTERFACE_PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free = |address: &SocketAddr| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
    let mut own = addresses.filter(|address| reserve(&address.to_string()));
    own.find(free).unwrap_or_else(|| panic!("no port of {INTERFACE_PORTS:?} is free at 127.0.0.1"))
}

/// A /24 network whose hosts are given out one after the other.
struct Network {
    prefix: [u8; 2],
    next: u8,
}

impl Network {
    /// Reserves a network among the processes of this machine. The kernel takes the reservation back when the process ends.
    fn reserve_one() -> Self {
        // 127.0.x.y is where everything else on the machine listens.
        let all = (1..=254).flat_map(|second| (0..=255).map(move |third| [second, third]));
        // Processes begin at different places, so that the first try succeeds most of the time.
        let mut prefixes = all.cycle().skip(std::process::id() as usize % NETWORKS).take(NETWORKS);
        let prefix = prefixes.find(|[second, third]| reserve(&format!("127.{second}.{third}.0/24")));
        Self { prefix: prefix.unwrap_or_else(|| panic!("no network of 127.0.0.0/8 is free")), next: 1 }
    }

    fn next_host(&mut self) -> Option<Ipv4Addr> {
        let [second, third] = self.prefix;
        let host = self.next;
        self.next = host.checked_add(1)?;
        Some(Ipv4Addr::new(127, second, third, host))
    }
}

/// Reserves something among the processes of this machine until this one ends: an abstract Unix socket lives in the same
/// network namespace as loopback, and its name can be bound once.
fn reserve(what: &str) -> bool {
    let name = format!("autocertd-test-{what}");
    let bound = unix::SocketAddr::from_abstract_name(name).and_then(|name| UnixDatagram::bind_addr(&name));
    bound.map(std::mem::forget).is_ok()
}

/// Outside of the range of ephemeral ports, so that no socket bound to port 0 on all addresses can have it.
const PORT: u16 = 14_000;
/// Likewise, and not the one above.
const INTERFACE_PORTS: std::ops::Range<u16> = 16_384..32_768;
/// 127.1.0.0/24 to 127.254.255.0/24.
const NETWORKS: usize = 254 * 256;
