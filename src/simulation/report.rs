//! What a simulation found, as text for people and as JSON.

use std::fmt;

use serde::Serialize;
use time::Duration;

use crate::domain::value::moment::Moment;
use crate::simulation::plot::{self, group_thousands};
use crate::simulation::scenario::{Control, START, Scenario, format_span};
use crate::simulation::tally::Tally;

/// What was assumed, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct SimulationReport {
    /// What was assumed.
    pub assumed: Assumptions,
    /// Orders that the CA took.
    pub orders: OrderCounts,
    /// Orders that the CA refused with HTTP 429.
    pub refused: RefusalCounts,
    /// Certificates that were issued.
    pub issued: u64,
    /// How often the ledger kept an order back that the CA would have refused.
    pub held_by_ledger: u64,
    /// How often the breaker kept an order back because the CA was down.
    pub held_by_breaker: u64,
    /// Requests that a CA which was down did not answer.
    pub unanswered: u64,
    /// Validations that failed.
    pub failed_validations: u64,
    /// How often the CA was asked when it would like a renewal.
    pub renewal_info_polls: u64,
    /// The closest call; absent where nothing was renewed.
    pub smallest_slack: Option<SmallestSlack>,
    /// Certificates that expired or were revoked before their replacement came.
    pub lapses: u64,
    /// The first of these moments.
    pub first_lapse: Option<String>,
}

/// What was assumed.
#[derive(Clone, Debug, Serialize)]
pub struct Assumptions {
    /// How many certificates.
    pub certificates: u32,
    /// Shared evenly by so many accounts, each with an autocertd of its own.
    pub accounts: u32,
    /// In so many registered domains.
    pub registered_domains: u32,
    /// How long a certificate is valid.
    pub lifetime: String,
    /// The profile that goes with it.
    pub profile: &'static str,
    /// The limits of the CA.
    pub limits: &'static [&'static str],
    /// The first moment.
    pub start: String,
    /// How the fleet is at the start.
    pub fleet: &'static str,
    /// How many days passed.
    pub days: u32,
    /// When the CA was down.
    pub outages: Vec<String>,
    /// When the CA revoked everything: the notice and the day of the announcement.
    pub mass_revocations: Vec<String>,
    /// When names could not be validated.
    pub failing_names: Vec<String>,
    /// The wrong behaviour that stood in for the real one.
    pub control: Option<&'static str>,
    /// What repeats this very run.
    pub seed: u64,
}

/// Orders that the CA took.
#[derive(Clone, Debug, Serialize)]
pub struct OrderCounts {
    /// In all.
    pub total: u64,
    /// The mean of a day.
    pub mean_of_a_day: u64,
    /// The most in a day.
    pub peak_day: Peak,
    /// The most in an hour.
    pub peak_hour: Peak,
    /// Day by day.
    pub by_day: Vec<u64>,
}

/// The most of something.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    /// How many.
    pub orders: u64,
    /// On which day, counted from 0.
    pub day: usize,
}

/// Orders that the CA refused, by the limit that they would have broken.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalCounts {
    /// In all.
    pub total: u64,
    /// Orders of the account.
    pub orders: u64,
    /// Certificates of the registered domain.
    pub certificates_of_domain: u64,
    /// Certificates for exactly the same names.
    pub certificates_of_name_set: u64,
    /// Failed validations of a name.
    pub failures_of_name: u64,
    /// Names that are paused until a person acts.
    pub paused_names: u64,
}

/// How much time was left when a replacement came.
#[derive(Clone, Debug, Serialize)]
pub struct SmallestSlack {
    /// In seconds; negative where it came too late.
    pub seconds: i64,
    /// On which day, counted from 0.
    pub day: i64,
}

