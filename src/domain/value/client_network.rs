//! The network of a client. Who holds one address of it usually holds all, so that limits count for the whole network.

use std::net::IpAddr;

/// An IPv4 /24 or an IPv6 /56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientNetwork {
    /// The first 24 bits of an IPv4 address; addresses that IPv6 maps are IPv4 ones.
    V4(u32),
    /// The first 56 bits of an IPv6 address.
    V6(u128),
}

impl ClientNetwork {
    /// The network that `address` belongs to.
    pub fn from_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits() >> (32 - 24)),
            IpAddr::V6(address) => Self::V6(address.to_bits() >> (128 - 56)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> ClientNetwork {
        ClientNetwork::from_address(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8:0:100::1"), network("2001:db8:0:1ff::1"));
        assert_ne!(network("2001:db8:0:100::1"), network("2001:db8:0:200::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.9"));
    }
}
