//! What `--renew-now` tells: one moving line per certificate on a terminal, plain lines elsewhere, and JSON for scripts. Of
//! many it tells how far all of them are, and what failed by cause.

use std::collections::HashSet;

use serde::Serialize;

use crate::cli::Ending;
use crate::cli::renew_now::causes::{Cause, grouped};
use crate::cli::renew_now::progress::Progress;
use crate::cli::renew_now::rehearsal::PlannedRenewal;
use crate::domain::id::AutoCertificateId;
use crate::domain::text::printable;
use crate::http::control::{
    DeliveryProgress, DeliveryState, OverdueAnswer, OverdueEntry, RenewalProgress, RenewalTarget,
};

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

impl Outcome {
    /// What keeps it from a certificate, and when that is tried again.
    fn cause(&self) -> Option<(String, Option<String>)> {
        match self {
            Self::Failed { message, next_try } => Some((format!("failed: {message}"), next_try.clone())),
            Self::Waiting { message, next_try } => Some((format!("waits: {message}"), Some(next_try.clone()))),
            Self::Renewed { .. } | Self::NothingToDo | Self::Deleted => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Renewed { serial_number, not_after } => {
                format!("renewed, valid until {not_after}, serial {serial_number}")
            }
            Self::Failed { message, next_try: Some(next) } => format!("failed: {message} (next try at {next})"),
            Self::Failed { message, next_try: None } => format!("failed: {message}"),
            Self::Waiting { message, next_try } => format!("waits: {message} (next try at {next_try})"),
            Self::NothingToDo => "nothing to do".to_owned(),
            Self::Deleted => "deleted".to_owned(),
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
    plans: Vec<PlannedRenewal>,
    deliveries: Vec<DeliveryProgress>,
    /// What should be in service and is not; not asked for where auto-certificates were named.
    overdue: Option<OverdueAnswer>,
    progress: Progress,
    json: bool,
}

impl Report {
    pub(super) fn new(plans: Vec<PlannedRenewal>, json: bool) -> Self {
        Self { lines: Vec::new(), plans, deliveries: Vec::new(), overdue: None, progress: Progress::new(json), json }
    }

    /// These are followed from now on.
    pub(super) fn begin(&mut self, targets: &[RenewalTarget]) {
        self.progress.begin(targets);
    }

    /// One has moved on, or not; says which.
    pub(super) fn moved(&mut self, target: &RenewalTarget, progress: &RenewalProgress) -> bool {
        self.progress.moved(target, progress)
    }

    /// One has come to its end.
    pub(super) fn ended(&mut self, target: &RenewalTarget, outcome: Outcome) {
        // Of many, failures are told together at the end.
        let is_told_later = self.progress.is_of_many() && outcome.cause().is_some();
        let line = (!is_told_later).then(|| printable(&format!("{}: {}", target.common_name, outcome.words())));
        self.progress.ended(target, line);
        let (id, name, common_name) = (target.id, target.name.clone(), target.common_name.clone());
        self.lines.push(Line { id, name, common_name, outcome });
    }

    /// What should be in service and is not, at the end of the pass.
    pub(super) fn overdue(&mut self, overdue: OverdueAnswer) {
        self.overdue = Some(overdue);
    }

    /// So the deliveries stand at the end. What was delivered is told of what was worked on now, trouble of all.
    pub(super) fn delivered(&mut self, deliveries: Vec<DeliveryProgress>) {
        let worked_on: HashSet<AutoCertificateId> = self.lines.iter().map(|line| line.id).collect();
        for delivery in deliveries.iter().filter(|_| !self.json) {
            let (name, place) = (&delivery.name, &delivery.delivery);
            let worked_on = worked_on.contains(&delivery.id);
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
        self.progress.end();
        if self.json {
            crate::cli::output::print_json(&self.summary())?;
            return Ok(self.ending());
        }
        if self.progress.is_of_many() {
            let causes: Vec<Cause> = self.lines.iter().filter_map(Line::cause).collect();
            for line in grouped(&causes) {
                println!("{line}");
            }
        }
        if !self.plans.is_empty() {
            println!("{renewed} rehearsed, {failed} failed; nothing real was changed");
        } else if self.lines.is_empty() {
            println!("nothing is due");
        } else {
            println!("{renewed} renewed, {failed} failed");
        }
        self.tell_overdue();
        Ok(self.ending())
    }

    /// What failed in this pass was told already.
    fn tell_overdue(&self) {
        let Some(overdue) = self.overdue.as_ref().filter(|overdue| overdue.total > 0) else { return };
        let told: HashSet<AutoCertificateId> =
            self.lines.iter().filter(|line| line.outcome.cause().is_some()).map(|line| line.id).collect();
        let untold: Vec<Cause> =
            overdue.listed.iter().filter(|entry| !told.contains(&entry.id)).map(Cause::from).collect();
        let (total, least) = (overdue.total, if overdue.more { "at least " } else { "" });
        let are = if total == 1 {
            "auto-certificate that should be in service is not"
        } else {
            "auto-certificates that should be in service are not"
        };
        println!("{least}{total} {are}{}", if untold.is_empty() { "" } else { ":" });
        for line in grouped(&untold) {
            println!("{line}");
        }
        println!("`autocertd --renew-now NAME ...` tries again now, due or not");
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
        if let Some(overdue) = &self.overdue {
            summary["notInService"] = serde_json::json!(overdue);
        }
        summary
    }

    /// What the exit code is to say.
    pub(in crate::cli) fn ending(&self) -> Ending {
        let stand = |is: fn(&DeliveryState) -> bool| self.deliveries.iter().any(|delivery| is(&delivery.state));
        let undelivered = stand(|state| matches!(state, DeliveryState::Failed { .. }));
        let waiting = stand(|state| matches!(state, DeliveryState::Planned { .. }));
        let overdue = self.overdue.as_ref().is_some_and(|overdue| overdue.total > 0);
        match (self.failed() > 0 || undelivered || overdue, waiting) {
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

impl Line {
    fn cause(&self) -> Option<Cause> {
        let (words, next_try) = self.outcome.cause()?;
        Some(Cause { name: self.common_name.clone(), words, next_try })
    }
}

impl From<&OverdueEntry> for Cause {
    fn from(entry: &OverdueEntry) -> Self {
        let words = format!("{}: {}", entry.lacks, entry.message);
        Self { name: entry.common_name.clone(), words, next_try: entry.next_try.clone() }
    }
}
