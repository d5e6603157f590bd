//! What `--renew-now` tells: one moving line per certificate on a terminal, plain lines elsewhere, and JSON for scripts.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Ending;
use crate::cli::renew_now::rehearsal::Planned;
use crate::domain::id::AutoCertificateId;
use crate::http::control::{DeliveryProgress, DeliveryState, RenewalProgress, RenewalTarget};

/// How one renewal ended.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Outcome {
    /// There is a new certificate.
    Renewed {
        /// Its serial number.
        serial_number: String,
        /// The end of its validity.
        not_after: String,
    },
    /// It failed, for now.
    Failed {
        /// Why.
        message: String,
        /// When the next try is planned.
        next_try: Option<String>,
    },
    /// It waits for its provider, as planned.
    Waiting {
        /// For what.
        message: String,
        /// When it is tried.
        next_try: String,
    },
    /// It was looked at, and no new certificate was needed: challenge records were to be removed, or the like.
    NothingToDo,
    /// The auto-certificate was deleted.
    Deleted,
}

impl Outcome {
    /// How a run that has ended ended.
    pub(super) fn of(target: &RenewalTarget, progress: &RenewalProgress, named: bool) -> Self {
        let is_new = progress.newest.as_ref().is_some_and(|newest| target.newest != Some(newest.id));
        if let Some(hold) = progress.hold.as_ref().filter(|_| !is_new && !progress.deleted) {
            let (message, next_try) = (hold.message.clone(), hold.next_try.clone());
            return if named {
                Self::Failed { message: message.to_string(), next_try: Some(next_try) }
            } else {
                Self::Waiting { message: message.to_string(), next_try }
            };
        }
        match (&progress.trouble, &progress.newest) {
            _ if progress.deleted => Self::Deleted,
            (None, Some(newest)) if target.newest == Some(newest.id) => Self::NothingToDo,
            (None, Some(newest)) => {
                Self::Renewed { serial_number: newest.serial_number.clone(), not_after: newest.not_after.clone() }
            }
            (Some(trouble), _) => {
                Self::Failed { message: trouble.message.to_string(), next_try: Some(trouble.next_try.clone()) }
            }
            (None, None) => Self::Failed { message: "no certificate was issued".to_owned(), next_try: None },
        }
    }
}

#[derive(Serialize)]
struct Line {
    id: AutoCertificateId,
    name: String,
    #[serde(rename = "commonName")]
    common_name: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Tells how the renewals go.
pub(in crate::cli) struct Report {
    lines: Vec<Line>,
    /// What a dry run said before.
    plans: Vec<Planned>,
    deliveries: Vec<DeliveryProgress>,
    /// What each one was last said to be doing.
    said: HashMap<AutoCertificateId, String>,
    /// The moving lines of those under way; none without a terminal.
    bars: HashMap<AutoCertificateId, ProgressBar>,
    terminal: MultiProgress,
    json: bool,
}

impl Report {
    pub(super) fn new(targets: &[RenewalTarget], plans: Vec<Planned>, json: bool) -> Self {
        let moving = !json && std::io::stderr().is_terminal();
        let terminal = MultiProgress::new();
        let bars = if moving { bars(&terminal, targets) } else { HashMap::new() };
        Self { lines: Vec::new(), plans, deliveries: Vec::new(), said: HashMap::new(), bars, terminal, json }
    }

    /// One has moved on, or not.
    pub(super) fn moved(&mut self, target: &RenewalTarget, progress: &RenewalProgress) {
        let idle = if progress.running { "at work" } else { "waiting for its turn" };
        let doing = progress.doing.clone().unwrap_or_else(|| idle.to_owned());
        if let Some(bar) = self.bars.get(&target.id) {
            bar.set_message(doing);
        } else if !self.json && self.said.get(&target.id) != Some(&doing) {
            eprintln!("{}: {doing}", target.common_name);
            self.said.insert(target.id, doing);
        }
    }

