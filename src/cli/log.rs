//! The log: set up once, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::app::UnusableSettings;
use crate::config::log::{LogFormat, LogSection};

/// Starts logging as the settings say; `$AUTOCERTD_LOG` overrides their filter.
pub(super) fn start(section: &LogSection) -> anyhow::Result<()> {
    start_with(section, &section.filter)
}

/// Starts logging for a command that people watch: only warnings, unless `$AUTOCERTD_LOG` asks for more.
pub(super) fn start_quietly(section: &LogSection) -> anyhow::Result<()> {
    start_with(section, "warn")
}

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the log filter {filter:?} (log.filter or $AUTOCERTD_LOG) cannot be read")]
struct BadFilter {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

fn start_with(section: &LogSection, filter: &str) -> anyhow::Result<()> {
    let filter = std::env::var("AUTOCERTD_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|source| UnusableSettings::of(BadFilter { filter, source }))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = match section.format {
        LogFormat::Text => builder.with_ansi(colour).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log could not be started: {error}"))
}
