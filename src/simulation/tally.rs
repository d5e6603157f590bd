//! What is counted while a fleet lives.

use std::ops::AddAssign;

use time::Duration;

use crate::domain::value::moment::Moment;
use crate::simulation::ca::CaModelLimit;
use crate::simulation::scenario::{START, Scenario};

/// Counts of one account, or of all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Orders that the CA took, by the hour.
    pub(super) orders: Vec<u32>,
    /// Certificates that were issued.
    pub(super) issued: u64,
    /// Orders that the CA refused.
    pub(super) refused: RefusalTally,
    /// Requests that met a CA that is down.
    pub(super) unanswered: u64,
    /// Validations that failed.
    pub(super) invalid: u64,
    /// How often the ledger kept an order back.
    pub(super) deferred_by_limit: u64,
    /// How often the breaker kept an order back.
    pub(super) deferred_by_breaker: u64,
    /// How often the CA was asked when it would like a renewal.
    pub(super) polls: u64,
    /// The least time that a certificate still had when its replacement came or time was up, and when that was.
    pub(super) smallest_slack: Option<(Duration, Moment)>,
    /// Certificates that expired or were revoked before their replacement came.
    pub(super) lapses: u64,
    /// The first of these moments.
    pub(super) first_lapse: Option<Moment>,
}

/// Orders that the CA refused, by the limit that they would have broken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RefusalTally {
    pub(super) orders: u64,
    pub(super) domain: u64,
    pub(super) name_set: u64,
    pub(super) failures: u64,
    pub(super) paused: u64,
}

impl RefusalTally {
    /// Of all kinds.
    pub(super) const fn total(&self) -> u64 {
        self.orders + self.domain + self.name_set + self.failures + self.paused
    }
}

impl Tally {
    /// Nothing has happened.
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self { orders: vec![0; scenario.days as usize * HOURS_PER_DAY], ..Self::default() }
    }

    /// The CA took an order.
    pub(super) fn count_order(&mut self, now: Moment) {
        let hour = usize::try_from((now - START).whole_hours()).unwrap_or_default();
        if let Some(orders) = self.orders.get_mut(hour) {
            *orders += 1;
        }
    }

    /// The CA refused an order for a limit.
    pub(super) const fn count_refusal(&mut self, limit: CaModelLimit) {
        let count = match limit {
            CaModelLimit::Orders => &mut self.refused.orders,
            CaModelLimit::Domain => &mut self.refused.domain,
            CaModelLimit::NameSet => &mut self.refused.name_set,
            CaModelLimit::Failures => &mut self.refused.failures,
        };
        *count += 1;
    }

    /// A certificate was replaced, or the end was reached before that.
    pub(super) fn record_replacement(&mut self, deadline: Moment, now: Moment) {
        self.smallest_slack = min_option(self.smallest_slack, Some((deadline - now, now)));
        if deadline <= now {
            self.lapses += 1;
            self.first_lapse = min_option(self.first_lapse, Some(deadline));
        }
    }

    /// Orders that the CA took, by the day.
    pub(super) fn orders_by_day(&self) -> Vec<u64> {
        self.orders.chunks(HOURS_PER_DAY).map(|hours| hours.iter().copied().map(u64::from).sum()).collect()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in self.orders.iter_mut().zip(other.orders) {
            *sum += more;
        }
        self.issued += other.issued;
        self.refused.orders += other.refused.orders;
        self.refused.domain += other.refused.domain;
        self.refused.name_set += other.refused.name_set;
        self.refused.failures += other.refused.failures;
        self.refused.paused += other.refused.paused;
        self.unanswered += other.unanswered;
        self.invalid += other.invalid;
        self.deferred_by_limit += other.deferred_by_limit;
        self.deferred_by_breaker += other.deferred_by_breaker;
        self.polls += other.polls;
        self.smallest_slack = min_option(self.smallest_slack, other.smallest_slack);
        self.lapses += other.lapses;
        self.first_lapse = min_option(self.first_lapse, other.first_lapse);
    }
}

fn min_option<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

const HOURS_PER_DAY: usize = 24;
