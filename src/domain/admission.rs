//! Who goes next at one provider: the most urgent first, never more at once than it may have, nothing that its CA's limits
//! doom, and one probe at a time while it is down (decisions 8 and 9 of the renewal design). Pure.

use std::collections::HashMap;

use time::Duration;

use crate::domain::breaker::Breaker;
use crate::domain::hold::{Hold, HoldCause};
use crate::domain::ledger::{Bucket, Ledger, OrderFacts};
use crate::domain::moment::Moment;

/// What somebody in the queue wants of the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Nothing that counts there: to clean up, or to ask when to renew.
    Aside,
    /// To go on with an order that is made.
    Resume,
    /// To make an order.
    Order(OrderFacts),
}

/// One in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What is wanted.
    pub errand: Errand,
    /// Whether a person asked for it: that is a probe, if need be.
    pub requested: bool,
}

/// The provider by now.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// What failed at it lately.
    pub breaker: Option<&'a Breaker>,
    /// How many are being worked on there.
    pub running: usize,
    /// How many may be.
    pub room: usize,
}

/// What becomes of one in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its turn has come.
    Go,
    /// It is kept back.
    Hold(Hold),
    /// There is no room left; it stays where it is.
    Wait,
}

/// Decides about a queue, the most urgent first; one verdict for each. Orders that go are counted in `ledger`.
pub fn admit(queue: &[Candidate], gate: Gate<'_>, ledger: &mut Ledger, now: Moment) -> Vec<Verdict> {
    let mut room = gate.room.saturating_sub(gate.running);
    let mut probe = Probe::of(&gate, now);
    let mut held: HashMap<Bucket, i32> = HashMap::new();
    let mut decide = |candidate: &Candidate| {
        if room == 0 {
            return Verdict::Wait;
        }
        if candidate.errand != Errand::Aside
            && !candidate.requested
            && let Some(until) = probe.held_until()
        {
            return Verdict::Hold(Hold { until, cause: HoldCause::ProviderDown });
        }
        if let Errand::Order(order) = &candidate.errand {
            if let Err(full) = ledger.look(order, now) {
                // Those behind get later moments, so that they do not all come back at once.
                let rank = held.entry(full.bucket.clone()).and_modify(|rank| *rank += 1).or_default();
                let until = (full.until + full.rate.interval() * *rank).min(now + LONGEST_HOLD);
                return Verdict::Hold(Hold { until, cause: HoldCause::Limit(full.to_string()) });
            }
            ledger.ordered(order, now);
        }
        if candidate.errand != Errand::Aside {
            probe.is_sent(now);
        }
        room -= 1;
        Verdict::Go
    };
    queue.iter().map(&mut decide).collect()
}

/// What the breaker still lets through.
enum Probe {
    /// It is closed.
    NotNeeded,
    /// One may go.
    Allowed,
    /// None may, until then.
    Held(Moment),
}

impl Probe {
    /// What is under way may be the probe.
    fn of(gate: &Gate<'_>, now: Moment) -> Self {
        match gate.breaker.and_then(Breaker::open_until) {
            None => Self::NotNeeded,
            Some(until) if until > now => Self::Held(until),
            Some(_) if gate.running > 0 => Self::Held(now + PATIENCE_FOR_PROBE),
            Some(_) => Self::Allowed,
        }
    }

    const fn held_until(&self) -> Option<Moment> {
        match self {
            Self::Held(until) => Some(*until),
            Self::NotNeeded | Self::Allowed => None,
        }
    }

    fn is_sent(&mut self, now: Moment) {
        if matches!(self, Self::Allowed) {
            *self = Self::Held(now + PATIENCE_FOR_PROBE);
        }
    }
}

