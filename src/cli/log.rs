//! The log: set up once, on standard error or in systemd's journal.

mod text;

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::app::UnusableSettings;
use crate::cli::log::text::{EscapedFields, EscapedJsonWriter};
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
struct InvalidLogFilter {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

fn start_with(section: &LogSection, filter: &str) -> anyhow::Result<()> {
    let filter = std::env::var("AUTOCERTD_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|source| UnusableSettings::from_error(InvalidLogFilter { filter, source }))?;
    let layer = layer(section.format).context("the journal cannot be reached (log.format)")?;
    // One filter for all: a filter of the layer's own loses events behind a question of the `log` crate, as sqlx asks them.
    let started = tracing_subscriber::registry().with(filter).with(layer).try_init();
    started.context("the log could not be started")
}

type LogLayer = Box<dyn Layer<Layered<EnvFilter, Registry>> + Send + Sync>;

fn layer(format: LogFormat) -> std::io::Result<LogLayer> {
    let lines = || tracing_subscriber::fmt::layer().fmt_fields(EscapedFields).with_writer(std::io::stderr);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Ok(match format {
        LogFormat::Json => {
            Box::new(tracing_subscriber::fmt::layer().with_writer(EscapedJsonWriter).json().flatten_event(true))
        }
        LogFormat::Journald => Box::new(journal()?),
        LogFormat::Auto if is_journal() => match journal() {
            Ok(journal) => Box::new(journal),
            Err(_) => Box::new(lines().with_ansi(false)),
        },
        LogFormat::Auto | LogFormat::Text => Box::new(lines().with_ansi(colour)),
    })
}

/// The journal, with the fields of an entry under our own name.
fn journal() -> std::io::Result<tracing_journald::Layer> {
    let layer = tracing_journald::layer()?;
    Ok(layer.with_field_prefix(Some("AUTOCERTD".to_owned())).with_syslog_identifier("autocertd".to_owned()))
}

/// Whether standard error is the stream that systemd connected to the journal (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}
