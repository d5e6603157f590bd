//! A ledger of what counts against a CA's limits, so that doomed orders are not sent (decision 8 of the renewal design).
//! Limits are token buckets, as Let's Encrypt has them; how full one is, is a single moment: when it will have recovered
//! from all that was taken (the generic cell rate algorithm). Pure.

use std::collections::HashMap;
use std::fmt;

use time::Duration;

use crate::domain::value::moment::Moment;
use crate::domain::value::name::DnsName;

/// So many within a span, evenly given back: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    count: u32,
    span: Duration,
}

impl RateLimit {
    /// A rate; nothing where nothing could ever pass.
    pub fn new(count: u32, span: Duration) -> Option<Self> {
        (count > 0 && span.is_positive()).then_some(Self { count, span })
    }

    /// How many fit into an untouched bucket.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// How long an empty bucket takes to recover.
    pub const fn span(self) -> Duration {
        self.span
    }

    /// How long one token takes to come back.
    pub fn interval(self) -> Duration {
        self.span / self.count
    }

    /// When the next one may be taken from a bucket that recovers at `settled`.
    fn next_allowed(self, settled: Moment) -> Moment {
        settled - self.span + self.interval() + self.reserve()
    }

    /// A few tokens of a larger bucket are left to the CA, which counts an order when it arrives and not when it is sent,
    /// and may count one that was believed to be exempt.
    fn reserve(self) -> Duration {
        self.interval() * (self.count / 20).min(MAX_RESERVE)
    }

    /// When the bucket recovers once one more was taken at `now`.
    fn recovery_after_one_more(self, settled: Moment, now: Moment) -> Moment {
        settled.max(now) + self.interval()
    }

    /// How many count by `now`.
    fn used(self, settled: Moment, now: Moment) -> u32 {
        let share = (settled - now) / self.interval();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
        let used = share.ceil().clamp(0.0, f64::from(u32::MAX)) as u32;
        used
    }
}

/// `300 in 3h`.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.span.whole_seconds();
        let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
        let (size, unit) = units.into_iter().find(|(size, _)| seconds % size == 0).unwrap_or((1, "s"));
        write!(f, "{} in {} {unit}", self.count, seconds / size)
    }
}

/// The limits of a CA; what is absent is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaLimits {
    /// Orders of an account.
    pub orders_per_account: Option<RateLimit>,
    /// Certificates of a registered domain, from all accounts, repetitions aside.
    pub certificates_per_domain: Option<RateLimit>,
    /// Certificates for exactly the same names, from all accounts.
    pub certificates_per_name_set: Option<RateLimit>,
    /// Failed validations of a name by an account.
    pub failed_validations_per_name: Option<RateLimit>,
}

impl CaLimits {
    /// No limits that are known.
    pub const NONE: Self = Self {
        orders_per_account: None,
        certificates_per_domain: None,
        certificates_per_name_set: None,
        failed_validations_per_name: None,
    };

    /// Those that Let's Encrypt publishes (rate limits, as of late 2026).
    pub const LETS_ENCRYPT: Self = Self {
        orders_per_account: Some(RateLimit { count: 300, span: Duration::hours(3) }),
        certificates_per_domain: Some(RateLimit { count: 50, span: Duration::days(7) }),
        certificates_per_name_set: Some(RateLimit { count: 5, span: Duration::days(7) }),
        failed_validations_per_name: Some(RateLimit { count: 5, span: Duration::hours(1) }),
    };

    /// Those of the staging environment of Let's Encrypt (as of late 2026).
    pub const LETS_ENCRYPT_STAGING: Self = Self {
        orders_per_account: Some(RateLimit { count: 1_500, span: Duration::hours(3) }),
        certificates_per_domain: Some(RateLimit { count: 30_000, span: Duration::days(7) }),
        certificates_per_name_set: Some(RateLimit { count: 30_000, span: Duration::days(7) }),
        failed_validations_per_name: Some(RateLimit { count: 200, span: Duration::hours(1) }),
    };

