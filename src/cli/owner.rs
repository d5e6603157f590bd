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

use crate::cli::CommandOutcome;

/// Becomes the owner of `state_directory` where root runs this and the owner is another user. Returns where nothing has
/// to change, else the program starts anew as that user and this call does not return.
pub(super) fn become_owner_of(state_directory: &Path) -> anyhow::Result<()> {
    match owner_command(state_directory)? {
        Some(OwnerCommand { mut command, uid }) => {
            let error = command.exec();
            Err(error).with_context(|| switch_user_error(uid, state_directory))
        }
        None => Ok(()),
    }
}

/// What a process of the owner came to.
pub(super) struct OwnerProcessResult {
    /// How it ended; it has said why.
    pub(super) outcome: CommandOutcome,
    /// What it wrote to standard output, where that was kept.
    pub(super) output: Vec<u8>,
}

/// Where the standard output of the owner's process goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StdoutMode {
    /// To the person at the terminal.
    Inherit,
    /// Back to this process.
    Capture,
}

/// Runs this very command as the owner of `state_directory`, where root runs it and the owner is another user, and
/// waits for its end; [`was_handed_over`] tells that process so, and `input` is on its standard input. Nothing where
/// this process may do everything itself.
pub(super) fn run_as_owner(
    state_directory: &Path,
    input: &[u8],
    output: StdoutMode,
) -> anyhow::Result<Option<OwnerProcessResult>> {
    let Some(OwnerCommand { mut command, uid }) = owner_command(state_directory)? else { return Ok(None) };
    let stdout = if output == StdoutMode::Capture { Stdio::piped() } else { Stdio::inherit() };
    let child = command.env(OWNER_PROCESS_VARIABLE, "1").stdin(Stdio::piped()).stdout(stdout).spawn();
    let mut child = child.with_context(|| switch_user_error(uid, state_directory))?;
    // It reads all of its input before it writes anything.
    match child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input)) {
        // It has ended early, and said why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot hand over to the owner of the state directory")?,
    }
    let ended = child.wait_with_output().context("the process of the state directory's owner is lost")?;
    let ending = match ended.status.code() {
        Some(0) => CommandOutcome::Success,
        Some(2) => CommandOutcome::UsageError,
        _ => CommandOutcome::Failed,
    };
    Ok(Some(OwnerProcessResult { outcome: ending, output: ended.stdout }))
}

/// Whether this process is the one that root handed over to: what it would read from a file comes on standard input, and
/// what it would write into one goes to standard output.
pub(super) fn is_owner_process() -> bool {
    std::env::var_os(OWNER_PROCESS_VARIABLE).as_deref() == Some(OsStr::new("1"))
}

/// This command anew, as another user.
struct OwnerCommand {
    command: Command,
    uid: u32,
}

fn owner_command(state_directory: &Path) -> anyhow::Result<Option<OwnerCommand>> {
    let Ok(owner) = std::fs::metadata(state_directory) else {
        return Ok(None);
    };
    if !Uid::effective().is_root() || owner.uid() == ROOT {
        return Ok(None);
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).uid(owner.uid()).gid(owner.gid());
    Ok(Some(OwnerCommand { command, uid: owner.uid() }))
}

fn switch_user_error(uid: u32, state_directory: &Path) -> String {
    format!("cannot become user {uid}, the owner of {}", state_directory.display())
}

const ROOT: u32 = 0;
const OWNER_PROCESS_VARIABLE: &str = "AUTOCERTD_HANDED_OVER";