    /// One has come to its end.
    pub(super) fn ended(&mut self, target: &RenewalTarget, outcome: Outcome) {
        let text = match &outcome {
            Outcome::Renewed { serial_number, not_after } => {
                format!("renewed, valid until {not_after}, serial {serial_number}")
            }
            Outcome::Failed { message, next_try: Some(next) } => format!("failed: {message} (next try at {next})"),
            Outcome::Failed { message, next_try: None } => format!("failed: {message}"),
            Outcome::Waiting { message, next_try } => format!("waits: {message} (next try at {next_try})"),
            Outcome::NothingToDo => "nothing to do".to_owned(),
            Outcome::Deleted => "deleted".to_owned(),
        };
        if let Some(bar) = self.bars.remove(&target.id) {
            bar.finish_and_clear();
        }
        if !self.json {
            self.terminal.suspend(|| println!("{}: {text}", target.common_name));
        }
        let (id, name, common_name) = (target.id, target.name.clone(), target.common_name.clone());
        self.lines.push(Line { id, name, common_name, outcome });
    }

    /// So the deliveries stand at the end. What was delivered is told of what was worked on now, trouble of all.
    pub(super) fn delivered(&mut self, deliveries: Vec<DeliveryProgress>) {
        for delivery in deliveries.iter().filter(|_| !self.json) {
            let (name, place) = (&delivery.name, &delivery.delivery);
            let worked_on = self.lines.iter().any(|line| line.id == delivery.id);
            match &delivery.state {
                DeliveryState::Delivered if worked_on => println!("{name}: delivered to {place}"),
                DeliveryState::Failed { message, next_try } => {
                    println!("{name}: delivery to {place} failed: {message} (next try at {next_try})");
                }
                DeliveryState::Planned { at, .. } => {
                    println!("{name}: delivery to {place} is planned for {at}, in its window");
                }
                DeliveryState::NothingToDeliver | DeliveryState::Delivered | DeliveryState::Running => {}
            }
        }
        self.deliveries = deliveries;
    }

    /// Sums up.
    pub(super) fn finish(self) -> anyhow::Result<Ending> {
        let (renewed, failed) = (self.renewed(), self.failed());
        if self.json {
            crate::cli::output::print_json(&self.summary())?;
        } else if !self.plans.is_empty() {
            println!("{renewed} rehearsed, {failed} failed; nothing real was changed");
        } else if self.lines.is_empty() {
            println!("nothing is due");
        } else {
            println!("{renewed} renewed, {failed} failed");
        }
        Ok(self.ending())
    }

    /// All of it, for scripts.
    pub(in crate::cli) fn summary(&self) -> serde_json::Value {
        let mut summary = serde_json::json!({
            "renewed": self.renewed(), "failed": self.failed(),
            "renewals": self.lines, "deliveries": self.deliveries,
        });
        if !self.plans.is_empty() {
            summary["plans"] = serde_json::json!(self.plans);
        }
        summary
    }

    /// What the exit code is to say.
    pub(in crate::cli) fn ending(&self) -> Ending {
        let stand = |is: fn(&DeliveryState) -> bool| self.deliveries.iter().any(|delivery| is(&delivery.state));
        let undelivered = stand(|state| matches!(state, DeliveryState::Failed { .. }));
        let waiting = stand(|state| matches!(state, DeliveryState::Planned { .. }));
        match (self.failed() > 0 || undelivered, waiting) {
            (true, _) => Ending::Failed,
            (false, true) => Ending::Waiting,
            (false, false) => Ending::Well,
        }
    }

    /// How many certificates are new.
    pub(in crate::cli) fn renewed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Renewed { .. }))
    }

    fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed { .. }))
    }

    fn count(&self, is: fn(&Outcome) -> bool) -> usize {
        self.lines.iter().filter(|line| is(&line.outcome)).count()
    }
}

/// One line with a spinner for each.
fn bars(terminal: &MultiProgress, targets: &[RenewalTarget]) -> HashMap<AutoCertificateId, ProgressBar> {
    let style = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar_of = |target: &RenewalTarget| {
        let bar =
            terminal.add(ProgressBar::new_spinner().with_style(style.clone()).with_prefix(target.common_name.clone()));
        bar.enable_steady_tick(Duration::from_millis(120));
        (target.id, bar)
    };
    targets.iter().map(bar_of).collect()
}
