//! When to try again after a failure (decision 7 of the renewal design). Pure: the jitter is handed in.

use std::fmt;

use time::Duration;

use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::value::moment::Moment;

/// A run of failures without a success between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureStreak {
    /// How many failures in a row, at least 1.
    pub failures: u32,
    /// The last of them.
    pub last: Failure,
    /// When the last of them happened.
    pub at: Moment,
    /// When to try again.
    pub next_try: Moment,
}

impl FailureStreak {
    /// The trouble after one more failure. `expiry` is the end of the certificate that still serves, `jitter` a number
    /// in `0.0 .. 1.0`.
    pub fn after(previous: Option<&Self>, failure: Failure, now: Moment, expiry: Option<Moment>, jitter: f64) -> Self {
        let failures = previous.map_or(0, |trouble| trouble.failures).saturating_add(1);
        let next_try = next_try(failures, failure.disposition, now, expiry, jitter);
        Self { failures, last: failure, at: now, next_try }
    }
}

impl FailureStreak {
    /// The same with its next try no later than any pause lasts.
    #[must_use]
    pub fn with_capped_pause(self) -> Self {
        let longest = match self.last.disposition {
            Disposition::Retry { not_before: Some(_) } => MAX_REQUESTED_PAUSE,
            _ => MAX_PAUSE * (1.0 + JITTER_FRACTION),
        };
        Self { next_try: self.next_try.min(self.at + longest), ..self }
    }

    /// What its provider's breaker is told: the moment that the other side named, but no later than the certificate, which
    /// ends at `expiry`, can wait.
    pub fn failure_for_breaker(&self, expiry: Option<Moment>) -> Failure {
        let disposition = match self.last.disposition {
            Disposition::ProviderDown { not_before: Some(asked) } if expiry.is_some_and(|expiry| expiry > self.at) => {
                Disposition::ProviderDown { not_before: Some(asked.min(self.next_try)) }
            }
            other => other,
        };
        Failure { disposition, ..self.last.clone() }
    }

    /// The same with its next try before `end`: half way to it where the pause is longer than that. Nothing where no time
    /// is left for another try.
    pub fn within(self, end: Moment) -> Option<Self> {
        if self.next_try < end {
            return Some(self);
        }
        let next_try = self.at + (end - self.at) / 2;
        (next_try >= self.at + MIN_PAUSE).then_some(Self { next_try, ..self })
    }
}

/// What happened, how often, and when it is tried again, for people.
impl fmt::Display for FailureStreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.last.disposition.not_before();
        let sooner = if asked.is_some_and(|asked| asked > self.next_try) { ", sooner than asked for" } else { "" };
        write!(f, "{} (failure {}, next try at {}{sooner})", self.last, self.failures, self.next_try)
    }
}

/// The moment of the next try after `failures` failures in a row, the last one at `now`.
fn next_try(failures: u32, disposition: Disposition, now: Moment, expiry: Option<Moment>, jitter: f64) -> Moment {
    let left = expiry.map(|end| end - now);
    now + match disposition.not_before() {
        Some(asked) => capped_requested_pause(disposition, asked - now, left),
        None => own_pause(failures, disposition, left, jitter),
    }
}

/// The pause that the other side asked for, within reason: one 503 with a careless value must not end a certificate. What
/// affects the provider as a whole is tried again daily, where its breaker lets one probe pass.
fn capped_requested_pause(disposition: Disposition, asked: Duration, left: Option<Duration>) -> Duration {
    let longest = match disposition {
        Disposition::ProviderDown { .. } => MAX_PAUSE,
        _ => MAX_REQUESTED_PAUSE,
    };
    let half_of_the_slack = left.unwrap_or_default() / 2;
    asked.min(longest.min(half_of_the_slack).max(MIN_CAP_OF_REQUESTED_PAUSE)).max(MIN_PAUSE)
}

fn own_pause(failures: u32, disposition: Disposition, left: Option<Duration>, jitter: f64) -> Duration {
    if disposition == Disposition::Operator {
        return apply_jitter(MAX_PAUSE, jitter);
    }
    let steps = [MIN_PAUSE, Duration::minutes(10), Duration::minutes(100)];
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let usual = apply_jitter(steps.get(step).copied().unwrap_or(MAX_PAUSE), jitter);
    let limit = match left {
        Some(left) if left.is_positive() => left / TRIES_BEFORE_EXPIRY,
        _ => MAX_PAUSE_WITHOUT_CERTIFICATE,
    };
    usual.min(limit).max(MIN_PAUSE)
}

/// `span` give or take a fifth.
fn apply_jitter(span: Duration, jitter: f64) -> Duration {
    span * (1.0 - JITTER_FRACTION + 2.0 * JITTER_FRACTION * jitter)
}

