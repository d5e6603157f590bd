//! `autocertd doctor`: what a certificate takes, looked at link by link, without an order.

mod page;
mod progress;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use crate::app::{App, Outside, Place};
use crate::cli::doctor::page::page;
use crate::cli::doctor::progress::Progress;
use crate::cli::named::{UnknownNames, of_ids, subjects};
use crate::cli::{Ending, log, owner, runtime};
use crate::config::store::StoreUrl;
use crate::config::{Config, secret};
use crate::doctor::{self, Canaries, Manner, Round};
use crate::domain::finding::{Check, Finding, Subject};
use crate::domain::name::DnsName;
use crate::domain::text::printable;
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::randomness::Randomness;
use crate::store::Store;

#[derive(Debug, Args)]
#[command(after_help = "\
The database is opened as the daemon opens it: one of an earlier version is brought up to date, where the daemon of this \
version did not run yet.")]
pub(super) struct DoctorCommand {
    /// Only the auto-certificates of these names, common names or ids; or any DNS names, which are checked without a
    /// provider
    names: Vec<String>,

    /// Write no canary record
    #[arg(long)]
    no_canary: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, command: &DoctorCommand) -> anyhow::Result<Ending> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let lifecycle = Lifecycle::default();
        lifecycle.stop_at_signals(LONGEST_STOP)?;
        let progress = Progress::start();
        let findings = examine(config, command, &lifecycle, &progress).await;
        progress.end();
        let (findings, looked_at_names) = findings?;
        if command.json {
            crate::cli::output::print_json(&findings)?;
        } else {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            crate::cli::output::print_styled(&page(&findings, looked_at_names, colour));
        }
        let failed = findings.iter().any(Finding::is_fault) || lifecycle.stopping().is_cancelled();
        Ok(if failed { Ending::Failed } else { Ending::Well })
    })
}

/// Everything that was found, and whether there was any name to look at.
async fn examine(
    config: &Config,
    command: &DoctorCommand,
    lifecycle: &Lifecycle,
    progress: &Progress,
) -> anyhow::Result<(Vec<Finding>, bool)> {
    let mut findings = Vec::new();
    let outside = match Outside::from_config(config) {
        Ok(outside) => {
            findings.push(Finding::ok(&Subject::SetUp, Check::Settings, "they can be used"));
            Some(outside)
        }
        Err(error) => {
            let words = format!("{:#}", anyhow::Error::new(error));
            findings.push(Finding::fault(
                &Subject::SetUp,
                Check::Settings,
                words,
                "correct them; `autocertd check-config` tells more",
            ));
            None
        }
    };
    findings.extend(doctor::secrets(&secret::files(config)));
    let store = open(config, &mut findings).await;
    let round = round(store.as_ref(), &command.names).await?;
    if let Some(outside) = outside {
        let (stopping, tell) = (lifecycle.stopping(), |words: String| progress.tell(words));
        let canaries = if command.no_canary { Canaries::Nowhere } else { Canaries::EveryName };
        let manner = Manner { canaries, stopping: &stopping, progress: &tell };
        let doctor = outside.doctor(store.clone(), Randomness::from_system()?);
        findings.extend(doctor.examine(&round, &manner).await);
    }
    if let Some(store) = store {
        store.close().await;
    }
    Ok((findings, !round.is_empty()))
}

/// The store, as far as it can be opened; one that is not there is not made.
async fn open(config: &Config, findings: &mut Vec<Finding>) -> Option<Store> {
    let about = Subject::SetUp;
    let Ok(settings) = config.store.settings(&config.state_directory()) else { return None };
    let place = doctor::Place { state_directory: config.state_directory(), database: settings.url.clone() };
    let of_place = doctor::set_up(&place);
    let broken = of_place.iter().any(Finding::is_fault);
    findings.extend(of_place);
    if let StoreUrl::Sqlite(path) = &settings.url
        && !path.exists()
    {
        let detail = format!("{} is not there yet", path.display());
        findings.push(Finding::warning(&about, Check::Database, detail, "`autocertd serve` makes it"));
        return None;
    }
    if broken {
        findings.push(Finding::not_checked(&about, Check::Database, "what it lies in is not as it should be"));
        return None;
    }
    match App::open(config, Place::MustExist).await {
        Ok(app) => {
            findings.push(Finding::ok(&about, Check::Database, format!("{} opens", settings.url)));
            Some(app.store)
        }
        Err(error) => {
            let remedy = "check the store's settings, the database and the master keys";
            findings.push(Finding::fault(&about, Check::Database, format!("{error:#}"), remedy));
            None
        }
    }
}

/// What the names stand for: auto-certificates, or DNS names for which there is none yet.
async fn round(store: Option<&Store>, names: &[String]) -> anyhow::Result<Round> {
    let (mut round, mut unknown, mut wanted) = (Round::default(), Vec::new(), Vec::new());
    let matching = match store {
        Some(store) => store.matching_auto_certificates(names).await?,
        None => vec![Vec::new(); names.len()],
    };
    for (name, matching) in names.iter().zip(matching) {
        match name.parse::<DnsName>() {
            _ if !matching.is_empty() => wanted.extend(matching),
            Ok(name) => round.add_name(name),
            Err(_) => unknown.push(printable(name)),
        }
    }
    if !unknown.is_empty() {
        return Err(UnknownNames(unknown).into());
    }
    let Some(store) = store else { return Ok(round) };
    let wanted = if names.is_empty() { subjects(store, names).await? } else { of_ids(store, &wanted).await? };
    for subject in &wanted {
        round.add(store, subject).await?;
    }
    Ok(round)
}

/// What was written for a check is removed before.
const LONGEST_STOP: Duration = Duration::from_mins(1);
