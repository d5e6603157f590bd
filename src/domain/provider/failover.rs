//! Which provider is asked when the usual one fails (decision 10 of the renewal design). Pure, and without memory: each
//! renewal begins with the primary provider, so that it comes back by itself.

use std::fmt;

use time::Duration;

use crate::domain::certificate::NewestCertificate;
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::provider::breaker::LONG_OUTAGE;
use crate::domain::value::id::ProviderId;
use crate::domain::value::moment::Moment;

/// What is known of a provider when one is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderFacts {
    /// Which one.
    pub id: ProviderId,
    /// Since when it is down for everyone; nothing where it is not.
    pub down_since: Option<Moment>,
}

/// What is known of the auto-certificate for which one is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderHistory {
    /// The certificate that serves.
    pub newest: Option<NewestCertificate>,
    /// Whether something went wrong since the last success.
    pub has_failed: bool,
    /// Who was asked last; counts only while it is in trouble.
    pub last_tried: Option<ProviderId>,
}

/// The provider that is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderChoice {
    /// Which one.
    pub provider: ProviderId,
    /// Why it is not the primary one.
    pub reason: Option<FailoverReason>,
}

/// Why another provider is asked; reads in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverReason {
    /// It fails, and little of the lifetime is left.
    LittleLifetimeLeft {
        /// The end of the certificate that serves.
        not_after: Moment,
    },
    /// It is down for long.
    LongOutage {
        /// Since when.
        since: Moment,
    },
}

impl fmt::Display for FailoverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LittleLifetimeLeft { not_after } => {
                write!(f, "the usual provider fails, and the certificate ends at {not_after}")
            }
            Self::LongOutage { since } => write!(f, "the usual provider is down since {since}"),
        }
    }
}

/// Chooses: the primary one, unless it failed for long enough. Then those that are not down take turns, each failure
/// handing on to the next one, the primary one among them.
pub fn choose_provider(
    primary: &ProviderFacts,
    fallbacks: &[ProviderFacts],
    history: &ProviderHistory,
    now: Moment,
) -> ProviderChoice {
    let stay = ProviderChoice { provider: primary.id, reason: None };
    let Some(why) = failover_reason(primary, history, now) else { return stay };
    let all: Vec<&ProviderFacts> = std::iter::once(primary).chain(fallbacks).collect();
    let last = history.last_tried.filter(|_| history.has_failed);
    let last = all.iter().position(|provider| Some(provider.id) == last).unwrap_or_default();
    let mut turns = all.iter().cycle().skip(last + 1).take(all.len());
    match turns.find(|provider| provider.down_since.is_none()) {
        Some(next) if next.id != primary.id => ProviderChoice { provider: next.id, reason: Some(why) },
        _ => stay,
    }
}

/// The moment from which no more than a sixth of a certificate's lifetime is left.
pub fn slack_threshold(newest: &NewestCertificate) -> Moment {
    newest.not_after - (newest.not_after - newest.not_before) / SLACK_OF_LIFETIME
}

/// When to try again after the primary provider failed while others stand by: a pause that is meant for it, even the day
/// until a person has acted, does not reach beyond the moment from which the slack is at stake, and is short once where it
/// begins behind that. A moment that the provider named itself counts.
pub fn next_try_with_fallbacks(trouble: &FailureStreak, newest: Option<&NewestCertificate>, now: Moment) -> Moment {
    match newest.map(slack_threshold) {
        Some(at_stake) if trouble.last.disposition.not_before().is_none() => match at_stake {
            ahead if ahead > now => trouble.next_try.min(ahead),
            _ if trouble.failures <= 1 => trouble.next_try.min(now + MIN_PAUSE),
            _ => trouble.next_try,
        },
        _ => trouble.next_try,
    }
}

fn failover_reason(primary: &ProviderFacts, history: &ProviderHistory, now: Moment) -> Option<FailoverReason> {
    let since = primary.down_since.filter(|since| now - *since > LONG_OUTAGE);
    if let Some(since) = since {
        return Some(FailoverReason::LongOutage { since });
    }
    let fails = history.has_failed || primary.down_since.is_some();
    let newest = history.newest.filter(|newest| fails && now >= slack_threshold(newest))?;
    Some(FailoverReason::LittleLifetimeLeft { not_after: newest.not_after })
}

