//! Rehearsals of renewals, beside the issuance: one after the other, so that they are no burden to anybody, and never in the
//! way of a renewal, for they hold no lease.

use std::sync::Arc;

use crate::config::time_span::TimeSpan;
use crate::doctor::{CanaryMode, CheckList, Doctor, DoctorOptions, Ending};
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::renewal::check_result::{Check, CheckResult};
use crate::domain::renewal::preflight::Preflight;
use crate::domain::renewal::preflight_decision::{PREFLIGHT_INTERVAL, PreflightDecision, decide_preflight};
use crate::domain::value::id::CertificateId;
use crate::domain::value::moment::Moment;
use crate::scheduler::lane::Lane;
use crate::store::{Store, StoreError};
use time::Duration;

/// Has renewals rehearsed.
#[derive(Clone)]
pub(super) struct Preflights {
    /// How long before the renewal; nothing where none is rehearsed.
    lead_time: Option<Duration>,
    lane: Lane,
}

impl Preflights {
    pub(super) fn new(ahead: TimeSpan, lane: Lane) -> Self {
        let ahead = Duration::try_from(ahead.duration()).unwrap_or(Duration::MAX);
        Self { lead_time: Some(ahead).filter(|ahead| !ahead.is_zero()), lane }
    }

    pub(super) const fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Begins with what is due, unless that is under way; gives the earliest look at all others.
    pub(super) async fn scan(self, store: Store, doctor: Arc<Doctor>) -> Result<Option<Moment>, StoreError> {
        let Some(ahead) = self.lead_time else { return Ok(None) };
        let earliest = store.earliest_preflight_check().await?;
        if earliest.is_none_or(|at| at > doctor.clock.now()) {
            return Ok(earliest);
        }
        let lane = self.lane.clone();
        lane.run_exclusively(
            tracing::info_span!("rehearsal"),
            async move { self.run_due(&store, &doctor, ahead).await },
        );
        // Whoever works on it wakes the loop.
        Ok(None)
    }

    /// Looks at one after the other until none is due. Each is claimed only when its turn has come.
    async fn run_due(&self, store: &Store, doctor: &Doctor, ahead: Duration) -> Result<(), StoreError> {
        while !self.lane.stopping().is_cancelled() {
            let now = doctor.clock.now();
            let claimed = store.claim_preflights(now, 1).await?;
            if claimed.is_empty() {
                break;
            }
            for id in claimed {
                // What is damaged is looked at again when its claim ends.
                let found = store.ok_unless_damaged(store.auto_certificate(id).await)?;
                let Some(subject) = found.flatten() else { continue };
                match decide_preflight(&subject.standing, ahead, now) {
                    PreflightDecision::CheckAgainAt(next) => store.postpone_preflight(id, next).await?,
                    PreflightDecision::RunNow(certificate) => {
                        self.run_preflight(store, doctor, &subject, certificate).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn run_preflight(
        &self,
        store: &Store,
        doctor: &Doctor,
        subject: &AutoCertificate,
        certificate: CertificateId,
    ) -> Result<(), StoreError> {
        let mut round = CheckList::default();
        if store.ok_unless_damaged(round.add(store, subject).await)?.is_none() {
            return store.postpone_preflight(subject.id, doctor.clock.now() + Duration::HOUR).await;
        }
        let mut findings = self.run_checks(doctor, &round).await;
        if self.lane.stopping().is_cancelled() {
            return store.postpone_preflight(subject.id, doctor.clock.now()).await;
        }
        findings.retain(predicts_failure);
        for fault in findings.iter().filter(|finding| finding.is_fault()) {
            tracing::warn!(auto_certificate = %subject.id, name = %subject.name, "the planned renewal would fail: {fault}");
        }
        let at = doctor.clock.now();
        let next = at + PREFLIGHT_INTERVAL + Duration::HOUR * doctor.randomness.fraction();
        store.store_preflight(subject.id, &Preflight { certificate, at, results: findings }, next).await
    }

    /// What is found until the claim comes to its end.
    async fn run_checks(&self, doctor: &Doctor, round: &CheckList) -> Vec<CheckResult> {
        let ending = Ending::within(PREFLIGHT_TIMEOUT, self.lane.stopping().clone());
        let manner = DoctorOptions { canary_mode: CanaryMode::OneAtATime, ending: &ending, progress: &|_| {} };
        let findings = doctor.run_checks(round, &manner).await;
        if ending.has_come() && !self.lane.stopping().is_cancelled() {
            tracing::warn!("a rehearsal took too long; it ends with what it has found so far");
        }
        findings
    }
}

/// Whether a finding says something of a renewal that is days away: a CA that is down now will be back by then.
fn predicts_failure(finding: &CheckResult) -> bool {
    finding.is_problem() && !matches!(finding.check, Check::Directory | Check::Clock)
}

/// Well below the time for which one is claimed, so that a last canary can still be removed.
const PREFLIGHT_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(12);
