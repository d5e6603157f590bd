//! The reload: settings are read anew and put into force while everything goes on. Settings that cannot be used change
//! nothing.

use std::time::Duration;

use tokio::time::timeout;

use crate::app::{App, Integrations};
use crate::config::Config;
use crate::runtime::lifecycle;
use crate::scheduler::Scheduler;

impl App {
    /// Reads the settings anew. What cannot be used is logged, and what was in force before stays so.
    pub(super) async fn reload(&self, scheduler: &Scheduler) {
        let _reloading = lifecycle::notify_reloading();
        match timeout(LONGEST_RELOAD, self.apply_settings(scheduler)).await {
            Ok(Ok(())) => tracing::info!("settings read anew"),
            Err(_) => tracing::error!(
                "the reload did not end within {LONGEST_RELOAD:?} and was given up; some of the settings may be in force, reload again"
            ),
            Ok(Err(error)) => tracing::error!("the settings were not taken, and those before stay in force: {error:#}"),
        }
    }

    async fn apply_settings(&self, scheduler: &Scheduler) -> anyhow::Result<()> {
        let running = self.config.clone();
        // Files may be on a disk that hangs.
        let (fresh, changed, outside) = tokio::task::spawn_blocking(move || load_settings(&running)).await??;
        for section in changed {
            tracing::warn!(section, "changed settings that come into force with the next start");
        }
        self.reconcile(&fresh).await?;
        self.warn_without_dns(&outside).await?;
        self.update_credentials(&outside);
        scheduler.replace_work(self.configured_work(outside)).await;
        scheduler.sync_deliveries().await?;
        let waiting = self.store.recheck_operator_failures().await?;
        if waiting > 0 {
            tracing::info!(waiting, "what waited for a person is tried again");
        }
        self.store.retry_removals().await?;
        self.store.recheck_preflights().await?;
        let held = self.store.end_limit_deferrals().await?;
        if held > 0 {
            tracing::info!(held, "what waited for the limits of a CA is looked at again");
        }
        self.wake.notify();
        Ok(())
    }
}

/// The settings anew, which of them have to wait for the next start, and what they come to.
fn load_settings(running: &Config) -> anyhow::Result<(Config, Vec<&'static str>, Integrations)> {
    let fresh = running.reload()?;
    let changed = running.sections_needing_restart(&fresh);
    let fresh = fresh.with_fixed_sections_of(running);
    let outside = Integrations::from_config(&fresh)?;
    for caution in fresh.warnings() {
        tracing::warn!("{caution}");
    }
    Ok((fresh, changed, outside))
}

/// A reload waits for the scan that is running.
const LONGEST_RELOAD: Duration = Duration::from_mins(5);
