//! `autocertd plan`: what happens next to each auto-certificate, when and why.

pub(in crate::cli) mod page;

use clap::Args;
use serde::Serialize;

use crate::app::{App, IfStoreMissing, credential_warnings};
use crate::cli::plan::page::render_page;
use crate::cli::selection::load_auto_certificates;
use crate::cli::{CommandOutcome, log, owner, runtime};
use crate::config::Config;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::renewal_info::RenewalInfo;
use crate::domain::report::forecast::{Forecast, NextStep};
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;

#[derive(Debug, Args)]
pub(super) struct PlanCommand {
    /// Only those of these names, common names or ids
    names: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An auto-certificate with what comes next for it.
struct PlannedAutoCertificate {
    auto_certificate: AutoCertificate,
    forecast: Forecast,
}

pub(super) fn run(config: &Config, command: &PlanCommand) -> anyhow::Result<CommandOutcome> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, IfStoreMissing::Fail).await?;
        let subjects = load_auto_certificates(&app.store, &command.names).await?;
        let now = app.clock.now();
        let planned_of = |subject: AutoCertificate| PlannedAutoCertificate {
            forecast: Forecast::from_facts(&subject.standing, now),
            auto_certificate: subject,
        };
        let mut planned: Vec<PlannedAutoCertificate> = subjects.into_iter().map(planned_of).collect();
        planned.sort_by_key(|planned| (planned.forecast.next_step, planned.forecast.at));
        if command.json {
            let entries: Vec<PlanEntry> = planned.iter().map(PlanEntry::from).collect();
            crate::cli::output::print_json(&entries)?;
        } else {
            print!("{}", render_page(&planned, &credential_warnings(config, now), now, terminal_width()));
        }
        let alarming =
            planned.iter().any(|planned| needs_attention(&planned.forecast, &planned.auto_certificate.standing));
        Ok(if alarming { CommandOutcome::Failed } else { CommandOutcome::Success })
    })
}

/// Whether somebody must look at it: a person must act, or the next try comes after the last safe moment, which for what has
/// expired is over. What has no certificate yet has no such moment; there a try that failed counts.
fn needs_attention(outlook: &Forecast, standing: &AutoCertificateFacts) -> bool {
    let late = match outlook.slack {
        Some(slack) => slack.is_negative(),
        None if standing.newest.is_some() => matches!(outlook.next_step, NextStep::Retry | NextStep::Wait),
        None => outlook.next_step == NextStep::Retry,
    };
    outlook.next_step == NextStep::NeedsPerson || outlook.predicted_failure.is_some() || late
}

/// That of the terminal, else what everything can show.
fn terminal_width() -> usize {
    let table = comfy_table::Table::new();
    table.width().map_or(DEFAULT_WIDTH, usize::from).max(MIN_WIDTH)
}

/// An auto-certificate in the JSON form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanEntry<'a> {
    id: AutoCertificateId,
    name: String,
    common_name: &'a str,
    next: &'static str,
    at: String,
    why: String,
    /// What would keep it from succeeding, as its rehearsal found.
    foreseen: Option<&'a str>,
    /// Whole seconds before the last safe moment; negative behind it.
    slack_seconds: Option<i64>,
    not_after: Option<String>,
    last_safe: Option<String>,
    suggestion: Option<WindowEntry<'a>>,
    failures: u32,
}

/// What the CA suggests.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WindowEntry<'a> {
    start: String,
    end: String,
    moment: String,
    #[serde(rename = "explanationURL")]
    explanation_url: Option<&'a str>,
}

impl<'a> From<&'a PlannedAutoCertificate> for PlanEntry<'a> {
    fn from(
        PlannedAutoCertificate { auto_certificate: subject, forecast: outlook }: &'a PlannedAutoCertificate,
    ) -> Self {
        let standing = &subject.standing;
        let last_safe = outlook.slack.map(|slack| outlook.at + slack);
        Self {
            id: subject.id,
            name: subject.name.to_string(),
            common_name: subject.common_name.sent(),
            next: outlook.next_step.as_str(),
            at: outlook.at.to_string(),
            why: outlook.explanation.clone(),
            foreseen: outlook.predicted_failure.as_deref(),
            slack_seconds: outlook.slack.map(time::Duration::whole_seconds),
            not_after: standing.newest.map(|newest| newest.not_after.to_string()),
            last_safe: last_safe.map(|at: Moment| at.to_string()),
            suggestion: standing.renewal_info.as_ref().and_then(WindowEntry::from_renewal_info),
            failures: standing.failure_streak.as_ref().map_or(0, |trouble| trouble.failures),
        }
    }
}

impl<'a> WindowEntry<'a> {
    fn from_renewal_info(info: &'a RenewalInfo) -> Option<Self> {
        let suggestion = info.suggestion.as_ref()?;
        Some(Self {
            start: suggestion.window.start().to_string(),
            end: suggestion.window.end().to_string(),
            moment: suggestion.moment.to_string(),
            explanation_url: suggestion.explanation_url.as_deref(),
        })
    }
}

const DEFAULT_WIDTH: usize = 80;
const MIN_WIDTH: usize = 40;
