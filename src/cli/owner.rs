//! A command that opens the store by itself runs as the owner of the state directory, so that root never leaves files
//! behind that the daemon cannot open.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// Becomes the owner of `state_directory` where root runs this and the owner is another user. Returns where nothing has
/// to change, else the program starts anew as that user and this call does not return.
pub(super) fn become_owner_of(state_directory: &Path) -> anyhow::Result<()> {
    let Ok(owner) = std::fs::metadata(state_directory) else {
        return Ok(());
    };
    if own_uid()? != ROOT || owner.uid() == ROOT {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let error = Command::new(program).args(std::env::args_os().skip(1)).uid(owner.uid()).gid(owner.gid()).exec();
    Err(error)
        .with_context(|| format!("cannot become user {}, the owner of {}", owner.uid(), state_directory.display()))
}

fn own_uid() -> anyhow::Result<u32> {
    Ok(std::fs::metadata("/proc/self").context("cannot read /proc/self")?.uid())
}

const ROOT: u32 = 0;
