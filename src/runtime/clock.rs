//! The one clock. Decisions take moments from here, so that tests can turn time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use time::Duration;

use crate::domain::clock_evidence::ClockEvidence;
use crate::domain::value::moment::Moment;

/// A source of moments.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Moment;

    /// How long this process has run, by a clock that nobody can set.
    fn uptime(&self) -> Duration;

    /// What is known about whether the clock is right.
    fn evidence(&self) -> MutexGuard<'_, ClockEvidence>;

    /// What was over by this moment may be deleted. Nothing where the clock is not yet to be believed.
    fn deletable_until(&self) -> Option<Moment> {
        let (now, running) = (self.now(), self.uptime());
        self.evidence().deletable_until(now, running)
    }
}

/// The clock as the program's parts share it.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The system's clock cannot be right.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system's clock shows {0}, which cannot be right; set it (`timedatectl set-ntp true` keeps it right), then start \
     again. Nothing was changed"
)]
pub struct ImplausibleClock(Moment);

impl SystemClock {
    /// Looks whether the clock shows a year in which certificates can be judged at all.
    ///
    /// # Errors
    /// Outside of the years 2000 to 9999.
    pub fn check(self) -> Result<(), ImplausibleClock> {
        let now = self.now();
        if Moment::PLAUSIBLE.contains(&now) { Ok(()) } else { Err(ImplausibleClock(now)) }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the time of day is read")]
    fn now(&self) -> Moment {
        let micros = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let now = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since_1970) => micros(since_1970),
            Err(before) => -micros(before.duration()),
        };
        Moment::from_micros(now) + shift()
    }

    /// Without the time for which the machine slept: what a wrong hardware clock says of that must not count.
    fn uptime(&self) -> Duration {
        Duration::try_from(STARTED.elapsed()).unwrap_or(Duration::MAX)
    }

    fn evidence(&self) -> MutexGuard<'_, ClockEvidence> {
        EVIDENCE.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process has one system clock.
static EVIDENCE: Mutex<ClockEvidence> = Mutex::new(ClockEvidence::NONE);
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Builds for tests let the clock be turned from outside: `AUTOCERTD_TEST_CLOCK` names a file that holds the seconds by
/// which it is ahead.
#[cfg(debug_assertions)]
fn shift() -> Duration {
    static FILE: LazyLock<Option<std::ffi::OsString>> = LazyLock::new(|| std::env::var_os("AUTOCERTD_TEST_CLOCK"));
    let seconds = FILE.as_ref().and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    Duration::seconds(seconds.unwrap_or_default())
}

#[cfg(not(debug_assertions))]
const fn shift() -> Duration {
    Duration::ZERO
}

/// A clock that stands still until it is turned.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    /// In microseconds.
    uptime: AtomicI64,
    evidence: Mutex<ClockEvidence>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub const fn starting_at(start: Moment) -> Self {
        Self {
            now: AtomicI64::new(start.micros()),
            uptime: AtomicI64::new(0),
            evidence: Mutex::new(ClockEvidence::NONE),
        }
    }

    /// Lets so much time pass, or sets the clock back where `span` is negative.
    pub fn turn(&self, span: Duration) {
        self.step(span);
        if span.is_positive() {
            let micros = i64::try_from(span.whole_microseconds()).unwrap_or(i64::MAX);
            self.uptime.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// Shows another time by so much, without any time passing.
    pub fn step(&self, span: Duration) {
        let turned = self.now() + span;
        self.now.store(turned.micros(), Ordering::SeqCst);
    }

    /// Forgets what this process knows, as a restart does.
    pub fn restart(&self) {
        *self.evidence() = ClockEvidence::NONE;
        self.uptime.store(0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment::from_micros(self.now.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        Duration::microseconds(self.uptime.load(Ordering::SeqCst))
    }

    fn evidence(&self) -> MutexGuard<'_, ClockEvidence> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