const SLACK_OF_LIFETIME: i32 = 6;
const MIN_PAUSE: Duration = Duration::minutes(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::failure::disposition::{Disposition, Failure};

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn id(number: u128) -> ProviderId {
        uuid::Uuid::from_u128(number).into()
    }

    fn up(number: u128) -> ProviderFacts {
        ProviderFacts { id: id(number), down_since: None }
    }

    fn down(number: u128, hours: i64) -> ProviderFacts {
        ProviderFacts { id: id(number), down_since: Some(NOW - Duration::hours(hours)) }
    }

    /// A certificate of 90 days with so much left.
    fn left(left: Duration) -> NewestCertificate {
        let not_after = NOW + left;
        let not_before = not_after - Duration::days(90);
        NewestCertificate { id: uuid::Uuid::nil().into(), not_before, not_after, revoked: false, issuer: None }
    }

    fn troubled(days: i64, last_tried: Option<u128>) -> ProviderHistory {
        ProviderHistory { newest: Some(left(Duration::days(days))), has_failed: true, last_tried: last_tried.map(id) }
    }

    fn chosen(primary: ProviderFacts, fallbacks: &[ProviderFacts], history: &ProviderHistory) -> ProviderId {
        choose_provider(&primary, fallbacks, history, NOW).provider
    }

    #[test]
    fn the_primary_stays_until_the_slack_is_at_stake() {
        let fallbacks = [up(1), up(2)];
        assert_eq!(chosen(up(0), &fallbacks, &troubled(16, None)), id(0));
        assert_eq!(chosen(up(0), &fallbacks, &troubled(15, None)), id(1));
        assert_eq!(chosen(up(0), &fallbacks, &troubled(-1, None)), id(1));
        let untroubled = ProviderHistory { has_failed: false, ..troubled(1, None) };
        assert_eq!(chosen(up(0), &fallbacks, &untroubled), id(0), "each renewal begins with it");
        assert_eq!(chosen(down(0, 1), &fallbacks, &untroubled), id(1), "to be down is trouble enough");
        assert_eq!(chosen(up(0), &[], &troubled(1, None)), id(0));
        let first = ProviderHistory { newest: None, ..troubled(1, None) };
        assert_eq!(chosen(up(0), &fallbacks, &first), id(0), "nothing is at stake yet");
    }

    #[test]
    fn a_long_outage_needs_no_certificate_at_stake() {
        for history in [
            ProviderHistory::default(),
            ProviderHistory { newest: Some(left(Duration::days(80))), ..ProviderHistory::default() },
        ] {
            assert_eq!(chosen(down(0, 24), &[up(1)], &history), id(0));
            assert_eq!(chosen(down(0, 25), &[up(1)], &history), id(1));
            assert_eq!(chosen(down(0, -25), &[up(1)], &history), id(0), "a clock that was ahead");
        }
    }

    #[test]
    fn those_that_are_down_are_passed_over() {
        assert_eq!(chosen(down(0, 30), &[down(1, 1), up(2)], &ProviderHistory::default()), id(2));
        assert_eq!(chosen(down(0, 30), &[down(1, 1)], &ProviderHistory::default()), id(0), "none is left");
    }

    #[test]
    fn each_failure_hands_on_to_the_next_one() {
        let turns: Vec<ProviderId> =
            [None, Some(0), Some(1), Some(2)].map(|last| chosen(up(0), &[up(1), up(2)], &troubled(5, last))).into();
        assert_eq!(turns, [id(1), id(1), id(2), id(0)]);
        assert_eq!(chosen(down(0, 30), &[up(1), up(2)], &troubled(5, Some(2))), id(1), "the primary is down");
        assert_eq!(chosen(up(0), &[up(1)], &troubled(5, Some(9))), id(1), "who was tried is declared no longer");
        let success = ProviderHistory { has_failed: false, last_tried: Some(id(1)), newest: None };
        assert_eq!(chosen(down(0, 30), &[up(1), up(2)], &success), id(1), "after a success there is no turn to take");
    }

    #[test]
    fn why_is_said_in_words() {
        let words = |primary, history: &ProviderHistory| {
            choose_provider(&primary, &[up(1)], history, NOW).reason.unwrap().to_string()
        };
        assert_eq!(
            words(down(0, 48), &ProviderHistory::default()),
            "the usual provider is down since 2027-01-13T08:00:00Z"
        );
        assert_eq!(
            words(up(0), &troubled(1, None)),
            "the usual provider fails, and the certificate ends at 2027-01-16T08:00:00Z"
        );
    }

    #[test]
    fn the_day_of_an_operator_does_not_hold_up_the_others() {
        let after = |disposition, newest: Option<NewestCertificate>| {
            let failure = Failure { disposition, message: "x".into() };
            let trouble = FailureStreak::after(None, failure, NOW, newest.map(|newest| newest.not_after), 0.5);
            next_try_with_fallbacks(&trouble, newest.as_ref(), NOW) - NOW
        };
        let operator = |hours| after(Disposition::Operator, Some(left(Duration::hours(hours))));
        assert_eq!(operator(15 * 24 + 5), Duration::hours(5), "at the moment of the change");
        assert_eq!(operator(14 * 24), Duration::minutes(1));
        assert_eq!(operator(80 * 24), Duration::DAY);
        assert_eq!(after(Disposition::Operator, None), Duration::DAY);
        let named = Disposition::Retry { not_before: Some(NOW + Duration::hours(9)) };
        assert_eq!(after(named, Some(left(Duration::hours(15 * 24 + 5)))), Duration::hours(9));
    }

    proptest! {
        #[test]
        fn who_is_chosen_is_known_and_up_and_explained(
            primary in proptest::option::of(-50i64..50),
            fallbacks in prop::collection::vec(proptest::option::of(-50i64..50), 0..4),
            days in proptest::option::of(-5i64..90),
            troubled in any::<bool>(),
            last in proptest::option::of(0u128..6),
        ) {
            let facts = |number: u128, hours: &Option<i64>| hours.map_or(up(number), |hours| down(number, hours));
            let primary = facts(0, &primary);
            let fallbacks: Vec<ProviderFacts> = (1..).zip(&fallbacks).map(|(number, hours)| facts(number, hours)).collect();
            let history = ProviderHistory { newest: days.map(|days| left(Duration::days(days))), has_failed: troubled, last_tried: last.map(id) };
            let choice = choose_provider(&primary, &fallbacks, &history, NOW);
            if choice.provider == primary.id {
                prop_assert_eq!(choice.reason, None);
            } else {
                let fallback = fallbacks.iter().find(|fallback| fallback.id == choice.provider);
                prop_assert!(fallback.is_some_and(|fallback| fallback.down_since.is_none()));
                prop_assert!(choice.reason.is_some());
                let pressed = days.is_some_and(|days| days <= 15) && (troubled || primary.down_since.is_some());
                let long = primary.down_since.is_some_and(|since| NOW - since > Duration::DAY);
                prop_assert!(pressed || long, "the primary was left too early");
            }
        }
    }
}