    /// The rate of a kind of bucket.
    pub const fn of(&self, bucket: &RateLimitBucket) -> Option<RateLimit> {
        match bucket {
            RateLimitBucket::Orders => self.orders_per_account,
            RateLimitBucket::Domain(_) => self.certificates_per_domain,
            RateLimitBucket::NameSet(_) => self.certificates_per_name_set,
            RateLimitBucket::FailedValidations(_) => self.failed_validations_per_name,
        }
    }
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RateLimitBucket {
    /// Orders of the account.
    Orders,
    /// Certificates of this registered domain.
    Domain(String),
    /// Certificates for exactly these names, sorted and joined by commas.
    NameSet(String),
    /// Failed validations of this name.
    FailedValidations(String),
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketScope {
    /// Each account has its own.
    Account,
    /// All accounts at the CA share it.
    Server,
}

impl RateLimitBucket {
    /// Whose it is.
    pub const fn scope(&self) -> BucketScope {
        match self {
            Self::Orders | Self::FailedValidations(_) => BucketScope::Account,
            Self::Domain(_) | Self::NameSet(_) => BucketScope::Server,
        }
    }

    /// Which limit it counts for.
    pub const fn kind(&self) -> LimitKind {
        match self {
            Self::Orders => LimitKind::Orders,
            Self::Domain(_) => LimitKind::Domain,
            Self::NameSet(_) => LimitKind::NameSet,
            Self::FailedValidations(_) => LimitKind::Failures,
        }
    }

    /// What it is about, as the store keeps it; empty for the account itself.
    pub fn subject(&self) -> &str {
        match self {
            Self::Orders => "",
            Self::Domain(subject) | Self::NameSet(subject) | Self::FailedValidations(subject) => subject,
        }
    }

    /// As the store kept it.
    pub fn from_parts(kind: &str, subject: String) -> Option<Self> {
        match LimitKind::from_stored(kind) {
            LimitKind::Orders => Some(Self::Orders),
            LimitKind::Domain => Some(Self::Domain(subject)),
            LimitKind::NameSet => Some(Self::NameSet(subject)),
            LimitKind::Failures => Some(Self::FailedValidations(subject)),
            LimitKind::Unknown => None,
        }
    }
}

/// A kind of limit, as the store keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Orders of an account.
    Orders,
    /// Certificates of a registered domain.
    Domain,
    /// Certificates for exactly the same names.
    NameSet,
    /// Failed validations of a name.
    Failures,
    /// One that another release knows.
    Unknown,
}

impl LimitKind {
    /// The text in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Domain => "domain",
            Self::NameSet => "name-set",
            Self::Failures => "failures",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the text in the database.
    pub fn from_stored(text: &str) -> Self {
        [Self::Orders, Self::Domain, Self::NameSet, Self::Failures]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for RateLimitBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orders => f.write_str("orders of the account"),
            Self::Domain(domain) => write!(f, "new certificates of {domain}"),
            Self::NameSet(names) => match names.split_once(',') {
                None => write!(f, "certificates for exactly {names}"),
                Some((first, others)) => {
                    write!(f, "certificates for exactly {first} and {} more", others.split(',').count())
                }
            },
            Self::FailedValidations(name) => write!(f, "failed validations of {name}"),
        }
    }
}

/// What of a CA's limits an order is spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitExemption {
    /// All: it replaces a certificate within the window that the CA suggested (RFC 9773).
    InRenewalWindow,
    /// That of its registered domains: exactly these names were certified before.
    SameNames,
    /// Nothing.
    None,
}

/// What an order takes from the buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFacts {
    exemption: RateLimitExemption,
    names: Vec<String>,
    domains: Vec<String>,
    name_set: String,
}

impl OrderFacts {
    /// An order for these names.
    pub fn new(names: &[DnsName], exemption: RateLimitExemption) -> Self {
        let distinct = |texts: &mut dyn Iterator<Item = String>| {
            let mut texts: Vec<String> = texts.collect();
            texts.sort_unstable();
            texts.dedup();
            texts
        };
        Self {
            exemption,
            names: distinct(&mut names.iter().map(|name| name.base().to_owned())),
            domains: distinct(&mut names.iter().map(|name| registered_domain(name.base()).to_owned())),
            name_set: distinct(&mut names.iter().map(ToString::to_string)).join(","),
        }
    }

    /// What it is spared.
    pub const fn exemption(&self) -> RateLimitExemption {
        self.exemption
    }

    /// What a certificate counts in once it is issued.
    pub fn certificate_buckets(&self) -> impl Iterator<Item = RateLimitBucket> + '_ {
        let domains = self
            .domains
            .iter()
            .filter(|_| self.exemption == RateLimitExemption::None)
            .cloned()
            .map(RateLimitBucket::Domain);
        let name_set = (self.exemption != RateLimitExemption::InRenewalWindow)
            .then(|| RateLimitBucket::NameSet(self.name_set.clone()));
        domains.chain(name_set)
    }

    /// Each bucket that must have room for it.
    pub fn order_buckets(&self) -> impl Iterator<Item = RateLimitBucket> + '_ {
        let counted = self.exemption != RateLimitExemption::InRenewalWindow;
        let failures = self.names.iter().filter(move |_| counted).cloned().map(RateLimitBucket::FailedValidations);
        counted.then_some(RateLimitBucket::Orders).into_iter().chain(failures).chain(self.certificate_buckets())
    }
}

