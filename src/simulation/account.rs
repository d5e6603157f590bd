//! One account with its certificates: what the daemon's scheduler does, without a store and a network. Whatever is decided
//! here is decided by `domain`.

mod certificate;
mod polls;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use time::Duration;

use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::domain::failure::disposition::{Disposition, Failure};
use crate::domain::failure::retry_after::RetryAfter;
use crate::domain::provider::admission::{Admission, AdmissionInput, QueuedWork, WorkKind, admit};
use crate::domain::provider::breaker::Breaker;
use crate::domain::provider::rate_limit_ledger::{CaLimits, OrderFacts, RateLimitExemption, RateLimitLedger};
use crate::domain::renewal::attempt::StageKind;
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::plan::{RenewalAction, RenewalReason, plan_renewal, renewal_moment};
use crate::domain::value::moment::Moment;
use crate::domain::value::text::RemoteMessage;
use crate::runtime::randomness::Randomness;
use crate::simulation::account::certificate::{CertificateStep, SimulatedCertificate};
use crate::simulation::ca::{CaModel, OrderRefusal};
use crate::simulation::scenario::{Control, START, Scenario, midnight_of_day};
use crate::simulation::tally::Tally;

/// An account and the autocertd that has it.
pub(super) struct SimulatedAccount<'a> {
    scenario: &'a Scenario,
    ca: CaModel,
    certificates: Vec<SimulatedCertificate>,
    ledger: RateLimitLedger,
    breaker: Option<Breaker>,
    /// What happens next and to whom; an entry counts for as long as the certificate agrees.
    events: BinaryHeap<Reverse<(Moment, u32)>>,
    /// Those who wait for their turn, the most urgent first.
    queue: BTreeSet<(Moment, u32)>,
    /// What the open attempts ordered.
    open_orders: HashMap<u32, OrderFacts>,
    running: usize,
    /// How many wait for the limits of the CA.
    deferred_by_limit: usize,
    randomness: Randomness,
    tally: Tally,
}

impl<'a> SimulatedAccount<'a> {
    /// The account of this number with its share of the fleet, in mid-life.
    pub(super) fn new(scenario: &'a Scenario, number: u32) -> Self {
        let randomness = Randomness::from_seed(scenario.seed.wrapping_add(u64::from(number).wrapping_mul(SEED_STEP)));
        let mut ca = CaModel::new(scenario.lifetime);
        let certificates = certificate::create_fleet(scenario, number, &mut ca, &randomness);
        let limits = if scenario.has_control(Control::NoLedger) { CaLimits::NONE } else { CaLimits::LETS_ENCRYPT };
        let mut account = Self {
            scenario,
            ca,
            certificates,
            ledger: RateLimitLedger::new(limits, []),
            breaker: None,
            events: BinaryHeap::new(),
            queue: BTreeSet::new(),
            open_orders: HashMap::new(),
            running: 0,
            deferred_by_limit: 0,
            randomness,
            tally: Tally::new(scenario),
        };
        for index in account.indices() {
            account.check(index, START);
        }
        account
    }

    /// Lives to the end and tells what happened.
    pub(super) fn run(mut self) -> Tally {
        let end = self.scenario.end();
        let mut revocations = self.scenario.mass_revocations.clone();
        revocations.sort_by_key(|revocation| Reverse(revocation.day));
        let mut day = START;
        while let Some(now) = self.events.peek().map(|Reverse((at, _))| *at).filter(|at| *at < end) {
            if let Some(revocation) = revocations.pop_if(|revocation| midnight_of_day(revocation.day) <= now) {
                self.announce_revocation(revocation);
                continue;
            }
            if now >= day {
                self.ledger.forget_recovered(now);
                day = day + Duration::DAY;
            }
            while let Some(index) = self.pop_event_at(now) {
                self.process_event(index, now);
            }
            self.scan(now);
        }
        for index in self.indices() {
            let deadline = self.ca.newest(index).deadline();
            if deadline < end {
                self.tally.record_replacement(deadline, end);
            }
        }
        self.tally
    }

