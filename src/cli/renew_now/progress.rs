//! How far renewals are, on standard error: a moving line for each on a terminal, a plain line for each stage elsewhere, and
//! one for all together where there are many.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::domain::id::AutoCertificateId;
use crate::http::control::{RenewalProgress, RenewalTarget};

/// Shows how far renewals are.
pub(super) struct Progress {
    /// What each one was last seen doing.
    doing: HashMap<AutoCertificateId, String>,
    /// The moving lines of those under way; none without a terminal, or of many.
    bars: HashMap<AutoCertificateId, ProgressBar>,
    /// The moving line of many.
    of_all: Option<ProgressBar>,
    terminal: MultiProgress,
    /// How many there are, and how many have come to their end.
    all: usize,
    done: usize,
    told: Instant,
    json: bool,
    moving: bool,
}

impl Progress {
    pub(super) fn new(json: bool) -> Self {
        Self {
            doing: HashMap::new(),
            bars: HashMap::new(),
            of_all: None,
            terminal: MultiProgress::new(),
            all: 0,
            done: 0,
            told: Instant::now(),
            json,
            moving: !json && std::io::stderr().is_terminal(),
        }
    }

    /// Whether there are too many to tell of each.
    pub(super) const fn is_of_many(&self) -> bool {
        self.all > MANY
    }

    pub(super) fn begin(&mut self, targets: &[RenewalTarget]) {
        self.all += targets.len();
        if self.moving && self.is_of_many() {
            let style = style("{spinner} {pos} of {len} have come to their end; {msg}");
            let bar = self.terminal.add(ProgressBar::new(self.all as u64).with_style(style));
            bar.enable_steady_tick(TICK);
            self.of_all = Some(bar);
        } else if self.moving {
            self.bars = bars(&self.terminal, targets);
        }
    }

    /// One has moved on, or not; says which.
    pub(super) fn moved(&mut self, target: &RenewalTarget, progress: &RenewalProgress) -> bool {
        let idle = if progress.running { "at work" } else { WAITING };
        let doing = progress.doing.as_deref().unwrap_or(idle);
        let has_moved = self.doing.get(&target.id).is_none_or(|before| before != doing);
        if has_moved {
            self.doing.insert(target.id, doing.to_owned());
        }
        if self.is_of_many() {
            self.tell_of_all();
        } else if let Some(bar) = self.bars.get(&target.id) {
            bar.set_message(doing.to_owned());
        } else if !self.json && has_moved {
            eprintln!("{}: {doing}", target.common_name);
        }
        has_moved
    }

    /// One has come to its end; `line` tells how.
    pub(super) fn ended(&mut self, target: &RenewalTarget, line: Option<String>) {
        self.done += 1;
        self.doing.remove(&target.id);
        if let Some(bar) = self.bars.remove(&target.id) {
            bar.finish_and_clear();
        }
        if let Some(bar) = &self.of_all {
            bar.set_position(self.done as u64);
        }
        if let Some(line) = line.filter(|_| !self.json) {
            self.terminal.suspend(|| println!("{line}"));
        }
    }

    /// Leaves the terminal clean.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.of_all {
            bar.finish_and_clear();
        }
    }

    fn tell_of_all(&mut self) {
        if self.json || self.told.elapsed() < if self.moving { TICK } else { BETWEEN_LINES } {
            return;
        }
        self.told = Instant::now();
        let at_work = self.doing.values().filter(|doing| *doing != WAITING).count();
        match &self.of_all {
            Some(bar) => bar.set_message(format!("{at_work} at work")),
            None => eprintln!("{} of {} have come to their end; {at_work} at work", self.done, self.all),
        }
    }
}

/// One line with a spinner for each.
fn bars(terminal: &MultiProgress, targets: &[RenewalTarget]) -> HashMap<AutoCertificateId, ProgressBar> {
    let style = style("{spinner} {prefix}: {wide_msg}");
    let bar_of = |target: &RenewalTarget| {
        let bar =
            terminal.add(ProgressBar::new_spinner().with_style(style.clone()).with_prefix(target.common_name.clone()));
        bar.enable_steady_tick(TICK);
        (target.id, bar)
    };
    targets.iter().map(bar_of).collect()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// More than fit on a screen.
const MANY: usize = 20;
const WAITING: &str = "waiting for its turn";
const TICK: Duration = Duration::from_millis(120);
const BETWEEN_LINES: Duration = Duration::from_secs(10);
