//! `autocertd simulate`: will a fleet survive the limits of a CA?

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use time::Duration;

use crate::cli::CommandOutcome;
use crate::config::time_span::TimeSpan;
use crate::runtime::randomness::Randomness;
use crate::simulation;
use crate::simulation::report::SimulationReport;
use crate::simulation::scenario::{Control, FailingNames, MassRevocation, Outage, Scenario};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SimulateCommand {
    /// How many certificates the fleet keeps
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    certificates: u32,

    /// How long a certificate is valid: 160h, 45d, 47d, 64d, 90d ...
    #[arg(long, value_name = "SPAN", default_value = "45d")]
    lifetime: TimeSpan,

    /// How many days pass
    #[arg(long, value_name = "N", default_value_t = 365)]
    days: u32,

    /// The CA answers nothing for a while: 5d@100 is five days from day 100 on. May be given several times
    #[arg(long, value_name = "SPAN@DAY", value_parser = outage)]
    outage: Vec<Outage>,

    /// The CA announces by ARI that it will revoke every certificate, and does so after a notice of 5d or of another span:
    /// 200, or 1d@200. May be given several times
    #[arg(long, value_name = "[NOTICE@]DAY", value_parser = mass_revocation)]
    mass_revocation: Vec<MassRevocation>,

    /// A share of the certificates has a name that cannot be validated for a day or another span: 10%@50, or 10%:3d@50. May
    /// be given several times
    #[arg(long, value_name = "PERCENT%[:SPAN]@DAY", value_parser = failing_names)]
    failing_names: Vec<FailingNames>,

    /// How many accounts share the certificates evenly, each with an autocertd of its own; one per 5,000 certificates unless
    /// given
    #[arg(long, value_name = "N")]
    accounts: Option<u32>,

    /// How many registered domains the names are in; one per 10 certificates unless given
    #[arg(long, value_name = "N")]
    domains: Option<u32>,

    /// Repeat the run that had this seed; a fresh one is drawn unless given
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,

    /// Do it wrong in a known way, to see that the simulation can fail
    #[arg(long, value_enum)]
    control: Option<ControlArgument>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Plot the orders of each day also where standard output is no terminal
    #[arg(long, conflicts_with = "json")]
    plot: bool,
}

/// The controls by their names.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ControlArgument {
    /// Renew at midnight UTC once two thirds of the lifetime are over, and never ask the CA
    Midnight,
    /// Repeat what failed within a minute, without a breaker
    NoBackOff,
    /// Send every order, whatever the limits
    NoLedger,
}

pub(super) fn run(arguments: &SimulateCommand) -> anyhow::Result<CommandOutcome> {
    let scenario = build_scenario(arguments)?;
    if let Err(error) = scenario.check() {
        eprintln!("autocertd: {error}; see `autocertd simulate --help`");
        return Ok(CommandOutcome::UsageError);
    }
    let report = simulation::run(&scenario);
    print(&report, arguments)?;
    Ok(if report.survives() { CommandOutcome::Success } else { CommandOutcome::Failed })
}

fn print(report: &SimulationReport, arguments: &SimulateCommand) -> anyhow::Result<()> {
    if arguments.json {
        crate::cli::output::print_json(report)?;
        return Ok(());
    }
    if arguments.plot || io::stdout().is_terminal() {
        println!("{}\n", report.plot());
    }
    println!("{report}");
    Ok(())
}

fn build_scenario(arguments: &SimulateCommand) -> anyhow::Result<Scenario> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => u64::from_le_bytes(Randomness::from_system()?.bytes()),
    };
    let lifetime = arguments.lifetime.duration().try_into()?;
    let usual = Scenario::new(arguments.certificates, lifetime, arguments.days, seed);
    let accounts = arguments.accounts.unwrap_or(usual.accounts);
    Ok(Scenario {
        accounts,
        domains: arguments.domains.unwrap_or(usual.domains.max(accounts)),
        outages: arguments.outage.clone(),
        mass_revocations: arguments.mass_revocation.clone(),
        failing_names: arguments.failing_names.clone(),
        control: arguments.control.map(|wrong| match wrong {
            ControlArgument::Midnight => Control::Midnight,
            ControlArgument::NoBackOff => Control::NoBackOff,
            ControlArgument::NoLedger => Control::NoLedger,
        }),
        ..usual
    })
}

