//! `autocertd reload-helper`: the root side of `reload.helper`, started by `autocertd-reload.service` when a request lies on
//! the desk. A request names a delivery and nothing else; what is done for it is what a file of root's says. It reads no
//! secret, opens no file that others can change, and ends when the desk is empty.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::UnusableSettings;
use crate::cli::{CommandOutcome, log, runtime};
use crate::config::delivery::DeliveryEntry;
use crate::config::log::LogSection;
use crate::config::time_span::TimeSpan;
use crate::config::trusted::TrustedDeliveries;
use crate::deliver::reload::spool::{
    ANSWERS_FOLDER, REQUESTS_FOLDER, ReloadAnswer, ReloadOutcome, ReloadRequest, RequestSpool, SpoolPaths,
};
use crate::deliver::reload::unit::{SYSTEMCTL, UnitJob};
use crate::domain::declared::DeclaredKey;

#[derive(Debug, Args)]
pub(super) struct ReloadHelperCommand {
    /// The folder of requests
    #[arg(long, value_name = "FOLDER", default_value = REQUESTS_FOLDER, hide = true)]
    requests: PathBuf,
    /// The folder of answers
    #[arg(long, value_name = "FOLDER", default_value = ANSWERS_FOLDER, hide = true)]
    answers: PathBuf,
}

pub(super) fn run(settings: Option<&Path>, arguments: ReloadHelperCommand) -> anyhow::Result<CommandOutcome> {
    log::start(&LogSection::default())?;
    let paths = SpoolPaths { requests: arguments.requests, answers: arguments.answers };
    let desk = RequestSpool::open(&paths).map_err(UnusableSettings::from_error)?;
    runtime()?.block_on(HelperRun::new(&desk, settings).run())
}

/// One run of the helper. Reloads run side by side, each is answered as it ends, and as long as one of them runs the desk is
/// looked at again: a unit that hangs keeps no other waiting.
struct HelperRun<'a> {
    spool: &'a RequestSpool,
    settings: Option<&'a Path>,
    waiting: VecDeque<(UnitReload, Vec<ReloadRequest>)>,
    running: JoinSet<(ReloadOutcome, Vec<ReloadRequest>)>,
    started: Instant,
    outcome: CommandOutcome,
}

impl<'a> HelperRun<'a> {
    fn new(spool: &'a RequestSpool, settings: Option<&'a Path>) -> Self {
        let (waiting, running) = (VecDeque::new(), JoinSet::new());
        Self { spool, settings, waiting, running, started: Instant::now(), outcome: CommandOutcome::Success }
    }

    async fn run(mut self) -> anyhow::Result<CommandOutcome> {
        self.take_requests()?;
        loop {
            while self.running.len() < MAX_CONCURRENT_RELOADS
                && let Some((reloading, requests)) = self.waiting.pop_front()
            {
                let end = self.started + RUN_TIMEOUT;
                self.running.spawn(async move { (reloading.run(end).await, requests) });
            }
            tokio::select! {
                ended = self.running.join_next() => match ended {
                    Some(ended) => {
                        let (outcome, requests) = ended?;
                        self.answer_requests(&outcome, requests)?;
                    }
                    None => return Ok(self.outcome),
                },
                () = tokio::time::sleep(SPOOL_POLL_INTERVAL) => {}
            }
            // What comes later wakes the helper again.
            if !self.running.is_empty() && self.waiting.is_empty() && self.started.elapsed() < ACCEPT_PERIOD {
                self.take_requests()?;
            }
        }
    }

    /// Takes what lies on the desk, by settings as they are now.
    fn take_requests(&mut self) -> anyhow::Result<()> {
        let taken = self.spool.take_requests()?;
        let is_later = !self.running.is_empty();
        if is_later && taken.requests.is_empty() && taken.unrecognized.is_empty() {
            return Ok(());
        }
        let trusted = TrustedDeliveries::load(self.settings).map_err(UnusableSettings::from_error)?;
        for refused in &trusted.refused {
            tracing::warn!("{refused}");
        }
        for name in &taken.unrecognized {
            tracing::warn!(name, "refused what is no request");
            self.outcome = CommandOutcome::Failed;
        }
        for (key, requests) in group_by_delivery(taken.requests) {
            match find_job(&key, &trusted) {
                Ok((job, timeout)) => self.waiting.push_back((UnitReload { key, job, timeout }, requests)),
                Err(why) => {
                    tracing::warn!(delivery = %key, why, "refused a request");
                    self.answer_requests(&ReloadOutcome::Failed(format!("the request was refused: {why}")), requests)?;
                }
            }
        }
        Ok(())
    }

    fn answer_requests(&mut self, outcome: &ReloadOutcome, requests: Vec<ReloadRequest>) -> anyhow::Result<()> {
        if *outcome != ReloadOutcome::Done {
            self.outcome = CommandOutcome::Failed;
        }
        let answer = |request: ReloadRequest| ReloadAnswer { number: request.number, outcome: outcome.clone() };
        Ok(self.spool.answer(&requests.into_iter().map(answer).collect::<Vec<_>>())?)
    }
}

/// The reload of one delivery's unit.
struct UnitReload {
    key: DeclaredKey,
    job: UnitJob,
    timeout: TimeSpan,
}

impl UnitReload {
    /// Runs it, at the latest until `end`.
    async fn run(self, end: Instant) -> ReloadOutcome {
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        match self.job.run(self.timeout.min(TimeSpan::seconds(left))).await {
            Ok(()) => {
                tracing::info!(delivery = %self.key, "reloaded");
                ReloadOutcome::Done
            }
            Err(failure) => {
                tracing::error!(delivery = %self.key, "{failure}");
                ReloadOutcome::Failed(failure.message.to_string())
            }
        }
    }
}

/// One reload serves all who ask for it at the same time.
fn group_by_delivery(requests: Vec<ReloadRequest>) -> Vec<(DeclaredKey, Vec<ReloadRequest>)> {
    let mut groups: Vec<(DeclaredKey, Vec<ReloadRequest>)> = Vec::new();
    for request in requests {
        match groups.iter_mut().find(|(key, _)| *key == request.key) {
            Some((_, group)) => group.push(request),
            None => groups.push((request.key.clone(), vec![request])),
        }
    }
    groups
}

/// What is to be done for a delivery, or why nothing is.
fn find_job(key: &DeclaredKey, trusted: &TrustedDeliveries) -> Result<(UnitJob, TimeSpan), String> {
    let found: Option<&DeliveryEntry> = trusted.deliveries.iter().find(|entry| entry.key == *key);
    let entry = found.ok_or("no settings file that is root's alone declares this delivery")?;
    entry.check().map_err(|fault| fault.to_string())?;
    let reload = entry.reload.as_ref().filter(|reload| reload.helper).ok_or("it has no reload with helper = true")?;
    let unit = reload.unit.as_deref().unwrap_or_default().parse().map_err(|fault| format!("{fault}"))?;
    Ok((UnitJob::new(unit, reload, PathBuf::from(SYSTEMCTL)), reload.timeout))
}

/// Reloads that run at the same time; 16 deliveries do, and more than that hardly ask at once.
const MAX_CONCURRENT_RELOADS: usize = 16;
/// Between two looks at the desk while reloads run.
const SPOOL_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// No new requests are taken after this: then the next run of the helper takes them.
const ACCEPT_PERIOD: Duration = Duration::from_mins(1);
/// All is answered by then, before systemd ends the helper: `TimeoutStartSec=` of its unit is five minutes.
const RUN_TIMEOUT: Duration = Duration::from_secs(270);
