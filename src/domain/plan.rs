//! The plan for one auto-certificate: what to do now or when to look again, and why (decision 2 of the renewal design,
//! by lifetime fraction). A pure function of how it stands and the moment.

use std::fmt;

use time::Duration;

use crate::domain::attempt::StageKind;
use crate::domain::auto_certificate::{NewestCertificate, Standing};
use crate::domain::moment::Moment;

/// What is to be done, why, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub action: Action,
    /// Why; reads in words.
    pub reason: Reason,
    /// When to look again: now where there is something to do.
    pub next_look: Moment,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Idle,
    /// Start a new attempt.
    Start,
    /// Go on with the open attempt from where it is.
    Resume(StageKind),
    /// Remove TXT records that nobody needs any more.
    CleanUp,
    /// It was deleted and its TXT records are gone: remove the last trace.
    Purge,
}

/// Why the plan is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A person asked for it.
    Requested,
    /// Names, key or provider were changed.
    IntentChanged,
    /// There is no certificate.
    NoCertificate,
    /// The newest certificate has expired.
    Expired,
    /// The lifetime fraction is reached.
    LifetimeFraction,
    /// The renewal is ahead.
    RenewalAhead,
    /// An attempt is open.
    AttemptOpen,
    /// The last failure's pause is not over.
    BackOff,
    /// An order succeeded less than an hour ago.
    IssuedLately,
    /// TXT records are left over.
    LeftoverRecords,
    /// It was deleted.
    Deleted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "a renewal was requested",
            Self::IntentChanged => "names, key or provider were changed in the settings",
            Self::NoCertificate => "there is no certificate yet",
            Self::Expired => "the newest certificate has expired",
            Self::LifetimeFraction => "the renewal is due by its lifetime",
            Self::RenewalAhead => "the renewal is planned",
            Self::AttemptOpen => "an attempt is open",
            Self::BackOff => "the next try after a failure is planned",
            Self::IssuedLately => "an order succeeded less than an hour ago; the next look is planned",
            Self::LeftoverRecords => "challenge records of an ended attempt are being removed",
            Self::Deleted => "it was deleted",
        })
    }
}

/// Decides what is to be done about one auto-certificate. What seems to have happened in the future was written by a
/// clock that was ahead, and puts nothing off.
pub fn plan(standing: &Standing, now: Moment) -> Plan {
    let plan = plan_renewal(standing, now);
    match standing.clean_up_at {
        Some(at) if plan.action == Action::Idle && at <= now => act(Action::CleanUp, Reason::LeftoverRecords, now),
        Some(at) if plan.action == Action::Idle && at < plan.next_look => Plan { next_look: at, ..plan },
        Some(_) if plan.action == Action::Purge => idle_until(standing.clean_up_at, Reason::Deleted, now),
        _ => plan,
    }
}

/// The moment from which the certificate is to be renewed: two thirds of its lifetime, half of one under ten days,
/// less a stable share of up to 2 % that spreads a fleet.
pub fn renewal_moment(newest: &NewestCertificate) -> Moment {
    let lifetime = newest.not_after - newest.not_before;
    let fraction = if lifetime < SHORT_LIFETIME { 1.0 / 2.0 } else { 2.0 / 3.0 };
    newest.not_before + lifetime * (fraction - SPREAD * share(newest))
}

fn plan_renewal(standing: &Standing, now: Moment) -> Plan {
    if standing.deleted {
        return act(Action::Purge, Reason::Deleted, now);
    }
    let action = standing.open_attempt.map_or(Action::Start, Action::Resume);
    if standing.renewal_requested {
        return act(action, Reason::Requested, now);
    }
    let (due, reason) = due(standing, now);
    let next_try = standing.trouble.as_ref().filter(|trouble| trouble.at <= now).map(|trouble| trouble.next_try);
    match next_try {
        Some(next_try) if next_try > now && next_try >= due => idle(next_try, Reason::BackOff),
        _ if due > now => idle(due, reason),
        _ => act(action, reason, now),
    }
}

