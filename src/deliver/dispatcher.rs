//! The dispatch: which deliveries are due, and how one is carried out. A failed one is written down with the moment of its
//! next try; what was served before is served on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::deliver::{Delivery, DeliveryOutcome, DeliveryPayload};
use crate::domain::declared::DeclaredKey;
use crate::domain::delivery::deploy_window::DeployWindow;
use crate::domain::delivery::{
    DeliverableCertificate, DeliveryAction, DeliveryFacts, DeliveryPlan, MAX_IDLE, plan_delivery,
};
use crate::domain::failure::back_off::FailureStreak;
use crate::domain::failure::disposition::Failure;
use crate::domain::value::moment::Moment;
use crate::domain::value::pattern::Selection;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;
use crate::store::{
    AssignmentCandidate, AssignmentTarget, DeliveredCertificate, DeliveryClaim, DeliveryLease, DeliveryRow,
    LEASE_DURATION, LeaseState, Store, StoreError, Undeclared,
};

/// A declared delivery, ready for use.
#[derive(Debug)]
pub struct DeliveryTarget {
    /// Its key.
    pub key: DeclaredKey,
    /// Whose rows it serves; empty where it is served once per fleet.
    pub instance: String,
    /// Which auto-certificates it is for.
    pub selection: Selection,
    /// Where the folders or Secrets of its certificates are named by labels; other targets may name theirs there, too.
    pub place: Option<String>,
    /// When a renewed certificate may be activated.
    pub window: Option<DeployWindow>,
    /// Tells one version of its settings from another.
    pub settings: String,
    /// The place.
    pub delivery: Box<dyn Delivery>,
}

impl DeliveryTarget {
    /// Whether it is for this auto-certificate.
    fn accepts(&self, entry: &AssignmentCandidate) -> bool {
        self.selection.takes(entry.key.as_ref(), &entry.names)
    }
}

/// A target with room of its own: one that hangs holds up no other.
struct TargetSlot {
    target: Arc<DeliveryTarget>,
    permits: Arc<Semaphore>,
}

/// A delivery that is to be worked on. It takes up room until it is dropped.
pub struct DeliveryJob {
    target: Arc<DeliveryTarget>,
    claim: DeliveryClaim,
    _permit: OwnedSemaphorePermit,
}

impl DeliveryJob {
    /// How it stood when it was claimed.
    pub const fn row(&self) -> &DeliveryRow {
        &self.claim.row
    }
}

