//! `autocertd doctor`: what a certificate takes, looked at link by link, without an order.

mod page;
mod progress;
mod round;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::app::{App, Integrations, MissingStore, UnusableSettings};
use crate::cli::doctor::page::{Page, page};
use crate::cli::doctor::progress::Progress;
use crate::cli::doctor::round::{Asked, round};
use crate::cli::{Ending as ExitEnding, log, owner, runtime};
use crate::config::Config;
use crate::config::exposure::exposures;
use crate::config::span::Span;
use crate::config::store::StoreUrl;
use crate::doctor::{self, CanaryMode, Ending, DoctorOptions, CheckList};
use crate::domain::finding::{Check, CheckResult, CheckSubject, CheckVerdict};
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::randomness::Randomness;
use crate::store::Store;

#[derive(Debug, Args)]
#[command(after_help = "\
Without names it checks all auto-certificates that are declared or stored, and with them their providers, and all declared
providers. Up to 20 names get a canary record each; of more names, one in each zone.

Exit codes: 0 no fault was found, though checks may have been skipped for the reasons shown; 1 a fault was found, or checks
were cut off by the time limit or a signal; 2 bad usage.

The database is opened as the daemon opens it: one of an earlier version is brought up to date, where the daemon of this \
version did not run yet.")]
pub(super) struct DoctorCommand {
    /// Only the auto-certificates of these names, common names or ids; or any DNS names, which are checked without a
    /// provider
    names: Vec<String>,

    /// Write no canary record
    #[arg(long)]
    no_canary: bool,

    /// Show warnings and faults only
    #[arg(long)]
    problems: bool,

    /// End after this time; checks that are not done by then are skipped
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time_limit)]
    timeout: Span,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was checked, and how.
struct Checked {
    findings: Vec<CheckResult>,
    has_names: bool,
    /// How many checks the end of the round cut off.
    cut_off: usize,
}

pub(super) fn run(config: &Config, command: &DoctorCommand) -> anyhow::Result<ExitEnding> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let lifecycle = Lifecycle::default();
        lifecycle.stop_at_signals(LONGEST_STOP)?;
        let ending = Ending::within(command.timeout.duration(), lifecycle.stopping());
        let progress = Progress::start();
        progress.end_at(lifecycle.stopping());
        let checked = examine(config, command, &lifecycle, (&ending, &progress)).await;
        progress.end();
        let Checked { mut findings, has_names, cut_off } = checked?;
        let failed = findings.iter().any(CheckResult::is_fault) || cut_off > 0 || lifecycle.stopping().is_cancelled();
        let counts = page::Counts::of(&findings);
        if command.problems {
            findings.retain(CheckResult::is_problem);
        }
        if command.json {
            crate::cli::output::print_json(&findings)?;
        } else {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let cut_off = (cut_off > 0).then(|| (cut_off, ending.reason()));
            let shown = Page { findings: &findings, counts, has_names, only_problems: command.problems, cut_off };
            crate::cli::output::print_styled(&page(&shown, colour));
        }
        Ok(if failed { ExitEnding::Failed } else { ExitEnding::Well })
    })
}

async fn examine(
    config: &Config,
    command: &DoctorCommand,
    lifecycle: &Lifecycle,
    (ending, progress): (&Ending, &Progress),
) -> anyhow::Result<Checked> {
    let mut findings = Vec::new();
    progress.tell("reading the settings");
    let outside = settings(config, ending, &mut findings).await;
    progress.tell("opening the database");
    let store = open(config, lifecycle, ending, &mut findings).await;
    let asked = Asked { names: &command.names, declared: outside.as_ref().and_then(|_| config.declared().ok()) };
    progress.tell("reading what is to be checked");
    let round = if let Some(round) = ending.during(round(store.as_ref(), &asked, &mut findings)).await {
        round?
    } else {
        findings.push(CheckResult::skipped(&CheckSubject::SetUp, Check::Database, ending.reason()));
        CheckList::default()
    };
    let has_names = !round.is_empty();
    if let Some(outside) = outside {
        let tell = |words: String| progress.tell(&words);
        let canaries = match round.names_count() {
            _ if command.no_canary => CanaryMode::Nowhere,
            0..=MOST_CANARIES => CanaryMode::EveryName,
            _ => CanaryMode::EveryZone,
        };
        let manner = DoctorOptions { canaries, ending, progress: &tell };
        let doctor = outside.doctor(store.clone(), Randomness::from_system()?);
        findings.extend(doctor.examine(&round, &manner).await);
    } else {
        findings.extend(round.skipped("the settings cannot be used"));
    }
    let is_cut_off =
        |finding: &&CheckResult| finding.verdict == CheckVerdict::Skipped && finding.detail.starts_with(ending.reason());
    let cut_off = if ending.has_come() { findings.iter().filter(is_cut_off).count() } else { 0 };
    if let Some(store) = store {
        // A database that hangs closes nothing.
        let _closed = timeout(LONGEST_CLOSE, store.close()).await;
    }
    Ok(Checked { findings, has_names, cut_off })
}

