//! `autocertd --renew-now`: one pass and out. Beside a running daemon it asks the daemon; without one it works by itself.
//! Either way it follows each auto-certificate to its end, by what the store says of it.

mod backend;
mod causes;
mod dry_run;
mod progress;
mod report;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::cli::renew_now::backend::RenewBackend;
use crate::cli::renew_now::dry_run::PlannedRenewal;
use crate::cli::renew_now::report::RenewalOutcome;
pub(super) use crate::cli::renew_now::report::RenewalReport;
use crate::cli::{CommandOutcome, log};
use crate::config::Config;
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::text::printable;
use crate::http::control::{
    DeliveriesAnswer, DeliveryProgress, DeliveryState, MOST_IDS, RenewalProgress, RenewalTarget,
};
use crate::store::DeliveryCursor;

/// What `--renew-now` is asked.
#[derive(Clone, Debug)]
pub(super) struct RenewOptions {
    /// Which auto-certificates, due or not; without any whatever is due.
    pub(super) names: Vec<String>,
    /// Whether the outcome is JSON.
    pub(super) json: bool,
    /// Whether deliveries are waited for.
    pub(super) wait_delivered: bool,
    /// Whether nothing real is done.
    pub(super) dry_run: bool,
}

pub(super) fn run(config: &Config, wish: &RenewOptions) -> anyhow::Result<CommandOutcome> {
    if wish.dry_run {
        return dry_run::run(config, wish);
    }
    let runtime = crate::cli::runtime()?;
    let daemon = runtime.block_on(backend::connect_daemon(config))?;
    if daemon.is_none() {
        crate::cli::owner::become_owner_of(&config.state_directory())?;
    }
    log::start_quietly(&config.log)?;
    runtime.block_on(async {
        let desk = RenewBackend::open(config, daemon).await?;
        let ending = renew(&desk, wish, Vec::new()).await;
        let closed = desk.close().await;
        let ending = ending?;
        closed.map(|()| ending)
    })
}

async fn renew(desk: &RenewBackend, wish: &RenewOptions, plans: Vec<PlannedRenewal>) -> anyhow::Result<CommandOutcome> {
    let named = !wish.names.is_empty();
    let mut report = RenewalReport::new(plans, wish.json);
    let mut ids: Vec<AutoCertificateId> = Vec::new();
    let mut followed: HashSet<AutoCertificateId> = HashSet::new();
    loop {
        let renewals = desk.request(&wish.names).await?;
        if !renewals.unknown.is_empty() {
            let unknown = printable(&renewals.unknown.join(", "));
            eprintln!("autocertd: no auto-certificate has the name, common name or id: {unknown}; nothing was renewed");
            return Ok(CommandOutcome::UsageError);
        }
        let targets: Vec<_> = renewals.targets.into_iter().filter(|target| followed.insert(target.id)).collect();
        let was_last = !renewals.more || targets.is_empty();
        // Without names a delivery that fails is told, even where nothing is due.
        ids.extend(targets.iter().filter(|_| named).map(|target| target.id));
        report.add_targets(&targets);
        follow_renewals(desk, targets, named, &mut report).await?;
        if was_last {
            break;
        }
    }
    // Without a daemon nobody else would deliver.
    if wish.wait_delivered || desk.is_local() {
        report.report_deliveries(wait_for_deliveries(desk, &ids).await?);
    }
    if !named {
        report.set_overdue(desk.overdue().await?);
    }
    report.finish()
}

/// Follows one auto-certificate that is due by itself to the end of its renewal. Nothing is asked for, so that a renewal
/// which the daemon has begun or done already is not done twice.
pub(super) async fn follow_due(config: &Config, target: RenewalTarget, json: bool) -> anyhow::Result<RenewalReport> {
    let desk = RenewBackend::open(config, backend::connect_daemon(config).await?).await?;
    let report = follow_due_with(&desk, target, json).await;
    let closed = desk.close().await;
    let report = report?;
    closed.map(|()| report)
}

/// Makes the daemon look at what is due, where one answers.
pub(super) async fn notify_daemon(config: &Config) -> anyhow::Result<()> {
    if let Some(daemon) = backend::connect_daemon(config).await? {
        RenewBackend::Daemon(daemon).request(&[]).await?;
    }
    Ok(())
}

