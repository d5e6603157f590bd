//! `autocertd check-config`: are the settings fit for use, and what is in force?

use crate::app::Integrations;
use crate::cli::{CommandOutcome, log};
use crate::config::{Config, secret};

/// Checks all that `serve` would refuse before it touches anything, then prints.
pub(super) fn run(config: &Config) -> anyhow::Result<CommandOutcome> {
    log::start(&config.log)?;
    let outside = Integrations::from_config(config)?;
    for caution in config.warnings() {
        tracing::warn!("{caution}");
    }
    let database = config.store.settings(&config.state_directory())?.url;
    let token = secret::ionos_token(config.dns.ionos.token_file.as_deref())?;
    print!("{}", toml::to_string_pretty(config)?);
    println!("\n# in force besides:");
    println!("# state directory: {}", config.state_directory().display());
    println!("# database: {database}");
    println!("# master keys: {}", config.key_file().display());
    println!("# socket: {}", config.socket().display());
    if token.is_some() {
        println!("# token of IONOS Cloud DNS: found");
    } else if outside.lacks_ionos_token() {
        println!("# token of IONOS Cloud DNS: none; DNS-01 fails for its names until there is one");
    } else if outside.has_no_dns() {
        println!("# DNS adapters: none; DNS-01 fails until there is a [[dns.zone]], or a token of IONOS Cloud DNS");
    }
    Ok(CommandOutcome::Success)
}