/// What the settings come to, as far as they can be used. Their files may be on a disk that hangs.
async fn settings(config: &Config, ending: &Ending, findings: &mut Vec<CheckResult>) -> Option<Integrations> {
    let own = config.clone();
    let read = spawn_blocking(move || (Integrations::from_config(&own), doctor::secrets(exposures(&own))));
    let Some(Ok((outside, secrets))) = ending.during(read).await else {
        let because = format!("{}: a file that the settings name could not be read yet", ending.reason());
        findings.push(CheckResult::skipped(&CheckSubject::SetUp, Check::Settings, because));
        return None;
    };
    findings.push(match &outside {
        Ok(_) => CheckResult::ok(&CheckSubject::SetUp, Check::Settings, "they can be used"),
        Err(error) => unusable(error),
    });
    findings.extend(secrets);
    outside.ok()
}

fn unusable(error: &UnusableSettings) -> CheckResult {
    let words = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let words = words.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    CheckResult::fault(&CheckSubject::SetUp, Check::Settings, words, "correct them; `autocertd check-config` tells more")
}

/// The store, as far as it can be opened; one that is not there is not made.
async fn open(config: &Config, lifecycle: &Lifecycle, ending: &Ending, findings: &mut Vec<CheckResult>) -> Option<Store> {
    let about = CheckSubject::SetUp;
    let Ok(settings) = config.store.settings(&config.state_directory()) else {
        findings.push(CheckResult::skipped(&about, Check::Database, "the store's settings cannot be used"));
        return None;
    };
    let place = doctor::InstancePaths { state_directory: config.state_directory(), database: settings.url.clone() };
    let Some(Ok(of_place)) = ending.during(spawn_blocking(move || doctor::set_up(&place))).await else {
        let because = format!("{}: the state directory could not be looked at yet", ending.reason());
        findings.push(CheckResult::skipped(&about, Check::Database, because));
        return None;
    };
    let broken = of_place.iter().any(CheckResult::is_fault);
    findings.extend(of_place);
    if let StoreUrl::Sqlite(path) = &settings.url
        && !path.exists()
    {
        let detail = format!("{} is not there yet", path.display());
        findings.push(CheckResult::warning(&about, Check::Database, detail, "`autocertd serve` makes it"));
        return None;
    }
    if broken {
        findings.push(CheckResult::skipped(&about, Check::Database, "what it lies in is not as it should be"));
        return None;
    }
    match ending.during(App::open_with(config, MissingStore::MustExist, lifecycle.clone())).await {
        Some(Ok(app)) => {
            findings.push(CheckResult::ok(&about, Check::Database, format!("{} opens", settings.url)));
            Some(app.store)
        }
        Some(Err(error)) => {
            let remedy = "check the store's settings, the database and the master keys";
            findings.push(CheckResult::fault(&about, Check::Database, format!("{error:#}"), remedy));
            None
        }
        None => {
            let because = format!("{}: {} has not opened yet", ending.reason(), settings.url);
            findings.push(CheckResult::skipped(&about, Check::Database, because));
            None
        }
    }
}

/// A second is the least in which anything can be found.
fn time_limit(text: &str) -> Result<Span, String> {
    let limit: Span = text.parse().map_err(|error: crate::config::span::InvalidSpan| error.to_string())?;
    if limit < Span::seconds(1) { Err("give at least 1s".to_owned()) } else { Ok(limit) }
}

/// What was written for a check is removed before.
const LONGEST_STOP: Duration = Duration::from_secs(30);
const LONGEST_CLOSE: Duration = Duration::from_secs(1);
/// Of more names only one in each zone gets one.
const MOST_CANARIES: usize = 20;
