//! Who goes next at one provider: the most urgent first, never more at once than it may have, nothing that its CA's limits
//! doom, and one probe at a time while it is down (decisions 8 and 9 of the renewal design). Pure.

use std::collections::HashMap;

use time::Duration;

use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::domain::provider::breaker::Breaker;
use crate::domain::provider::rate_limit_ledger::{LimitExceeded, OrderFacts, RateLimitBucket, RateLimitLedger};
use crate::domain::renewal::attempt::StageKind;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::plan::{RenewalAction, plan_renewal};
use crate::domain::value::moment::Moment;

/// What somebody in the queue wants of the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// Nothing that counts there: to clean up, or to ask when to renew.
    Maintenance,
    /// To go on with an order that is made.
    Resume,
    /// An order at another provider, which stands in for this one.
    AtFallback,
    /// To make an order.
    Order(OrderFacts),
}

/// One in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedWork {
    /// What is wanted.
    pub work_kind: WorkKind,
    /// Whether a person asked for it: that is a probe, if need be.
    pub requested: bool,
    /// When the certificate that serves expires; absent where none does.
    pub expiry: Option<Moment>,
}

impl QueuedWork {
    /// What an auto-certificate currently needs from its provider.
    pub fn from_auto_certificate(auto_certificate: &AutoCertificate, now: Moment) -> Self {
        let facts = &auto_certificate.standing;
        let work_kind = match plan_renewal(facts, now).action {
            RenewalAction::Start | RenewalAction::Resume(StageKind::Planned) => {
                let issuer = facts.newest.and_then(|newest| newest.issuer);
                let same_ca = issuer.is_none_or(|issuer| issuer == auto_certificate.provider);
                let exemption = facts.rate_limit_exemption(same_ca, now);
                WorkKind::Order(OrderFacts::new(&auto_certificate.names_to_order(), exemption))
            }
            RenewalAction::Resume(_) => WorkKind::Resume,
            RenewalAction::Idle | RenewalAction::AskRenewalInfo | RenewalAction::CleanUp | RenewalAction::Purge => {
                WorkKind::Maintenance
            }
        };
        Self { work_kind, requested: facts.renewal_requested, expiry: facts.valid_until() }
    }
}

/// The provider by now.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionInput<'a> {
    /// What failed at it lately.
    pub breaker: Option<&'a Breaker>,
    /// How many are being worked on there.
    pub running: usize,
    /// How many may be.
    pub capacity: usize,
    /// How many are kept back by the limit of the account's orders.
    pub deferred_by_limit: usize,
    /// A number in `0.0 .. 1.0`: the place among those that are kept back.
    pub draw: f64,
}

/// What becomes of one in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its turn has come.
    Admit,
    /// It is kept back.
    Defer(Deferral),
    /// There is no room left; it stays where it is.
    NoCapacity,
}

/// Decides about a queue, the most urgent first; one verdict for each. Orders that go are counted in `ledger`.
pub fn admit(
    queue: &[QueuedWork],
    gate: AdmissionInput<'_>,
    ledger: &mut RateLimitLedger,
    now: Moment,
) -> Vec<Admission> {
    let mut room = gate.capacity.saturating_sub(gate.running);
    let mut probe = Probe::from_input(&gate, now);
    let mut behind_the_probe = 0;
    let mut places = HashMap::from([(RateLimitBucket::Orders, gate.random_queue_position())]);
    let mut decide = |candidate: &QueuedWork| {
        if room == 0 {
            return Admission::NoCapacity;
        }
        let is_for_here = matches!(candidate.work_kind, WorkKind::Resume | WorkKind::Order(_));
        if is_for_here
            && !candidate.requested
            && let Some(until) = probe.blocked_until()
        {
            let until = (until + PROBER_INTERVAL * behind_the_probe).min(candidate.latest_recheck(until, now));
            behind_the_probe += 1;
            return Admission::Defer(Deferral { until, cause: DeferralCause::ProviderDown });
        }
        if let WorkKind::Order(order) = &candidate.work_kind {
            if let Err(full) = ledger.check_order(order, now) {
                let place = places.entry(full.bucket.clone()).or_default();
                let hold = defer_for_limit(&full, *place, candidate, now);
                *place = place.saturating_add(1);
                return Admission::Defer(hold);
            }
            ledger.charge_order(order, now);
        }
        if is_for_here {
            probe.mark_sent(now);
        }
        room -= 1;
        Admission::Admit
    };
    queue.iter().map(&mut decide).collect()
}

/// Places are one token apart, so that not all come back at once. None is further away than a share of the time that is
/// left, so that the urgent come back early, and are first then.
fn defer_for_limit(full: &LimitExceeded, place: i32, candidate: &QueuedWork, now: Moment) -> Deferral {
    let until = (full.until + full.rate.interval() * place).min(candidate.latest_recheck(full.until, now));
    Deferral { until, cause: DeferralCause::from(full) }
}

