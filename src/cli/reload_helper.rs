//! `autocertd reload-helper`: the root side of `reload.helper`, started by `autocertd-reload.service` when a request lies on
//! the desk. A request names a delivery and nothing else; what is done for it is what a file of root's says. It reads no
//! secret, opens no file that others can change, and ends when the desk is empty.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::app::UnusableSettings;
use crate::cli::{Ending, log, runtime};
use crate::config::delivery::DeliveryEntry;
use crate::config::log::LogSection;
use crate::config::span::Span;
use crate::config::trusted::Trusted;
use crate::deliver::reload::desk::{ANSWERS, Answer, Desk, DeskPaths, Outcome, REQUESTS, Request};
use crate::deliver::reload::unit::{SYSTEMCTL, UnitJob};
use crate::domain::declared::DeclaredKey;

#[derive(Debug, Args)]
pub(super) struct ReloadHelperArguments {
    /// The folder of requests
    #[arg(long, value_name = "FOLDER", default_value = REQUESTS, hide = true)]
    requests: PathBuf,
    /// The folder of answers
    #[arg(long, value_name = "FOLDER", default_value = ANSWERS, hide = true)]
    answers: PathBuf,
}

pub(super) fn run(settings: Option<&Path>, arguments: ReloadHelperArguments) -> anyhow::Result<Ending> {
    log::start(&LogSection::default())?;
    let paths = DeskPaths { requests: arguments.requests, answers: arguments.answers };
    let desk = Desk::open(&paths).map_err(UnusableSettings::of)?;
    let taken = desk.take()?;
    let trusted = Trusted::load(settings).map_err(UnusableSettings::of)?;
    for refused in &trusted.refused {
        tracing::warn!("{refused}");
    }
    for name in &taken.strange {
        tracing::warn!(name, "refused what is no request");
    }
    let mut ending = if taken.strange.is_empty() { Ending::Well } else { Ending::Failed };
    let runtime = runtime()?;
    for (key, requests) in by_delivery(taken.requests) {
        let outcome = runtime.block_on(fulfil(&key, &trusted));
        if outcome != Outcome::Done {
            ending = Ending::Failed;
        }
        let answer = |request: Request| Answer { number: request.number, outcome: outcome.clone() };
        desk.answer(&requests.into_iter().map(answer).collect::<Vec<_>>())?;
    }
    Ok(ending)
}

/// One reload serves all who ask for it at the same time.
fn by_delivery(requests: Vec<Request>) -> Vec<(DeclaredKey, Vec<Request>)> {
    let mut groups: Vec<(DeclaredKey, Vec<Request>)> = Vec::new();
    for request in requests {
        match groups.iter_mut().find(|(key, _)| *key == request.key) {
            Some((_, group)) => group.push(request),
            None => groups.push((request.key.clone(), vec![request])),
        }
    }
    groups
}

async fn fulfil(key: &DeclaredKey, trusted: &Trusted) -> Outcome {
    let (job, timeout) = match job_of(key, trusted) {
        Ok(found) => found,
        Err(why) => {
            tracing::warn!(delivery = %key, why, "refused a request");
            return Outcome::Failed(format!("the request was refused: {why}"));
        }
    };
    match job.run(timeout).await {
        Ok(()) => {
            tracing::info!(delivery = %key, "reloaded");
            Outcome::Done
        }
        Err(failure) => {
            tracing::error!(delivery = %key, "{failure}");
            Outcome::Failed(failure.message)
        }
    }
}

/// What is to be done for a delivery, or why nothing is.
fn job_of(key: &DeclaredKey, trusted: &Trusted) -> Result<(UnitJob, Span), String> {
    let found: Option<&DeliveryEntry> = trusted.deliveries.iter().find(|entry| entry.key == *key);
    let entry = found.ok_or("no settings file that is root's alone declares this delivery")?;
    entry.check().map_err(|fault| fault.to_string())?;
    let reload = entry.reload.as_ref().filter(|reload| reload.helper).ok_or("it has no reload with helper = true")?;
    let unit = reload.unit.as_deref().unwrap_or_default().parse().map_err(|fault| format!("{fault}"))?;
    Ok((UnitJob::new(unit, reload, PathBuf::from(SYSTEMCTL)), reload.timeout))
}
