//! One account with its certificates: what the daemon's scheduler does, without a store and a network. Whatever is decided
//! here is decided by `domain`.

mod certificate;
mod polls;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use time::Duration;

use crate::domain::admission::{QueuedWork, WorkKind, AdmissionInput, Admission, admit};
use crate::domain::attempt::StageKind;
use crate::domain::auto_certificate::AutoCertificateFacts;
use crate::domain::back_off::FailureStreak;
use crate::domain::breaker::Breaker;
use crate::domain::disposition::{Disposition, Failure};
use crate::domain::hold::{Deferral, DeferralCause};
use crate::domain::ledger::{RateLimitExemption, RateLimitLedger, CaLimits, OrderFacts};
use crate::domain::moment::Moment;
use crate::domain::plan::{RenewalAction, RenewalReason, plan, renewal_moment};
use crate::domain::retry_after::RetryAfter;
use crate::domain::text::RemoteMessage;
use crate::runtime::randomness::Randomness;
use crate::simulation::account::certificate::{Certificate, Step};
use crate::simulation::ca::{Ca, Refusal};
use crate::simulation::scenario::{Control, START, Scenario, midnight};
use crate::simulation::tally::Tally;

/// An account and the autocertd that has it.
pub(super) struct Account<'a> {
    scenario: &'a Scenario,
    ca: Ca,
    certificates: Vec<Certificate>,
    ledger: RateLimitLedger,
    breaker: Option<Breaker>,
    /// What happens next and to whom; an entry counts for as long as the certificate agrees.
    events: BinaryHeap<Reverse<(Moment, u32)>>,
    /// Those who wait for their turn, the most urgent first.
    queue: BTreeSet<(Moment, u32)>,
    /// What the open attempts ordered.
    ordered: HashMap<u32, OrderFacts>,
    running: usize,
    /// How many wait for the limits of the CA.
    line: usize,
    randomness: Randomness,
    tally: Tally,
}

impl<'a> Account<'a> {
    /// The account of this number with its share of the fleet, in mid-life.
    pub(super) fn new(scenario: &'a Scenario, number: u32) -> Self {
        let randomness = Randomness::from_seed(scenario.seed.wrapping_add(u64::from(number).wrapping_mul(SEED_STEP)));
        let mut ca = Ca::new(scenario.lifetime);
        let certificates = certificate::fleet(scenario, number, &mut ca, &randomness);
        let limits = if scenario.is(Control::NoLedger) { CaLimits::NONE } else { CaLimits::LETS_ENCRYPT };
        let mut account = Self {
            scenario,
            ca,
            certificates,
            ledger: RateLimitLedger::new(limits, []),
            breaker: None,
            events: BinaryHeap::new(),
            queue: BTreeSet::new(),
            ordered: HashMap::new(),
            running: 0,
            line: 0,
            randomness,
            tally: Tally::new(scenario),
        };
        for index in account.indices() {
            account.look(index, START);
        }
        account
    }

    /// Lives to the end and tells what happened.
    pub(super) fn live(mut self) -> Tally {
        let end = self.scenario.end();
        let mut revocations = self.scenario.mass_revocations.clone();
        revocations.sort_by_key(|revocation| Reverse(revocation.day));
        let mut day = START;
        while let Some(now) = self.events.peek().map(|Reverse((at, _))| *at).filter(|at| *at < end) {
            if let Some(revocation) = revocations.pop_if(|revocation| midnight(revocation.day) <= now) {
                self.announce_revocation(revocation);
                continue;
            }
            if now >= day {
                self.ledger.forget_settled(now);
                day = day + Duration::DAY;
            }
            while let Some(index) = self.next_at(now) {
                self.turn_to(index, now);
            }
            self.scan(now);
        }
        for index in self.indices() {
            let deadline = self.ca.newest(index).deadline();
            if deadline < end {
                self.tally.replaced(deadline, end);
            }
        }
        self.tally
    }

    /// Whom something happens to at this very moment.
    fn next_at(&mut self, now: Moment) -> Option<u32> {
        let Reverse((_, index)) = *self.events.peek().filter(|Reverse((at, _))| *at == now)?;
        self.events.pop();
        Some(index)
    }

    fn turn_to(&mut self, index: u32, now: Moment) {
        let certificate = self.certificate(index);
        if certificate.next != now {
            return;
        }
        match certificate.step {
            Step::Waiting => self.look(index, now),
            Step::Queued => {}
            Step::Ordering => self.order(index, now),
            Step::Proving => self.finish(index, now),
        }
    }