/// A bucket that is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Which one.
    pub bucket: RateLimitBucket,
    /// Its rate.
    pub rate: RateLimit,
    /// When it has room again.
    pub until: Moment,
}

/// The limit in words.
impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.bucket, self.rate)
    }
}

/// How full a bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketLevel {
    /// Which one.
    pub bucket: RateLimitBucket,
    /// Its rate.
    pub rate: RateLimit,
    /// How many count by now.
    pub used: u32,
    /// When one more may be taken; now or earlier where there is room.
    pub next_allowed: Moment,
}

/// The buckets of one account and of the CA that it is with.
#[derive(Clone, Debug, Default)]
pub struct RateLimitLedger {
    limits: CaLimits,
    recovers_at: HashMap<RateLimitBucket, Moment>,
}

impl RateLimitLedger {
    /// A ledger of what was kept: for each bucket the moment at which it will have recovered.
    pub fn new(limits: CaLimits, settled: impl IntoIterator<Item = (RateLimitBucket, Moment)>) -> Self {
        Self { limits, recovers_at: settled.into_iter().collect() }
    }

    /// Looks whether an order may be sent.
    ///
    /// # Errors
    /// Where the CA would refuse it: the limit that lasts the longest.
    pub fn check_order(&self, order: &OrderFacts, now: Moment) -> Result<(), LimitExceeded> {
        let full = order.order_buckets().filter_map(|bucket| self.check_bucket(bucket, now));
        full.max_by_key(|full| full.until).map_or(Ok(()), Err)
    }

    /// Counts an order that is sent; gives what changed.
    pub fn charge_order(&mut self, order: &OrderFacts, now: Moment) -> Option<(RateLimitBucket, Moment)> {
        (order.exemption != RateLimitExemption::InRenewalWindow)
            .then(|| self.charge(RateLimitBucket::Orders, now))
            .flatten()
    }

    /// Counts a certificate that was issued; gives what changed.
    pub fn issued(&mut self, order: &OrderFacts, now: Moment) -> Vec<(RateLimitBucket, Moment)> {
        order.certificate_buckets().filter_map(|bucket| self.charge(bucket, now)).collect()
    }

    /// Counts a validation that failed; gives what changed.
    pub fn charge_failed_validation(&mut self, name: &DnsName, now: Moment) -> Option<(RateLimitBucket, Moment)> {
        self.charge(RateLimitBucket::FailedValidations(name.base().to_owned()), now)
    }

    /// How full each bucket is that something counts in, sorted.
    pub fn levels(&self, now: Moment) -> Vec<BucketLevel> {
        let in_use = self.recovers_at.iter().filter(|(_, settled)| **settled > now);
        let mut levels: Vec<BucketLevel> = in_use
            .filter_map(|(bucket, settled)| {
                let rate = self.limits.of(bucket)?;
                let (used, next) = (rate.used(*settled, now), rate.next_allowed(*settled));
                Some(BucketLevel { bucket: bucket.clone(), rate, used, next_allowed: next })
            })
            .collect();
        levels.sort_by(|one, other| one.bucket.cmp(&other.bucket));
        levels
    }

    /// Forgets what has recovered.
    pub fn forget_recovered(&mut self, now: Moment) {
        self.recovers_at.retain(|_, settled| *settled > now);
    }

    /// When the bucket recovers, where something counts in it. More than twice what fits was written by a clock that was
    /// ahead, or under another limit, and counts for nothing; else it would hold up everything for as long.
    fn recovery_of(&self, bucket: &RateLimitBucket, rate: RateLimit, now: Moment) -> Option<Moment> {
        let settled = self.recovers_at.get(bucket).copied().filter(|settled| *settled <= now + rate.span * 2)?;
        Some(settled.min(now + rate.span))
    }

    fn check_bucket(&self, bucket: RateLimitBucket, now: Moment) -> Option<LimitExceeded> {
        let rate = self.limits.of(&bucket)?;
        let settled = self.recovery_of(&bucket, rate, now)?;
        let until = rate.next_allowed(settled);
        (until > now).then_some(LimitExceeded { bucket, rate, until })
    }

    fn charge(&mut self, bucket: RateLimitBucket, now: Moment) -> Option<(RateLimitBucket, Moment)> {
        let rate = self.limits.of(&bucket)?;
        let settled = rate.recovery_after_one_more(self.recovery_of(&bucket, rate, now).unwrap_or(now), now);
        self.recovers_at.insert(bucket.clone(), settled);
        Some((bucket, settled))
    }
}

const MAX_RESERVE: u32 = 3;

/// The registered domain of a name by the Public Suffix List; the name itself where that knows none.
fn registered_domain(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(name)
}

#[cfg(test)]
mod tests;
