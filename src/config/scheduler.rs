//! `[scheduler]`: how the renewal daemon paces itself.

use serde::{Deserialize, Serialize};

use crate::config::time_span::TimeSpan;

/// The settings of `[scheduler]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerSection {
    /// How many auto-certificates are worked on at once at each provider, counted over all instances that share the
    /// database; default 32.
    pub concurrency: u16,
    /// How often everything is looked through even if nothing was planned: the safety net behind planned looks, for
    /// suspended machines and turned clocks. At a random second; between `1m` and `59m`; default `5m`.
    pub scan_every: TimeSpan,
    /// How long a stop waits for running work to park itself; default `10s`, which is also the least.
    pub stop_grace: TimeSpan,
    /// How long before a planned renewal the names are checked as `autocertd doctor` does, so that what would keep it from
    /// succeeding is told early. Default `7d`; `0s` switches it off.
    pub rehearse_ahead: TimeSpan,
}

impl Default for SchedulerSection {
    fn default() -> Self {
        Self {
            concurrency: 32,
            scan_every: TimeSpan::seconds(300),
            stop_grace: TimeSpan::seconds(10),
            rehearse_ahead: TimeSpan::seconds(7 * 86_400),
        }
    }
}
