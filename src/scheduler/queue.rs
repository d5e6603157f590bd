//! The queues at the providers: whose turn has come is claimed and worked on, the rest waits or is kept back. Who goes,
//! `domain::admission` decides.

use std::sync::Arc;

use time::Duration;

use crate::domain::admission::{Candidate, Errand, Gate, Verdict, admit};
use crate::domain::hold::Hold;
use crate::domain::id::ProviderId;
use crate::domain::moment::Moment;
use crate::issuance::{Issuance, StandIns};
use crate::scheduler::Scheduler;
use crate::store::{Due, StoreError};

impl Scheduler {
    /// Serves the queue at each provider where something is due; gives the earliest look at all others.
    pub(super) async fn serve_queues(&self, issuance: &Arc<Issuance>) -> Result<Option<Moment>, StoreError> {
        let (store, now) = (&issuance.store, issuance.clock.now());
        let mut more = false;
        let in_demand = store.providers_in_demand(now).await?;
        let next_probe = self.probe_the_unasked(issuance, &in_demand).await?;
        for provider in in_demand {
            let queue = store.queue_at(provider, now, AT_ONCE).await?;
            let whole = queue.len() < AT_ONCE as usize;
            // Without room there is nothing to look for: whoever ends wakes the loop.
            more |= self.serve(issuance, provider, queue).await? && !whole;
        }
        if more {
            return Ok(Some(now));
        }
        let looks = [store.earliest_look(now).await?, next_probe];
        Ok(looks.into_iter().flatten().min())
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
        queue: Vec<Due>,
    ) -> Result<bool, StoreError> {
        let (store, now) = (&issuance.store, issuance.clock.now());
        let turnstile = store.turnstile(provider).await?;
        let mut ledger = issuance.ledger(provider).await?;
        let stand_ins = issuance.stand_ins(provider).await?;
        let candidates: Vec<Candidate> = queue.iter().map(|due| candidate(due, &stand_ins, now)).collect();
        let gate = Gate {
            breaker: turnstile.breaker.as_ref(),
            running: turnstile.running,
            room: self.room,
            line: turnstile.line,
            draw: issuance.randomness.fraction(),
        };
        let verdicts = admit(&candidates, gate, &mut ledger, now);
        let room_left = !verdicts.contains(&Verdict::Wait);
        let mut kept_back: Vec<(Due, Hold)> = Vec::new();
        for (due, verdict) in queue.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Go => {
                    if let Some(claim) = store.claim(due.auto_certificate.id).await? {
                        self.spawn(issuance, claim);
                    }
                }
                Verdict::Hold(hold) => kept_back.push((due, hold)),
                Verdict::Wait => {}
            }
        }
        if let Some((_, hold)) = kept_back.first() {
            tracing::info!(%provider, held = kept_back.len(), until = %hold.until, cause = %hold.cause, "kept back");
        }
        store.keep_back(&kept_back, now).await?;
        Ok(room_left)
    }
}

/// What another provider is asked for is not this one's business; its limits are looked at when the order is sent.
fn candidate(due: &Due, stand_ins: &StandIns, now: Moment) -> Candidate {
    let usual = due.auto_certificate.errand(now);
    if usual.errand != Errand::Aside && stand_ins.take_over(&due.auto_certificate.standing, now) {
        return Candidate { errand: Errand::Elsewhere, ..usual };
    }
    usual
}

/// As many of a queue are looked at in one go.
const AT_ONCE: u32 = 256;
/// So long a probe may take.
const PATIENCE_FOR_PROBE: Duration = Duration::minutes(2);
