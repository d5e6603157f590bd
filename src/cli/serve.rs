//! `autocertd serve`, and the question whether it is well.

use std::time::Duration;

use anyhow::Context;

use crate::app::{App, Interrupted, NameServerSockets, Integrations, MissingStore};
use crate::cli::{Ending, log, owner, runtime};
use crate::config::Config;
use crate::domain::text::printable;
use crate::http::control::{ISSUED, IssuedAnswer, Missing};
use crate::http::health::Readiness;
use crate::runtime::lifecycle::{self, Lifecycle};

pub(super) fn run(config: &Config) -> anyhow::Result<Ending> {
    owner::become_owner_of(&config.state_directory())?;
    log::start(&config.log)?;
    let outside = Integrations::from_config(config)?;
    for caution in config.cautions() {
        tracing::warn!("{caution}");
    }
    let sockets = NameServerSockets::open(config)?;
    runtime()?.block_on(async {
        let lifecycle = Lifecycle::default();
        lifecycle.stop_at_signals(config.longest_stop())?;
        // SIGHUP would end a daemon that does not listen for it yet.
        let hangups = lifecycle::hangups()?;
        match App::open_with(config, MissingStore::MayBeMade, lifecycle).await {
            Ok(app) => app.serve(outside, sockets, hangups).await,
            Err(error) if error.is::<Interrupted>() => Ok(()),
            Err(error) => Err(error),
        }
    })?;
    Ok(Ending::Well)
}

/// Asks the daemon over its Unix socket: [`READY`], [`ALIVE`], or whether every auto-certificate is in service.
pub(super) fn healthcheck(config: &Config, path: &str) -> anyhow::Result<Ending> {
    let socket = config.socket();
    runtime()?.block_on(async {
        let client = reqwest::Client::builder().unix_socket(socket.as_path()).timeout(TIMEOUT).no_proxy().build()?;
        match client.get(format!("http://localhost{path}")).send().await {
            Ok(answer) if !answer.status().is_success() => {
                let status = answer.status();
                eprintln!("autocertd: the daemon is not well ({status})");
                // What stands in another answer than this one is for the log of the daemon.
                for fault in answer.json::<Readiness>().await.iter().flat_map(Readiness::faults) {
                    eprintln!("autocertd: {}", printable(&fault));
                }
                Ok(Ending::Failed)
            }
            Ok(answer) if path == ISSUED => {
                Ok(judged(&answer.json().await.context("the daemon's answer cannot be read")?))
            }
            Ok(_) => Ok(Ending::Well),
            Err(_) => {
                eprintln!("autocertd: no daemon answers at {}", socket.display());
                Ok(Ending::Failed)
            }
        }
    })
}

fn judged(answer: &IssuedAnswer) -> Ending {
    for Missing { name, common_name, message, .. } in answer.missing.iter().take(MOST_TOLD) {
        eprintln!("autocertd: {name} ({common_name}) is not in service: {message}");
    }
    // A daemon of the former release counts none.
    let all = answer.missing_total.max(answer.missing.len() as u64);
    let untold = all.saturating_sub(MOST_TOLD as u64);
    if untold > 0 {
        eprintln!("autocertd: {untold} more of {} are not in service", answer.total);
    }
    match (answer.missing.as_slice(), answer.total) {
        ([], 0) => {
            println!("there are no auto-certificates, and so nothing to wait for");
            Ending::Well
        }
        ([], total) => {
            println!("all in service: {total}");
            Ending::Well
        }
        _ => Ending::Failed,
    }
}

/// More nobody reads in the log of a health check.
const MOST_TOLD: usize = 20;
const TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const READY: &str = "/readyz";
pub(super) const ALIVE: &str = "/healthz";
