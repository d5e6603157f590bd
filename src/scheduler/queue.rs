//! The queues at the providers: whose turn has come is claimed and worked on, the rest waits or is kept back. Who goes,
//! `domain::admission` decides.

use std::sync::{Arc, PoisonError};

use futures_util::{StreamExt, stream};
use time::Duration;

use crate::domain::failure::deferral::Deferral;
use crate::domain::provider::admission::{Admission, AdmissionInput, QueuedWork, WorkKind, admit};
use crate::domain::value::id::ProviderId;
use crate::domain::value::moment::Moment;
use crate::issuance::{FallbackCandidates, Issuance};
use crate::scheduler::Scheduler;
use crate::scheduler::lane::Lane;
use crate::store::{DueAutoCertificate, StoreError};

impl Scheduler {
    /// Serves the queue at each provider where something is due, each in a lane of its own; gives the earliest look at all
    /// others.
    pub(super) async fn scan_queues(self, issuance: Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
        let (store, now) = (&issuance.store, issuance.clock.now());
        let in_demand = store.providers_with_due_work(now).await?;
        let next_probe = self.probe_idle_providers(&issuance, &in_demand).await?;
        let lanes = self.queue_lanes(&in_demand);
        let mut queues = stream::iter(lanes)
            .map(|(provider, lane)| {
                let (scheduler, issuance) = (self.clone(), Arc::clone(&issuance));
                async move { lane.run_scan(scheduler.serve_queue(issuance, provider)).await }
            })
            .buffer_unordered(MAX_CONCURRENT_QUEUES);
        let mut more = false;
        while let Some(found) = queues.next().await {
            more |= found.unwrap_or(false);
        }
        if more {
            return Ok(Some(now));
        }
        let looks = [store.earliest_check(now).await?, next_probe];
        Ok(looks.into_iter().flatten().min())
    }

    /// Serves the beginning of the queue at a provider; says whether there is more to serve at once.
    async fn serve_queue(self, issuance: Arc<Issuance>, provider: ProviderId) -> Result<bool, StoreError> {
        let queue = issuance.store.queue_at(provider, issuance.clock.now(), BATCH_SIZE).await?;
        let whole = queue.len() < BATCH_SIZE as usize;
        // Without room there is nothing to look for: whoever ends wakes the loop.
        Ok(self.admit_and_start(&issuance, provider, queue).await? && !whole)
    }