/// Why work on a delivery ended before its end.
enum JobError {
    Interrupted,
    Store(StoreError),
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Finds what is to be delivered and delivers it.
pub struct Dispatcher {
    store: Store,
    clock: SharedClock,
    randomness: Randomness,
    instance: String,
    slots: Vec<TargetSlot>,
    undeclared: Undeclared,
    /// The version of the roster with which the rows are in line.
    synced_version: AtomicI64,
}

impl Dispatcher {
    /// A dispatch of this instance to these targets; `undeclared` says whether they are all.
    pub fn new(
        store: Store,
        clock: SharedClock,
        randomness: Randomness,
        instance: String,
        targets: Vec<DeliveryTarget>,
        undeclared: Undeclared,
    ) -> Self {
        let outlet = |target| TargetSlot {
            target: Arc::new(target),
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT_DELIVERIES)),
        };
        let slots = targets.into_iter().map(outlet).collect();
        Self { store, clock, randomness, instance, slots, undeclared, synced_version: AtomicI64::new(NEVER_SYNCED) }
    }

    /// What this instance is called.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    fn targets(&self) -> impl Iterator<Item = &DeliveryTarget> {
        self.slots.iter().map(|outlet| outlet.target.as_ref())
    }

    /// Brings the rows in line where auto-certificates came, went or got another name. The first time it makes everything
    /// due, too: nobody knows what became of it meanwhile.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn sync_if_changed(&self) -> Result<(), StoreError> {
        let version = self.store.auto_certificates_version().await?;
        let before = self.synced_version.load(Ordering::SeqCst);
        if before != version {
            self.sync_assignments().await?;
        }
        if before == NEVER_SYNCED {
            for target in self.targets() {
                self.store.wake_target_deliveries(&target.key, &target.instance).await?;
            }
        }
        self.synced_version.store(version, Ordering::SeqCst);
        Ok(())
    }

    /// Brings the rows in line with the targets.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn sync_assignments(&self) -> Result<(), StoreError> {
        let wants: Vec<_> = self.targets().map(|target| |entry: &AssignmentCandidate| target.accepts(entry)).collect();
        let roster: Vec<_> = self
            .targets()
            .zip(&wants)
            .map(|(target, wants)| AssignmentTarget {
                key: &target.key,
                instance: &target.instance,
                place: target.place.as_deref(),
                accepts: wants,
            })
            .collect();
        self.store.sync_deliveries(&self.instance, &roster, self.undeclared).await
    }

    /// Claims what is due, as far as there is room.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn claim_due(&self) -> Result<Vec<DeliveryJob>, StoreError> {
        let mut jobs = Vec::new();
        for TargetSlot { target, permits: room } in &self.slots {
            let free: Vec<_> = std::iter::from_fn(|| Arc::clone(room).try_acquire_owned().ok()).collect();
            let limit = u32::try_from(free.len()).unwrap_or(u32::MAX);
            if limit > 0 {
                let now = self.clock.now();
                let claims = self.store.claim_due_deliveries(&target.key, &target.instance, now, limit).await?;
                let job = |(claim, room)| DeliveryJob { target: Arc::clone(target), claim, _permit: room };
                jobs.extend(claims.into_iter().zip(free).map(job));
            }
        }
        Ok(jobs)
    }

    /// The earliest moment at which something that nobody works on is to be looked at, where there is room for it:
    /// otherwise whoever ends looks for more.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn earliest_check(&self) -> Result<Option<Moment>, StoreError> {
        let mut earliest: Option<Moment> = None;
        for TargetSlot { target, .. } in self.slots.iter().filter(|outlet| outlet.permits.available_permits() > 0) {
            let look = self.store.earliest_delivery_check(&target.key, &target.instance).await?;
            earliest = earliest.into_iter().chain(look).min();
        }
        Ok(earliest)
    }

    /// Works on one delivery until its plan is to wait, or the program stops.
    pub async fn run_job(&self, job: &DeliveryJob, stopping: &CancellationToken) {
        let lease = &job.claim.lease;
        let worked = tokio::select! {
            worked = self.follow_plan(job) => worked,
            () = stopping.cancelled() => Err(JobError::Interrupted),
            lost = self.keep_renewed(lease) => Err(JobError::Store(lost)),
        };
        let released = match worked {
            Ok(next_look) => self.store.release_delivery(lease, next_look).await,
            Err(JobError::Interrupted) => self.store.release_delivery(lease, self.clock.now()).await,
            Err(JobError::Store(StoreError::LostLease)) => Err(StoreError::LostLease),
            Err(JobError::Store(error)) => self.record_store_failure(job, &error).await,
        };
        match released {
            Ok(()) => {}
            Err(StoreError::LostLease) => {
                tracing::warn!("the delivery was taken away meanwhile: its settings changed, or somebody else goes on");
            }
            Err(error) => {
                tracing::error!(%error, "a delivery could not be written down; it is looked at again when its lease ends");
            }
        }
    }
}

impl Dispatcher {
    /// Does what the plan says; gives the moment of the next look.
    async fn follow_plan(&self, job: &DeliveryJob) -> Result<Moment, JobError> {
        let DeliveryJob { target, claim, .. } = job;
        let row = &claim.row;
        let standing = DeliveryFacts { settings_changed: row.settings != target.settings, ..row.standing.clone() };
        let plan = plan_delivery(&standing, target.window.as_ref(), self.clock.now());
        tracing::debug!(action = ?plan.action, reason = %plan.reason, next_look = %plan.next_check, "planned");
        match plan.action {
            DeliveryAction::Idle => Ok(plan.next_check),
            DeliveryAction::Prepare => {
                let prepared = target.delivery.prepare(&row.into()).await;
                self.record_result(job, prepared.map(|()| None)).await
            }
            DeliveryAction::Check => match row.standing.delivered {
                Some(delivered) => self.check_in_place(job, delivered, &plan).await,
                None => Ok(plan.next_check),
            },
            DeliveryAction::Deliver(_) => match row.standing.newest {
                Some(newest) => {
                    tracing::info!(reason = %plan.reason, certificate = %newest.id, "delivering");
                    self.deliver(job, newest).await
                }
                None => Ok(plan.next_check + MAX_IDLE),
            },
        }
    }

    /// Looks whether the delivered certificate is in place, and delivers it anew where it is not, or where something is
    /// left to do there. One that is stored no longer stays where it is.
    async fn check_in_place(
        &self,
        job: &DeliveryJob,
        delivered: DeliverableCertificate,
        plan: &DeliveryPlan,
    ) -> Result<Moment, JobError> {
        let DeliveryJob { target, claim: DeliveryClaim { row, .. }, .. } = job;
        let Some(parcel) = self.load_payload(row, delivered).await? else { return Ok(plan.next_check) };
        let unfinished = target.delivery.remaining_work_due(row.receipt.as_ref());
        if unfinished.is_some_and(|due| due <= self.clock.now()) {
            return self.deliver(job, delivered).await;
        }
        match target.delivery.is_in_place(&parcel, row.receipt.as_ref()).await {
            Ok(true) => {
                let next_look = unfinished.map_or(plan.next_check, |due| due.min(plan.next_check));
                self.record_result(job, Ok(Some(next_look))).await
            }
            Ok(false) => {
                tracing::warn!("what was delivered is not in place any more; it is delivered again");
                self.deliver(job, delivered).await
            }
            Err(failure) => self.record_result(job, Err(failure)).await,
        }
    }

