//! The one clock. Decisions take moments from here, so that tests can turn time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use time::{Duration, OffsetDateTime};

use crate::domain::moment::Moment;

/// A source of moments.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Moment;
}

/// The clock as the program's parts share it.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the time of day is read")]
    fn now(&self) -> Moment {
        OffsetDateTime::from(SystemTime::now()).into()
    }
}

/// A clock that stands still until it is turned.
#[derive(Debug)]
pub struct TurnedClock(AtomicI64);

impl TurnedClock {
    /// A clock that shows `start`.
    pub const fn starting_at(start: Moment) -> Self {
        Self(AtomicI64::new(start.micros()))
    }

    /// Moves the clock on, or back where `span` is negative.
    pub fn turn(&self, span: Duration) {
        let turned = self.now() + span;
        self.0.store(turned.micros(), Ordering::SeqCst);
    }
}

impl Clock for TurnedClock {
    fn now(&self) -> Moment {
        Moment::from_micros(self.0.load(Ordering::SeqCst))
    }
}