    /// Whom something happens to at this very moment.
    fn pop_event_at(&mut self, now: Moment) -> Option<u32> {
        let Reverse((_, index)) = *self.events.peek().filter(|Reverse((at, _))| *at == now)?;
        self.events.pop();
        Some(index)
    }

    fn process_event(&mut self, index: u32, now: Moment) {
        let certificate = self.certificate(index);
        if certificate.next != now {
            return;
        }
        match certificate.step {
            CertificateStep::Waiting => self.check(index, now),
            CertificateStep::Queued => {}
            CertificateStep::Ordering => self.place_order(index, now),
            CertificateStep::Validating => self.finish_order(index, now),
        }
    }

    /// Asks the plan what is to be done about one that nobody works on, and does it as far as it costs nothing.
    fn check(&mut self, index: u32, now: Moment) {
        if self.scenario.has_control(Control::Midnight) {
            self.certificate(index).set_midnight_suggestion(now);
        } else {
            self.catch_up_on_polls(index, now);
        }
        let plan = loop {
            let plan = plan_renewal(&self.certificate(index).facts, now);
            if plan.action != RenewalAction::AskRenewalInfo {
                break plan;
            }
            self.poll_renewal_info(index, now);
        };
        let is_in_line = plan.reason == RenewalReason::RateLimited;
        let was_in_line = std::mem::replace(&mut self.certificate(index).is_deferred_by_limit, is_in_line);
        self.deferred_by_limit = self.deferred_by_limit + usize::from(is_in_line) - usize::from(was_in_line);
        let certificate = self.certificate(index);
        if plan.action != RenewalAction::Idle {
            certificate.step = CertificateStep::Queued;
            let urgency = certificate.expiry();
            self.queue.insert((urgency, index));
            return;
        }
        let newest = certificate.facts.newest.filter(|_| !certificate.has_unread_window);
        let next = match (plan.reason, newest) {
            // Polls that bring nothing new are caught up on later.
            (RenewalReason::WindowAhead(_), Some(newest)) => {
                renewal_moment(&newest, certificate.facts.renewal_info.as_ref(), now).0
            }
            _ => plan.next_check,
        };
        self.schedule(index, next);
    }

    /// Admits whom there is room for, and begins.
    fn scan(&mut self, now: Moment) {
        while self.running < CAPACITY && !self.queue.is_empty() {
            let queue: Vec<(Moment, u32)> = self.queue.iter().take(SCAN_BATCH).copied().collect();
            let candidates: Vec<QueuedWork> = queue.iter().map(|(_, index)| self.queued_work(*index, now)).collect();
            let draw = self.randomness.fraction();
            let gate = AdmissionInput {
                breaker: self.breaker.as_ref(),
                running: self.running,
                capacity: CAPACITY,
                deferred_by_limit: self.deferred_by_limit,
                draw,
            };
            let verdicts = admit(&candidates, gate, &mut self.ledger, now);
            for ((entry, candidate), verdict) in queue.into_iter().zip(candidates).zip(verdicts) {
                match verdict {
                    Admission::Admit => self.start_work(entry.1, candidate.work_kind, now),
                    Admission::Defer(hold) => self.defer(entry.1, hold, now),
                    Admission::NoCapacity => continue,
                }
                self.queue.remove(&entry);
            }
        }
    }

    fn defer(&mut self, index: u32, hold: Deferral, now: Moment) {
        match hold.cause {
            DeferralCause::RateLimit { .. } => self.tally.deferred_by_limit += 1,
            DeferralCause::ProviderDown => self.tally.deferred_by_breaker += 1,
        }
        let certificate = self.certificate(index);
        certificate.facts.deferral = Some(hold);
        certificate.step = CertificateStep::Waiting;
        self.check(index, now);
    }

