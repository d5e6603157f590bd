//! How many questions one network may ask.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use crate::domain::value::client_network::ClientNetwork;

/// A limit for each network.
pub(super) struct ClientThrottle {
    /// All networks that came after too many others count together.
    limiter: DefaultKeyedRateLimiter<Option<ClientNetwork>>,
    /// When networks that are quiet again were last forgotten.
    last_sweep: Mutex<Instant>,
}

impl ClientThrottle {
    pub(super) fn per_second(questions: u32) -> Self {
        let questions = NonZeroU32::new(questions).unwrap_or(NonZeroU32::MIN);
        Self { limiter: RateLimiter::keyed(Quota::per_second(questions)), last_sweep: Mutex::new(Instant::now()) }
    }

    /// Whether the network may ask one more question now.
    pub(super) fn admits(&self, network: ClientNetwork) -> bool {
        self.forget_quiet_networks();
        let counted = (self.limiter.len() < MAX_NETWORKS).then_some(network);
        self.limiter.check_key(&counted).is_ok()
    }

    /// Forged addresses are of ever new networks, which must not fill the memory; going through all of them for each
    /// question would serve a flood as well.
    fn forget_quiet_networks(&self) {
        let mut swept = self.last_sweep.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.elapsed() >= SWEEP_INTERVAL {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            *swept = Instant::now();
        }
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Some MiB.
const MAX_NETWORKS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_freed() {
        let limit = ClientThrottle::per_second(1_000);
        for number in 0..200_000_u32 {
            limit.admits(ClientNetwork::V4(number));
        }
        assert!(limit.limiter.len() <= MAX_NETWORKS + 1, "{}", limit.limiter.len());
        std::thread::sleep(Duration::from_millis(5));
        limit.limiter.retain_recent();
        assert!(limit.limiter.len() <= 1, "{}", limit.limiter.len());
    }
}
