//! A signal to a process, found by a file with its number or by its name.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::time_span::TimeSpan;
use crate::deliver::reload::{InvalidReload, ReloadReached};
use crate::domain::failure::disposition::Failure;
use crate::runtime::files;
use crate::runtime::processes::{Process, Processes};

/// A signal on its way.
#[derive(Clone, Debug)]
pub(super) struct SignalJob {
    pub(super) target: SignalTarget,
    pub(super) signal: Signal,
    /// Whether the receiver may be absent.
    pub(super) if_running: bool,
}

/// To whom.
#[derive(Clone, Debug)]
pub(super) enum SignalTarget {
    /// The number that the file holds.
    PidFile(PathBuf),
    /// A name as the kernel knows it.
    Name(String),
}

/// Why there is no receiver.
enum TargetAbsence {
    /// The service does not run, or is looked for in the wrong place.
    NotRunning(Failure),
    /// That cannot be told.
    Unclear(Failure),
}

/// A process as messages name it.
struct NamedProcess<'a>(&'a Process);

/// Reads the name of a signal by which services are reloaded, with or without `SIG`.
pub(super) fn parse_signal(name: &str) -> Result<Signal, InvalidReload> {
    let upper = name.to_ascii_uppercase();
    match upper.strip_prefix("SIG").unwrap_or(&upper) {
        "HUP" => Ok(Signal::SIGHUP),
        "USR1" => Ok(Signal::SIGUSR1),
        "USR2" => Ok(Signal::SIGUSR2),
        "TERM" => Ok(Signal::SIGTERM),
        "INT" => Ok(Signal::SIGINT),
        "QUIT" => Ok(Signal::SIGQUIT),
        "WINCH" => Ok(Signal::SIGWINCH),
        _ => Err(InvalidReload::Signal(name.to_owned())),
    }
}

impl SignalJob {
    pub(super) async fn run(&self, timeout: TimeSpan) -> Result<ReloadReached, Failure> {
        let errand = self.clone();
        // A file may lie on a slow disk, and thousands of processes take a while to look through.
        let sent = tokio::task::spawn_blocking(move || errand.run_blocking());
        match tokio::time::timeout(timeout.duration(), sent).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(Failure::retry(format!("the signal was not sent: {error}"))),
            Err(_) => Err(Failure::retry(format!(
                "no process to signal was found within {timeout}; does the disk of reload.pid_file answer?"
            ))),
        }
    }

    fn run_blocking(&self) -> Result<ReloadReached, Failure> {
        let found = match &self.target {
            SignalTarget::PidFile(path) => process_from_pid_file(path),
            SignalTarget::Name(name) => process_by_name(name),
        };
        let process = match found {
            Ok(process) => process,
            Err(TargetAbsence::NotRunning(failure)) if self.if_running => {
                tracing::info!("nobody is told: {failure}");
                return Ok(ReloadReached::NotRunning);
            }
            Err(TargetAbsence::NotRunning(failure) | TargetAbsence::Unclear(failure)) => return Err(failure),
        };
        let sent = NamedProcess(&process);
        if process.pid == Pid::this() {
            return Err(Failure::operator(format!(
                "{sent} is autocertd itself, which is sent no signal; is it the service's own pid file or name?"
            )));
        }
        match kill(process.pid, self.signal) {
            Ok(()) => {
                tracing::debug!(process = %sent, signal = %self.signal, "signal sent");
                Ok(ReloadReached::Service)
            }
            Err(Errno::EPERM) => Err(Failure::operator(format!(
                "{} may not be sent to {sent}, which another user runs: run autocertd as that user (Compose: user, \
                 Kubernetes: runAsUser), or as root with no capability but KILL",
                self.signal
            ))),
            Err(Errno::ESRCH) => Err(Failure::retry(format!("{sent} ended before {} could be sent", self.signal))),
            Err(error) => Err(Failure::retry(format!("{} could not be sent to {sent}: {error}", self.signal))),
        }
    }
}

impl fmt::Display for NamedProcess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({:?})", self.0.pid, self.0.name)
    }
}

fn process_from_pid_file(path: &Path) -> Result<Process, TargetAbsence> {
    let shown = path.display();
    let mut text = String::new();
    read_plain_file(path, &mut text).map_err(|error| {
        let advice = "is the service running, and may autocertd read the file?";
        let failure = Failure::retry(format!("the pid file {shown} cannot be read: {error}; {advice}"));
        if error.kind() == ErrorKind::NotFound {
            TargetAbsence::NotRunning(failure)
        } else {
            TargetAbsence::Unclear(failure)
        }
    })?;
    // Some write more lines behind it.
    let number = text.split_whitespace().next().and_then(|word| word.parse().ok()).filter(|number: &i32| *number > 0);
    let pid = number.map(Pid::from_raw).ok_or_else(|| {
        let advice = "is reload.pid_file the right file?";
        TargetAbsence::Unclear(Failure::retry(format!("the pid file {shown} holds no process number; {advice}")))
    })?;
    Process::read(pid).ok_or_else(|| {
        let advice = "is the service running, and does autocertd share its pid namespace?";
        let words = format!("there is no process {pid}, which the pid file {shown} names; {advice}");
        TargetAbsence::NotRunning(Failure::retry(words))
    })
}

fn read_plain_file(path: &Path, text: &mut String) -> std::io::Result<usize> {
    files::open_regular(path)?.take(MAX_PID_FILE_SIZE).read_to_string(text)
}

fn process_by_name(name: &str) -> Result<Process, TargetAbsence> {
    let mut first = Processes::snapshot().roots_named(name).into_iter();
    let oldest = first.next().ok_or_else(|| {
        TargetAbsence::NotRunning(Failure::retry(format!(
            "no process called {name:?} is seen; is it running, and does autocertd share its pid namespace (Compose: pid, \
             Kubernetes: shareProcessNamespace; under systemd use reload.unit)?"
        )))
    })?;
    for stranger in first {
        tracing::warn!(process = %NamedProcess(&stranger), oldest = %NamedProcess(&oldest), "several services have this name; only the oldest is told");
    }
    Ok(oldest)
}

/// In bytes; the longest that is known, `PostgreSQL`'s, has a dozen short lines.
const MAX_PID_FILE_SIZE: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_with_and_without_sig() {
        for (text, signal) in [("HUP", Signal::SIGHUP), ("SIGUSR2", Signal::SIGUSR2), ("sigwinch", Signal::SIGWINCH)] {
            assert_eq!(parse_signal(text).unwrap(), signal);
        }
        for text in ["", "KILL", "SIGSTOP", "SIGSIGHUP", "1"] {
            assert!(parse_signal(text).is_err(), "{text} was taken");
        }
    }
}
