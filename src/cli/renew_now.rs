//! `autocertd --renew-now`: one pass and out. Beside a running daemon it asks the daemon; without one it works by itself.
//! Either way it follows each auto-certificate to its end, by what the store says of it.

mod desk;
mod rehearsal;
mod report;

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::renew_now::desk::Desk;
use crate::cli::renew_now::rehearsal::Planned;
use crate::cli::renew_now::report::Outcome;
pub(super) use crate::cli::renew_now::report::Report;
use crate::cli::{Ending, log};
use crate::config::Config;
use crate::domain::id::AutoCertificateId;
use crate::http::control::{DeliveryProgress, DeliveryState, RenewalProgress, RenewalTarget};

/// What `--renew-now` is asked.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Which auto-certificates, due or not; without any whatever is due.
    pub(super) names: Vec<String>,
    /// Whether the outcome is JSON.
    pub(super) json: bool,
    /// Whether deliveries are waited for.
    pub(super) wait_delivered: bool,
    /// Whether nothing real is done.
    pub(super) dry_run: bool,
}

pub(super) fn run(config: &Config, wish: &Wish) -> anyhow::Result<Ending> {
    if wish.dry_run {
        return rehearsal::run(config, wish);
    }
    let runtime = crate::cli::runtime()?;
    let daemon = runtime.block_on(desk::daemon(config))?;
    if daemon.is_none() {
        crate::cli::owner::become_owner_of(&config.state_directory())?;
    }
    log::start_quietly(&config.log)?;
    runtime.block_on(async {
        let desk = Desk::open(config, daemon).await?;
        let ending = renew(&desk, wish, Vec::new()).await;
        let closed = desk.close().await;
        let ending = ending?;
        closed.map(|()| ending)
    })
}

async fn renew(desk: &Desk, wish: &Wish, plans: Vec<Planned>) -> anyhow::Result<Ending> {
    let renewals = desk.request(&wish.names).await?;
    if !renewals.unknown.is_empty() {
        let unknown = renewals.unknown.join(", ");
        eprintln!("autocertd: no auto-certificate has the name, common name or id: {unknown}; nothing was renewed");
        return Ok(Ending::Misused);
    }
    // Without names a delivery that fails is told, even where nothing is due.
    let named = renewals.targets.iter().filter(|_| !wish.names.is_empty());
    let ids: Vec<AutoCertificateId> = named.map(|target| target.id).collect();
    let mut report = Report::new(&renewals.targets, plans, wish.json);
    follow(desk, renewals.targets, !wish.names.is_empty(), &mut report).await?;
    // Without a daemon nobody else would deliver.
    if wish.wait_delivered || desk.is_local() {
        report.delivered(wait_for_deliveries(desk, &ids).await?);
    }
    report.finish()
}

/// Follows one auto-certificate that is due by itself to the end of its renewal. Nothing is asked for, so that a renewal
/// which the daemon has begun or done already is not done twice.
pub(super) async fn follow_due(config: &Config, target: RenewalTarget, json: bool) -> anyhow::Result<Report> {
    let desk = Desk::open(config, desk::daemon(config).await?).await?;
    let report = follow_due_at(&desk, target, json).await;
    let closed = desk.close().await;
    let report = report?;
    closed.map(|()| report)
}

/// Makes the daemon look at what is due, where one answers.
pub(super) async fn nudge_daemon(config: &Config) -> anyhow::Result<()> {
    if let Some(daemon) = desk::daemon(config).await? {
        Desk::Daemon(daemon).request(&[]).await?;
    }
    Ok(())
}

async fn follow_due_at(desk: &Desk, target: RenewalTarget, json: bool) -> anyhow::Result<Report> {
    desk.request(&[]).await?;
    let ids = [target.id];
    let mut report = Report::new(std::slice::from_ref(&target), Vec::new(), json);
    follow(desk, vec![target], true, &mut report).await?;
    if desk.is_local() {
        report.delivered(wait_for_deliveries(desk, &ids).await?);
    }
    Ok(report)
}

/// Looks again and again until nothing is left to do now for these auto-certificates, or where none are named for all;
/// gives how each delivery stands by then.
async fn wait_for_deliveries(desk: &Desk, ids: &[AutoCertificateId]) -> anyhow::Result<Vec<DeliveryProgress>> {
    loop {
        let deliveries = desk.deliveries(ids).await?;
        let open = |delivery: &DeliveryProgress| {
            matches!(delivery.state, DeliveryState::Running | DeliveryState::Planned { later: false, .. })
        };
        if !desk.delivers() && !deliveries.iter().any(open) {
            return Ok(deliveries);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Looks again and again until every one has come to its end. What was `named` shall be renewed now, and fails where it is
/// kept back.
async fn follow(desk: &Desk, targets: Vec<RenewalTarget>, named: bool, report: &mut Report) -> anyhow::Result<()> {
    let mut open: HashMap<AutoCertificateId, RenewalTarget> =
        targets.into_iter().map(|target| (target.id, target)).collect();
    while !open.is_empty() {
        let targets: Vec<&RenewalTarget> = open.values().collect();
        let seen: HashMap<AutoCertificateId, RenewalProgress> =
            desk.progress(&targets).await?.into_iter().map(|progress| (progress.id, progress)).collect();
        open.retain(|id, target| match seen.get(id) {
            None => {
                report.ended(target, Outcome::Deleted);
                false
            }
            Some(progress) if has_ended(target, progress) => {
                report.ended(target, Outcome::of(target, progress, named));
                false
            }
            Some(progress) => {
                report.moved(target, progress);
                true
            }
        });
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(())
}

/// A run has ended since it was asked for, and nothing that was asked for is left to do; or it is kept back.
fn has_ended(target: &RenewalTarget, progress: &RenewalProgress) -> bool {
    !progress.running && (progress.hold.is_some() || progress.runs > target.runs && !progress.requested)
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
