//! `[log]`: what is logged, and in which form. Logs go to standard error, or to the journal.

use serde::{Deserialize, Serialize};

/// The settings of `[log]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or a list of `target=level`; default
    /// `info,tokio_cron_scheduler=warn`.
    pub filter: String,
    /// The form; default `auto`.
    pub format: LogFormat,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `journald` where standard error is the journal's, else `text`.
    #[default]
    Auto,
    /// Lines for people; coloured on a terminal only.
    Text,
    /// One JSON object a line.
    Json,
    /// Entries of systemd's journal whose fields can be asked for, `AUTOCERTD_NAME` and the like.
    Journald,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { filter: "info,tokio_cron_scheduler=warn".to_owned(), format: LogFormat::default() }
    }
}
