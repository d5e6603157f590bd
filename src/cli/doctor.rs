//! `autocertd doctor`: what a certificate takes, looked at link by link, without an order.

mod check_list;
mod page;
mod progress;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::app::{App, IfStoreMissing, Integrations, UnusableSettings};
use crate::cli::doctor::check_list::{CheckRequest, build_check_list};
use crate::cli::doctor::page::{DoctorPage, render_page};
use crate::cli::doctor::progress::CheckSpinner;
use crate::cli::{CommandOutcome as ExitEnding, log, owner, runtime};
use crate::config::Config;
use crate::config::exposure::find_exposures;
use crate::config::store::StoreUrl;
use crate::config::time_span::TimeSpan;
use crate::doctor::{self, CanaryMode, CheckList, DoctorOptions, Ending};
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject, CheckVerdict};
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
    timeout: TimeSpan,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was checked, and how.
struct CheckRun {
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
        lifecycle.stop_on_signals(STOP_TIMEOUT)?;
        let ending = Ending::within(command.timeout.duration(), lifecycle.stopping());
        let progress = CheckSpinner::start();
        progress.finish_on_stop(lifecycle.stopping());
        let checked = run_checks(config, command, &lifecycle, (&ending, &progress)).await;
        progress.finish();
        let CheckRun { mut findings, has_names, cut_off } = checked?;
        let failed = findings.iter().any(CheckResult::is_fault) || cut_off > 0 || lifecycle.stopping().is_cancelled();
        let counts = page::VerdictCounts::from_results(&findings);
        if command.problems {
            findings.retain(CheckResult::is_problem);
        }
        if command.json {
            crate::cli::output::print_json(&findings)?;
        } else {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let cut_off = (cut_off > 0).then(|| (cut_off, ending.reason()));
            let shown = DoctorPage { findings: &findings, counts, has_names, only_problems: command.problems, cut_off };
            crate::cli::output::print_styled(&render_page(&shown, colour));
        }
        Ok(if failed { ExitEnding::Failed } else { ExitEnding::Success })
    })
}

async fn run_checks(
    config: &Config,
    command: &DoctorCommand,
    lifecycle: &Lifecycle,
    (ending, progress): (&Ending, &CheckSpinner),
) -> anyhow::Result<CheckRun> {
    let mut findings = Vec::new();
    progress.set_message("reading the settings");
    let outside = check_settings(config, ending, &mut findings).await;
    progress.set_message("opening the database");
    let store = open_store(config, lifecycle, ending, &mut findings).await;
    let asked = CheckRequest { names: &command.names, declared: outside.as_ref().and_then(|_| config.declared().ok()) };
    progress.set_message("reading what is to be checked");
    let round = if let Some(round) = ending.during(build_check_list(store.as_ref(), &asked, &mut findings)).await {
        round?
    } else {
        findings.push(CheckResult::skipped(&CheckSubject::SetUp, Check::Database, ending.reason()));
        CheckList::default()
    };
    let has_names = !round.is_empty();
    if let Some(outside) = outside {
        let tell = |words: String| progress.set_message(&words);
        let canaries = match round.names_count() {
            _ if command.no_canary => CanaryMode::Nowhere,
            0..=MAX_CANARIES => CanaryMode::EveryName,
            _ => CanaryMode::EveryZone,
        };
        let manner = DoctorOptions { canary_mode: canaries, ending, progress: &tell };
        let doctor = outside.doctor(store.clone(), Randomness::from_system()?);
        findings.extend(doctor.run_checks(&round, &manner).await);
    } else {
        findings.extend(round.skipped("the settings cannot be used"));
    }
    let is_cut_off = |finding: &&CheckResult| {
        finding.verdict == CheckVerdict::Skipped && finding.detail.starts_with(ending.reason())
    };
    let cut_off = if ending.has_come() { findings.iter().filter(is_cut_off).count() } else { 0 };
    if let Some(store) = store {
        // A database that hangs closes nothing.
        let _closed = timeout(STORE_CLOSE_TIMEOUT, store.close()).await;
    }
    Ok(CheckRun { findings, has_names, cut_off })
}

/// What the settings come to, as far as they can be used. Their files may be on a disk that hangs.
async fn check_settings(config: &Config, ending: &Ending, findings: &mut Vec<CheckResult>) -> Option<Integrations> {
    let own = config.clone();
    let read = spawn_blocking(move || (Integrations::from_config(&own), doctor::check_secrets(find_exposures(&own))));
    let Some(Ok((outside, secrets))) = ending.during(read).await else {
        let because = format!("{}: a file that the settings name could not be read yet", ending.reason());
        findings.push(CheckResult::skipped(&CheckSubject::SetUp, Check::Settings, because));
        return None;
    };
    findings.push(match &outside {
        Ok(_) => CheckResult::ok(&CheckSubject::SetUp, Check::Settings, "they can be used"),
        Err(error) => unusable_settings(error),
    });
    findings.extend(secrets);
    outside.ok()
}

fn unusable_settings(error: &UnusableSettings) -> CheckResult {
    let words = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let words = words.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    CheckResult::fault(
        &CheckSubject::SetUp,
        Check::Settings,
        words,
        "correct them; `autocertd check-config` tells more",
    )
}

/// The store, as far as it can be opened; one that is not there is not made.
async fn open_store(
    config: &Config,
    lifecycle: &Lifecycle,
    ending: &Ending,
    findings: &mut Vec<CheckResult>,
) -> Option<Store> {
    let about = CheckSubject::SetUp;
    let Ok(settings) = config.store.settings(&config.state_directory()) else {
        findings.push(CheckResult::skipped(&about, Check::Database, "the store's settings cannot be used"));
        return None;
    };
    let place = doctor::InstancePaths { state_directory: config.state_directory(), database: settings.url.clone() };
    let Some(Ok(of_place)) = ending.during(spawn_blocking(move || doctor::check_storage(&place))).await else {
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
    match ending.during(App::open_with_lifecycle(config, IfStoreMissing::Fail, lifecycle.clone())).await {
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
fn time_limit(text: &str) -> Result<TimeSpan, String> {
    let limit: TimeSpan = text.parse().map_err(|error: crate::config::time_span::InvalidTimeSpan| error.to_string())?;
    if limit < TimeSpan::seconds(1) { Err("give at least 1s".to_owned()) } else { Ok(limit) }
}

/// What was written for a check is removed before.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Of more names only one in each zone gets one.
const MAX_CANARIES: usize = 20;
