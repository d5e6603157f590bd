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
use tokio::runtime::Handle;

use crate::domain::value::text::RemoteMessage;
use crate::runtime::processes::Processes;

/// A program to be [run](run) in `/`. Of the environment of this process it sees `PATH`, `HOME` and `LANG` alone: no secret.
pub(crate) fn isolated_command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let others = ["HOME", "LANG"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().env("PATH", path).envs(others).current_dir("/");
    command
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct ProgramOutcome {
    /// `None` where its time was up, and it was killed.
    pub(crate) status: Option<ExitStatus>,
    /// Its last lines on standard output and standard error, printable, on one line.
    pub(crate) output: RemoteMessage,
}

/// Runs a program. Where this future is dropped, the program is killed as at the end of its time.
///
/// What it started is killed by its process group and by descent. Out of reach is only what left the group and was orphaned,
/// as a daemon does. A SIGKILL of autocertd itself kills nothing here: then the program runs to its own end, unless
/// systemd or the container's end takes it along.
///
/// # Errors
/// Where it cannot be started.
pub(crate) async fn run(mut command: Command, patience: Duration) -> std::io::Result<ProgramOutcome> {
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let program = command.as_std().get_program().to_owned();
    let mut family = ProcessGroup(Some(command.process_group(0).kill_on_drop(true).spawn()?));
    // It holds the writing end of the pipe, whose reading end would never see the end.
    drop(command);
    let mut output = Output { pipe: pipe::Receiver::from_owned_fd(reader.into())?, tail: VecDeque::new() };

    let ended = async {
        tokio::select! {
            status = family.wait() => status,
            // It closed its output and goes on.
            () = output.drain() => family.wait().await,
        }
    };
    let status = if let Ok(status) = tokio::time::timeout(patience, ended).await {
        let status = status?;
        family.release();
        Some(status)
    } else {
        if let Some(mut child) = family.end().await {
            let _ = tokio::time::timeout(KILL_GRACE, child.wait()).await;
        }
        None
    };
    // What it left in the background may hold the pipe open for ever.
    let _ = tokio::time::timeout(KILL_GRACE, output.drain()).await;
    let said = RemoteMessage::last_lines(output.tail.make_contiguous());
    tracing::debug!(?program, ?status, %said, "program ended");
    Ok(ProgramOutcome { status, output: said })
}

/// What `said` adds to a message.
impl ProgramOutcome {
    pub(crate) fn words(&self) -> String {
        if self.output.is_empty() { "it said nothing".to_owned() } else { format!("it said: {}", self.output) }
    }
}

/// A program that runs, with all that it started; killed when dropped, before the program itself is reaped, so that its
/// number cannot mean another one.
struct ProcessGroup(Option<Child>);

impl ProcessGroup {
    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        match &mut self.0 {
            Some(child) => child.wait().await,
            None => Err(std::io::Error::other("it was let go")),
        }
    }

    /// Lets it go: it has ended.
    fn release(mut self) {
        self.0 = None;
    }

    /// Kills it, and gives what is left to be reaped.
    async fn end(mut self) -> Option<Child> {
        let child = Doomed(self.0.take());
        tokio::task::spawn_blocking(move || child.kill()).await.ok().flatten()
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let Some(child) = self.0.take() else { return };
        let child = Doomed(Some(child));
        // Thousands of processes take a while to look through. Where the runtime ends before a thread is free, the value is
        // dropped all the same.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(child));
        }
    }
}

/// A program that is killed with all that it started, on whichever thread this value ends.
struct Doomed(Option<Child>);

impl Doomed {
    fn kill(mut self) -> Option<Child> {
        let child = self.0.take();
        child.as_ref().inspect(|child| kill_with_descendants(child));
        child
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            kill_with_descendants(child);
        }
    }
}

fn kill_with_descendants(child: &Child) {
    let Some(program) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
    // A shell with job control gives each job a group of its own.
    let descendants = Processes::snapshot().descendants(program);
    // What has ended meanwhile needs no signal.
    let _ = killpg(program, Signal::SIGKILL);
    for pid in descendants {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// What a program says: all is read, the last of it kept.
struct Output {
    pipe: pipe::Receiver,
    tail: VecDeque<u8>,
}

impl Output {
    /// Reads until nobody can write any more.
    async fn drain(&mut self) {
        let mut chunk = vec![0; READ_SIZE];
        while let Ok(length @ 1..) = self.pipe.read(&mut chunk).await {
            self.tail.extend(&chunk[..length]);
            let surplus = self.tail.len().saturating_sub(MAX_OUTPUT_KEPT);
            self.tail.drain(..surplus);
        }
    }
}

/// Where no `PATH` is set, as in a container made from scratch.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of output that are kept.
const MAX_OUTPUT_KEPT: usize = 16 * 1024;

/// As much as a pipe holds.
const READ_SIZE: usize = 64 * 1024;

/// For what takes no time: the end of a killed program, and the rest of its output.
const KILL_GRACE: Duration = Duration::from_millis(500);
