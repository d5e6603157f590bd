//! `autocertd serve`, and the question whether it is well.

use std::time::Duration;

use crate::app::{App, Outside, Place};
use crate::cli::{Ending, log, owner, runtime};
use crate::config::Config;

pub(super) fn run(config: &Config) -> anyhow::Result<Ending> {
    owner::become_owner_of(&config.state_directory())?;
    log::start(&config.log)?;
    let outside = Outside::from_config(config)?;
    let runtime = runtime()?;
    runtime.block_on(async { App::open(config, Place::MayBeMade).await?.serve(outside).await })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(Ending::Well)
}

/// Asks the daemon over its Unix socket.
pub(super) fn healthcheck(config: &Config) -> anyhow::Result<Ending> {
    let socket = config.socket();
    runtime()?.block_on(async {
        let client = reqwest::Client::builder().unix_socket(socket.as_path()).timeout(TIMEOUT).no_proxy().build()?;
        match client.get("http://localhost/healthz").send().await {
            Ok(answer) if answer.status().is_success() => Ok(Ending::Well),
            Ok(answer) => {
                eprintln!("autocertd: the daemon answers {}", answer.status());
                Ok(Ending::Failed)
            }
            Err(_) => {
                eprintln!("autocertd: no daemon answers at {}", socket.display());
                Ok(Ending::Failed)
            }
        }
    })
}

const TIMEOUT: Duration = Duration::from_secs(5);
