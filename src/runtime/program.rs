//! A program that is run to its end: bounded in time, killed with all that it started, and the end of what it says kept.
//! It is told nothing by standard input, and hangs on nothing that it leaves behind.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::domain::text::RemoteMessage;
use crate::runtime::processes::Processes;

/// A program to be [run](run) in `/`. Of the environment of this process it sees `PATH`, `HOME` and `LANG` alone: no secret.
pub(crate) fn apart(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
    let others = ["HOME", "LANG"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().env("PATH", path).envs(others).current_dir("/");
    command
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` where its time was up, and it was killed.
    pub(crate) status: Option<ExitStatus>,
    /// Its last lines on standard output and standard error, printable, on one line.
    pub(crate) said: RemoteMessage,
}

/// Runs a program. Where this future is dropped, the program is killed as at the end of its time.
///
/// What it started is killed by its process group and by descent. Out of reach is only what left the group and was orphaned,
/// as a daemon does. A SIGKILL of autocertd itself kills nothing here: then the program runs to its own end, unless
/// systemd or the container's end takes it along.
///
/// # Errors
/// Where it cannot be started.
pub(crate) async fn run(mut command: Command, patience: Duration) -> std::io::Result<Ended> {
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let program = command.as_std().get_program().to_owned();
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    let family = Family::of(&child);
    // It holds the writing end of the pipe, whose reading end would never see the end.
    drop(command);
    let mut output = Output { pipe: pipe::Receiver::from_owned_fd(reader.into())?, last: VecDeque::new() };

    let ended = async {
        tokio::select! {
            status = child.wait() => status,
            // It closed its output and goes on.
            () = output.drain() => child.wait().await,
        }
    };
    let status = if let Ok(status) = tokio::time::timeout(patience, ended).await {
        let status = status?;
        family.release();
        Some(status)
    } else {
        drop(family);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
        None
    };
    // What it left in the background may hold the pipe open for ever.
    let _ = tokio::time::timeout(GRACE, output.drain()).await;
    let said = RemoteMessage::last_lines(output.last.make_contiguous());
    tracing::debug!(?program, ?status, %said, "program ended");
    Ok(Ended { status, said })
}

/// What `said` adds to a message.
impl Ended {
    pub(crate) fn words(&self) -> String {
        if self.said.is_empty() { "it said nothing".to_owned() } else { format!("it said: {}", self.said) }
    }
}

/// A program that runs, with all that it started; killed when dropped, before the program itself is reaped, so that its
/// number cannot mean another one.
struct Family(Option<Pid>);

impl Family {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// Lets it go: it has ended.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let Some(program) = self.0 else { return };
        // A shell with job control gives each job a group of its own.
        let descendants = Processes::now().descendants(program);
        // What has ended meanwhile needs no signal.
        let _ = killpg(program, Signal::SIGKILL);
        for pid in descendants {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// What a program says: all is read, the last of it kept.
struct Output {
    pipe: pipe::Receiver,
    last: VecDeque<u8>,
}

impl Output {
    /// Reads until nobody can write any more.
    async fn drain(&mut self) {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = self.pipe.read(&mut chunk).await {
            self.last.extend(&chunk[..length]);
            let surplus = self.last.len().saturating_sub(KEPT);
            self.last.drain(..surplus);
        }
    }
}

/// Where no `PATH` is set, as in a container made from scratch.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of output that are kept.
const KEPT: usize = 16 * 1024;

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// For what takes no time: the end of a killed program, and the rest of its output.
const GRACE: Duration = Duration::from_millis(500);
