//! What `--renew-now` tells: one moving line per certificate on a terminal, plain lines elsewhere, and JSON for scripts. Of
//! many it tells how far all of them are, and what failed by cause.

use std::collections::HashSet;

use serde::Serialize;

use crate::cli::CommandOutcome;
use crate::cli::renew_now::causes::{FailureCause, summarize_causes};
use crate::cli::renew_now::dry_run::PlannedRenewal;
use crate::cli::renew_now::progress::ProgressDisplay;
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::text::printable;
use crate::http::control::{
    DeliveryProgress, DeliveryState, OverdueAnswer, OverdueEntry, RenewalProgress, RenewalTarget,
};

/// How one renewal ended.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum RenewalOutcome {
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

impl RenewalOutcome {
    /// How a run that has ended ended.
    pub(super) fn from_progress(target: &RenewalTarget, progress: &RenewalProgress, named: bool) -> Self {
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

impl RenewalOutcome {
    /// What keeps it from a certificate, and when that is tried again.
    fn failure_cause(&self) -> Option<(String, Option<String>)> {
        match self {
            Self::Failed { message, next_try } => Some((format!("failed: {message}"), next_try.clone())),
            Self::Waiting { message, next_try } => Some((format!("waits: {message}"), Some(next_try.clone()))),
            Self::Renewed { .. } | Self::NothingToDo | Self::Deleted => None,
        }
    }

    fn describe(&self) -> String {
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
struct RenewalEntry {
    id: AutoCertificateId,
    name: String,
    #[serde(rename = "commonName")]
    common_name: String,
    #[serde(flatten)]
    outcome: RenewalOutcome,
}

/// Tells how the renewals go.
pub(in crate::cli) struct RenewalReport {
    entries: Vec<RenewalEntry>,
    /// What a dry run said before.
    plans: Vec<PlannedRenewal>,
    deliveries: Vec<DeliveryProgress>,
    /// What should be in service and is not; not asked for where auto-certificates were named.
    overdue: Option<OverdueAnswer>,
    progress: ProgressDisplay,
    json: bool,
}

impl RenewalReport {
    pub(super) fn new(plans: Vec<PlannedRenewal>, json: bool) -> Self {
        Self {
            entries: Vec::new(),
            plans,
            deliveries: Vec::new(),
            overdue: None,
            progress: ProgressDisplay::new(json),
            json,
        }
    }

    /// These are followed from now on.
    pub(super) fn add_targets(&mut self, targets: &[RenewalTarget]) {
        self.progress.add_targets(targets);
    }

    /// One has moved on, or not; says which.
    pub(super) fn update_progress(&mut self, target: &RenewalTarget, progress: &RenewalProgress) -> bool {
        self.progress.update(target, progress)
    }

    /// One has come to its end.
    pub(super) fn record_outcome(&mut self, target: &RenewalTarget, outcome: RenewalOutcome) {
        // Of many, failures are told together at the end.
        let is_told_later = self.progress.is_summarized() && outcome.failure_cause().is_some();
        let line = (!is_told_later).then(|| printable(&format!("{}: {}", target.common_name, outcome.describe())));
        self.progress.finish_target(target, line);
        let (id, name, common_name) = (target.id, target.name.clone(), target.common_name.clone());
        self.entries.push(RenewalEntry { id, name, common_name, outcome });
    }

    /// What should be in service and is not, at the end of the pass.
    pub(super) fn set_overdue(&mut self, overdue: OverdueAnswer) {
        self.overdue = Some(overdue);
    }

    /// So the deliveries stand at the end. What was delivered is told of what was worked on now, trouble of all.
    pub(super) fn report_deliveries(&mut self, deliveries: Vec<DeliveryProgress>) {
        let worked_on: HashSet<AutoCertificateId> = self.entries.iter().map(|line| line.id).collect();
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
    pub(super) fn finish(self) -> anyhow::Result<CommandOutcome> {
        let (renewed, failed) = (self.renewed_count(), self.failed_count());
        self.progress.clear();
        if self.json {
            crate::cli::output::print_json(&self.to_json())?;
            return Ok(self.command_outcome());
        }
        if self.progress.is_summarized() {
            let causes: Vec<FailureCause> = self.entries.iter().filter_map(RenewalEntry::failure_cause).collect();
            for line in summarize_causes(&causes) {
                println!("{line}");
            }
        }
        if !self.plans.is_empty() {
            println!("{renewed} rehearsed, {failed} failed; nothing real was changed");
        } else if self.entries.is_empty() {
            println!("nothing is due");
        } else {
            println!("{renewed} renewed, {failed} failed");
        }
        self.print_overdue();
        Ok(self.command_outcome())
    }

    /// What failed in this pass was told already.
    fn print_overdue(&self) {
        let Some(overdue) = self.overdue.as_ref().filter(|overdue| overdue.total > 0) else { return };
        let told: HashSet<AutoCertificateId> =
            self.entries.iter().filter(|line| line.outcome.failure_cause().is_some()).map(|line| line.id).collect();
        let untold: Vec<FailureCause> =
            overdue.listed.iter().filter(|entry| !told.contains(&entry.id)).map(FailureCause::from).collect();
        let (total, least) = (overdue.total, if overdue.more { "at least " } else { "" });
        let are = if total == 1 {
            "auto-certificate that should be in service is not"
        } else {
            "auto-certificates that should be in service are not"
        };
        println!("{least}{total} {are}{}", if untold.is_empty() { "" } else { ":" });
        for line in summarize_causes(&untold) {
            println!("{line}");
        }
        println!("`autocertd --renew-now NAME ...` tries again now, due or not");
    }

    /// All of it, for scripts.
    pub(in crate::cli) fn to_json(&self) -> serde_json::Value {
        let mut summary = serde_json::json!({
            "renewed": self.renewed_count(), "failed": self.failed_count(),
            "renewals": self.entries, "deliveries": self.deliveries,
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
    pub(in crate::cli) fn command_outcome(&self) -> CommandOutcome {
        let stand = |is: fn(&DeliveryState) -> bool| self.deliveries.iter().any(|delivery| is(&delivery.state));
        let undelivered = stand(|state| matches!(state, DeliveryState::Failed { .. }));
        let waiting = stand(|state| matches!(state, DeliveryState::Planned { .. }));
        let overdue = self.overdue.as_ref().is_some_and(|overdue| overdue.total > 0);
        match (self.failed_count() > 0 || undelivered || overdue, waiting) {
            (true, _) => CommandOutcome::Failed,
            (false, true) => CommandOutcome::DeliveryWaiting,
            (false, false) => CommandOutcome::Success,
        }
    }

    /// How many certificates are new.
    pub(in crate::cli) fn renewed_count(&self) -> usize {
        self.count(|outcome| matches!(outcome, RenewalOutcome::Renewed { .. }))
    }

    fn failed_count(&self) -> usize {
        self.count(|outcome| matches!(outcome, RenewalOutcome::Failed { .. }))
    }

    fn count(&self, is: fn(&RenewalOutcome) -> bool) -> usize {
        self.entries.iter().filter(|line| is(&line.outcome)).count()
    }
}

impl RenewalEntry {
    fn failure_cause(&self) -> Option<FailureCause> {
        let (words, next_try) = self.outcome.failure_cause()?;
        Some(FailureCause { name: self.common_name.clone(), message: words, next_try })
    }
}

impl From<&OverdueEntry> for FailureCause {
    fn from(entry: &OverdueEntry) -> Self {
        let words = format!("{}: {}", entry.lacks, entry.message);
        Self { name: entry.common_name.clone(), message: words, next_try: entry.next_try.clone() }
    }
}
