//! The model of a CA: what one account meets of it. It has Let's Encrypt's published limits in buckets of its own, which
//! know nothing of the ledger: where the two disagree, the ledger is wrong.

use std::collections::HashMap;

use time::Duration;

use crate::domain::renewal::renewal_info::{RenewalInfoAnswer, RenewalWindow};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;

/// What one account meets of the CA.
pub(super) struct CaModel {
    lifetime: Duration,
    /// The newest certificate of each member of the fleet.
    issued: Vec<IssuedCertificate>,
    /// Orders that are made and not finished.
    open: HashMap<u32, OpenOrder>,
    orders: TokenBucket,
    domains: HashMap<String, TokenBucket>,
    /// Each set of names that was ever certified.
    name_sets: HashMap<String, TokenBucket>,
    failures: HashMap<String, TokenBucket>,
    failures_in_a_row: HashMap<String, u32>,
}

/// A certificate as the CA knows it.
#[derive(Clone, Copy)]
pub(super) struct IssuedCertificate {
    /// The start of its validity.
    pub(super) not_before: Moment,
    /// The end of its validity.
    pub(super) not_after: Moment,
    /// When it should be replaced.
    pub(super) window: RenewalWindow,
    /// When it is revoked, where that was announced.
    revoked_at: Option<Moment>,
}

impl IssuedCertificate {
    /// The moment from which it serves no more.
    pub(super) fn deadline(&self) -> Moment {
        self.revoked_at.map_or(self.not_after, |revoked_at| revoked_at.min(self.not_after))
    }
}

#[derive(Clone, Copy)]
struct OpenOrder {
    created: Moment,
    exempt: bool,
}

/// Why the CA did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderRefusal {
    /// HTTP 429: the order would break this limit; with `Retry-After`.
    RateLimited(CaModelLimit, Moment),
    /// HTTP 429 without `Retry-After`: a name was paused after too many failures, and only a person can undo that.
    Paused,
    /// The order is gone: nobody finished it in time.
    Expired,
    /// A name could not be validated.
    Invalid,
}

/// A limit that an order can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaModelLimit {
    Orders,
    Domain,
    NameSet,
    Failures,
}

