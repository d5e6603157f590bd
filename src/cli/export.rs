//! `autocertd export`: everything in one file, sealed as it is in the store, or the certificates as plain PEM files for
//! those who leave. What is written appears whole or not at all, and replaces nothing unasked.

mod folder;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use zeroize::Zeroizing;

use crate::app::{App, IfStoreMissing};
use crate::cli::export::folder::ExportFolder;
use crate::cli::owner::{self, StdoutMode};
use crate::cli::{CommandOutcome, log, runtime};
use crate::config::Config;
use crate::runtime::atomic_file::AtomicFile;
use crate::store::Backup;

#[derive(Debug, Args)]
pub(super) struct ExportCommand {
    /// The file to write; - is standard output
    #[arg(required_unless_present = "pem")]
    file: Option<PathBuf>,
    /// Replace the file
    #[arg(long)]
    force: bool,
    /// Write the newest certificates with their keys, unsealed, into a new folder instead
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["file", "force"])]
    pem: Option<PathBuf>,
}

/// Root writes the files, wherever that may be; the owner of the store reads the store.
pub(super) fn run(config: &Config, arguments: &ExportCommand) -> anyhow::Result<CommandOutcome> {
    if owner::is_owner_process() {
        io::stdout().write_all(&read_content(config, arguments)?)?;
        return Ok(CommandOutcome::Success);
    }
    let target = ExportTarget::from_command(arguments);
    if let Some(words) = target.conflict_message(arguments.force) {
        eprintln!("autocertd: {words}");
        return Ok(CommandOutcome::UsageError);
    }
    let content = match owner::run_as_owner(&config.state_directory(), &[], StdoutMode::Capture)? {
        Some(done) if done.outcome == CommandOutcome::Success => Zeroizing::new(done.output),
        Some(done) => return Ok(done.outcome),
        None => read_content(config, arguments)?,
    };
    match target {
        ExportTarget::Folder(directory) => write_folder(directory, &content)?,
        ExportTarget::File(_) | ExportTarget::Stdout => write_backup(config, target, &content, arguments.force)?,
    }
    Ok(CommandOutcome::Success)
}

/// Where it goes.
#[derive(Clone, Copy)]
enum ExportTarget<'a> {
    Folder(&'a Path),
    File(&'a Path),
    Stdout,
}

impl<'a> ExportTarget<'a> {
    fn from_command(arguments: &'a ExportCommand) -> Self {
        match (&arguments.pem, arguments.file.as_deref()) {
            (Some(directory), _) => Self::Folder(directory),
            (None, Some(file)) if file != Path::new("-") => Self::File(file),
            (None, _) => Self::Stdout,
        }
    }

    /// What is in the way.
    fn conflict_message(self, force: bool) -> Option<String> {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        match self {
            Self::Folder(path) if is_there(path) => {
                Some(format!("{} is there already; give the name of a new folder", path.display()))
            }
            Self::File(path) if is_there(path) && !force => {
                Some(format!("{} is there already; give another name, or --force to replace it", path.display()))
            }
            _ => None,
        }
    }
}

/// What is to be written: a backup, or a folder as a document.
fn read_content(config: &Config, arguments: &ExportCommand) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let content = match arguments.pem {
            Some(_) => serde_json::to_vec(&ExportFolder::from_store(&app.store).await?)?,
            None => app.store.export().await?.to_json()?,
        };
        app.store.close().await;
        Ok(Zeroizing::new(content))
    })
}

fn write_backup(config: &Config, target: ExportTarget<'_>, content: &[u8], force: bool) -> anyhow::Result<()> {
    let backup = Backup::from_json(content)?;
    if let ExportTarget::File(file) = target {
        write_file(file, content, force).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}: {}", file.display(), backup.contents());
    } else {
        io::stdout().write_all(content)?;
    }
    let left_out = backup.omitted_work();
    if left_out.open_attempts > 0 || left_out.challenge_records > 0 {
        eprintln!(
            "autocertd: left out are {} attempts under way and the notes on {} challenge records, which a store restored \
             from this would leave in the DNS; export again when they are done",
            left_out.open_attempts, left_out.challenge_records
        );
    }
    let keys = config.key_file();
    eprintln!(
        "the master keys are not in it, and without them nobody can read its secrets: keep a copy of {} apart from it",
        keys.display()
    );
    Ok(())
}

fn write_folder(directory: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = ExportFolder::from_owner_process(content)?;
    let count = folder.certificate_count();
    folder.write(directory).with_context(|| format!("cannot write {}", directory.display()))?;
    println!("{}: {count} certificates with their private keys, which are not sealed", directory.display());
    eprintln!("accounts, tokens and superseded certificates are not in it; export FILE has them all");
    Ok(())
}

/// Writes a file of its owner's alone, down to the disk. Unless `force`d it takes no name that is taken.
fn write_file(file: &Path, content: &[u8], force: bool) -> io::Result<()> {
    let (draft, mut written) = AtomicFile::new_file(file)?;
    written.write_all(content)?;
    written.sync_all()?;
    if force { draft.persist() } else { draft.persist_noclobber() }
}
