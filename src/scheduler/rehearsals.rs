//! Rehearsals of renewals, beside the issuance: one after the other, so that they are no burden to anybody, and never in the
//! way of a renewal, for they hold no lease.

use std::sync::Arc;

use crate::config::span::Span;
use crate::doctor::{CanaryMode, Doctor, Ending, DoctorOptions, CheckList};
use crate::domain::auto_certificate::AutoCertificate;
use crate::domain::finding::{Check, CheckResult};
use crate::domain::id::CertificateId;
use crate::domain::moment::Moment;
use crate::domain::rehearsal::{BETWEEN_REHEARSALS, Preflight, PreflightDecision, rehearse};
use crate::scheduler::lane::Lane;
use crate::store::{Store, StoreError};
use time::Duration;

/// Has renewals rehearsed.
#[derive(Clone)]
pub(super) struct Preflights {
    /// How long before the renewal; nothing where none is rehearsed.
    ahead: Option<Duration>,
    lane: Lane,
}

impl Preflights {
    pub(super) fn new(ahead: Span, lane: Lane) -> Self {
        let ahead = Duration::try_from(ahead.duration()).unwrap_or(Duration::MAX);
        Self { ahead: Some(ahead).filter(|ahead| !ahead.is_zero()), lane }
    }

    pub(super) const fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Begins with what is due, unless that is under way; gives the earliest look at all others.
    pub(super) async fn scan(self, store: Store, doctor: Arc<Doctor>) -> Result<Option<Moment>, StoreError> {
        let Some(ahead) = self.ahead else { return Ok(None) };
        let earliest = store.earliest_rehearsal_look().await?;
        if earliest.is_none_or(|at| at > doctor.clock.now()) {
            return Ok(earliest);
        }
        let lane = self.lane.clone();
        lane.work_off(tracing::info_span!("rehearsal"), async move { self.work_off(&store, &doctor, ahead).await });
        // Whoever works on it wakes the loop.
        Ok(None)
    }

    /// Looks at one after the other until none is due. Each is claimed only when its turn has come.
    async fn work_off(&self, store: &Store, doctor: &Doctor, ahead: Duration) -> Result<(), StoreError> {
        while !self.lane.stopping().is_cancelled() {
            let now = doctor.clock.now();
            let claimed = store.claim_rehearsals(now, 1).await?;
            if claimed.is_empty() {
                break;
            }
            for id in claimed {
                // What is damaged is looked at again when its claim ends.
                let found = store.unless_damaged(store.auto_certificate(id).await)?;
                let Some(subject) = found.flatten() else { continue };
                match rehearse(&subject.standing, ahead, now) {
                    PreflightDecision::At(next) => store.put_rehearsal_off(id, next).await?,
                    PreflightDecision::Now(certificate) => self.rehearse(store, doctor, &subject, certificate).await?,
                }
            }
        }
        Ok(())
    }

    async fn rehearse(
        &self,
        store: &Store,
        doctor: &Doctor,
        subject: &AutoCertificate,
        certificate: CertificateId,
    ) -> Result<(), StoreError> {
        let mut round = CheckList::default();
        if store.unless_damaged(round.add(store, subject).await)?.is_none() {
            return store.put_rehearsal_off(subject.id, doctor.clock.now() + Duration::HOUR).await;
        }
        let mut findings = self.examine(doctor, &round).await;
        if self.lane.stopping().is_cancelled() {
            return store.put_rehearsal_off(subject.id, doctor.clock.now()).await;
        }
        findings.retain(is_foretelling);
        for fault in findings.iter().filter(|finding| finding.is_fault()) {
            tracing::warn!(auto_certificate = %subject.id, name = %subject.name, "the planned renewal would fail: {fault}");
        }
        let at = doctor.clock.now();
        let next = at + BETWEEN_REHEARSALS + Duration::HOUR * doctor.randomness.fraction();
        store.store_rehearsal(subject.id, &Preflight { certificate, at, findings }, next).await
    }

    /// What is found until the claim comes to its end.
    async fn examine(&self, doctor: &Doctor, round: &CheckList) -> Vec<CheckResult> {
        let ending = Ending::within(LONGEST, self.lane.stopping().clone());
        let manner = DoctorOptions { canaries: CanaryMode::OneAtATime, ending: &ending, progress: &|_| {} };
        let findings = doctor.examine(round, &manner).await;
        if ending.has_come() && !self.lane.stopping().is_cancelled() {
            tracing::warn!("a rehearsal took too long; it ends with what it has found so far");
        }
        findings
    }
}

/// Whether a finding says something of a renewal that is days away: a CA that is down now will be back by then.
fn is_foretelling(finding: &CheckResult) -> bool {
    finding.is_problem() && !matches!(finding.check, Check::Directory | Check::Clock)
}

/// Well below the time for which one is claimed, so that a last canary can still be removed.
const LONGEST: std::time::Duration = std::time::Duration::from_mins(12);
