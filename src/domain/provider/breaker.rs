//! The breaker of a provider: once it seems to be down as a whole, one probe at a time is sent instead of a storm
//! (decision 8 of the renewal design). Pure: the jitter is handed in.

use time::Duration;

use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;

/// What failed at a provider since it last did what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// The moment of the first failure.
    pub since: Moment,
    /// How many failures in a row, at least 1.
    pub failures: u32,
    /// Who met the first of them; nobody in particular where it was about the account.
    pub first: Option<AutoCertificateId>,
    /// Whether somebody else met one, too: then it is not about one certificate.
    pub affects_several: bool,
    /// When the next probe may be sent; absent for as long as the breaker is closed.
    pub probe_at: Option<Moment>,
    /// The last failure.
    pub last: Failure,
}

impl Breaker {
    /// The breaker after one more failure, met by the work on `subject`; `jitter` is a number in `0.0 .. 1.0`. Only what
    /// affects the provider as a whole counts.
    #[must_use]
    pub fn after(
        previous: Option<Self>,
        subject: Option<AutoCertificateId>,
        failure: &Failure,
        now: Moment,
        jitter: f64,
    ) -> Option<Self> {
        let Disposition::ProviderDown { not_before } = failure.disposition else { return previous };
        let mut breaker = previous.filter(|breaker| breaker.since <= now).unwrap_or(Self {
            since: now,
            failures: 0,
            first: subject,
            affects_several: false,
            probe_at: None,
            last: failure.clone(),
        });
        breaker.failures = breaker.failures.saturating_add(1);
        breaker.affects_several |= subject.is_none() || subject != breaker.first;
        breaker.last = failure.clone();
        breaker.probe_at = breaker.next_probe(not_before, now, jitter);
        Some(breaker)
    }

    /// Until when the provider is left alone; nothing where it may be asked as usual.
    pub const fn open_until(&self) -> Option<Moment> {
        self.probe_at
    }

    /// Since when the provider is down for everyone; nothing where it only stumbled, or one certificate alone meets it.
    pub fn down_since(&self) -> Option<Moment> {
        self.probe_at.map(|_| self.since)
    }

    /// Whether it is down for so long that others stand in for it, and nobody but a probe asks it.
    pub fn is_long_outage(&self, now: Moment) -> bool {
        self.probe_at.is_some() && now - self.since > LONG_OUTAGE
    }

    /// A provider that names a moment is believed at once. Else it takes several failures of more than one certificate:
    /// what only one meets may be that one's own.
    fn next_probe(&self, not_before: Option<Moment>, now: Moment, jitter: f64) -> Option<Moment> {
        if let Some(asked) = not_before {
            return Some(asked.clamp(now + MIN_PAUSE, now + MAX_REQUESTED_PAUSE));
        }
        let is_open = self.probe_at.is_some();
        if !is_open && (!self.affects_several || self.failures < FAILURES_TO_OPEN) {
            return None;
        }
        let step = self.failures.saturating_sub(FAILURES_TO_OPEN).min(MAX_BACK_OFF_STEPS);
        let pause = (MIN_PAUSE * 2_i32.saturating_pow(step)).min(MAX_PAUSE);
        Some(now + (pause * (1.0 - JITTER_FRACTION + 2.0 * JITTER_FRACTION * jitter)).max(MIN_PAUSE))
    }
}

const FAILURES_TO_OPEN: u32 = 3;
const MIN_PAUSE: Duration = Duration::minutes(1);
/// What an outage costs behind its end, at most.
const MAX_PAUSE: Duration = Duration::minutes(30);
const MAX_REQUESTED_PAUSE: Duration = Duration::days(1);
/// Decision 10.
pub const LONG_OUTAGE: Duration = Duration::DAY;
const MAX_BACK_OFF_STEPS: u32 = 8;
const JITTER_FRACTION: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);
    const DOWN: Disposition = Disposition::ProviderDown { not_before: None };

    fn subject(number: u128) -> AutoCertificateId {
        uuid::Uuid::from_u128(number).into()
    }

    fn failure(disposition: Disposition) -> Failure {
        Failure { disposition, message: "HTTP 503".into() }
    }

    fn failed(previous: Option<Breaker>, subject: AutoCertificateId, disposition: Disposition) -> Option<Breaker> {
        Breaker::after(previous, Some(subject), &failure(disposition), NOW, 0.5)
    }

    #[test]
    fn one_certificate_alone_never_opens_it() {
        let alone = (0..20).fold(None, |breaker, _| failed(breaker, subject(1), DOWN)).unwrap();
        assert_eq!((alone.failures, alone.open_until()), (20, None));
        assert!(failed(Some(alone), subject(2), DOWN).unwrap().open_until().is_some());
    }

    #[test]
    fn several_failures_open_it_and_the_probes_grow_rare() {
        let mut breaker = None;
        let pauses = [1, 2, 3, 1, 2, 3, 1, 2, 3, 1].map(|number| {
            breaker = failed(breaker.take(), subject(number), DOWN);
            breaker.as_ref()?.open_until().map(|until| (until - NOW).whole_minutes())
        });
        let expected = [None, None, Some(1), Some(2), Some(4), Some(8), Some(16), Some(30), Some(30), Some(30)];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn a_provider_that_names_a_moment_is_believed_at_once_for_a_day_at_most() {
        let asks = |span| Disposition::ProviderDown { not_before: Some(NOW + span) };
        assert_eq!(
            failed(None, subject(1), asks(Duration::hours(3))).unwrap().open_until(),
            Some(NOW + Duration::hours(3))
        );
        assert_eq!(
            failed(None, subject(1), asks(Duration::days(9))).unwrap().open_until(),
            Some(NOW + Duration::days(1))
        );
        assert_eq!(failed(None, subject(1), asks(Duration::ZERO)).unwrap().open_until(), Some(NOW + MIN_PAUSE));
    }

    #[test]
    fn what_is_the_certificates_own_does_not_count() {
        for disposition in [Disposition::RETRY, Disposition::Operator, Disposition::Restart] {
            assert_eq!(failed(None, subject(1), disposition), None);
        }
    }

    #[test]
    fn a_failure_of_a_clock_that_was_ahead_is_forgotten() {
        let ahead = Breaker::after(None, None, &failure(DOWN), NOW + Duration::days(9), 0.5);
        assert_eq!(failed(ahead, subject(1), DOWN).unwrap().since, NOW);
    }
}
