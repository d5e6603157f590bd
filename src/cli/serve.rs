//! `autocertd serve`, and the question whether it is well.

use std::time::Duration;

use anyhow::Context;

use crate::app::{App, IfStoreMissing, Integrations, Interrupted, NameServerSockets};
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::domain::value::text::printable;
use crate::http::control::{ISSUED_PATH, IssuedAnswer, NotInServiceEntry};
use crate::http::health::Readiness;
use crate::runtime::lifecycle::{self, Lifecycle};

pub(super) fn run(config: &Config) -> anyhow::Result<CommandOutcome> {
    owner::become_owner_of(&config.state_directory())?;
    log::start(&config.log)?;
    let outside = Integrations::from_config(config)?;
    for caution in config.warnings() {
        tracing::warn!("{caution}");
    }
    let sockets = NameServerSockets::open(config)?;
    runtime()?.block_on(async {
        let lifecycle = Lifecycle::default();
        lifecycle.stop_on_signals(config.stop_timeout())?;
        // SIGHUP would end a daemon that does not listen for it yet.
        let hangups = lifecycle::hangup_signals()?;
        match App::open_with_lifecycle(config, IfStoreMissing::Create, lifecycle).await {
            Ok(app) => app.serve(outside, sockets, hangups).await,
            Err(error) if error.is::<Interrupted>() => Ok(()),
            Err(error) => Err(error),
        }
    })?;
    Ok(CommandOutcome::Success)
}

/// Asks the daemon over its Unix socket: [`READINESS_PATH`], [`LIVENESS_PATH`], or whether every auto-certificate is in service.
pub(super) fn healthcheck(config: &Config, path: &str) -> anyhow::Result<CommandOutcome> {
    let socket = config.socket();
    runtime()?.block_on(async {
        let client = reqwest::Client::builder().unix_socket(socket.as_path()).timeout(TIMEOUT).no_proxy().build()?;
        match client.get(format!("http://localhost{path}")).send().await {
            Ok(answer) if !answer.status().is_success() => {
                let status = answer.status();
                eprintln!("autocertd: the daemon is not well ({status})");
                // What stands in another answer than this one is for the log of the daemon.
                for fault in answer.json::<Readiness>().await.iter().flat_map(Readiness::describe_faults) {
                    eprintln!("autocertd: {}", printable(&fault));
                }
                Ok(CommandOutcome::Failed)
            }
            Ok(answer) if path == ISSUED_PATH => {
                Ok(report_not_in_service(&answer.json().await.context("the daemon's answer cannot be read")?))
            }
            Ok(_) => Ok(CommandOutcome::Success),
            Err(_) => {
                eprintln!("autocertd: no daemon answers at {}", socket.display());
                Ok(CommandOutcome::Failed)
            }
        }
    })
}

fn report_not_in_service(answer: &IssuedAnswer) -> CommandOutcome {
    for NotInServiceEntry { name, common_name, message, .. } in answer.missing.iter().take(MAX_LISTED) {
        eprintln!("autocertd: {name} ({common_name}) is not in service: {message}");
    }
    // A daemon of the former release counts none.
    let all = answer.missing_total.max(answer.missing.len() as u64);
    let untold = all.saturating_sub(MAX_LISTED as u64);
    if untold > 0 {
        eprintln!("autocertd: {untold} more of {} are not in service", answer.total);
    }
    match (answer.missing.as_slice(), answer.total) {
        ([], 0) => {
            println!("there are no auto-certificates, and so nothing to wait for");
            CommandOutcome::Success
        }
        ([], total) => {
            println!("all in service: {total}");
            CommandOutcome::Success
        }
        _ => CommandOutcome::Failed,
    }
}

/// More nobody reads in the log of a health check.
const MAX_LISTED: usize = 20;
const TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const READINESS_PATH: &str = "/readyz";
pub(super) const LIVENESS_PATH: &str = "/healthz";