impl CaModel {
    /// A CA that has issued nothing yet.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            issued: Vec::new(),
            open: HashMap::new(),
            orders: TokenBucket::FULL,
            domains: HashMap::new(),
            name_sets: HashMap::new(),
            failures: HashMap::new(),
            failures_in_a_row: HashMap::new(),
        }
    }

    /// The age at which a certificate is renewed whose moment is picked in the window by `draw`, in `0.0 .. 1.0`.
    pub(super) fn renewal_age(&self, draw: f64) -> Duration {
        self.lifetime * (RENEWAL_WINDOW.0 + (RENEWAL_WINDOW.1 - RENEWAL_WINDOW.0) * draw)
    }

    /// Takes a certificate for granted that was issued long ago, the next one of the fleet.
    pub(super) fn add_existing(&mut self, names: &[DnsName], not_before: Moment) -> IssuedCertificate {
        let issued = self.create_certificate(not_before);
        self.issued.push(issued);
        self.name_sets.insert(name_set(names), TokenBucket::FULL);
        issued
    }

    /// The newest certificate of a member of the fleet.
    pub(super) fn newest(&self, certificate: u32) -> &IssuedCertificate {
        &self.issued[certificate as usize]
    }

    /// What it says about the renewal of the newest certificate of a member (RFC 9773).
    pub(super) fn renewal_info(&self, certificate: u32, now: Moment) -> RenewalInfoAnswer {
        RenewalInfoAnswer::Window {
            window: self.newest(certificate).window,
            explanation_url: None,
            retry_after: Some(now + POLL_INTERVAL),
        }
    }

    /// Announces that each certificate which is alive is going to be revoked.
    pub(super) fn announce_revocation(&mut self, now: Moment, notice: Duration) {
        for issued in self.issued.iter_mut().filter(|issued| issued.deadline() > now) {
            issued.revoked_at = Some(now + notice);
            if let Some(window) = RenewalWindow::new(now - Duration::DAY, now - Duration::HOUR) {
                issued.window = window;
            }
        }
    }

    /// Takes an order; `replaces` tells whether it names the newest certificate as the one that it replaces.
    pub(super) fn new_order(
        &mut self,
        certificate: u32,
        names: &[DnsName],
        replaces: bool,
        now: Moment,
    ) -> Result<(), OrderRefusal> {
        let is_paused =
            |name: &DnsName| self.failures_in_a_row.get(name.base()).is_some_and(|row| *row >= PAUSE_THRESHOLD);
        if names.iter().any(is_paused) {
            return Err(OrderRefusal::Paused);
        }
        let newest = self.newest(certificate);
        let exempt = replaces && newest.window.contains(now) && now < newest.not_after;
        if !exempt {
            self.check_limits(names, now)?;
            self.orders.take(ORDERS, now);
        }
        self.open.insert(certificate, OpenOrder { created: now, exempt });
        Ok(())
    }

    /// Validates the names of an order and issues.
    pub(super) fn finalize(
        &mut self,
        certificate: u32,
        names: &[DnsName],
        valid: bool,
        now: Moment,
    ) -> Result<IssuedCertificate, OrderRefusal> {
        let order = self.open.remove(&certificate).filter(|order| now < order.created + ORDER_LIFETIME);
        let order = order.ok_or(OrderRefusal::Expired)?;
        if !valid {
            let name = names[0].base();
            self.failures.entry(name.to_owned()).or_insert(TokenBucket::FULL).take(FAILURES, now);
            *self.failures_in_a_row.entry(name.to_owned()).or_default() += 1;
            return Err(OrderRefusal::Invalid);
        }
        for name in names {
            self.failures_in_a_row.remove(name.base());
        }
        if !order.exempt {
            self.charge_certificate(names, now);
        }
        let issued = self.create_certificate(now);
        self.issued[certificate as usize] = issued;
        Ok(issued)
    }

    fn create_certificate(&self, now: Moment) -> IssuedCertificate {
        let not_before = now.whole_seconds();
        let at = |share: f64| not_before + self.lifetime * share;
        let window = RenewalWindow::new(at(RENEWAL_WINDOW.0), at(RENEWAL_WINDOW.1))
            .unwrap_or_else(|| unreachable!("a lifetime is over a day"));
        IssuedCertificate { not_before, not_after: not_before + self.lifetime, window, revoked_at: None }
    }

    fn check_limits(&self, names: &[DnsName], now: Moment) -> Result<(), OrderRefusal> {
        let refused = |limit| move |until| OrderRefusal::RateLimited(limit, until);
        self.orders.check(ORDERS, now).map_err(refused(CaModelLimit::Orders))?;
        match self.name_sets.get(&name_set(names)) {
            Some(tokens) => tokens.check(NAME_SET, now).map_err(refused(CaModelLimit::NameSet))?,
            None => names
                .iter()
                .filter_map(|name| self.domains.get(registered_domain(name)))
                .try_for_each(|tokens| tokens.check(DOMAIN, now).map_err(refused(CaModelLimit::Domain)))?,
        }
        let mut failures = names.iter().filter_map(|name| self.failures.get(name.base()));
        failures.try_for_each(|tokens| tokens.check(FAILURES, now).map_err(refused(CaModelLimit::Failures)))
    }

    /// Exact repetitions count among themselves, and not in the registered domain.
    fn charge_certificate(&mut self, names: &[DnsName], now: Moment) {
        let mut known = true;
        let tokens = self.name_sets.entry(name_set(names)).or_insert_with(|| {
            known = false;
            TokenBucket::FULL
        });
        tokens.take(NAME_SET, now);
        if known {
            return;
        }
        let mut domains: Vec<&str> = names.iter().map(registered_domain).collect();
        domains.dedup();
        for domain in domains {
            self.domains.entry(domain.to_owned()).or_insert(TokenBucket::FULL).take(DOMAIN, now);
        }
    }
}

/// A bucket of tokens that fills by itself.
#[derive(Clone, Copy)]
struct TokenBucket {
    /// How much was missing at `seen`, as the time that it takes to come back.
    missing: Duration,
    updated: Moment,
}

/// So many tokens, and how long an empty bucket takes to fill.
type BucketSize = (i32, Duration);

impl TokenBucket {
    const FULL: Self = Self { missing: Duration::ZERO, updated: Moment::from_micros(0) };

    /// Whether there is a token, or else when.
    fn check(self, (count, span): BucketSize, now: Moment) -> Result<(), Moment> {
        let beyond = self.missing_at(now) + span / count - span;
        if beyond.is_positive() { Err(now + beyond) } else { Ok(()) }
    }

    /// Takes a token, if there is one.
    fn take(&mut self, (count, span): BucketSize, now: Moment) {
        if self.check((count, span), now).is_ok() {
            *self = Self { missing: self.missing_at(now) + span / count, updated: now };
        }
    }

    fn missing_at(self, now: Moment) -> Duration {
        (self.missing - (now - self.updated)).max(Duration::ZERO)
    }
}

fn name_set(names: &[DnsName]) -> String {
    let mut texts: Vec<String> = names.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    texts.join(" ")
}

/// All names of a fleet are two or three labels below a top-level domain.
fn registered_domain(name: &DnsName) -> &str {
    let base = name.base();
    let dots = base.rmatch_indices('.').map(|(at, _)| at + 1);
    dots.take(2).nth(1).map_or(base, |start| &base[start..])
}

