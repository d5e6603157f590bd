//! What is being looked at, on one moving line of a terminal; elsewhere nothing.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressBar;

/// The line.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn start() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let line = ProgressBar::new_spinner();
        line.enable_steady_tick(TICK);
        Self(line)
    }

    pub(super) fn tell(&self, words: String) {
        self.0.set_message(words);
    }

    /// The line goes: what was found follows.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

const TICK: Duration = Duration::from_millis(120);