    async fn deliver(&self, job: &DeliveryJob, certificate: DeliverableCertificate) -> Result<Moment, JobError> {
        let row = &job.claim.row;
        let Some(parcel) = self.load_payload(row, certificate).await? else { return Ok(self.clock.now()) };
        match job.target.delivery.deliver(&parcel, row.receipt.as_ref()).await {
            Ok(DeliveryOutcome { receipt, check_again_at: look_again }) => {
                let delivered = DeliveredCertificate { certificate, settings: job.target.settings.clone(), receipt };
                self.store.record_delivered(&job.claim.lease, &delivered).await?;
                tracing::info!(certificate = %certificate.id, not_after = %certificate.not_after, "delivered");
                let now = self.clock.now();
                // Whatever the other side asks for, it is not stormed.
                Ok(look_again.map_or(now + MAX_IDLE, |at| at.max(now + MIN_PAUSE)))
            }
            Err(failure) => self.record_result(job, Err(failure)).await,
        }
    }

    /// Writes down how it went; gives the moment of the next look.
    async fn record_result(
        &self,
        job: &DeliveryJob,
        ended: Result<Option<Moment>, Failure>,
    ) -> Result<Moment, JobError> {
        let DeliveryJob { claim: DeliveryClaim { row, lease }, .. } = job;
        let now = self.clock.now();
        match ended {
            Ok(next_look) => {
                if row.standing.failure_streak.is_some() {
                    self.store.record_delivery_failure_streak(lease, None).await?;
                }
                Ok(next_look.unwrap_or(now + MAX_IDLE))
            }
            Err(failure) => {
                let expiry = row.standing.delivered.map(|delivered| delivered.not_after);
                let previous = row.standing.failure_streak.as_ref();
                let trouble = FailureStreak::after(previous, failure, now, expiry, self.randomness.fraction());
                tracing::warn!(failures = trouble.failures, next_try = %trouble.next_try, "delivery failed: {}", trouble.last);
                self.store.record_delivery_failure_streak(lease, Some(&trouble)).await?;
                Ok(trouble.next_try)
            }
        }
    }

    /// A store that fails in the middle of the work is a trouble like others: shown, and tried again with growing pauses.
    async fn record_store_failure(&self, job: &DeliveryJob, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, "a delivery was cut off");
        let failure =
            Failure::retry(format!("the certificate could not be read or the delivery written down: {error}"));
        match self.record_result(job, Err(failure)).await {
            Ok(next_try) => self.store.release_delivery(&job.claim.lease, next_try).await,
            Err(JobError::Store(error)) => Err(error),
            Err(JobError::Interrupted) => Ok(()),
        }
    }

    /// The certificate with its key; nothing where it was deleted meanwhile.
    async fn load_payload(
        &self,
        row: &DeliveryRow,
        certificate: DeliverableCertificate,
    ) -> Result<Option<DeliveryPayload>, JobError> {
        let stored = self.store.certificate(certificate.id).await?;
        let key = self.store.certificate_private_key(certificate.id).await?;
        Ok(stored.zip(key).map(|(stored, private_key)| DeliveryPayload {
            recipient: row.into(),
            certificate: stored.id,
            leaf_pem: stored.certificate,
            chain_pem: stored.chain,
            private_key,
            leaf: stored.leaf,
        }))
    }

    /// Renews the lease at a third of its life; ends where it is lost.
    async fn keep_renewed(&self, lease: &DeliveryLease) -> StoreError {
        loop {
            tokio::time::sleep(LEASE_DURATION / 3).await;
            match self.store.renew_delivery_lease(lease).await {
                Ok(LeaseState::Held | LeaseState::Deleted) => {}
                Ok(LeaseState::Lost) => return StoreError::LostLease,
                Err(error) => tracing::warn!(%error, "the lease of a delivery could not be renewed"),
            }
        }
    }
}

const MIN_PAUSE: time::Duration = time::Duration::MINUTE;
/// How many deliveries to one target are carried out at once.
const MAX_CONCURRENT_DELIVERIES: usize = 8;
/// No version of a roster.
const NEVER_SYNCED: i64 = -1;