/// When something is to be done, and why, failures aside.
fn due(standing: &Standing, now: Moment) -> (Moment, Reason) {
    if standing.open_attempt.is_some() {
        return (now, Reason::AttemptOpen);
    }
    // Decision 3: another wish is no repetition, so that the hour between successes does not count.
    if standing.intent_changed {
        return (now, Reason::IntentChanged);
    }
    let (due, reason) = match &standing.newest {
        None => (now, Reason::NoCertificate),
        Some(newest) if newest.not_after <= now => (now, Reason::Expired),
        Some(newest) => {
            let moment = renewal_moment(newest);
            (moment, if moment <= now { Reason::LifetimeFraction } else { Reason::RenewalAhead })
        }
    };
    match standing.last_issued.filter(|issued| *issued <= now).map(|issued| issued + BETWEEN_SUCCESSES) {
        Some(earliest) if earliest > due.max(now) => (earliest, Reason::IssuedLately),
        _ => (due, reason),
    }
}

const fn act(action: Action, reason: Reason, now: Moment) -> Plan {
    Plan { action, reason, next_look: now }
}

const fn idle(until: Moment, reason: Reason) -> Plan {
    Plan { action: Action::Idle, reason, next_look: until }
}

/// Waits for the clean-up, or does it where its moment has come.
fn idle_until(clean_up_at: Option<Moment>, reason: Reason, now: Moment) -> Plan {
    match clean_up_at {
        Some(at) if at > now => idle(at, reason),
        _ => act(Action::CleanUp, reason, now),
    }
}

