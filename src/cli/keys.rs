//! `autocertd keys`: the master keys.

use clap::Subcommand;

use crate::app::{App, IfStoreMissing, create_state_directory};
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::store::KeyRing;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make the master key file, for a new PostgreSQL database; beside a new SQLite file it is made by itself. One that
    /// is there is never overwritten
    Create,
    /// Add a new master key and seal everything under it; an interrupted rotation is finished first. The key before it
    /// stays in the key file until the next rotation
    Rotate,
}

pub(super) fn run(config: &Config, command: &KeysCommand) -> anyhow::Result<CommandOutcome> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    match command {
        KeysCommand::Create => create(config),
        KeysCommand::Rotate => {
            runtime()?.block_on(async { rotate(&App::open(config, IfStoreMissing::Fail).await?).await })
        }
    }
}

fn create(config: &Config) -> anyhow::Result<CommandOutcome> {
    let path = config.key_file();
    create_state_directory(&config.state_directory())?;
    KeyRing::generate(&path)?;
    println!("{} made; back it up apart from the database, and give it to every replica", path.display());
    Ok(CommandOutcome::Success)
}

async fn rotate(app: &App) -> anyhow::Result<CommandOutcome> {
    let sealed =
        app.store.rotate_master_key(|sealed| eprintln!("{} of {} sealed anew", sealed.done, sealed.total)).await?;
    println!("{} secrets sealed anew under a new master key; back up the key file again", sealed.done);
    Ok(CommandOutcome::Success)
}