const MIN_PAUSE: Duration = Duration::minutes(1);
const MAX_PAUSE: Duration = Duration::days(1);
/// A rate limit of a CA about names recovers within a week.
const MAX_REQUESTED_PAUSE: Duration = Duration::days(7);
/// Against a moment that the other side named nothing is tried more often, however urgent.
const MIN_CAP_OF_REQUESTED_PAUSE: Duration = Duration::HOUR;
const MAX_PAUSE_WITHOUT_CERTIFICATE: Duration = Duration::hours(1);
/// So many tries shall remain before the certificate expires.
const TRIES_BEFORE_EXPIRY: i32 = 10;
const JITTER_FRACTION: f64 = 0.2;

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
    fn the_other_side_is_heard_within_reason() {
        let (min, hour, day) = (Duration::minutes(1), Duration::HOUR, Duration::DAY);
        let names = |asked: Duration| Disposition::Retry { not_before: Some(NOW + asked) };
        let whole = |asked: Duration| Disposition::ProviderDown { not_before: Some(NOW + asked) };
        let expected = [
            (names(day * 3), Some(day * 30), day * 3),
            (names(day * 30), Some(day * 30), day * 7),
            (names(day * 3), Some(day * 2), day),
            // However little is left, or nothing: not more often than hourly.
            (names(day * 3), Some(min), hour),
            (names(day * 3), Some(-day), hour),
            (names(day * 3), None, hour),
            (names(min * 20), None, min * 20),
            (names(Duration::SECOND), Some(day * 30), min),
            (names(-hour), None, min),
            (whole(hour * 5), Some(day * 30), hour * 5),
            (whole(day * 300), Some(day * 30), day),
            (whole(day * 300), Some(hour * 4), hour * 2),
        ];
        for (disposition, left, pause) in expected {
            let next = next_try(1, disposition, NOW, left.map(|left| NOW + left), 0.0);
            assert_eq!(next - NOW, pause, "{disposition:?}, {left:?}");
        }
    }

    #[test]
    fn what_an_older_version_believed_is_cut_to_reason() {
        let year = NOW + Duration::days(366);
        let stored = |disposition| {
            let last = Failure { disposition, message: "".into() };
            (FailureStreak { failures: 1, last, at: NOW, next_try: year }).with_capped_pause().next_try - NOW
        };
        assert_eq!(stored(Disposition::Retry { not_before: Some(year) }), Duration::days(7));
        assert_eq!(stored(Disposition::ProviderDown { not_before: Some(year) }), Duration::DAY * 1.2);
        let operator = FailureStreak::after(None, Failure::operator("x"), NOW, None, 0.999);
        assert_eq!(operator.clone().with_capped_pause(), operator);
    }

    #[test]
    fn a_breaker_waits_no_longer_than_the_certificate_can() {
        let asked = Some(NOW + Duration::DAY);
        let failure = Failure { disposition: Disposition::ProviderDown { not_before: asked }, message: "".into() };
        let told = |expiry| {
            FailureStreak::after(None, failure.clone(), NOW, expiry, 0.5).failure_for_breaker(expiry).disposition
        };
        let at = |span| Disposition::ProviderDown { not_before: Some(NOW + span) };
        assert_eq!(told(Some(NOW + Duration::hours(10))), at(Duration::hours(5)));
        assert_eq!(told(Some(NOW + Duration::days(30))), at(Duration::DAY));
        assert_eq!(told(None), at(Duration::DAY));
    }

    #[test]
    fn the_message_tells_what_was_asked_for_and_what_is_done() {
        let named = Disposition::ProviderDown { not_before: Some(NOW + Duration::days(300)) };
        let failure = Failure { disposition: named, message: "HTTP 503; not before 2027-11-11T08:00:00Z".into() };
        let trouble = FailureStreak::after(None, failure, NOW, Some(NOW + Duration::days(30)), 0.5);
        assert_eq!(
            trouble.to_string(),
            "HTTP 503; not before 2027-11-11T08:00:00Z (failure 1, next try at 2027-01-16T08:00:00Z, sooner than asked for)"
        );
    }

    #[test]
    fn failures_count_up() {
        let first = FailureStreak::after(None, Failure::retry("a"), NOW, None, 0.5);
        let second = FailureStreak::after(Some(&first), Failure::retry("b"), first.next_try, None, 0.5);
        assert_eq!((first.failures, second.failures, second.last.message.as_str()), (1, 2, "b"));
    }

    #[test]
    fn a_pause_that_is_too_long_ends_half_way_to_the_end() {
        let next = |left| {
            let trouble = FailureStreak::after(None, Failure::operator("a"), NOW, None, 0.5);
            trouble.within(NOW + left).map(|trouble| trouble.next_try - NOW)
        };
        assert_eq!(next(Duration::days(2)), Some(Duration::DAY));
        assert_eq!(next(Duration::DAY), Some(Duration::hours(12)));
        assert_eq!(next(Duration::minutes(2)), Some(MIN_PAUSE));
        assert_eq!(next(Duration::seconds(119)), None);
        assert_eq!(next(-Duration::DAY), None);
    }

    proptest! {
        #[test]
        fn what_is_asked_for_ends_no_certificate(asked in any::<i64>(), hours in 2i64..2_000, whole: bool) {
            let (left, not_before) = (Duration::hours(hours), Some(Moment::from_micros(asked)));
            let disposition =
                if whole { Disposition::ProviderDown { not_before } } else { Disposition::Retry { not_before } };
            let pause = next_try(1, disposition, NOW, Some(NOW + left), 0.5) - NOW;
            prop_assert!(pause >= MIN_PAUSE && pause * 2 <= left);
        }

        #[test]
        fn ten_tries_remain_and_no_storm_begins(failures in 1u32..50, hours in 1i64..2_000, jitter in 0.0..1.0f64) {
            let left = Duration::hours(hours);
            let pause = next_try(failures, Disposition::RETRY, NOW, Some(NOW + left), jitter) - NOW;
            prop_assert!(pause >= MIN_PAUSE);
            prop_assert!(pause * 10 <= left || pause == MIN_PAUSE);
        }
    }
}