/// A stable number in `0.0 .. 1.0` out of the certificate's random id.
fn share(newest: &NewestCertificate) -> f64 {
    let bits = u32::from_le_bytes(newest.id.uuid().as_bytes()[..4].try_into().unwrap_or_default());
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

const SHORT_LIFETIME: Duration = Duration::days(10);
const SPREAD: f64 = 0.02;
/// Decision 2: never two successful orders within an hour, unless a person forces it.
const BETWEEN_SUCCESSES: Duration = Duration::hours(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::back_off::Trouble;
    use crate::domain::disposition::Failure;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn newest(lifetime: Duration, age: Duration) -> NewestCertificate {
        let not_before = NOW - age;
        NewestCertificate { id: uuid::Uuid::nil().into(), not_before, not_after: not_before + lifetime, issuer: None }
    }

    fn with(newest: NewestCertificate) -> Standing {
        Standing { newest: Some(newest), last_issued: Some(newest.not_before), ..Standing::default() }
    }

    #[test]
    fn two_thirds_of_a_long_life_and_half_of_a_short_one() {
        let long = newest(Duration::days(90), Duration::ZERO);
        assert_eq!(renewal_moment(&long), NOW + Duration::days(60));
        let short = newest(Duration::hours(160), Duration::ZERO);
        assert_eq!(renewal_moment(&short), NOW + Duration::hours(80));
    }

    #[test]
    fn a_first_certificate_is_due_at_once_and_a_fresh_one_is_not() {
        assert_eq!(plan(&Standing::default(), NOW), act(Action::Start, Reason::NoCertificate, NOW));
        let fresh = plan(&with(newest(Duration::days(90), Duration::days(1))), NOW);
        assert_eq!(fresh, idle(NOW + Duration::days(59), Reason::RenewalAhead));
        let aged = plan(&with(newest(Duration::days(90), Duration::days(61))), NOW);
        assert_eq!((aged.action, aged.reason), (Action::Start, Reason::LifetimeFraction));
    }

    #[test]
    fn a_deleted_certificate_is_not_replaced_twice_an_hour() {
        let standing = Standing { last_issued: Some(NOW - Duration::minutes(10)), ..Standing::default() };
        assert_eq!(plan(&standing, NOW), idle(NOW + Duration::minutes(50), Reason::IssuedLately));
        let forced = Standing { renewal_requested: true, ..standing };
        assert_eq!(plan(&forced, NOW).action, Action::Start);
    }

    #[test]
    fn a_changed_intent_is_due_at_once_and_waits_only_after_failures() {
        let fresh = with(newest(Duration::days(90), Duration::minutes(1)));
        let changed = Standing { intent_changed: true, ..fresh };
        assert_eq!(plan(&changed, NOW), act(Action::Start, Reason::IntentChanged, NOW));
        let trouble = Trouble::after(None, Failure::operator("CAA"), NOW, None, 0.5);
        let refused = Standing { trouble: Some(trouble.clone()), ..changed };
        assert_eq!(plan(&refused, NOW), idle(trouble.next_try, Reason::BackOff));
        assert_eq!(plan(&refused, trouble.next_try), act(Action::Start, Reason::IntentChanged, trouble.next_try));
    }

    #[test]
    fn a_failure_waits_unless_someone_asks() {
        let trouble = Trouble::after(None, Failure::operator("CAA"), NOW, None, 0.5);
        let standing =
            Standing { trouble: Some(trouble.clone()), open_attempt: Some(StageKind::Ordered), ..Standing::default() };
        assert_eq!(plan(&standing, NOW), idle(trouble.next_try, Reason::BackOff));
        assert_eq!(plan(&standing, trouble.next_try).action, Action::Resume(StageKind::Ordered));
        let asked = Standing { renewal_requested: true, ..standing };
        assert_eq!(plan(&asked, NOW), act(Action::Resume(StageKind::Ordered), Reason::Requested, NOW));
    }

    #[test]
    fn records_are_removed_before_a_deleted_one_is_purged() {
        let deleted = Standing { deleted: true, open_attempt: Some(StageKind::Ordered), ..Standing::default() };
        assert_eq!(plan(&deleted, NOW).action, Action::Purge);
        let leftover = Standing { clean_up_at: Some(NOW), ..deleted.clone() };
        assert_eq!(plan(&leftover, NOW).action, Action::CleanUp);
        let later = NOW + Duration::minutes(3);
        assert_eq!(plan(&Standing { clean_up_at: Some(later), ..deleted }, NOW), idle(later, Reason::Deleted));
    }

    #[test]
    fn leftover_records_do_not_wait_for_the_next_renewal() {
        let standing = with(newest(Duration::days(90), Duration::days(1)));
        let soon = NOW + Duration::minutes(3);
        assert_eq!(plan(&Standing { clean_up_at: Some(soon), ..standing.clone() }, NOW).next_look, soon);
        assert_eq!(plan(&Standing { clean_up_at: Some(NOW), ..standing }, NOW).action, Action::CleanUp);
    }

    #[test]
    fn a_clock_that_was_ahead_puts_nothing_off() {
        let ahead = NOW + Duration::days(400);
        let trouble = Trouble::after(None, Failure::retry("x"), ahead, None, 0.5);
        let standing = Standing { trouble: Some(trouble), last_issued: Some(ahead), ..Standing::default() };
        assert_eq!(plan(&standing, NOW), act(Action::Start, Reason::NoCertificate, NOW));
    }

    proptest! {
        #[test]
        fn a_renewal_is_never_later_than_its_fraction_nor_more_than_2_percent_early(bytes in any::<[u8; 16]>(), hours in 1i64..10_000) {
            let lifetime = Duration::hours(hours);
            let newest = NewestCertificate { id: uuid::Uuid::from_bytes(bytes).into(), ..newest(lifetime, Duration::ZERO) };
            let age = renewal_moment(&newest) - newest.not_before;
            let fraction = if lifetime < SHORT_LIFETIME { 0.5 } else { 2.0 / 3.0 };
            prop_assert!(age <= lifetime * fraction + Duration::SECOND);
            prop_assert!(age >= lifetime * (fraction - 0.02) - Duration::SECOND);
        }

        #[test]
        fn a_plan_either_acts_now_or_looks_later_and_never_twice_an_hour(
            age in 0i64..4_000,
            failed in proptest::option::of(-500i64..500),
            issued in proptest::option::of(-500i64..500),
            clean_up in proptest::option::of(-500i64..500),
            (requested, changed, deleted, open) in any::<(bool, bool, bool, bool)>(),
        ) {
            let trouble = |minutes| Trouble::after(None, Failure::retry("x"), NOW - Duration::minutes(minutes), None, 0.3);
            let standing = Standing {
                trouble: failed.map(trouble),
                renewal_requested: requested,
                intent_changed: changed,
                last_issued: issued.map(|minutes| NOW - Duration::minutes(minutes)),
                clean_up_at: clean_up.map(|minutes| NOW + Duration::minutes(minutes)),
                open_attempt: open.then_some(StageKind::Ordered),
                deleted,
                ..with(newest(Duration::hours(2_160), Duration::hours(age)))
            };
            let plan = plan(&standing, NOW);
            prop_assert_eq!(plan.action == Action::Idle, plan.next_look > NOW);
            let lately = issued.is_some_and(|minutes| (0..60).contains(&minutes));
            prop_assert!(!lately || requested || changed || plan.action != Action::Start);
            prop_assert!(!deleted || matches!(plan.action, Action::Idle | Action::CleanUp | Action::Purge));
            prop_assert!(plan.action != Action::Purge || clean_up.is_none());
            prop_assert!(!requested || deleted || matches!(plan.action, Action::Start | Action::Resume(_)));
        }
    }
}