impl SimulationReport {
    pub(super) fn new(scenario: &Scenario, tally: &Tally) -> Self {
        let by_day = tally.orders_by_day();
        let total: u64 = by_day.iter().sum();
        let hours: Vec<u64> = tally.orders.iter().copied().map(u64::from).collect();
        let peak_hour = find_peak(&hours);
        let slack = |(span, at): (Duration, Moment)| SmallestSlack {
            seconds: span.whole_seconds(),
            day: (at - START).whole_days(),
        };
        Self {
            assumed: Assumptions::from_scenario(scenario),
            orders: OrderCounts {
                total,
                mean_of_a_day: total / u64::from(scenario.days),
                peak_day: find_peak(&by_day),
                peak_hour: Peak { day: peak_hour.day / 24, ..peak_hour },
                by_day,
            },
            refused: RefusalCounts {
                total: tally.refused.total(),
                orders: tally.refused.orders,
                certificates_of_domain: tally.refused.domain,
                certificates_of_name_set: tally.refused.name_set,
                failures_of_name: tally.refused.failures,
                paused_names: tally.refused.paused,
            },
            issued: tally.issued,
            held_by_ledger: tally.deferred_by_limit,
            held_by_breaker: tally.deferred_by_breaker,
            unanswered: tally.unanswered,
            failed_validations: tally.invalid,
            renewal_info_polls: tally.polls,
            smallest_slack: tally.smallest_slack.map(slack),
            lapses: tally.lapses,
            first_lapse: tally.first_lapse.map(|at| at.to_string()),
        }
    }

    /// Whether no certificate lapsed.
    pub const fn survives(&self) -> bool {
        self.lapses == 0
    }

    /// The orders of each day as bars, 80 columns wide.
    pub fn plot(&self) -> String {
        plot::render_bars(&self.orders.by_day)
    }

    /// The last word.
    fn verdict(&self) -> String {
        match (self.lapses, self.refused.total) {
            (0, 0) => "0 lapses: this fleet survives".to_owned(),
            (0, refused) => {
                format!("0 lapses: this fleet survives, though the CA refused {} orders", group_thousands(refused))
            }
            (lapses, _) => {
                let first = self.first_lapse.as_deref().unwrap_or_default();
                format!("{} lapses: this fleet does not survive; the first is at {first}", group_thousands(lapses))
            }
        }
    }
}

impl Assumptions {
    fn from_scenario(scenario: &Scenario) -> Self {
        Self {
            certificates: scenario.certificates,
            accounts: scenario.accounts,
            registered_domains: scenario.domains,
            lifetime: format_span(scenario.lifetime),
            profile: scenario.profile(),
            limits: &CA_LIMITS,
            start: START.to_string(),
            fleet: FLEET_DESCRIPTION,
            days: scenario.days,
            outages: scenario.outages.iter().map(ToString::to_string).collect(),
            mass_revocations: scenario.mass_revocations.iter().map(ToString::to_string).collect(),
            failing_names: scenario.failing_names.iter().map(ToString::to_string).collect(),
            control: scenario.control.map(Control::as_str),
            seed: scenario.seed,
        }
    }
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Assumed\n{}\n", self.assumed)?;
        writeln!(f, "What happened")?;
        let orders = &self.orders;
        let peak = |peak: &Peak| format!("{} (day {})", group_thousands(peak.orders), peak.day);
        let refused = if self.refused.total == 0 { "none".to_owned() } else { self.refused.to_string() };
        let slack = self.smallest_slack.as_ref().map_or_else(|| "nothing was renewed".to_owned(), ToString::to_string);
        let rows = [
            ("orders", format!("{}, {} a day", group_thousands(orders.total), group_thousands(orders.mean_of_a_day))),
            ("peak day", peak(&orders.peak_day)),
            ("peak hour", peak(&orders.peak_hour)),
            ("refused by the CA", refused),
            ("kept back by ledger", format!("{} times", group_thousands(self.held_by_ledger))),
            ("kept back by breaker", format!("{} times", group_thousands(self.held_by_breaker))),
            ("CA did not answer", format!("{} times", group_thousands(self.unanswered))),
            ("failed validations", group_thousands(self.failed_validations)),
            ("ARI polls", group_thousands(self.renewal_info_polls)),
            ("smallest slack", slack),
        ];
        for (what, how) in rows {
            write_row(f, what, &how)?;
        }
        write!(f, "\n{}", self.verdict())
    }
}