    /// The lanes of these providers; those of others are forgotten once nothing is under way there.
    fn queue_lanes(&self, in_demand: &[ProviderId]) -> Vec<(ProviderId, Lane)> {
        let mut lanes = self.lanes.queues.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|provider, lane| in_demand.contains(provider) || !lane.is_idle());
        let lane = |provider: &ProviderId| {
            let lane = lanes.entry(*provider);
            (*provider, lane.or_insert_with(|| Lane::new(format!("orders at {provider}"), &self.context)).clone())
        };
        in_demand.iter().map(lane).collect()
    }

    /// Probes the providers that are down and at which nobody orders, because others stand in or nothing is due; gives the
    /// moment of the next probe.
    async fn probe_idle_providers(
        &self,
        issuance: &Arc<Issuance>,
        in_demand: &[ProviderId],
    ) -> Result<Option<Moment>, StoreError> {
        let (store, now) = (&issuance.store, issuance.clock.now());
        let mut next = None;
        for (provider, server, breaker) in store.providers_down().await? {
            let Some(probe_at) = breaker.open_until() else { continue };
            if probe_at > now {
                next = next.into_iter().chain([probe_at]).min();
                continue;
            }
            // Wherever somebody waits for it, an order is the probe, which tells more than a nonce.
            let stood_in_for = breaker.is_long_outage(now) && !issuance.fallback_candidates(provider).await?.is_empty();
            let is_asked = in_demand.contains(&provider) || store.has_deferred_work(provider).await?;
            if (stood_in_for || !is_asked) && store.claim_probe(provider, &breaker, now + PROBE_TIMEOUT).await? {
                let (issuance, wake) = (Arc::clone(issuance), self.wake.clone());
                self.tasks.spawn(async move {
                    if let Err(error) = issuance.probe_provider(provider, &server).await {
                        tracing::error!(%provider, %error, "the probe could not be written down");
                    }
                    wake.notify();
                });
            }
        }
        Ok(next)
    }

    /// Serves one queue, the most urgent first; says whether its provider has room left.
    pub(super) async fn admit_and_start(
        &self,
        issuance: &Arc<Issuance>,
        provider: ProviderId,
        queue: Vec<DueAutoCertificate>,
    ) -> Result<bool, StoreError> {
        let (store, now) = (&issuance.store, issuance.clock.now());
        let known = async {
            let turnstile = store.provider_load(provider).await?;
            let ledger = issuance.load_ledger(provider).await?;
            Ok((turnstile, ledger, issuance.fallback_candidates(provider).await?))
        };
        let Some((turnstile, mut ledger, stand_ins)) = store.ok_unless_damaged(known.await)? else {
            return self.start_despite_damage(issuance, queue).await;
        };
        let candidates: Vec<QueuedWork> = queue.iter().map(|due| to_queued_work(due, &stand_ins, now)).collect();
        let gate = AdmissionInput {
            breaker: turnstile.breaker.as_ref(),
            running: turnstile.running,
            capacity: self.capacity,
            deferred_by_limit: turnstile.deferred_by_limit,
            draw: issuance.randomness.fraction(),
        };
        let verdicts = admit(&candidates, gate, &mut ledger, now);
        let room_left = !verdicts.contains(&Admission::NoCapacity);
        let mut kept_back: Vec<(DueAutoCertificate, Deferral)> = Vec::new();
        for (due, verdict) in queue.into_iter().zip(verdicts) {
            match verdict {
                Admission::Admit => {
                    if let Some(claim) = store.claim(due.auto_certificate.id).await? {
                        self.spawn_work(issuance, claim);
                    }
                }
                Admission::Defer(hold) => kept_back.push((due, hold)),
                Admission::NoCapacity => {}
            }
        }
        if let Some((_, hold)) = kept_back.first() {
            tracing::info!(%provider, held = kept_back.len(), until = %hold.until, cause = %hold.cause.description(), "kept back");
        }
        store.defer_due(&kept_back, now).await?;
        Ok(room_left)
    }

    /// A damaged provider takes no order. Whoever waits for it is taken up all the same, a few at a time: the work cleans
    /// up what it can, and what it cannot do is its trouble, which people see.
    async fn start_despite_damage(
        &self,
        issuance: &Arc<Issuance>,
        queue: Vec<DueAutoCertificate>,
    ) -> Result<bool, StoreError> {
        let room_left = queue.len() <= self.capacity;
        for due in queue.into_iter().take(self.capacity) {
            if let Some(claim) = issuance.store.claim(due.auto_certificate.id).await? {
                self.spawn_work(issuance, claim);
            }
        }
        Ok(room_left)
    }
}

/// What another provider is asked for is not this one's business; its limits are looked at when the order is sent.
fn to_queued_work(due: &DueAutoCertificate, stand_ins: &FallbackCandidates, now: Moment) -> QueuedWork {
    let usual = QueuedWork::from_auto_certificate(&due.auto_certificate, now);
    if usual.work_kind != WorkKind::Maintenance && stand_ins.should_take_over(&due.auto_certificate.standing, now) {
        return QueuedWork { work_kind: WorkKind::AtFallback, ..usual };
    }
    usual
}

/// As many of a queue are looked at in one go.
const BATCH_SIZE: u32 = 256;
/// So many queues are served at once: each only asks the store.
const MAX_CONCURRENT_QUEUES: usize = 4;
/// So long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::minutes(2);
