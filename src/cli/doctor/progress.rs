//! What is being looked at, on one moving line of a terminal; elsewhere nothing.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::domain::value::text::printable;

/// The line.
#[derive(Clone)]
pub(super) struct CheckSpinner(ProgressBar);

impl CheckSpinner {
    pub(super) fn start() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let line = ProgressBar::new_spinner();
        // No longer than the terminal is wide: of a wrapped line a part would stay.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            line.set_style(style);
        }
        line.enable_steady_tick(TICK);
        Self(line)
    }

    pub(super) fn set_message(&self, words: &str) {
        if !self.0.is_finished() {
            self.0.set_message(printable(words));
        }
    }

    /// The line goes: what was found follows.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }

    /// At a signal the line goes at once, and a plain one says what is still waited for: a second signal may end the
    /// program at any time.
    pub(super) fn finish_on_stop(&self, stopping: CancellationToken) {
        let line = self.clone();
        tokio::spawn(async move {
            stopping.cancelled().await;
            if !line.0.is_finished() {
                line.finish();
                if std::io::stderr().is_terminal() {
                    eprintln!("interrupted; removing canary records, Ctrl-C again ends at once");
                }
            }
        });
    }
}

const TICK: Duration = Duration::from_millis(120);
