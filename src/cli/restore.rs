//! `autocertd restore`: what `export` wrote comes back, with the same ids, into a store that is empty. Everything is
//! checked before anything is written, and all of it is written or nothing.

use std::io;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::app::{App, IfStoreMissing, UnusableSettings};
use crate::cli::owner::{self, StdoutMode};
use crate::cli::{CommandOutcome, log, runtime};
use crate::config::Config;
use crate::runtime::files;
use crate::store::{Backup, BackupContents, BackupError, KeyRing, StoreUrl};

#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    /// The file that `export` wrote; - is standard input
    file: PathBuf,
    /// Bring it back
    #[arg(long)]
    yes: bool,
}

/// Root reads the file, which may be for its eyes only, and hands it to the owner of the store.
pub(super) fn run(config: &Config, arguments: &RestoreCommand) -> anyhow::Result<CommandOutcome> {
    let content = if owner::is_owner_process() || arguments.file.as_os_str() == "-" {
        files::read_open(io::stdin().lock(), LONGEST_BACKUP).context("the standard input cannot be read")?
    } else {
        match files::read_at_once(&arguments.file, LONGEST_BACKUP) {
            Ok(content) => content,
            Err(error) => {
                eprintln!("autocertd: {} cannot be read: {error}", arguments.file.display());
                return Ok(CommandOutcome::UsageError);
            }
        }
    };
    if !owner::is_owner_process()
        && let Some(done) = owner::run_as_owner(&config.state_directory(), &content, StdoutMode::Inherit)?
    {
        return Ok(done.outcome);
    }
    log::start_quietly(&config.log)?;
    let backup = Backup::from_json(&content)?;
    // A missing key must not be made anew here, so it is asked for before the store is.
    backup.check(&KeyRing::load(&config.key_file())?)?;
    println!("{}, {}", backup.contents(), backup.origin());
    runtime()?.block_on(restore(config, &backup, arguments.yes))
}

async fn restore(config: &Config, backup: &Backup, yes: bool) -> anyhow::Result<CommandOutcome> {
    let settings = config.store.settings(&config.state_directory()).map_err(UnusableSettings::from_error)?;
    let is_to_be_made = matches!(&settings.url, StoreUrl::Sqlite(path) if !path.exists());
    if !is_to_be_made || yes {
        let app = App::open(config, IfStoreMissing::CreateForRestore).await?;
        if app.store.is_open_elsewhere().await? {
            eprintln!("autocertd: another autocertd works on {}; stop it first", settings.url);
            return Ok(CommandOutcome::Failed);
        }
        let contents = app.store.contents().await?;
        if contents != BackupContents::default() {
            return Err(BackupError::NotEmpty(contents).into());
        }
        if yes {
            app.store.restore(backup).await?;
            app.store.close().await;
        }
    }
    if yes {
        println!("restored into {}, with the same ids; what is due is done once the daemon runs", settings.url);
    } else {
        println!("nothing was changed; the same command with --yes brings this back into {}", settings.url);
    }
    Ok(CommandOutcome::Success)
}

/// In bytes; about 200,000 certificates.
const LONGEST_BACKUP: u64 = 2 << 30;
