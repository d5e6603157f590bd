//! A ledger of what counts against a CA's limits, so that doomed orders are not sent (decision 8 of the renewal design).
//! Limits are token buckets, as Let's Encrypt has them; how full one is, is a single moment: when it will have recovered
//! from all that was taken (the generic cell rate algorithm). Pure.

use std::collections::HashMap;
use std::fmt;

use time::Duration;

use crate::domain::auto_certificate::AutoCertificateFacts;
use crate::domain::moment::Moment;
use crate::domain::name::DnsName;

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
    fn next(self, settled: Moment) -> Moment {
        settled - self.span + self.interval() + self.reserve()
    }

    /// A few tokens of a larger bucket are left to the CA, which counts an order when it arrives and not when it is sent,
    /// and may count one that was believed to be exempt.
    fn reserve(self) -> Duration {
        self.interval() * (self.count / 20).min(LARGEST_RESERVE)
    }

    /// When the bucket recovers once one more was taken at `now`.
    fn taken(self, settled: Moment, now: Moment) -> Moment {
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
    pub orders: Option<RateLimit>,
    /// Certificates of a registered domain, from all accounts, repetitions aside.
    pub certificates_of_domain: Option<RateLimit>,
    /// Certificates for exactly the same names, from all accounts.
    pub certificates_of_name_set: Option<RateLimit>,
    /// Failed validations of a name by an account.
    pub failures_of_name: Option<RateLimit>,
}

impl CaLimits {
    /// No limits that are known.
    pub const NONE: Self =
        Self { orders: None, certificates_of_domain: None, certificates_of_name_set: None, failures_of_name: None };

    /// Those that Let's Encrypt publishes (rate limits, as of late 2026).
    pub const LETS_ENCRYPT: Self = Self {
        orders: Some(RateLimit { count: 300, span: Duration::hours(3) }),
        certificates_of_domain: Some(RateLimit { count: 50, span: Duration::days(7) }),
        certificates_of_name_set: Some(RateLimit { count: 5, span: Duration::days(7) }),
        failures_of_name: Some(RateLimit { count: 5, span: Duration::hours(1) }),
    };

    /// Those of the staging environment of Let's Encrypt (as of late 2026).
    pub const LETS_ENCRYPT_STAGING: Self = Self {
        orders: Some(RateLimit { count: 1_500, span: Duration::hours(3) }),
        certificates_of_domain: Some(RateLimit { count: 30_000, span: Duration::days(7) }),
        certificates_of_name_set: Some(RateLimit { count: 30_000, span: Duration::days(7) }),
        failures_of_name: Some(RateLimit { count: 200, span: Duration::hours(1) }),
    };

    /// The rate of a kind of bucket.
    pub const fn of(&self, bucket: &RateLimitBucket) -> Option<RateLimit> {
        match bucket {
            RateLimitBucket::Orders => self.orders,
            RateLimitBucket::Domain(_) => self.certificates_of_domain,
            RateLimitBucket::NameSet(_) => self.certificates_of_name_set,
            RateLimitBucket::Failures(_) => self.failures_of_name,
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
    Failures(String),
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
            Self::Orders | Self::Failures(_) => BucketScope::Account,
            Self::Domain(_) | Self::NameSet(_) => BucketScope::Server,
        }
    }

    /// Which limit it counts for.
    pub const fn kind(&self) -> LimitKind {
        match self {
            Self::Orders => LimitKind::Orders,
            Self::Domain(_) => LimitKind::Domain,
            Self::NameSet(_) => LimitKind::NameSet,
            Self::Failures(_) => LimitKind::Failures,
        }
    }

    /// What it is about, as the store keeps it; empty for the account itself.
    pub fn subject(&self) -> &str {
        match self {
            Self::Orders => "",
            Self::Domain(subject) | Self::NameSet(subject) | Self::Failures(subject) => subject,
        }
    }

    /// As the store kept it.
    pub fn from_parts(kind: &str, subject: String) -> Option<Self> {
        match LimitKind::from_stored(kind) {
            LimitKind::Orders => Some(Self::Orders),
            LimitKind::Domain => Some(Self::Domain(subject)),
            LimitKind::NameSet => Some(Self::NameSet(subject)),
            LimitKind::Failures => Some(Self::Failures(subject)),
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
            Self::Failures(name) => write!(f, "failed validations of {name}"),
        }
    }
}

/// What of a CA's limits an order is spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitExemption {
    /// All: it replaces a certificate within the window that the CA suggested (RFC 9773).
    InWindow,
    /// That of its registered domains: exactly these names were certified before.
    Repetition,
    /// Nothing.
    None,
}

impl RateLimitExemption {
    /// What the next order for an auto-certificate is spared; `same_ca` tells whether it goes to the CA that issued the
    /// newest certificate. In a mass revocation the window is over, so that those orders count; so does one of which it is
    /// not sure that the window is still there: the last question failed, or an order did, maybe for a limit.
    pub fn of(standing: &AutoCertificateFacts, same_ca: bool, now: Moment) -> Self {
        let Some(newest) = standing.newest.filter(|_| same_ca && !standing.intent_changed) else { return Self::None };
        let sure = standing.renewal_info.as_ref().filter(|info| info.failures == 0 && standing.trouble.is_none());
        let suggestion = sure.and_then(|info| info.suggestion.as_ref());
        let in_window = suggestion.is_some_and(|suggestion| suggestion.window.contains(now));
        if in_window && now < newest.not_after { Self::InWindow } else { Self::Repetition }
    }
}

/// What an order takes from the buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFacts {
    allowance: RateLimitExemption,
    names: Vec<String>,
    domains: Vec<String>,
    name_set: String,
}