impl fmt::Display for Assumptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grouped = |count: u32| group_thousands(count.into());
        let lifetime = format!("valid for {} (profile {})", self.lifetime, self.profile);
        write_row(f, "certificates", &format!("{}, {lifetime}", grouped(self.certificates)))?;
        write_row(f, "", "one or two names each")?;
        write_row(f, "accounts", &format!("{}, each with an autocertd of its own", grouped(self.accounts)))?;
        write_row(f, "registered domains", &grouped(self.registered_domains))?;
        for (number, limit) in self.limits.iter().enumerate() {
            write_row(f, if number == 0 { "limits" } else { "" }, limit)?;
        }
        write_row(f, "time", &format!("{} days from {}", self.days, self.start))?;
        write_row(f, "at the start", self.fleet)?;
        let events = [
            ("CA is down", &self.outages),
            ("all revoked", &self.mass_revocations),
            ("names fail", &self.failing_names),
        ];
        for (what, when) in events.into_iter().filter(|(_, when)| !when.is_empty()) {
            write_row(f, what, &when.join(", "))?;
        }
        if let Some(control) = self.control {
            write_row(f, "control", &format!("{control}, in place of the real behaviour"))?;
        }
        write!(f, "  {:<LABEL$}{}", "seed", self.seed)
    }
}

impl fmt::Display for RefusalCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("account", self.orders),
            ("domain", self.certificates_of_domain),
            ("same names", self.certificates_of_name_set),
            ("failures", self.failures_of_name),
            ("paused names", self.paused_names),
        ];
        let kinds: Vec<String> = kinds
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{kind} {}", group_thousands(count)))
            .collect();
        write!(f, "{} ({})", group_thousands(self.total), kinds.join(", "))
    }
}

impl fmt::Display for SmallestSlack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minus, seconds) = (if self.seconds < 0 { "-" } else { "" }, self.seconds.unsigned_abs());
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        write!(f, "{minus}{days}d {hours}h {minutes}m (day {})", self.day)
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, what: &str, how: &str) -> fmt::Result {
    writeln!(f, "  {what:<LABEL$}{how}")
}

fn find_peak(counts: &[u64]) -> Peak {
    // The first of several equal ones.
    let most = counts.iter().copied().enumerate().rev().max_by_key(|(_, orders)| *orders);
    most.map_or(Peak { orders: 0, day: 0 }, |(day, orders)| Peak { orders, day })
}

const LABEL: usize = 22;
const FLEET_DESCRIPTION: &str = "in mid-life: ages spread evenly from fresh to due";
/// What the model of the CA enforces.
const CA_LIMITS: [&str; 6] = [
    "300 orders per account in 3 h",
    "50 new certificates per registered domain in 7 d",
    "5 certificates for exactly the same names in 7 d",
    "5 failed validations of a name in 1 h",
    "1,152 of these in a row pause the name for good",
    "none for a renewal that ARI asks for, inside its window",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slack_reads_as_days_also_where_it_is_negative() {
        let slack = |seconds| SmallestSlack { seconds, day: 7 }.to_string();
        assert_eq!(slack(2 * 86_400 + 3 * 3_600 + 59), "2d 3h 0m (day 7)");
        assert_eq!(slack(-3_600), "-0d 1h 0m (day 7)");
    }

    #[test]
    fn the_first_of_equal_peaks_is_told() {
        let most = find_peak(&[1, 3, 3, 0]);
        assert_eq!((most.orders, most.day), (3, 1));
    }
}
