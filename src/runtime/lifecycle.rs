//! One owner of the program's life: signals, cancellation and every task that is spawned.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The life of the process: what is spawned through it is waited for at the end.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// A token that is cancelled once the program is to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// The tracker through which every task is spawned.
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Begins the stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Begins the stop at SIGTERM or SIGINT. The process ends at the latest `limit` after that, whatever hangs: a crash
    /// costs nothing here, and a supervisor would kill it anyway. A second SIGINT, of a person who does not want to wait,
    /// ends it at once.
    ///
    /// # Errors
    /// Where the signal handlers cannot be installed.
    pub fn stop_on_signals(&self, limit: Duration) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopping = self.stopping();
        // It is not waited for: it goes on listening during the stop.
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
                _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
                // Whoever stopped it goes on with what follows, as long as that takes.
                () = stopping.cancelled() => return,
            }
            stopping.cancel();
            exit_after(limit);
            // Terminals and the scripts below them may both pass on one and the same.
            tokio::time::sleep(MIN_INTERRUPT_INTERVAL).await;
            interrupt = signal(SignalKind::interrupt()).unwrap_or(interrupt);
            if interrupt.recv().await.is_some() {
                tracing::warn!("SIGINT again: ended at once; what was not finished goes on with the next start");
                std::process::exit(EXIT_FAILURE);
            }
        });
        Ok(())
    }

    /// Waits until every task has ended, at most for `grace`; says whether all did.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}

/// Each SIGHUP, which asks for the settings to be read anew.
///
/// # Errors
/// Where the signal handler cannot be installed.
pub fn hangup_signals() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Tells systemd that start-up is complete; without systemd it does nothing.
pub fn notify_ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells systemd that the stop has begun; without systemd it does nothing.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells systemd that settings are read anew, and that this is over when the value is dropped.
pub fn notify_reloading() -> Reloading {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no monotonic time for systemd"),
    }
    Reloading
}

/// A reload under way.
#[derive(Debug)]
#[must_use]
pub struct Reloading;

impl Drop for Reloading {
    fn drop(&mut self) {
        notify_ready();
    }
}

/// How long systemd waits for a sign of life, where it does.
pub fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Tells systemd that the daemon is alive.
pub fn notify_watchdog() {
    notify(&[NotifyState::Watchdog]);
}

/// Tells systemd from a thread of its own, and waits a short time for that: a manager that takes no messages must not hold
/// up anything here.
fn notify(states: &[NotifyState<'static>]) {
    static HANGS: AtomicBool = AtomicBool::new(false);
    let is_sign_of_life = matches!(states, [NotifyState::Watchdog]);
    let mut tries = NOTIFY_TIMEOUT.as_millis() / BETWEEN_TRIES.as_millis();
    // A sign of life that is under way stands for this one as well; a change of state must not be lost beside it.
    while HANGS.swap(true, Ordering::SeqCst) {
        if is_sign_of_life || tries == 0 {
            return;
        }
        tries -= 1;
        std::thread::sleep(BETWEEN_TRIES);
    }
    let (states, (told, heard)) = (states.to_vec(), mpsc::sync_channel(1));
    std::thread::spawn(move || {
        if let Err(error) = sd_notify::notify(&states) {
            tracing::warn!(%error, "could not notify systemd");
        }
        HANGS.store(false, Ordering::SeqCst);
        let _ = told.send(());
    });
    if heard.recv_timeout(NOTIFY_TIMEOUT).is_err() {
        tracing::warn!("systemd does not take messages; none are sent until it does");
    }
}

/// Ends the process after this time, by a thread that needs nothing of what may hang.
fn exit_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        tracing::error!(
            "the stop took longer than {limit:?}; ended at once, what was not finished goes on with the next start"
        );
        std::process::exit(EXIT_FAILURE);
    });
}

const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);
const MIN_INTERRUPT_INTERVAL: Duration = Duration::from_millis(500);
/// The exit code of what failed.
const EXIT_FAILURE: i32 = 1;
