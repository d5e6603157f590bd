//! How far renewals are, on standard error: a moving line for each on a terminal, a plain line for each stage elsewhere, and
//! one for all together where there are many.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::domain::value::id::AutoCertificateId;
use crate::http::control::{RenewalProgress, RenewalTarget};

/// Shows how far renewals are.
pub(super) struct ProgressDisplay {
    /// What each one was last seen doing.
    last_activity: HashMap<AutoCertificateId, String>,
    /// The moving lines of those under way; none without a terminal, or of many.
    bars: HashMap<AutoCertificateId, ProgressBar>,
    /// The moving line of many.
    total_bar: Option<ProgressBar>,
    terminal: MultiProgress,
    /// How many there are, and how many have come to their end.
    total: usize,
    done: usize,
    last_printed: Instant,
    json: bool,
    is_interactive: bool,
}

impl ProgressDisplay {
    pub(super) fn new(json: bool) -> Self {
        Self {
            last_activity: HashMap::new(),
            bars: HashMap::new(),
            total_bar: None,
            terminal: MultiProgress::new(),
            total: 0,
            done: 0,
            last_printed: Instant::now(),
            json,
            is_interactive: !json && std::io::stderr().is_terminal(),
        }
    }

    /// Whether there are too many to tell of each.
    pub(super) const fn is_summarized(&self) -> bool {
        self.total > MAX_SINGLE_LINES
    }

    pub(super) fn add_targets(&mut self, targets: &[RenewalTarget]) {
        self.total += targets.len();
        if self.is_interactive && self.is_summarized() {
            let style = bar_style("{spinner} {pos} of {len} have come to their end; {msg}");
            let bar = self.terminal.add(ProgressBar::new(self.total as u64).with_style(style));
            bar.enable_steady_tick(TICK);
            self.total_bar = Some(bar);
        } else if self.is_interactive {
            self.bars = create_bars(&self.terminal, targets);
        }
    }

    /// One has moved on, or not; says which.
    pub(super) fn update(&mut self, target: &RenewalTarget, progress: &RenewalProgress) -> bool {
        let idle = if progress.running { "at work" } else { WAITING_MESSAGE };
        let doing = progress.doing.as_deref().unwrap_or(idle);
        let has_moved = self.last_activity.get(&target.id).is_none_or(|before| before != doing);
        if has_moved {
            self.last_activity.insert(target.id, doing.to_owned());
        }
        if self.is_summarized() {
            self.print_summary();
        } else if let Some(bar) = self.bars.get(&target.id) {
            bar.set_message(doing.to_owned());
        } else if !self.json && has_moved {
            eprintln!("{}: {doing}", target.common_name);
        }
        has_moved
    }

    /// One has come to its end; `line` tells how.
    pub(super) fn finish_target(&mut self, target: &RenewalTarget, line: Option<String>) {
        self.done += 1;
        self.last_activity.remove(&target.id);
        if let Some(bar) = self.bars.remove(&target.id) {
            bar.finish_and_clear();
        }
        if let Some(bar) = &self.total_bar {
            bar.set_position(self.done as u64);
        }
        if let Some(line) = line.filter(|_| !self.json) {
            self.terminal.suspend(|| println!("{line}"));
        }
    }

    /// Leaves the terminal clean.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.total_bar {
            bar.finish_and_clear();
        }
    }

    fn print_summary(&mut self) {
        if self.json || self.last_printed.elapsed() < if self.is_interactive { TICK } else { PRINT_INTERVAL } {
            return;
        }
        self.last_printed = Instant::now();
        let at_work = self.last_activity.values().filter(|doing| *doing != WAITING_MESSAGE).count();
        match &self.total_bar {
            Some(bar) => bar.set_message(format!("{at_work} at work")),
            None => eprintln!("{} of {} have come to their end; {at_work} at work", self.done, self.total),
        }
    }
}

/// One line with a spinner for each.
fn create_bars(terminal: &MultiProgress, targets: &[RenewalTarget]) -> HashMap<AutoCertificateId, ProgressBar> {
    let style = bar_style("{spinner} {prefix}: {wide_msg}");
    let bar_of = |target: &RenewalTarget| {
        let bar =
            terminal.add(ProgressBar::new_spinner().with_style(style.clone()).with_prefix(target.common_name.clone()));
        bar.enable_steady_tick(TICK);
        (target.id, bar)
    };
    targets.iter().map(bar_of).collect()
}

fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// More than fit on a screen.
const MAX_SINGLE_LINES: usize = 20;
const WAITING_MESSAGE: &str = "waiting for its turn";
const TICK: Duration = Duration::from_millis(120);
const PRINT_INTERVAL: Duration = Duration::from_secs(10);