async fn follow_due_with(desk: &RenewBackend, target: RenewalTarget, json: bool) -> anyhow::Result<RenewalReport> {
    desk.request(&[]).await?;
    let ids = [target.id];
    let mut report = RenewalReport::new(Vec::new(), json);
    report.add_targets(std::slice::from_ref(&target));
    follow_renewals(desk, vec![target], true, &mut report).await?;
    if desk.is_local() {
        report.report_deliveries(wait_for_deliveries(desk, &ids).await?);
    }
    Ok(report)
}

/// Looks again and again until nothing is left to do now for these auto-certificates, or where none are named for all, one
/// page after the other; gives how each delivery stands then.
async fn wait_for_deliveries(desk: &RenewBackend, ids: &[AutoCertificateId]) -> anyhow::Result<Vec<DeliveryProgress>> {
    let mut all = Vec::new();
    for ids in ids.chunks(MOST_IDS) {
        all.extend(wait_for_delivery_page(desk, ids, None).await?.deliveries);
    }
    let mut after = None;
    while ids.is_empty() {
        let page = wait_for_delivery_page(desk, &[], after.as_ref()).await?;
        all.extend(page.deliveries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(all)
}

async fn wait_for_delivery_page(
    desk: &RenewBackend,
    ids: &[AutoCertificateId],
    after: Option<&DeliveryCursor>,
) -> anyhow::Result<DeliveriesAnswer> {
    let mut pace = PollPace::start();
    loop {
        let begun = Instant::now();
        let seen = desk.deliveries(ids, after).await?;
        let open = |delivery: &DeliveryProgress| {
            matches!(delivery.state, DeliveryState::Running | DeliveryState::Planned { later: false, .. })
        };
        if !desk.is_delivering() && !seen.deliveries.iter().any(open) {
            return Ok(seen);
        }
        desk.wait_for_next_poll(pace.next_pause(begun.elapsed(), false)).await;
    }
}

/// Looks again and again until every one has come to its end, a page at a time. What was `named` shall be renewed now, and
/// fails where it is kept back.
async fn follow_renewals(
    desk: &RenewBackend,
    targets: Vec<RenewalTarget>,
    named: bool,
    report: &mut RenewalReport,
) -> anyhow::Result<()> {
    let mut open = VecDeque::from(targets);
    let mut pace = PollPace::start();
    while !open.is_empty() {
        let begun = Instant::now();
        let group: Vec<RenewalTarget> = open.drain(..desk.page_size().min(open.len())).collect();
        let is_all = open.is_empty();
        let seen: HashMap<AutoCertificateId, RenewalProgress> =
            desk.progress(&group).await?.into_iter().map(|progress| (progress.id, progress)).collect();
        let mut changed = false;
        for target in group {
            match seen.get(&target.id) {
                None => report.record_outcome(&target, RenewalOutcome::Deleted),
                Some(progress) if is_finished(&target, progress) => {
                    report.record_outcome(&target, RenewalOutcome::from_progress(&target, progress, named));
                }
                Some(progress) => {
                    changed |= report.update_progress(&target, progress);
                    open.push_back(target);
                    continue;
                }
            }
            changed = true;
        }
        if !open.is_empty() {
            desk.wait_for_next_poll(pace.next_pause(begun.elapsed(), changed || !is_all)).await;
        }
    }
    Ok(())
}

/// A run has ended since it was asked for, and nothing that was asked for is left to do; or it is kept back.
fn is_finished(target: &RenewalTarget, progress: &RenewalProgress) -> bool {
    !progress.running && (progress.hold.is_some() || progress.runs > target.runs && !progress.requested)
}

/// How often is looked: often while something changes, ever more rarely while nothing does, and so that all looks together
/// take a fifth of the time at most.
struct PollPace {
    last_change: Instant,
}

impl PollPace {
    fn start() -> Self {
        Self { last_change: Instant::now() }
    }

    /// The pause after a look that took so long.
    fn next_pause(&mut self, took: Duration, changed: bool) -> Duration {
        if changed {
            self.last_change = Instant::now();
        }
        (self.last_change.elapsed() / 10)
            .clamp(MIN_POLL_PAUSE, MAX_POLL_PAUSE)
            .max((took * 4).min(MAX_PAUSE_FOR_SLOW_DAEMON))
    }
}

const MIN_POLL_PAUSE: Duration = Duration::from_millis(100);
const MAX_POLL_PAUSE: Duration = Duration::from_secs(1);
/// For a daemon that is slow to answer.
const MAX_PAUSE_FOR_SLOW_DAEMON: Duration = Duration::from_secs(10);
