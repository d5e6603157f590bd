//! When a round ends before everything was checked: at its time limit, or at a signal. What was written for a check is
//! removed in the time that is kept back for that.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// The end of a round.
#[derive(Clone, Debug)]
pub struct Ending {
    interrupted: CancellationToken,
    /// No check goes on after this.
    checks: Instant,
    /// No removal goes on after this.
    removals: Instant,
}

impl Ending {
    /// A round that takes `limit` at the most, and ends earlier once it is interrupted.
    pub fn within(limit: Duration, interrupted: CancellationToken) -> Self {
        let (now, kept_back) = (Instant::now(), (limit / 6).min(MOST_KEPT_BACK));
        let less = |span: Duration| limit.saturating_sub(span);
        // A limit beyond what a clock can count is none.
        let at = |span: Duration| now.checked_add(span).unwrap_or_else(|| now + ENDLESS);
        Self { interrupted, checks: at(less(kept_back)), removals: at(less(kept_back / 4)) }
    }

    /// Does a piece of work; nothing where the round ends before it is done.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.interrupted.cancelled() => None,
            () = sleep_until(self.checks) => None,
            done = work => Some(done),
        }
    }

    /// Removes what was written for a check, or makes what cannot be broken off without leaving something behind; nothing
    /// where that takes too long.
    pub(super) async fn during_removals<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let at_signal = async {
            self.interrupted.cancelled().await;
            tokio::time::sleep(AFTER_SIGNAL).await;
        };
        tokio::select! {
            done = timeout_at(self.removals, work) => done.ok(),
            () = at_signal => None,
        }
    }

    /// Whether no check goes on.
    pub fn has_come(&self) -> bool {
        self.interrupted.is_cancelled() || Instant::now() >= self.checks
    }

    /// Why checks are skipped.
    pub fn reason(&self) -> &'static str {
        if self.interrupted.is_cancelled() { INTERRUPTED } else { OUT_OF_TIME }
    }
}

/// The reason of checks that a time limit cut off.
pub const OUT_OF_TIME: &str = "out of time";
const INTERRUPTED: &str = "interrupted";
const MOST_KEPT_BACK: Duration = Duration::from_secs(10);
/// A person waits.
const AFTER_SIGNAL: Duration = Duration::from_secs(10);
const ENDLESS: Duration = Duration::from_hours(24 * 365);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_comes_in_time_for_the_removals() {
        let begun = Instant::now();
        let ending = Ending::within(Duration::from_mins(1), CancellationToken::new());
        assert_eq!(ending.during(async { 1 }).await, Some(1));
        assert_eq!(ending.during(pending::<()>()).await, None);
        assert_eq!((begun.elapsed().as_secs(), ending.reason()), (50, OUT_OF_TIME));
        assert_eq!(ending.during_removals(async { 1 }).await, Some(1));
        assert_eq!(ending.during_removals(pending::<()>()).await, None);
        assert!(begun.elapsed() < Duration::from_mins(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_it_at_once_and_leaves_some_time_to_clean_up() {
        let (begun, interrupted) = (Instant::now(), CancellationToken::new());
        let ending = Ending::within(Duration::MAX, interrupted.clone());
        interrupted.cancel();
        assert_eq!(ending.during(async { 1 }).await, None);
        assert_eq!((begun.elapsed(), ending.reason()), (Duration::ZERO, INTERRUPTED));
        assert_eq!(ending.during_removals(async { 1 }).await, Some(1));
        assert_eq!(ending.during_removals(pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), AFTER_SIGNAL);
    }
}