    fn queued_work(&mut self, index: u32, now: Moment) -> QueuedWork {
        let replaces = !self.scenario.has_control(Control::Midnight);
        let SimulatedCertificate { names, facts: standing, .. } = self.certificate(index);
        let expiry = standing.newest.map(|newest| newest.not_after);
        let errand = if standing.open_attempt.is_some() {
            WorkKind::Resume
        } else {
            let allowance =
                if replaces { standing.rate_limit_exemption(true, now) } else { RateLimitExemption::SameNames };
            WorkKind::Order(OrderFacts::new(names, allowance))
        };
        QueuedWork { work_kind: errand, requested: false, expiry }
    }

    fn start_work(&mut self, index: u32, errand: WorkKind, now: Moment) {
        self.running += 1;
        self.certificate(index).facts.deferral = None;
        if let WorkKind::Order(facts) = errand {
            self.open_orders.insert(index, facts);
            self.certificate(index).step = CertificateStep::Ordering;
            let travel = self.random_duration(Duration::ZERO, MAX_REQUEST_LATENCY);
            self.schedule(index, now + travel);
        } else {
            self.start_validation(index, now);
        }
    }

    /// The order has reached the CA.
    fn place_order(&mut self, index: u32, now: Moment) {
        if self.scenario.is_down(now) {
            self.open_orders.remove(&index);
            return self.handle_outage(index, now);
        }
        let replaces =
            self.open_orders.get(&index).is_some_and(|facts| facts.exemption() == RateLimitExemption::InRenewalWindow);
        match self.ca.new_order(index, &self.certificates[index as usize].names, replaces, now) {
            Ok(()) => {
                self.tally.count_order(now);
                self.certificate(index).facts.open_attempt = Some(StageKind::Ordered);
                self.start_validation(index, now);
            }
            Err(refusal) => self.handle_refusal(index, refusal, now),
        }
    }

    fn start_validation(&mut self, index: u32, now: Moment) {
        self.certificate(index).step = CertificateStep::Validating;
        let work = self.random_duration(MIN_VALIDATION_TIME, MAX_VALIDATION_TIME);
        self.schedule(index, now + work);
    }

    /// The names are proven or not, and the certificate is issued or not.
    fn finish_order(&mut self, index: u32, now: Moment) {
        if self.scenario.is_down(now) {
            return self.handle_outage(index, now);
        }
        let old = self.ca.newest(index).deadline();
        let valid = !self.scenario.validation_fails(index, now);
        let issued = match self.ca.finalize(index, &self.certificates[index as usize].names, valid, now) {
            Ok(issued) => issued,
            Err(refusal) => return self.handle_refusal(index, refusal, now),
        };
        self.tally.record_replacement(old, now);
        self.tally.issued += 1;
        if let Some(facts) = self.open_orders.remove(&index) {
            self.ledger.issued(&facts, now);
        }
        let id = self.randomness.uuid().into();
        let certificate = self.certificate(index);
        certificate.has_unread_window = false;
        certificate.facts = AutoCertificateFacts {
            newest: Some(certificate::to_newest_certificate(&issued, id)),
            last_issued: Some(now),
            ..AutoCertificateFacts::default()
        };
        self.release(index, now);
        self.handle_recovery(now);
    }

    /// The CA said no, and the attempt is over.
    fn handle_refusal(&mut self, index: u32, refusal: OrderRefusal, now: Moment) {
        self.certificate(index).facts.open_attempt = None;
        self.open_orders.remove(&index);
        let failure = match refusal {
            OrderRefusal::RateLimited(limit, until) => {
                self.tally.count_refusal(limit);
                let disposition = Disposition::Retry { not_before: Some(until) };
                Failure { disposition, message: RemoteMessage::default() }
            }
            OrderRefusal::Paused => {
                self.tally.refused.paused += 1;
                Failure::operator("")
            }
            OrderRefusal::Expired => Failure::restart(""),
            OrderRefusal::Invalid => {
                self.tally.invalid += 1;
                self.ledger.charge_failed_validation(&self.certificates[index as usize].names[0], now);
                Failure::restart("")
            }
        };
        self.record_failure(index, failure, now);
    }

