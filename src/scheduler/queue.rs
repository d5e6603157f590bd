//! The queues at the providers: whose turn has come is claimed and worked on, the rest waits or is kept back. Who goes,
//! `domain::admission` decides.

use std::sync::{Arc, PoisonError};

use futures_util::{StreamExt, stream};
use time::Duration;

use crate::domain::admission::{QueuedWork, WorkKind, AdmissionInput, Admission, admit};
use crate::domain::hold::Deferral;
use crate::domain::id::ProviderId;
use crate::domain::moment::Moment;
use crate::issuance::{Issuance, FallbackCandidates};
use crate::scheduler::Scheduler;
use crate::scheduler::lane::Lane;
use crate::store::{DueAutoCertificate, StoreError};

impl Scheduler {
    /// Serves the queue at each provider where something is due, each in a lane of its own; gives the earliest look at all
    /// others.
    pub(super) async fn scan_queues(self, issuance: Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
        let (store, now) = (&issuance.store, issuance.clock.now());
        let in_demand = store.providers_in_demand(now).await?;
        let next_probe = self.probe_the_unasked(&issuance, &in_demand).await?;
        let lanes = self.lanes_of_queues(&in_demand);
        let mut queues = stream::iter(lanes)
            .map(|(provider, lane)| {
                let (scheduler, issuance) = (self.clone(), Arc::clone(&issuance));
                async move { lane.look(scheduler.serve_queue(issuance, provider)).await }
            })
            .buffer_unordered(QUEUES_AT_ONCE);
        let mut more = false;
        while let Some(found) = queues.next().await {
            more |= found.unwrap_or(false);
        }
        if more {
            return Ok(Some(now));
        }
        let looks = [store.earliest_look(now).await?, next_probe];
        Ok(looks.into_iter().flatten().min())
    }

    /// Serves the beginning of the queue at a provider; says whether there is more to serve at once.
    async fn serve_queue(self, issuance: Arc<Issuance>, provider: ProviderId) -> Result<bool, StoreError> {
        let queue = issuance.store.queue_at(provider, issuance.clock.now(), AT_ONCE).await?;
        let whole = queue.len() < AT_ONCE as usize;
        // Without room there is nothing to look for: whoever ends wakes the loop.
        Ok(self.serve(&issuance, provider, queue).await? && !whole)
    }

    /// The lanes of these providers; those of others are forgotten once nothing is under way there.
    fn lanes_of_queues(&self, in_demand: &[ProviderId]) -> Vec<(ProviderId, Lane)> {
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
    async fn probe_the_unasked(
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
            let stood_in_for = breaker.is_for_long(now) && !issuance.stand_ins(provider).await?.is_empty();
            let is_asked = in_demand.contains(&provider) || store.is_waited_for(provider).await?;
            if (stood_in_for || !is_asked) && store.claim_probe(provider, &breaker, now + PATIENCE_FOR_PROBE).await? {
                let (issuance, wake) = (Arc::clone(issuance), self.wake.clone());
                self.tasks.spawn(async move {
                    if let Err(error) = issuance.probe(provider, &server).await {
                        tracing::error!(%provider, %error, "the probe could not be written down");
                    }
                    wake.nudge();
                });
            }
        }
        Ok(next)
    }

    /// Serves one queue, the most urgent first; says whether its provider has room left.
    pub(super) async fn serve(
        &self,
        issuance: &Arc<Issuance>,
        provider: ProviderId,
        queue: Vec<DueAutoCertificate>,
    ) -> Result<bool, StoreError> {
        let (store, now) = (&issuance.store, issuance.clock.now());
        let known = async {
            let turnstile = store.turnstile(provider).await?;
            let ledger = issuance.ledger(provider).await?;
            Ok((turnstile, ledger, issuance.stand_ins(provider).await?))
        };
        let Some((turnstile, mut ledger, stand_ins)) = store.unless_damaged(known.await)? else {
            return self.show_damaged(issuance, queue).await;
        };
        let candidates: Vec<QueuedWork> = queue.iter().map(|due| candidate(due, &stand_ins, now)).collect();
        let gate = AdmissionInput {
            breaker: turnstile.breaker.as_ref(),
            running: turnstile.running,
            room: self.room,
            line: turnstile.line,
            draw: issuance.randomness.fraction(),
        };
        let verdicts = admit(&candidates, gate, &mut ledger, now);
        let room_left = !verdicts.contains(&Admission::Wait);
        let mut kept_back: Vec<(DueAutoCertificate, Deferral)> = Vec::new();
        for (due, verdict) in queue.into_iter().zip(verdicts) {
            match verdict {
                Admission::Go => {
                    if let Some(claim) = store.claim(due.auto_certificate.id).await? {
                        self.spawn(issuance, claim);
                    }
                }
                Admission::Hold(hold) => kept_back.push((due, hold)),
                Admission::Wait => {}
            }
        }
        if let Some((_, hold)) = kept_back.first() {
            tracing::info!(%provider, held = kept_back.len(), until = %hold.until, cause = %hold.cause.description(), "kept back");
        }
        store.keep_back(&kept_back, now).await?;
        Ok(room_left)
    }

    /// A damaged provider takes no order. Whoever waits for it is taken up all the same, a few at a time: the work cleans
    /// up what it can, and what it cannot do is its trouble, which people see.
    async fn show_damaged(&self, issuance: &Arc<Issuance>, queue: Vec<DueAutoCertificate>) -> Result<bool, StoreError> {
        let room_left = queue.len() <= self.room;
        for due in queue.into_iter().take(self.room) {
            if let Some(claim) = issuance.store.claim(due.auto_certificate.id).await? {
                self.spawn(issuance, claim);
            }
        }
        Ok(room_left)
    }
}

/// What another provider is asked for is not this one's business; its limits are looked at when the order is sent.
fn candidate(due: &DueAutoCertificate, stand_ins: &FallbackCandidates, now: Moment) -> QueuedWork {
    let usual = due.auto_certificate.errand(now);
    if usual.errand != WorkKind::Aside && stand_ins.take_over(&due.auto_certificate.standing, now) {
        return QueuedWork { errand: WorkKind::Elsewhere, ..usual };
    }
    usual
}

/// As many of a queue are looked at in one go.
const AT_ONCE: u32 = 256;
/// So many queues are served at once: each only asks the store.
const QUEUES_AT_ONCE: usize = 4;
/// So long a probe may take.
const PATIENCE_FOR_PROBE: Duration = Duration::minutes(2);
