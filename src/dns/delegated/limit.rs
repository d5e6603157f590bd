//! How many questions one network may ask.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// Whom a client belongs to: who holds one address of it usually holds all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Network {
    /// An IPv4 /24.
    V4(u32),
    /// An IPv6 /56.
    V6(u128),
    /// All that came after too many others.
    Others,
}

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits() >> (32 - 24)),
            IpAddr::V6(address) => Self::V6(address.to_bits() >> (128 - 56)),
        }
    }
}

/// A limit for each network.
pub(super) struct RateLimit {
    limiter: DefaultKeyedRateLimiter<Network>,
    /// When networks that are quiet again were last forgotten.
    swept: Mutex<Instant>,
}

impl RateLimit {
    pub(super) fn per_second(questions: u32) -> Self {
        let questions = NonZeroU32::new(questions).unwrap_or(NonZeroU32::MIN);
        Self { limiter: RateLimiter::keyed(Quota::per_second(questions)), swept: Mutex::new(Instant::now()) }
    }

    /// Whether the network may ask one more question now.
    pub(super) fn admits(&self, network: Network) -> bool {
        self.sweep();
        let counted = if self.limiter.len() < MOST_NETWORKS { network } else { Network::Others };
        self.limiter.check_key(&counted).is_ok()
    }

    /// Forged addresses are of ever new networks, which must not fill the memory; going through all of them for each
    /// question would serve a flood as well.
    fn sweep(&self) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.elapsed() >= SWEEP_EVERY {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            *swept = Instant::now();
        }
    }
}

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Some MiB.
const MOST_NETWORKS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8:0:100::1"), network("2001:db8:0:1ff::1"));
        assert_ne!(network("2001:db8:0:100::1"), network("2001:db8:0:200::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.9"));
    }

    #[test]
    fn memory_is_bounded_and_freed() {
        let limit = RateLimit::per_second(1_000);
        for number in 0..200_000_u32 {
            limit.admits(Network::V4(number));
        }
        assert!(limit.limiter.len() <= MOST_NETWORKS + 1, "{}", limit.limiter.len());
        std::thread::sleep(Duration::from_millis(5));
        limit.limiter.retain_recent();
        assert!(limit.limiter.len() <= 1, "{}", limit.limiter.len());
    }
}
