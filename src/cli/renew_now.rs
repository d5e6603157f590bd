//! `autocertd --renew-now`: one pass and out. Beside a running daemon it asks the daemon; without one it works by itself.
//! Either way it follows each auto-certificate to its end, by what the store says of it.

mod desk;
mod report;

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::renew_now::desk::Desk;
use crate::cli::renew_now::report::{Outcome, Report};
use crate::cli::{Ending, log};
use crate::config::Config;
use crate::domain::id::AutoCertificateId;
use crate::http::control::{RenewalProgress, RenewalTarget};

pub(super) fn run(config: &Config, names: &[String], json: bool) -> anyhow::Result<Ending> {
    let runtime = crate::cli::runtime()?;
    let daemon = runtime.block_on(desk::daemon(config))?;
    if daemon.is_none() {
        crate::cli::owner::become_owner_of(&config.state_directory())?;
    }
    log::start_quietly(&config.log)?;
    runtime.block_on(async {
        let desk = Desk::open(config, daemon).await?;
        let ending = renew(&desk, names, json).await;
        let closed = desk.close().await;
        let ending = ending?;
        closed.map(|()| ending)
    })
}

async fn renew(desk: &Desk, names: &[String], json: bool) -> anyhow::Result<Ending> {
    let renewals = desk.request(names).await?;
    if !renewals.unknown.is_empty() {
        let unknown = renewals.unknown.join(", ");
        eprintln!("autocertd: no auto-certificate has the name, common name or id: {unknown}; nothing was renewed");
        return Ok(Ending::Misused);
    }
    let mut report = Report::new(&renewals.targets, json);
    follow(desk, renewals.targets, &mut report).await?;
    Ok(if report.finish()? { Ending::Well } else { Ending::Failed })
}

/// Looks again and again until every one has come to its end.
async fn follow(desk: &Desk, targets: Vec<RenewalTarget>, report: &mut Report) -> anyhow::Result<()> {
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
                report.ended(target, Outcome::of(target, progress));
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

/// A run has ended since it was asked for, and nothing that was asked for is left to do.
fn has_ended(target: &RenewalTarget, progress: &RenewalProgress) -> bool {
    progress.runs > target.runs && !progress.running && !progress.requested
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