    /// Asks the plan what is to be done about one that nobody works on, and does it as far as it costs nothing.
    fn look(&mut self, index: u32, now: Moment) {
        if self.scenario.is(Control::Midnight) {
            self.certificate(index).suggest_midnight(now);
        } else {
            self.catch_up_on_polls(index, now);
        }
        let plan = loop {
            let plan = plan(&self.certificate(index).standing, now);
            if plan.action != RenewalAction::AskRenewalInfo {
                break plan;
            }
            self.ask(index, now);
        };
        let is_in_line = plan.reason == RenewalReason::Limit;
        let was_in_line = std::mem::replace(&mut self.certificate(index).in_line, is_in_line);
        self.line = self.line + usize::from(is_in_line) - usize::from(was_in_line);
        let certificate = self.certificate(index);
        if plan.action != RenewalAction::Idle {
            certificate.step = Step::Queued;
            let urgency = certificate.expiry();
            self.queue.insert((urgency, index));
            return;
        }
        let newest = certificate.standing.newest.filter(|_| !certificate.news);
        let next = match (plan.reason, newest) {
            // Polls that bring nothing new are caught up on later.
            (RenewalReason::WindowAhead(_), Some(newest)) => {
                renewal_moment(&newest, certificate.standing.renewal_info.as_ref(), now).0
            }
            _ => plan.next_look,
        };
        self.wait(index, next);
    }

    /// Admits whom there is room for, and begins.
    fn scan(&mut self, now: Moment) {
        while self.running < ROOM && !self.queue.is_empty() {
            let queue: Vec<(Moment, u32)> = self.queue.iter().take(LOOKED_AT_TOGETHER).copied().collect();
            let candidates: Vec<QueuedWork> = queue.iter().map(|(_, index)| self.candidate(*index, now)).collect();
            let draw = self.randomness.fraction();
            let gate =
                AdmissionInput { breaker: self.breaker.as_ref(), running: self.running, room: ROOM, line: self.line, draw };
            let verdicts = admit(&candidates, gate, &mut self.ledger, now);
            for ((entry, candidate), verdict) in queue.into_iter().zip(candidates).zip(verdicts) {
                match verdict {
                    Admission::Go => self.begin(entry.1, candidate.errand, now),
                    Admission::Hold(hold) => self.hold(entry.1, hold, now),
                    Admission::Wait => continue,
                }
                self.queue.remove(&entry);
            }
        }
    }

    fn hold(&mut self, index: u32, hold: Deferral, now: Moment) {
        match hold.cause {
            DeferralCause::Limit { .. } => self.tally.held_by_limit += 1,
            DeferralCause::ProviderDown => self.tally.held_by_breaker += 1,
        }
        let certificate = self.certificate(index);
        certificate.standing.hold = Some(hold);
        certificate.step = Step::Waiting;
        self.look(index, now);
    }

    fn candidate(&mut self, index: u32, now: Moment) -> QueuedWork {
        let replaces = !self.scenario.is(Control::Midnight);
        let Certificate { names, standing, .. } = self.certificate(index);
        let expiry = standing.newest.map(|newest| newest.not_after);
        let errand = if standing.open_attempt.is_some() {
            WorkKind::Resume
        } else {
            let allowance = if replaces { RateLimitExemption::of(standing, true, now) } else { RateLimitExemption::Repetition };
            WorkKind::Order(OrderFacts::new(names, allowance))
        };
        QueuedWork { errand, requested: false, expiry }
    }

    fn begin(&mut self, index: u32, errand: WorkKind, now: Moment) {
        self.running += 1;
        self.certificate(index).standing.hold = None;
        if let WorkKind::Order(facts) = errand {
            self.ordered.insert(index, facts);
            self.certificate(index).step = Step::Ordering;
            let travel = self.span(Duration::ZERO, LONGEST_TRAVEL);
            self.wait(index, now + travel);
        } else {
            self.prove(index, now);
        }
    }

    /// The order has reached the CA.
    fn order(&mut self, index: u32, now: Moment) {
        if self.scenario.is_down(now) {
            self.ordered.remove(&index);
            return self.find_it_down(index, now);
        }
        let replaces = self.ordered.get(&index).is_some_and(|facts| facts.allowance() == RateLimitExemption::InWindow);
        match self.ca.new_order(index, &self.certificates[index as usize].names, replaces, now) {
            Ok(()) => {
                self.tally.order(now);
                self.certificate(index).standing.open_attempt = Some(StageKind::Ordered);
                self.prove(index, now);
            }
            Err(refusal) => self.give_up(index, refusal, now),
        }
    }

    fn prove(&mut self, index: u32, now: Moment) {
        self.certificate(index).step = Step::Proving;
        let work = self.span(SHORTEST_WORK, LONGEST_WORK);
        self.wait(index, now + work);
    }