/// What comes of a probe ends the holds; this is for one that was never heard of again.
const PATIENCE_FOR_PROBE: Duration = Duration::minutes(2);
/// After a day everything is looked at anew, whatever was planned.
const LONGEST_HOLD: Duration = Duration::days(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::disposition::{Disposition, Failure};
    use crate::domain::ledger::{Allowance, Limits, Rate};
    use crate::domain::name::DnsName;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn order(number: usize) -> Candidate {
        let name: DnsName = format!("www.d{number}.com").parse().unwrap();
        Candidate { errand: Errand::Order(OrderFacts::new(&[name], Allowance::None)), requested: false }
    }

    const fn aside() -> Candidate {
        Candidate { errand: Errand::Aside, requested: false }
    }

    fn open(probe_in: Duration) -> Breaker {
        let last = Failure { disposition: Disposition::ProviderDown { not_before: None }, message: "503".into() };
        let probe_at = Some(NOW + probe_in);
        Breaker { since: NOW - Duration::HOUR, failures: 5, first: None, shared: true, probe_at, last }
    }

    fn go(verdicts: &[Verdict]) -> Vec<bool> {
        verdicts.iter().map(|verdict| *verdict == Verdict::Go).collect()
    }

    fn held(verdict: &Verdict) -> Duration {
        let Verdict::Hold(hold) = verdict else { panic!("{verdict:?}") };
        hold.until - NOW
    }

    #[test]
    fn the_first_in_the_queue_take_the_room_that_is_there() {
        let queue = [aside(), order(1), order(2), order(3)];
        let gate = Gate { breaker: None, running: 1, room: 3 };
        let verdicts = admit(&queue, gate, &mut Ledger::default(), NOW);
        assert_eq!(verdicts, [Verdict::Go, Verdict::Go, Verdict::Wait, Verdict::Wait]);
    }

    #[test]
    fn while_it_is_down_only_what_counts_there_is_kept_back() {
        let breaker = open(Duration::minutes(4));
        let requested = Candidate { requested: true, ..order(3) };
        let queue = [order(1), aside(), Candidate { errand: Errand::Resume, requested: false }, requested];
        let verdicts =
            admit(&queue, Gate { breaker: Some(&breaker), running: 0, room: 32 }, &mut Ledger::default(), NOW);
        assert_eq!(go(&verdicts), [false, true, false, true]);
        assert_eq!(held(&verdicts[0]), Duration::minutes(4));
    }

    #[test]
    fn one_probe_is_sent_and_no_storm() {
        let breaker = open(-Duration::SECOND);
        let queue: Vec<Candidate> = (0..10).map(order).collect();
        let gate = Gate { breaker: Some(&breaker), running: 0, room: 32 };
        let verdicts = admit(&queue, gate, &mut Ledger::default(), NOW);
        assert_eq!(go(&verdicts), (0..10).map(|number| number == 0).collect::<Vec<_>>());
        let under_way = admit(&queue, Gate { running: 1, ..gate }, &mut Ledger::default(), NOW);
        assert!(go(&under_way).iter().all(|go| !go));
    }

    #[test]
    fn doomed_orders_are_kept_back_one_token_apart_and_do_not_hold_up_others() {
        let limits = Limits { certificates_of_domain: Rate::new(1, Duration::HOUR), ..Limits::NONE };
        let mut ledger = Ledger::new(limits, [(Bucket::Domain("d1.com".to_owned()), NOW + Duration::HOUR)]);
        let queue = [order(1), order(2), order(1)];
        let verdicts = admit(&queue, Gate { breaker: None, running: 0, room: 32 }, &mut ledger, NOW);
        assert_eq!(go(&verdicts), [false, true, false]);
        assert_eq!((held(&verdicts[0]), held(&verdicts[2])), (Duration::HOUR, Duration::hours(2)));
        let Verdict::Hold(hold) = &verdicts[0] else { panic!() };
        assert_eq!(hold.cause, HoldCause::Limit("new certificates of d1.com (1 in 1 h)".to_owned()));
    }

    #[test]
    fn the_orders_of_one_queue_count_among_themselves() {
        let limits = Limits { orders: Rate::new(2, Duration::HOUR), ..Limits::NONE };
        let queue: Vec<Candidate> = (0..4).map(order).collect();
        let gate = Gate { breaker: None, running: 0, room: 32 };
        let verdicts = admit(&queue, gate, &mut Ledger::new(limits, []), NOW);
        assert_eq!(go(&verdicts), [true, true, false, false]);
        assert_eq!([held(&verdicts[2]), held(&verdicts[3])], [Duration::minutes(30), Duration::HOUR]);
    }
}
