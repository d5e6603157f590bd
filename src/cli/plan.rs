//! `autocertd plan`: what happens next to each auto-certificate, when and why.

pub(in crate::cli) mod page;

use clap::Args;
use serde::Serialize;

use crate::app::{App, MissingStore, cautions};
use crate::cli::named::subjects;
use crate::cli::plan::page::page;
use crate::cli::{Ending, log, owner, runtime};
use crate::config::Config;
use crate::domain::auto_certificate::{AutoCertificate, AutoCertificateFacts};
use crate::domain::id::AutoCertificateId;
use crate::domain::moment::Moment;
use crate::domain::outlook::{NextStep, Forecast};
use crate::domain::renewal_info::RenewalInfo;

#[derive(Debug, Args)]
pub(super) struct PlanCommand {
    /// Only those of these names, common names or ids
    names: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An auto-certificate with what comes next for it.
struct Planned {
    subject: AutoCertificate,
    outlook: Forecast,
}

pub(super) fn run(config: &Config, command: &PlanCommand) -> anyhow::Result<Ending> {
    owner::become_owner_of(&config.state_directory())?;
    log::start_quietly(&config.log)?;
    runtime()?.block_on(async {
        let app = App::open(config, MissingStore::MustExist).await?;
        let subjects = subjects(&app.store, &command.names).await?;
        let now = app.clock.now();
        let planned_of = |subject: AutoCertificate| Planned { outlook: Forecast::of(&subject.standing, now), subject };
        let mut planned: Vec<Planned> = subjects.into_iter().map(planned_of).collect();
        planned.sort_by_key(|planned| (planned.outlook.next, planned.outlook.at));
        if command.json {
            let entries: Vec<Entry> = planned.iter().map(Entry::from).collect();
            crate::cli::output::print_json(&entries)?;
        } else {
            print!("{}", page(&planned, &cautions(config, now), now, width()));
        }
        let alarming = planned.iter().any(|planned| is_alarming(&planned.outlook, &planned.subject.standing));
        Ok(if alarming { Ending::Failed } else { Ending::Well })
    })
}

/// Whether somebody must look at it: a person must act, or the next try comes after the last safe moment, which for what has
/// expired is over. What has no certificate yet has no such moment; there a try that failed counts.
fn is_alarming(outlook: &Forecast, standing: &AutoCertificateFacts) -> bool {
    let late = match outlook.slack {
        Some(slack) => slack.is_negative(),
        None if standing.newest.is_some() => matches!(outlook.next, NextStep::Retry | NextStep::Wait),
        None => outlook.next == NextStep::Retry,
    };
    outlook.next == NextStep::Person || outlook.foreseen.is_some() || late
}

/// That of the terminal, else what everything can show.
fn width() -> usize {
    let table = comfy_table::Table::new();
    table.width().map_or(USUAL_WIDTH, usize::from).max(NARROWEST)
}

/// An auto-certificate in the JSON form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
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

impl<'a> From<&'a Planned> for Entry<'a> {
    fn from(Planned { subject, outlook }: &'a Planned) -> Self {
        let standing = &subject.standing;
        let last_safe = outlook.slack.map(|slack| outlook.at + slack);
        Self {
            id: subject.id,
            name: subject.name.to_string(),
            common_name: subject.common_name.sent(),
            next: outlook.next.as_str(),
            at: outlook.at.to_string(),
            why: outlook.why.clone(),
            foreseen: outlook.foreseen.as_deref(),
            slack_seconds: outlook.slack.map(time::Duration::whole_seconds),
            not_after: standing.newest.map(|newest| newest.not_after.to_string()),
            last_safe: last_safe.map(|at: Moment| at.to_string()),
            suggestion: standing.renewal_info.as_ref().and_then(WindowEntry::of),
            failures: standing.trouble.as_ref().map_or(0, |trouble| trouble.failures),
        }
    }
}

impl<'a> WindowEntry<'a> {
    fn of(info: &'a RenewalInfo) -> Option<Self> {
        let suggestion = info.suggestion.as_ref()?;
        Some(Self {
            start: suggestion.window.start().to_string(),
            end: suggestion.window.end().to_string(),
            moment: suggestion.moment.to_string(),
            explanation_url: suggestion.explanation_url.as_deref(),
        })
    }
}

const USUAL_WIDTH: usize = 80;
const NARROWEST: usize = 40;