    /// The names are proven or not, and the certificate is issued or not.
    fn finish(&mut self, index: u32, now: Moment) {
        if self.scenario.is_down(now) {
            return self.find_it_down(index, now);
        }
        let old = self.ca.newest(index).deadline();
        let valid = !self.scenario.fails(index, now);
        let issued = match self.ca.finish(index, &self.certificates[index as usize].names, valid, now) {
            Ok(issued) => issued,
            Err(refusal) => return self.give_up(index, refusal, now),
        };
        self.tally.replaced(old, now);
        self.tally.issued += 1;
        if let Some(facts) = self.ordered.remove(&index) {
            self.ledger.issued(&facts, now);
        }
        let id = self.randomness.uuid().into();
        let certificate = self.certificate(index);
        certificate.news = false;
        certificate.standing =
            AutoCertificateFacts { newest: Some(certificate::newest(&issued, id)), last_issued: Some(now), ..AutoCertificateFacts::default() };
        self.free(index, now);
        self.find_it_up(now);
    }

    /// The CA said no, and the attempt is over.
    fn give_up(&mut self, index: u32, refusal: Refusal, now: Moment) {
        self.certificate(index).standing.open_attempt = None;
        self.ordered.remove(&index);
        let failure = match refusal {
            Refusal::Limit(limit, until) => {
                self.tally.refusal(limit);
                let disposition = Disposition::Retry { not_before: Some(until) };
                Failure { disposition, message: RemoteMessage::default() }
            }
            Refusal::Paused => {
                self.tally.refused.paused += 1;
                Failure::operator("")
            }
            Refusal::Expired => Failure::restart(""),
            Refusal::Invalid => {
                self.tally.invalid += 1;
                self.ledger.failed(&self.certificates[index as usize].names[0], now);
                Failure::restart("")
            }
        };
        self.fail(index, failure, now);
    }

    /// A 503, without `Retry-After` unless the CA is careless, or a connection that breaks; what is ordered stays ordered.
    fn find_it_down(&mut self, index: u32, now: Moment) {
        self.tally.unanswered += 1;
        let message = if index.is_multiple_of(2) { "HTTP 503" } else { "the connection broke" };
        let asked = self.scenario.careless_retry_after.then(|| CARELESS[index as usize % CARELESS.len()]);
        let not_before = RetryAfter::read(asked.map(str::as_bytes), now).moment();
        let disposition = Disposition::ProviderDown { not_before };
        self.fail(index, Failure { disposition, message: message.into() }, now);
    }

    fn fail(&mut self, index: u32, failure: Failure, now: Moment) {
        let (jitter, hasty) = (self.randomness.fraction(), self.scenario.is(Control::NoBackOff));
        let certificate = self.certificate(index);
        let (previous, expiry) = (certificate.standing.trouble.take(), Some(certificate.expiry()));
        let mut trouble = FailureStreak::after(previous.as_ref(), failure, now, expiry, jitter);
        if hasty {
            trouble.next_try = now + SHORTEST_HASTE + (LONGEST_HASTE - SHORTEST_HASTE) * jitter;
        }
        let failure = trouble.for_breaker(expiry);
        certificate.standing.trouble = Some(trouble);
        if !hasty {
            let subject = uuid::Uuid::from_u128(index.into()).into();
            self.breaker = Breaker::after(self.breaker.take(), Some(subject), &failure, now, jitter);
        }
        self.free(index, now);
    }

    fn free(&mut self, index: u32, now: Moment) {
        self.running -= 1;
        self.certificate(index).step = Step::Waiting;
        self.look(index, now);
    }

    /// The provider did what it was asked: what was put off because it was down is put off no longer.
    fn find_it_up(&mut self, now: Moment) {
        if self.breaker.take().is_none() {
            return;
        }
        for index in self.indices() {
            let certificate = self.certificate(index);
            if certificate.forgive_the_provider() && certificate.step == Step::Waiting {
                self.look(index, now);
            }
        }
    }
}

impl Account<'_> {
    fn wait(&mut self, index: u32, next: Moment) {
        self.certificate(index).next = next;
        self.events.push(Reverse((next, index)));
    }

    fn span(&self, shortest: Duration, longest: Duration) -> Duration {
        shortest + (longest - shortest) * self.randomness.fraction()
    }

    fn certificate(&mut self, index: u32) -> &mut Certificate {
        &mut self.certificates[index as usize]
    }

    fn indices(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.certificates.len()).unwrap_or(u32::MAX)
    }
}

/// The default of the daemon.
pub(super) const ROOM: usize = 32;
/// What a careless CA sends as `Retry-After`: most of it nonsense, the last ones far too much.
const CARELESS: [&str; 8] = [
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
const LOOKED_AT_TOGETHER: usize = 4 * ROOM;
const LONGEST_TRAVEL: Duration = Duration::seconds(2);
const SHORTEST_WORK: Duration = Duration::seconds(10);
const LONGEST_WORK: Duration = Duration::seconds(60);
const SHORTEST_HASTE: Duration = Duration::SECOND;
const LONGEST_HASTE: Duration = Duration::MINUTE;
const SEED_STEP: u64 = 0x9E37_79B9_7F4A_7C15;
