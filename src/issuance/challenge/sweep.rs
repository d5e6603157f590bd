//! The sweep by hand: whatever of the journal nobody needs goes now, pauses or not, beside the daemons that share the
//! store.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::removal::{Fate, Swept};
use crate::domain::id::AutoCertificateId;
use crate::domain::moment::Moment;
use crate::issuance::{Issuance, Stop, Tenure};
use crate::store::{ChallengeRecord, RunOutcome, StoreError};

/// What a sweep does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// It removes what nobody needs.
    Remove,
    /// It only looks.
    Look,
    /// It forgets the records of this adapter, which a person removed.
    Forget(String),
}

impl Issuance {
    /// Sweeps, and says what became of each record that the journal names.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn sweep(&self, sweep: &Sweep, stopping: &CancellationToken) -> Result<Vec<Swept>, StoreError> {
        self.store.free_dead_leases().await?;
        let mut by_owner: BTreeMap<Option<AutoCertificateId>, Vec<ChallengeRecord>> = BTreeMap::new();
        for record in self.store.journal().await?.into_iter().filter(|record| sweep.concerns(record)) {
            by_owner.entry(record.auto_certificate).or_default().push(record);
        }
        let mut all = Vec::new();
        for (owner, records) in by_owner {
            let now = self.clock.now();
            let (needed, left): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| is_needed(record, now));
            all.extend(needed.into_iter().map(in_use));
            all.extend(match owner {
                _ if left.is_empty() => Vec::new(),
                Some(id) if *sweep != Sweep::Look => self.sweep_claimed(sweep, id, left, stopping).await?,
                _ => self.sweep_these(sweep, left).await?,
            });
        }
        Ok(all)
    }

    /// Nobody else works on it meanwhile.
    async fn sweep_claimed(
        &self,
        sweep: &Sweep,
        id: AutoCertificateId,
        left: Vec<ChallengeRecord>,
        stopping: &CancellationToken,
    ) -> Result<Vec<Swept>, StoreError> {
        let at_work = |record| Swept { record, fate: Fate::InUse("a running renewal is at work on it") };
        let Some(claim) = self.store.claim(id).await? else {
            return Ok(left.into_iter().map(at_work).collect());
        };
        // What was removed before the claim is nobody's business any more.
        let mut present = self.store.challenge_records(id).await?;
        present.retain(|record| !record.needed && sweep.concerns(record));
        let tenure = Tenure::new(self.store.clone(), &claim, stopping);
        let swept = tokio::select! {
            swept = tenure.during(async { Ok::<_, Stop>(self.sweep_these(sweep, present.clone()).await?) }) => swept,
            never = tenure.keep() => match never {},
        };
        let swept = match swept {
            Ok(swept) => swept,
            Err(Stop::Store(error)) => return Err(error),
            // Whoever took it over removes them.
            Err(_) => return Ok(present.into_iter().map(at_work).collect()),
        };
        // What a deletion waited for may be done now.
        match self.store.release(tenure.lease(), self.clock.now(), RunOutcome::Interrupted).await {
            Ok(()) | Err(StoreError::LostLease) => Ok(swept),
            Err(error) => Err(error),
        }
    }

    async fn sweep_these(&self, sweep: &Sweep, records: Vec<ChallengeRecord>) -> Result<Vec<Swept>, StoreError> {
        let fate = match sweep {
            Sweep::Remove => return self.remove_all(records).await,
            Sweep::Look => Fate::WouldGo,
            Sweep::Forget(_) => Fate::Forgotten,
        };
        let mut swept = Vec::with_capacity(records.len());
        for record in records {
            if fate == Fate::Forgotten {
                self.store.record_removed(record.id).await?;
            }
            swept.push(Swept { record, fate: fate.clone() });
        }
        Ok(swept)
    }
}

impl Sweep {
    fn concerns(&self, record: &ChallengeRecord) -> bool {
        match self {
            Self::Remove | Self::Look => true,
            Self::Forget(adapter) => record.adapter == *adapter,
        }
    }
}

/// A canary is in use until its time is over, or its removal was tried.
fn is_needed(record: &ChallengeRecord, now: Moment) -> bool {
    record.needed || (record.auto_certificate.is_none() && record.removal_tries == 0 && record.next_try > now)
}

fn in_use(record: ChallengeRecord) -> Swept {
    let why = if record.needed { "an open order needs it" } else { "a check made it a few minutes ago" };
    Swept { record, fate: Fate::InUse(why) }
}