    /// A 503, without `Retry-After` unless the CA is careless, or a connection that breaks; what is ordered stays ordered.
    fn handle_outage(&mut self, index: u32, now: Moment) {
        self.tally.unanswered += 1;
        let message = if index.is_multiple_of(2) { "HTTP 503" } else { "the connection broke" };
        let asked = self
            .scenario
            .careless_retry_after
            .then(|| CARELESS_RETRY_AFTER[index as usize % CARELESS_RETRY_AFTER.len()]);
        let not_before = RetryAfter::parse(asked.map(str::as_bytes), now).moment();
        let disposition = Disposition::ProviderDown { not_before };
        self.record_failure(index, Failure { disposition, message: message.into() }, now);
    }

    fn record_failure(&mut self, index: u32, failure: Failure, now: Moment) {
        let (jitter, hasty) = (self.randomness.fraction(), self.scenario.has_control(Control::NoBackOff));
        let certificate = self.certificate(index);
        let (previous, expiry) = (certificate.facts.failure_streak.take(), Some(certificate.expiry()));
        let mut trouble = FailureStreak::after(previous.as_ref(), failure, now, expiry, jitter);
        if hasty {
            trouble.next_try = now + MIN_HASTY_PAUSE + (MAX_HASTY_PAUSE - MIN_HASTY_PAUSE) * jitter;
        }
        let failure = trouble.failure_for_breaker(expiry);
        certificate.facts.failure_streak = Some(trouble);
        if !hasty {
            let subject = uuid::Uuid::from_u128(index.into()).into();
            self.breaker = Breaker::after(self.breaker.take(), Some(subject), &failure, now, jitter);
        }
        self.release(index, now);
    }

    fn release(&mut self, index: u32, now: Moment) {
        self.running -= 1;
        self.certificate(index).step = CertificateStep::Waiting;
        self.check(index, now);
    }

    /// The provider did what it was asked: what was put off because it was down is put off no longer.
    fn handle_recovery(&mut self, now: Moment) {
        if self.breaker.take().is_none() {
            return;
        }
        for index in self.indices() {
            let certificate = self.certificate(index);
            if certificate.clear_provider_down() && certificate.step == CertificateStep::Waiting {
                self.check(index, now);
            }
        }
    }
}

impl SimulatedAccount<'_> {
    fn schedule(&mut self, index: u32, next: Moment) {
        self.certificate(index).next = next;
        self.events.push(Reverse((next, index)));
    }

    fn random_duration(&self, shortest: Duration, longest: Duration) -> Duration {
        shortest + (longest - shortest) * self.randomness.fraction()
    }

    fn certificate(&mut self, index: u32) -> &mut SimulatedCertificate {
        &mut self.certificates[index as usize]
    }

    fn indices(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.certificates.len()).unwrap_or(u32::MAX)
    }
}

/// The default of the daemon.
pub(super) const CAPACITY: usize = 32;
/// What a careless CA sends as `Retry-After`: most of it nonsense, the last ones far too much.
const CARELESS_RETRY_AFTER: [&str; 8] = [
    "99999999999999999999999999999",
    "1800000000",
    "-1",
    "NaN",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "31536000",
    "2592000",
];
/// More than there is room for, as some are kept back.
const SCAN_BATCH: usize = 4 * CAPACITY;
const MAX_REQUEST_LATENCY: Duration = Duration::seconds(2);
const MIN_VALIDATION_TIME: Duration = Duration::seconds(10);
const MAX_VALIDATION_TIME: Duration = Duration::seconds(60);
const MIN_HASTY_PAUSE: Duration = Duration::SECOND;
const MAX_HASTY_PAUSE: Duration = Duration::MINUTE;
const SEED_STEP: u64 = 0x9E37_79B9_7F4A_7C15;
