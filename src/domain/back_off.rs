//! When to try again after a failure (decision 7 of the renewal design). Pure: the jitter is handed in.

use std::fmt;

use time::Duration;

use crate::domain::disposition::{Disposition, Failure};
use crate::domain::moment::Moment;

/// A run of failures without a success between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How many failures in a row, at least 1.
    pub failures: u32,
    /// The last of them.
    pub last: Failure,
    /// When the last of them happened.
    pub at: Moment,
    /// When to try again.
    pub next_try: Moment,
}

impl Trouble {
    /// The trouble after one more failure. `expiry` is the end of the certificate that still serves, `jitter` a number
    /// in `0.0 .. 1.0`.
    pub fn after(previous: Option<&Self>, failure: Failure, now: Moment, expiry: Option<Moment>, jitter: f64) -> Self {
        let failures = previous.map_or(0, |trouble| trouble.failures).saturating_add(1);
        let next_try = next_try(failures, failure.disposition, now, expiry, jitter);
        Self { failures, last: failure, at: now, next_try }
    }
}

impl Trouble {
    /// The same with its next try before `end`: half way to it where the pause is longer than that. Nothing where no time
    /// is left for another try.
    pub fn within(self, end: Moment) -> Option<Self> {
        if self.next_try < end {
            return Some(self);
        }
        let next_try = self.at + (end - self.at) / 2;
        (next_try >= self.at + SHORTEST_PAUSE).then_some(Self { next_try, ..self })
    }
}

/// What happened, how often, and when it is tried again, for people.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (failure {}, next try at {})", self.last, self.failures, self.next_try)
    }
}

/// The moment of the next try after `failures` failures in a row, the last one at `now`.
fn next_try(failures: u32, disposition: Disposition, now: Moment, expiry: Option<Moment>, jitter: f64) -> Moment {
    if let Some(not_before) = disposition.not_before() {
        return not_before.max(now + SHORTEST_PAUSE);
    }
    now + pause(failures, disposition, expiry.map(|end| end - now), jitter)
}

fn pause(failures: u32, disposition: Disposition, left: Option<Duration>, jitter: f64) -> Duration {
    if disposition == Disposition::Operator {
        return spread(LONGEST_PAUSE, jitter);
    }
    let steps = [SHORTEST_PAUSE, Duration::minutes(10), Duration::minutes(100)];
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let usual = spread(steps.get(step).copied().unwrap_or(LONGEST_PAUSE), jitter);
    let limit = match left {
        Some(left) if left.is_positive() => left / TRIES_BEFORE_EXPIRY,
        _ => LONGEST_PAUSE_WITHOUT_CERTIFICATE,
    };
    usual.min(limit).max(SHORTEST_PAUSE)
}

/// `span` give or take a fifth.
fn spread(span: Duration, jitter: f64) -> Duration {
    span * (1.0 - SPREAD + 2.0 * SPREAD * jitter)
}

const SHORTEST_PAUSE: Duration = Duration::minutes(1);
const LONGEST_PAUSE: Duration = Duration::days(1);
const LONGEST_PAUSE_WITHOUT_CERTIFICATE: Duration = Duration::hours(1);
/// So many tries shall remain before the certificate expires.
const TRIES_BEFORE_EXPIRY: i32 = 10;
const SPREAD: f64 = 0.2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn pauses(disposition: Disposition, left: Option<Duration>) -> Vec<Duration> {
        (1..=5).map(|failures| next_try(failures, disposition, NOW, left.map(|left| NOW + left), 0.5) - NOW).collect()
    }

    #[test]
    fn the_usual_pauses_grow_to_a_day() {
        let minutes = [1, 10, 100, 1440, 1440].map(Duration::minutes);
        assert_eq!(pauses(Disposition::RETRY, Some(Duration::days(80))), minutes);
        assert_eq!(pauses(Disposition::Restart, Some(Duration::days(80))), minutes);
    }

    #[test]
    fn without_a_certificate_the_pause_ends_at_an_hour_but_a_person_is_asked_daily() {
        assert_eq!(pauses(Disposition::RETRY, None), [1, 10, 60, 60, 60].map(Duration::minutes));
        assert_eq!(pauses(Disposition::RETRY, Some(Duration::hours(-1))), [1, 10, 60, 60, 60].map(Duration::minutes));
        assert_eq!(pauses(Disposition::Operator, None), [1440; 5].map(Duration::minutes));
    }

    #[test]
    fn the_other_side_has_the_last_word() {
        let named = NOW + Duration::days(3);
        let disposition = Disposition::ProviderDown { not_before: Some(named) };
        assert_eq!(next_try(1, disposition, NOW, Some(NOW + Duration::hours(1)), 0.0), named);
        let past = Disposition::Retry { not_before: Some(NOW - Duration::hours(1)) };
        assert_eq!(next_try(1, past, NOW, None, 0.0), NOW + SHORTEST_PAUSE);
    }

    #[test]
    fn failures_count_up() {
        let first = Trouble::after(None, Failure::retry("a"), NOW, None, 0.5);
        let second = Trouble::after(Some(&first), Failure::retry("b"), first.next_try, None, 0.5);
        assert_eq!((first.failures, second.failures, second.last.message.as_str()), (1, 2, "b"));
    }

    #[test]
    fn a_pause_that_is_too_long_ends_half_way_to_the_end() {
        let next = |left| {
            let trouble = Trouble::after(None, Failure::operator("a"), NOW, None, 0.5);
            trouble.within(NOW + left).map(|trouble| trouble.next_try - NOW)
        };
        assert_eq!(next(Duration::days(2)), Some(Duration::DAY));
        assert_eq!(next(Duration::DAY), Some(Duration::hours(12)));
        assert_eq!(next(Duration::minutes(2)), Some(SHORTEST_PAUSE));
        assert_eq!(next(Duration::seconds(119)), None);
        assert_eq!(next(-Duration::DAY), None);
    }

    proptest! {
        #[test]
        fn ten_tries_remain_and_no_storm_begins(failures in 1u32..50, hours in 1i64..2_000, jitter in 0.0..1.0f64) {
            let left = Duration::hours(hours);
            let pause = next_try(failures, Disposition::RETRY, NOW, Some(NOW + left), jitter) - NOW;
            prop_assert!(pause >= SHORTEST_PAUSE);
            prop_assert!(pause * 10 <= left || pause == SHORTEST_PAUSE);
        }
    }
}
