//! A command that opens the store by itself runs as the owner of the state directory, so that root never leaves files
//! behind that the daemon cannot open. One that also reads or writes files of root's does that itself, and hands the
//! rest over to a process of that user.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use nix::unistd::Uid;

use crate::cli::Ending;

/// Becomes the owner of `state_directory` where root runs this and the owner is another user. Returns where nothing has
/// to change, else the program starts anew as that user and this call does not return.
pub(super) fn become_owner_of(state_directory: &Path) -> anyhow::Result<()> {
    match command_of_owner(state_directory)? {
        Some(OtherOwner { mut command, uid }) => {
            let error = command.exec();
            Err(error).with_context(|| cannot_become(uid, state_directory))
        }
        None => Ok(()),
    }
}

/// What a process of the owner came to.
pub(super) struct HandedOver {
    /// How it ended; it has said why.
    pub(super) ending: Ending,
    /// What it wrote to standard output, where that was kept.
    pub(super) output: Vec<u8>,
}

/// Where the standard output of the owner's process goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// To the person at the terminal.
    Shown,
    /// Back to this process.
    Kept,
}

/// Runs this very command as the owner of `state_directory`, where root runs it and the owner is another user, and
/// waits for its end; [`was_handed_over`] tells that process so, and `input` is on its standard input. Nothing where
/// this process may do everything itself.
pub(super) fn hand_over(state_directory: &Path, input: &[u8], output: Output) -> anyhow::Result<Option<HandedOver>> {
    let Some(OtherOwner { mut command, uid }) = command_of_owner(state_directory)? else { return Ok(None) };
    let stdout = if output == Output::Kept { Stdio::piped() } else { Stdio::inherit() };
    let child = command.env(HANDED_OVER, "1").stdin(Stdio::piped()).stdout(stdout).spawn();
    let mut child = child.with_context(|| cannot_become(uid, state_directory))?;
    // It reads all of its input before it writes anything.
    match child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input)) {
        // It has ended early, and said why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot hand over to the owner of the state directory")?,
    }
    let ended = child.wait_with_output().context("the process of the state directory's owner is lost")?;
    let ending = match ended.status.code() {
        Some(0) => Ending::Well,
        Some(2) => Ending::Misused,
        _ => Ending::Failed,
    };
    Ok(Some(HandedOver { ending, output: ended.stdout }))
}

/// Whether this process is the one that root handed over to: what it would read from a file comes on standard input, and
/// what it would write into one goes to standard output.
pub(super) fn was_handed_over() -> bool {
    std::env::var_os(HANDED_OVER).as_deref() == Some(OsStr::new("1"))
}

/// This command anew, as another user.
struct OtherOwner {
    command: Command,
    uid: u32,
}

fn command_of_owner(state_directory: &Path) -> anyhow::Result<Option<OtherOwner>> {
    let Ok(owner) = std::fs::metadata(state_directory) else {
        return Ok(None);
    };
    if !Uid::effective().is_root() || owner.uid() == ROOT {
        return Ok(None);
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).uid(owner.uid()).gid(owner.gid());
    Ok(Some(OtherOwner { command, uid: owner.uid() }))
}

fn cannot_become(uid: u32, state_directory: &Path) -> String {
    format!("cannot become user {uid}, the owner of {}", state_directory.display())
}

const ROOT: u32 = 0;
const HANDED_OVER: &str = "AUTOCERTD_HANDED_OVER";