/// How long Let's Encrypt asks its clients to wait before they ask for renewal information again.
pub(super) const POLL_INTERVAL: Duration = Duration::hours(6);
/// <https://letsencrypt.org/docs/rate-limits/>, as of late 2026.
const ORDERS: BucketSize = (300, Duration::hours(3));
const DOMAIN: BucketSize = (50, Duration::days(7));
const NAME_SET: BucketSize = (5, Duration::days(7));
const FAILURES: BucketSize = (5, Duration::HOUR);
const PAUSE_THRESHOLD: u32 = 1_152;
/// Shares of the lifetime: around two thirds of it.
const RENEWAL_WINDOW: (f64, f64) = (2.0 / 3.0 - 0.01, 2.0 / 3.0 + 0.01);
/// As pending authorizations live with the profile `tlsserver`.
const ORDER_LIFETIME: Duration = Duration::HOUR;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::scenario::START;

    fn names(number: usize) -> Vec<DnsName> {
        vec![format!("h{number}.d.example").parse().unwrap(), format!("www.h{number}.d.example").parse().unwrap()]
    }

    fn ca(certificates: usize) -> CaModel {
        let mut ca = CaModel::new(Duration::days(45));
        for number in 0..certificates {
            ca.add_existing(&names(number), START - Duration::days(3));
        }
        ca
    }

    #[test]
    fn three_hundred_orders_and_then_one_every_36_seconds() {
        let mut ca = ca(302);
        let order = |ca: &mut CaModel, number: u32, now| ca.new_order(number, &names(number as usize), false, now);
        for number in 0..300 {
            assert_eq!(order(&mut ca, number, START), Ok(()));
        }
        let next = START + Duration::seconds(36);
        assert_eq!(order(&mut ca, 300, START), Err(OrderRefusal::RateLimited(CaModelLimit::Orders, next)));
        assert_eq!(order(&mut ca, 300, next), Ok(()));
        assert!(order(&mut ca, 301, next).is_err());
    }

    #[test]
    fn a_renewal_is_exempt_in_its_window_only_and_not_once_a_revocation_is_announced() {
        let mut ca = ca(1);
        let exempt = |ca: &mut CaModel, now, replaces| {
            ca.orders = TokenBucket::FULL;
            (0..300).for_each(|_| ca.orders.take(ORDERS, now));
            ca.new_order(0, &names(0), replaces, now).is_ok()
        };
        let inside = START + Duration::days(27);
        assert!(exempt(&mut ca, inside, true));
        assert!(!exempt(&mut ca, inside, false));
        assert!(!exempt(&mut ca, inside + Duration::DAY, true));
        ca.announce_revocation(inside, Duration::days(5));
        assert!(!exempt(&mut ca, inside, true));
        assert_eq!(ca.newest(0).deadline(), inside + Duration::days(5));
    }

    #[test]
    fn names_are_certified_five_times_a_week_and_new_ones_of_a_domain_fifty_times() {
        let mut ca = ca(1);
        let mut issue = |number: usize| {
            ca.new_order(0, &names(number), false, START)?;
            ca.finalize(0, &names(number), true, START)
        };
        let repeated: Vec<bool> = (0..6).map(|_| issue(0).is_ok()).collect();
        assert_eq!(repeated, [true, true, true, true, true, false]);
        let new = (1..100).map_while(|number| issue(number).ok()).count();
        assert_eq!(new, 50);
    }

    #[test]
    fn failures_stop_a_name_for_minutes_and_in_the_end_for_good() {
        let mut ca = ca(1);
        let mut now = START;
        let fail = |ca: &mut CaModel, now| {
            ca.new_order(0, &names(0), false, now)?;
            ca.finalize(0, &names(0), false, now)
        };
        for _ in 0..5 {
            assert_eq!(fail(&mut ca, now).err(), Some(OrderRefusal::Invalid));
        }
        let next = now + Duration::minutes(12);
        assert_eq!(fail(&mut ca, now).err(), Some(OrderRefusal::RateLimited(CaModelLimit::Failures, next)));
        for _ in 5..PAUSE_THRESHOLD {
            now = now + Duration::hours(1);
            assert_eq!(fail(&mut ca, now).err(), Some(OrderRefusal::Invalid));
        }
        assert_eq!(fail(&mut ca, now + Duration::days(30)).err(), Some(OrderRefusal::Paused));
    }

    #[test]
    fn an_order_that_nobody_finishes_expires() {
        let mut ca = ca(1);
        ca.new_order(0, &names(0), false, START).unwrap();
        assert_eq!(ca.finalize(0, &names(0), true, START + Duration::hours(2)).err(), Some(OrderRefusal::Expired));
    }
}
