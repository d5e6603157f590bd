//! What is simulated: the fleet, how long, what befalls it, and which control stands in for the real behaviour.

use std::fmt;

use time::Duration;

use crate::domain::value::moment::Moment;

/// A fleet and what befalls it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How many certificates it keeps.
    pub certificates: u32,
    /// How many accounts share them evenly; each one belongs to one autocertd.
    pub accounts: u32,
    /// How many registered domains the names are in; each account has its own.
    pub domains: u32,
    /// How long a certificate is valid.
    pub lifetime: Duration,
    /// How many days pass, from [`START`] on.
    pub days: u32,
    /// When the CA is down.
    pub outages: Vec<Outage>,
    /// When the CA revokes everything.
    pub mass_revocations: Vec<MassRevocation>,
    /// When names cannot be validated.
    pub failing_names: Vec<FailingNames>,
    /// Whether a CA that is down sends values of `Retry-After` that make no sense, or ask for far too much.
    pub careless_retry_after: bool,
    /// What stands in for the real behaviour, to show that the simulation can fail.
    pub control: Option<Control>,
    /// What makes a run repeatable.
    pub seed: u64,
}

/// The CA answers nothing for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The day on which it begins, at midnight UTC.
    pub day: u32,
    /// How long it lasts.
    pub span: Duration,
}

/// The CA announces, by windows in the past, that it will revoke every certificate which is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MassRevocation {
    /// The day of the announcement, at midnight UTC.
    pub day: u32,
    /// How long behind that it revokes.
    pub notice: Duration,
}

/// A share of the certificates has a name that cannot be validated for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailingNames {
    /// The day on which that begins, at midnight UTC.
    pub day: u32,
    /// How long it lasts.
    pub span: Duration,
    /// How many of a hundred certificates.
    pub percent: u8,
}

/// A known way to do it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Renew at midnight UTC of the day on which two thirds of the lifetime are over, and never ask the CA.
    Midnight,
    /// Repeat what failed within a minute, without a breaker.
    NoBackOff,
    /// Send every order, whatever the limits.
    NoLedger,
}

impl Control {
    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Midnight => "midnight",
            Self::NoBackOff => "no-back-off",
            Self::NoLedger => "no-ledger",
        }
    }
}

/// A scenario that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScenario {
    /// Too few or too many of something.
    #[error("{what} must be {least} to {most}")]
    OutOfBounds {
        /// What.
        what: &'static str,
        /// The least that is taken.
        least: u32,
        /// The most that is taken.
        most: u32,
    },
    /// A lifetime that no CA offers.
    #[error("the lifetime must be 1d to 400d")]
    Lifetime,
    /// Something begins behind the end.
    #[error("day {0} is behind the end; the days are 0 to {1}")]
    AfterEnd(u32, u32),
}

impl Scenario {
    /// A fleet to which nothing happens, with usual counts of accounts and domains.
    pub fn new(certificates: u32, lifetime: Duration, days: u32, seed: u64) -> Self {
        let accounts = certificates.div_ceil(CERTIFICATES_PER_ACCOUNT).max(1);
        Self {
            certificates,
            accounts,
            domains: certificates.div_ceil(CERTIFICATES_PER_DOMAIN).max(accounts),
            lifetime,
            days,
            outages: Vec::new(),
            mass_revocations: Vec::new(),
            failing_names: Vec::new(),
            careless_retry_after: false,
            control: None,
            seed,
        }
    }

    /// Looks whether it makes sense.
    ///
    /// # Errors
    /// Where it does not.
    pub fn check(&self) -> Result<(), InvalidScenario> {
        let bounds = [
            ("certificates", self.certificates, 1, MAX_CERTIFICATES),
            ("days", self.days, 1, MAX_DAYS),
            ("accounts", self.accounts, 1, self.certificates),
            ("domains (each account has its own)", self.domains, self.accounts, MAX_CERTIFICATES),
        ];
        for (what, count, least, most) in bounds {
            if !(least..=most).contains(&count) {
                return Err(InvalidScenario::OutOfBounds { what, least, most });
            }
        }
        if !(Duration::DAY..=MAX_LIFETIME).contains(&self.lifetime) {
            return Err(InvalidScenario::Lifetime);
        }
        let days = self.outages.iter().map(|outage| outage.day);
        let days = days.chain(self.mass_revocations.iter().map(|revocation| revocation.day));
        let mut days = days.chain(self.failing_names.iter().map(|failing| failing.day));
        days.find(|day| *day >= self.days).map_or(Ok(()), |day| Err(InvalidScenario::AfterEnd(day, self.days - 1)))
    }

    /// The profile that goes with the lifetime, by the names of Let's Encrypt.
    pub fn profile(&self) -> &'static str {
        match self.lifetime {
            lifetime if lifetime < Duration::days(10) => "shortlived",
            lifetime if lifetime == Duration::days(45) => "tlsserver",
            _ => "classic",
        }
    }

    /// Whether a control or nothing of the kind is at work.
    pub(super) fn has_control(&self, control: Control) -> bool {
        self.control == Some(control)
    }

    /// The first moment behind the last day.
    pub(super) fn end(&self) -> Moment {
        midnight_of_day(self.days)
    }

    /// Whether the CA answers nothing.
    pub(super) fn is_down(&self, now: Moment) -> bool {
        self.outages.iter().any(|outage| is_during(outage.day, outage.span, now))
    }

    /// Whether a name of this certificate cannot be validated.
    pub(super) fn validation_fails(&self, certificate: u32, now: Moment) -> bool {
        // Even steps through the fleet, in no pattern.
        let place = (f64::from(certificate) * GOLDEN_RATIO).fract() * 100.0;
        let struck = |failing: &FailingNames| place < f64::from(failing.percent);
        self.failing_names.iter().any(|failing| is_during(failing.day, failing.span, now) && struck(failing))
    }
}

/// `5d@100`.
impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", format_span(self.span), self.day)
    }
}

/// `5d@200`.
impl fmt::Display for MassRevocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", format_span(self.notice), self.day)
    }
}

/// `10%:1d@50`.
impl fmt::Display for FailingNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%:{}@{}", self.percent, format_span(self.span), self.day)
    }
}

/// A span in the largest unit that gives a whole number.
pub(super) fn format_span(span: Duration) -> String {
    let seconds = span.whole_seconds();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds % size == 0).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}

/// The first moment of a day.
pub(super) fn midnight_of_day(day: u32) -> Moment {
    START + Duration::days(day.into())
}

fn is_during(day: u32, span: Duration, now: Moment) -> bool {
    (midnight_of_day(day)..midnight_of_day(day) + span).contains(&now)
}

/// 2027-01-01T00:00:00Z.
pub const START: Moment = Moment::from_micros(1_798_761_600_000_000);

const CERTIFICATES_PER_ACCOUNT: u32 = 5_000;
const CERTIFICATES_PER_DOMAIN: u32 = 10;
const MAX_CERTIFICATES: u32 = 10_000_000;
const MAX_DAYS: u32 = 3_660;
const MAX_LIFETIME: Duration = Duration::days(400);
const GOLDEN_RATIO: f64 = 1.618_033_988_749_895;