/// Reads `5d@100`.
fn outage(text: &str) -> Result<Outage, String> {
    let read = |text: &str| {
        let (span, day) = text.split_once('@')?;
        Some(Outage { day: day.parse().ok()?, span: parse_span(span)? })
    };
    read(text).ok_or_else(|| "write a span and the day on which it begins, such as 5d@100".to_owned())
}

/// Reads `200` and `1d@200`.
fn mass_revocation(text: &str) -> Result<MassRevocation, String> {
    let read = |text: &str| {
        let (notice, day) = text.split_once('@').map_or((None, text), |(notice, day)| (Some(notice), day));
        let notice = notice.map_or(Some(DEFAULT_NOTICE), parse_span)?;
        Some(MassRevocation { day: day.parse().ok()?, notice })
    };
    read(text).ok_or_else(|| "write a day such as 200, or a notice and a day such as 1d@200".to_owned())
}

/// Reads `10%@50` and `10%:3d@50`.
fn failing_names(text: &str) -> Result<FailingNames, String> {
    let read = |text: &str| {
        let (share, day) = text.split_once('@')?;
        let (percent, span) = share.split_once('%')?;
        let span = if span.is_empty() { Some(Duration::DAY) } else { parse_span(span.strip_prefix(':')?) };
        let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent))?;
        Some(FailingNames { day: day.parse().ok()?, span: span?, percent })
    };
    read(text).ok_or_else(|| "write a share of the certificates and a day, such as 10%@50 or 10%:3d@50".to_owned())
}

fn parse_span(text: &str) -> Option<Duration> {
    text.parse::<TimeSpan>().ok()?.duration().try_into().ok()
}

/// What the Baseline Requirements leave a CA for most causes of a revocation (section 4.9.1.1).
const DEFAULT_NOTICE: Duration = Duration::days(5);

const EXAMPLES: &str = "\
Examples:
  autocertd simulate --certificates 20000 --outage 5d@100 --mass-revocation 200
      will 20,000 certificates survive five days without the CA, and that it revokes everything?
  autocertd simulate --certificates 20000 --accounts 1 --mass-revocation 1d@200
      and with all of them in one account, and only a day's notice?
  autocertd simulate --lifetime 160h --outage 2d@30
      can certificates of six days bear an outage of two?

The decisions are the daemon's own: plan, ledger of the limits, back-off and breaker. The CA is a model with the limits that
Let's Encrypt publishes. It needs no settings, no store and no network, and turns its own clock: a year takes seconds.

What it tells: the orders per day and at their peak, the orders that the CA refused, those that the ledger kept back, the
smallest slack (the time that a certificate still had when its replacement came) and the lapses (certificates that expired
or were revoked before that). With --json all of it, and the orders day by day.

Exit codes: 0 no lapse, 1 lapses, 2 bad usage.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_as_they_are_shown() {
        for text in ["5d@100", "90m@0"] {
            assert_eq!(outage(text).unwrap().to_string(), text);
        }
        for text in ["10%:1d@50", "100%:36h@3"] {
            assert_eq!(failing_names(text).unwrap().to_string(), text);
        }
        assert_eq!(failing_names("7%@50").unwrap().to_string(), "7%:1d@50");
        assert_eq!(mass_revocation("200").unwrap().to_string(), "5d@200");
        assert_eq!(mass_revocation("24h@200").unwrap().to_string(), "1d@200");
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for text in ["", "5d", "@100", "5@100", "5d@x", "5d@-1"] {
            assert!(outage(text).is_err(), "{text}");
        }
        for text in ["", "x", "1@200", "1d@"] {
            assert!(mass_revocation(text).is_err(), "{text}");
        }
        for text in ["", "10@5", "0%@5", "101%@5", "10%1d@5", "10%:@5"] {
            assert!(failing_names(text).is_err(), "{text}");
        }
    }
}