impl OrderFacts {
    /// An order for these names.
    pub fn new(names: &[DnsName], allowance: RateLimitExemption) -> Self {
        let distinct = |texts: &mut dyn Iterator<Item = String>| {
            let mut texts: Vec<String> = texts.collect();
            texts.sort_unstable();
            texts.dedup();
            texts
        };
        Self {
            allowance,
            names: distinct(&mut names.iter().map(|name| name.base().to_owned())),
            domains: distinct(&mut names.iter().map(|name| registered_domain(name.base()).to_owned())),
            name_set: distinct(&mut names.iter().map(ToString::to_string)).join(","),
        }
    }

    /// What it is spared.
    pub const fn allowance(&self) -> RateLimitExemption {
        self.allowance
    }

    /// What a certificate counts in once it is issued.
    pub fn of_certificate(&self) -> impl Iterator<Item = RateLimitBucket> + '_ {
        let domains = self.domains.iter().filter(|_| self.allowance == RateLimitExemption::None).cloned().map(RateLimitBucket::Domain);
        let name_set = (self.allowance != RateLimitExemption::InWindow).then(|| RateLimitBucket::NameSet(self.name_set.clone()));
        domains.chain(name_set)
    }

    /// Each bucket that must have room for it.
    pub fn buckets(&self) -> impl Iterator<Item = RateLimitBucket> + '_ {
        let counted = self.allowance != RateLimitExemption::InWindow;
        let failures = self.names.iter().filter(move |_| counted).cloned().map(RateLimitBucket::Failures);
        counted.then_some(RateLimitBucket::Orders).into_iter().chain(failures).chain(self.of_certificate())
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
    pub next: Moment,
}

/// The buckets of one account and of the CA that it is with.
#[derive(Clone, Debug, Default)]
pub struct RateLimitLedger {
    limits: CaLimits,
    settled: HashMap<RateLimitBucket, Moment>,
}

impl RateLimitLedger {
    /// A ledger of what was kept: for each bucket the moment at which it will have recovered.
    pub fn new(limits: CaLimits, settled: impl IntoIterator<Item = (RateLimitBucket, Moment)>) -> Self {
        Self { limits, settled: settled.into_iter().collect() }
    }

    /// Looks whether an order may be sent.
    ///
    /// # Errors
    /// Where the CA would refuse it: the limit that lasts the longest.
    pub fn look(&self, order: &OrderFacts, now: Moment) -> Result<(), LimitExceeded> {
        let full = order.buckets().filter_map(|bucket| self.full(bucket, now));
        full.max_by_key(|full| full.until).map_or(Ok(()), Err)
    }

    /// Counts an order that is sent; gives what changed.
    pub fn ordered(&mut self, order: &OrderFacts, now: Moment) -> Option<(RateLimitBucket, Moment)> {
        (order.allowance != RateLimitExemption::InWindow).then(|| self.take(RateLimitBucket::Orders, now)).flatten()
    }

    /// Counts a certificate that was issued; gives what changed.
    pub fn issued(&mut self, order: &OrderFacts, now: Moment) -> Vec<(RateLimitBucket, Moment)> {
        order.of_certificate().filter_map(|bucket| self.take(bucket, now)).collect()
    }

    /// Counts a validation that failed; gives what changed.
    pub fn failed(&mut self, name: &DnsName, now: Moment) -> Option<(RateLimitBucket, Moment)> {
        self.take(RateLimitBucket::Failures(name.base().to_owned()), now)
    }

    /// How full each bucket is that something counts in, sorted.
    pub fn levels(&self, now: Moment) -> Vec<BucketLevel> {
        let in_use = self.settled.iter().filter(|(_, settled)| **settled > now);
        let mut levels: Vec<BucketLevel> = in_use
            .filter_map(|(bucket, settled)| {
                let rate = self.limits.of(bucket)?;
                let (used, next) = (rate.used(*settled, now), rate.next(*settled));
                Some(BucketLevel { bucket: bucket.clone(), rate, used, next })
            })
            .collect();
        levels.sort_by(|one, other| one.bucket.cmp(&other.bucket));
        levels
    }

    /// Forgets what has recovered.
    pub fn forget_settled(&mut self, now: Moment) {
        self.settled.retain(|_, settled| *settled > now);
    }

    /// When the bucket recovers, where something counts in it. More than twice what fits was written by a clock that was
    /// ahead, or under another limit, and counts for nothing; else it would hold up everything for as long.
    fn settled(&self, bucket: &RateLimitBucket, rate: RateLimit, now: Moment) -> Option<Moment> {
        let settled = self.settled.get(bucket).copied().filter(|settled| *settled <= now + rate.span * 2)?;
        Some(settled.min(now + rate.span))
    }

    fn full(&self, bucket: RateLimitBucket, now: Moment) -> Option<LimitExceeded> {
        let rate = self.limits.of(&bucket)?;
        let settled = self.settled(&bucket, rate, now)?;
        let until = rate.next(settled);
        (until > now).then_some(LimitExceeded { bucket, rate, until })
    }

    fn take(&mut self, bucket: RateLimitBucket, now: Moment) -> Option<(RateLimitBucket, Moment)> {
        let rate = self.limits.of(&bucket)?;
        let settled = rate.taken(self.settled(&bucket, rate, now).unwrap_or(now), now);
        self.settled.insert(bucket.clone(), settled);
        Some((bucket, settled))
    }
}

const LARGEST_RESERVE: u32 = 3;

/// The registered domain of a name by the Public Suffix List; the name itself where that knows none.
fn registered_domain(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(name)
}

#[cfg(test)]
mod tests;
