//! The one source of randomness for ids, jitter and spreading. Keys and nonces of ciphers are made by aws-lc-rs itself.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng};
use uuid::Uuid;

/// A source of random numbers that a seed makes repeatable.
#[derive(Clone)]
pub struct Randomness(Arc<Mutex<StdRng>>);

/// Shows nothing of what comes next.
impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Randomness").finish_non_exhaustive()
    }
}

impl Randomness {
    /// Seeded by the operating system.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    #[expect(clippy::disallowed_methods, reason = "this is the one place where a seed is taken from the system")]
    pub fn from_system() -> std::io::Result<Self> {
        let rng = StdRng::try_from_rng(&mut SysRng).map_err(std::io::Error::other)?;
        Ok(Self(Arc::new(Mutex::new(rng))))
    }

    /// Repeatable from `seed`.
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A fresh UUID of version 4.
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A number in `0.0 .. 1.0`.
    pub fn fraction(&self) -> f64 {
        self.with(RngExt::random)
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.with(|rng| rng.fill_bytes(&mut bytes));
        bytes
    }

    /// A poisoned lock is no reason to stop: a generator has no invariant that a panic could break.
    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_draws() {
        let (one, other) = (Randomness::from_seed(7), Randomness::from_seed(7));
        assert_eq!(one.uuid(), other.uuid());
        assert_eq!(one.uuid().get_version_num(), 4);
        assert!((0.0..1.0).contains(&one.fraction()));
    }
}
