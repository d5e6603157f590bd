//! The watchdog of systemd. It is fed by a task of its own: a scan that takes long or a database that does not answer is no
//! reason to restart the daemon, which serves its API meanwhile and which a restart would not help. It goes hungry where no
//! task runs any more, because every thread is blocked, and where one scan takes longer than any that does not hang.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::runtime::lifecycle;

/// What the scheduler is at: since when a scan is running.
#[derive(Clone, Debug, Default)]
pub struct ScanMonitor(Arc<Mutex<Option<Instant>>>);

/// A scan that is running.
#[derive(Debug)]
#[must_use]
pub struct RunningScan(ScanMonitor);

impl ScanMonitor {
    /// A scan begins; it ends when the value is dropped.
    pub fn begin(&self) -> RunningScan {
        self.set_running_since(Some(Instant::now()));
        RunningScan(self.clone())
    }

    fn is_hung(&self, now: Instant) -> bool {
        let begun = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.is_some_and(|begun| now.saturating_duration_since(begun) > LONGEST_SCAN)
    }

    fn set_running_since(&self, begun: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = begun;
    }
}

impl Drop for RunningScan {
    fn drop(&mut self) {
        self.0.set_running_since(None);
    }
}

/// Feeds the watchdog until the program stops, as long as no scan hangs. Does nothing where systemd does not watch.
pub async fn keep_watchdog_alive(pulse: ScanMonitor, stopping: CancellationToken) {
    let Some(patience) = lifecycle::watchdog_timeout() else { return };
    let mut meals = interval((patience / 3).max(MIN_PAUSE));
    while let Some(now) = stopping.run_until_cancelled(meals.tick()).await {
        if pulse.is_hung(now) {
            tracing::error!(
                "a scan has been running for more than {LONGEST_SCAN:?}; systemd is left to restart the daemon"
            );
        } else {
            lifecycle::notify_watchdog();
        }
    }
}

/// Each wait in a scan is bounded by a small part of this.
const LONGEST_SCAN: Duration = Duration::from_mins(15);
const MIN_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scan_without_an_end_hangs() {
        let (pulse, now) = (ScanMonitor::default(), Instant::now());
        let much_later = now + LONGEST_SCAN + Duration::from_mins(1);
        assert!(!pulse.is_hung(much_later), "nothing is running");
        let scan = pulse.begin();
        assert!(!pulse.is_hung(now + LONGEST_SCAN));
        assert!(pulse.is_hung(much_later));
        drop(scan);
        assert!(!pulse.is_hung(much_later));
    }
}