impl QueuedWork {
    /// The latest moment for another look at what could be done from `earliest` on.
    fn latest_recheck(&self, earliest: Moment, now: Moment) -> Moment {
        let share =
            self.expiry.map_or(MAX_DEFERRAL_WITHOUT_CERTIFICATE, |expiry| (expiry - now) / RECHECKS_BEFORE_EXPIRY);
        earliest.max(now + share).min(now + MAX_DEFERRAL)
    }
}

impl AdmissionInput<'_> {
    /// A place somewhere among those that wait already: behind them all, the places that others leave early would stay
    /// empty, and before them all, each token would be waited for by everybody.
    fn random_queue_position(&self) -> i32 {
        let line = f64::from(u32::try_from(self.deferred_by_limit).unwrap_or(u32::MAX));
        #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
        let place = (line * self.draw) as i32;
        place
    }
}

/// What the breaker still lets through.
enum Probe {
    /// It is closed.
    NotNeeded,
    /// One may go.
    Allowed,
    /// None may, until then.
    BlockedUntil(Moment),
}

impl Probe {
    /// What is under way may be the probe.
    fn from_input(gate: &AdmissionInput<'_>, now: Moment) -> Self {
        match gate.breaker.and_then(Breaker::open_until) {
            None => Self::NotNeeded,
            // None is ever planned further ahead, but by a clock that was ahead.
            Some(until) if until > now + MAX_DEFERRAL => Self::Allowed,
            Some(until) if until > now => Self::BlockedUntil(until),
            Some(_) if gate.running > 0 => Self::BlockedUntil(now + PROBE_TIMEOUT),
            Some(_) => Self::Allowed,
        }
    }

    const fn blocked_until(&self) -> Option<Moment> {
        match self {
            Self::BlockedUntil(until) => Some(*until),
            Self::NotNeeded | Self::Allowed => None,
        }
    }

    fn mark_sent(&mut self, now: Moment) {
        if matches!(self, Self::Allowed) {
            *self = Self::BlockedUntil(now + PROBE_TIMEOUT);
        }
    }
}

