//! `autocertd keys`: the master keys.

use clap::Subcommand;

use crate::app::App;
use crate::cli::{Ending, log, owner, runtime};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Add a new master key and seal everything under it; an interrupted rotation is finished first. The key before it
    /// stays in the key file until the next rotation
    Rotate,
}

pub(super) fn run(config: &Config, command: &KeysCommand) -> anyhow::Result<Ending> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config).await?;
        match command {
            KeysCommand::Rotate => rotate(&app).await,
        }
    })
}

async fn rotate(app: &App) -> anyhow::Result<Ending> {
    let sealed =
        app.store.rotate_master_key(|sealed| eprintln!("{} of {} sealed anew", sealed.done, sealed.total)).await?;
    println!("{} secrets sealed anew under a new master key; back up the key file again", sealed.done);
    Ok(Ending::Well)
}
