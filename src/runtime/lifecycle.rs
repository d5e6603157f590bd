//! One owner of the program's life: signals, cancellation and every task that is spawned.

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

    /// Begins the stop at SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Where the signal handlers cannot be installed.
    pub fn stop_at_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopping = self.stopping();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
                _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
                () = stopping.cancelled() => {}
            }
            stopping.cancel();
        });
        Ok(())
    }

    /// Waits until every task has ended, at most for `grace`; says whether all did.
    pub async fn drained(&self, grace: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}

/// Each SIGHUP, which asks for the settings to be read anew.
///
/// # Errors
/// Where the signal handler cannot be installed.
pub fn hangups() -> std::io::Result<Signal> {
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

/// Tells systemd that the scheduler is alive; gives the span after which it must hear so again, where it watches.
pub fn feed_watchdog() -> Option<Duration> {
    let patience = sd_notify::watchdog_enabled()?;
    notify(&[NotifyState::Watchdog]);
    Some(patience / 2)
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "could not notify systemd");
    }
}