/// What comes of a probe ends the holds; this is for one that was never heard of again.
const PROBE_TIMEOUT: Duration = Duration::minutes(2);
/// A success ends all holds, and a failure needs but one to send the next probe: the others need not come back for it.
const PROBER_INTERVAL: Duration = Duration::hours(1);
const RECHECKS_BEFORE_EXPIRY: i32 = 20;
const MAX_DEFERRAL_WITHOUT_CERTIFICATE: Duration = Duration::HOUR;
/// After a day everything is looked at anew, whatever was planned.
const MAX_DEFERRAL: Duration = Duration::days(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::disposition::{Disposition, Failure};
    use crate::domain::provider::rate_limit_ledger::{CaLimits, LimitKind, RateLimit, RateLimitExemption};
    use crate::domain::value::name::DnsName;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn order(number: usize) -> QueuedWork {
        let name: DnsName = format!("www.d{number}.com").parse().unwrap();
        QueuedWork {
            work_kind: WorkKind::Order(OrderFacts::new(&[name], RateLimitExemption::None)),
            requested: false,
            expiry: Some(NOW + Duration::days(15)),
        }
    }

    const fn aside() -> QueuedWork {
        QueuedWork { work_kind: WorkKind::Maintenance, requested: false, expiry: None }
    }

    fn open(probe_in: Duration) -> Breaker {
        let last = Failure { disposition: Disposition::ProviderDown { not_before: None }, message: "503".into() };
        let probe_at = Some(NOW + probe_in);
        Breaker { since: NOW - Duration::HOUR, failures: 5, first: None, affects_several: true, probe_at, last }
    }

    fn go(verdicts: &[Admission]) -> Vec<bool> {
        verdicts.iter().map(|verdict| *verdict == Admission::Admit).collect()
    }

    fn held(verdict: &Admission) -> Duration {
        let Admission::Defer(hold) = verdict else { panic!("{verdict:?}") };
        hold.until - NOW
    }

    #[test]
    fn the_first_in_the_queue_take_the_room_that_is_there() {
        let queue = [aside(), order(1), order(2), order(3)];
        let gate = AdmissionInput { breaker: None, running: 1, capacity: 3, deferred_by_limit: 0, draw: 0.5 };
        let verdicts = admit(&queue, gate, &mut RateLimitLedger::default(), NOW);
        assert_eq!(verdicts, [Admission::Admit, Admission::Admit, Admission::NoCapacity, Admission::NoCapacity]);
    }

    #[test]
    fn while_it_is_down_only_what_counts_there_is_kept_back() {
        let breaker = open(Duration::minutes(4));
        let requested = QueuedWork { requested: true, ..order(3) };
        let queue = [order(1), aside(), QueuedWork { work_kind: WorkKind::Resume, ..order(2) }, requested];
        let verdicts = admit(
            &queue,
            AdmissionInput { breaker: Some(&breaker), running: 0, capacity: 32, deferred_by_limit: 0, draw: 0.5 },
            &mut RateLimitLedger::default(),
            NOW,
        );
        assert_eq!(go(&verdicts), [false, true, false, true]);
        assert_eq!(held(&verdicts[0]), Duration::minutes(4));
    }

    #[test]
    fn one_probe_is_sent_and_no_storm() {
        let breaker = open(-Duration::SECOND);
        let queue: Vec<QueuedWork> = (0..10).map(order).collect();
        let gate =
            AdmissionInput { breaker: Some(&breaker), running: 0, capacity: 32, deferred_by_limit: 0, draw: 0.5 };
        let verdicts = admit(&queue, gate, &mut RateLimitLedger::default(), NOW);
        assert_eq!(go(&verdicts), (0..10).map(|number| number == 0).collect::<Vec<_>>());
        let under_way = admit(&queue, AdmissionInput { running: 1, ..gate }, &mut RateLimitLedger::default(), NOW);
        assert!(go(&under_way).iter().all(|go| !go));
    }

    #[test]
    fn doomed_orders_are_kept_back_one_token_apart_and_do_not_hold_up_others() {
        let limits = CaLimits { certificates_per_domain: RateLimit::new(1, Duration::HOUR), ..CaLimits::NONE };
        let mut ledger =
            RateLimitLedger::new(limits, [(RateLimitBucket::Domain("d1.com".to_owned()), NOW + Duration::HOUR)]);
        let queue = [order(1), order(2), order(1)];
        let verdicts = admit(
            &queue,
            AdmissionInput { breaker: None, running: 0, capacity: 32, deferred_by_limit: 0, draw: 0.5 },
            &mut ledger,
            NOW,
        );
        assert_eq!(go(&verdicts), [false, true, false]);
        assert_eq!((held(&verdicts[0]), held(&verdicts[2])), (Duration::HOUR, Duration::hours(2)));
        let Admission::Defer(hold) = &verdicts[0] else { panic!() };
        let description = "new certificates of d1.com (1 in 1 h)".to_owned();
        assert_eq!(hold.cause, DeferralCause::RateLimit { kind: LimitKind::Domain, description });
    }

    #[test]
    fn who_comes_later_gets_a_place_in_the_line_and_the_urgent_an_early_one() {
        let mut ledger =
            RateLimitLedger::new(CaLimits::LETS_ENCRYPT, [(RateLimitBucket::Orders, NOW + Duration::hours(3))]);
        let left = [Some(Duration::minutes(90)), Some(Duration::days(15)), None];
        let queue = left.map(|left| QueuedWork { expiry: left.map(|left| NOW + left), ..order(1) });
        let gate = AdmissionInput { breaker: None, running: 0, capacity: 32, deferred_by_limit: 1_000, draw: 0.3 };
        let verdicts = admit(&queue, gate, &mut ledger, NOW);
        let next = Duration::seconds(144);
        let expected = [Duration::minutes(90) / 20, next + Duration::seconds(36) * 301, Duration::HOUR];
        assert_eq!([0, 1, 2].map(|rank| held(&verdicts[rank])), expected);
    }

    #[test]
    fn one_after_the_other_comes_back_to_send_the_next_probe() {
        let breaker = open(Duration::minutes(4));
        let queue: Vec<QueuedWork> = (0..30).map(order).collect();
        let gate =
            AdmissionInput { breaker: Some(&breaker), running: 0, capacity: 32, deferred_by_limit: 0, draw: 0.5 };
        let verdicts = admit(&queue, gate, &mut RateLimitLedger::default(), NOW);
        assert_eq!([0, 1, 29].map(|rank| held(&verdicts[rank]).whole_minutes()), [4, 64, 18 * 60]);
    }

    #[test]
    fn the_orders_of_one_queue_count_among_themselves() {
        let limits = CaLimits { orders_per_account: RateLimit::new(2, Duration::HOUR), ..CaLimits::NONE };
        let queue: Vec<QueuedWork> = (0..4).map(order).collect();
        let gate = AdmissionInput { breaker: None, running: 0, capacity: 32, deferred_by_limit: 0, draw: 0.5 };
        let verdicts = admit(&queue, gate, &mut RateLimitLedger::new(limits, []), NOW);
        assert_eq!(go(&verdicts), [true, true, false, false]);
        assert_eq!([held(&verdicts[2]), held(&verdicts[3])], [Duration::minutes(30), Duration::HOUR]);
    }
}
