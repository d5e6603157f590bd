//! `autocertd check-config`: the settings that are in force.

use crate::cli::Ending;
use crate::config::{Config, secret};

pub(super) fn run(config: &Config) -> anyhow::Result<Ending> {
    print!("{}", toml::to_string_pretty(config)?);
    println!("\n# in force besides:");
    println!("# state directory: {}", config.state_directory().display());
    println!("# socket: {}", config.socket().display());
    println!("# master keys: {}", config.key_file().display());
    let token = secret::ionos_token(config.dns.ionos.token_file.as_deref())?;
    println!(
        "# Cloud DNS token: {}",
        if token.is_some() { "found" } else { "none; DNS-01 will fail until there is one" }
    );
    Ok(Ending::Well)
}
