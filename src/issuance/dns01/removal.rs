//! Removal: what nobody needs any more goes from the DNS, and then from the journal. Nothing that the journal does not
//! name is touched, and what cannot be removed is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::run_bounded;
use crate::dns::adapter::{RecordId, TxtRecord, ZoneId};
use crate::domain::failure::disposition::Failure;
use crate::domain::renewal::auto_certificate::AutoCertificate;
use crate::domain::value::text::RemoteMessage;
use crate::issuance::{AttemptError, HeldLease, Issuance};
use crate::store::{JournalledRecord, LEASE_DURATION, RemovalStart, StoreError};

/// What became of a record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupOutcome {
    /// It is gone, or was gone already.
    Removed,
    /// It would be removed, were this not only a look.
    WouldBeRemoved,
    /// Only its entry in the journal is gone, as a person wished.
    Forgotten,
    /// It is still needed, for this reason.
    InUse(&'static str),
    /// It could not be removed, for this reason.
    Failed(RemoteMessage),
}

/// A record of the journal and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// As the journal named it.
    pub record: JournalledRecord,
    /// What became of it.
    pub outcome: CleanupOutcome,
}

impl Issuance {
    /// Removes the challenge records that no open attempt needs. A record that cannot be removed is tried again later.
    ///
    /// # Errors
    /// Where the work must stop.
    pub async fn clean_up(&self, tenure: &HeldLease, subject: &AutoCertificate) -> Result<(), AttemptError> {
        let now = self.clock.now();
        let mut left = self.store.challenge_records(subject.id).await?;
        left.retain(|record| !record.is_needed && record.next_try <= now);
        tenure.ensure_held().await?;
        tenure.run_while_held(async { Ok::<_, AttemptError>(self.remove_records(left).await?) }).await?;
        Ok(())
    }

    /// Removes the records of no attempt that whoever made them has left behind; says whether none was kept for want of a
    /// clock that can be believed.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn remove_orphaned_records(&self) -> Result<bool, StoreError> {
        let strays = self.store.orphaned_records(self.clock.now()).await?;
        let (mut over, young): (Vec<_>, Vec<_>) = strays.into_iter().partition(|record| record.failed_removals > 0);
        let until = if young.is_empty() { None } else { self.confirm_clock().await?.deletable_until };
        let (left, kept): (Vec<_>, Vec<_>) =
            young.into_iter().partition(|record| until.is_some_and(|until| record.next_try <= until));
        over.extend(left);
        self.remove_records(over).await?;
        Ok(kept.is_empty())
    }

    /// Removes these, a number at a time. Where one cannot be removed, the others are removed all the same.
    pub(super) async fn remove_records(&self, records: Vec<JournalledRecord>) -> Result<Vec<Cleanup>, StoreError> {
        let (served, unserved): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| self.dns.named(&record.adapter).is_ok());
        let removals: Vec<_> = served.into_iter().map(|record| self.remove_record(record)).collect();
        let mut removed = run_bounded(removals).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        removed.extend(self.postpone_removals(unserved).await?);
        Ok(removed)
    }

    async fn remove_record(&self, record: JournalledRecord) -> Result<Cleanup, StoreError> {
        let patience = self.dns.named(&record.adapter).map_or(LEASE_DURATION, |adapter| adapter.removal_timeout());
        if self.store.begin_removal(record.id, patience).await? == RemovalStart::NeededElsewhere {
            // A CA that hands out a pending authorization again wants the same record again.
            return Ok(Cleanup { record, outcome: CleanupOutcome::InUse("an open order needs an equal record") });
        }
        let fate = match self.remove_from_dns(&record, patience).await {
            Ok(()) => {
                self.store.delete_record_entry(record.id).await?;
                tracing::debug!(name = record.name, "challenge record removed");
                CleanupOutcome::Removed
            }
            Err(failure) => {
                let pause = self.clock.now() + removal_pause(record.failed_removals);
                let next_try = failure.disposition.not_before().map_or(pause, |asked| asked.max(pause));
                tracing::warn!(name = record.name, %next_try, "challenge record not removed: {failure}");
                self.store.record_removal_failure(record.id, next_try).await?;
                CleanupOutcome::Failed(failure.message)
            }
        };
        Ok(Cleanup { record, outcome: fate })
    }

    /// Takes no longer than others wait for it.
    async fn remove_from_dns(&self, entry: &JournalledRecord, patience: Duration) -> Result<(), Failure> {
        let record = TxtRecord { name: entry.name.clone(), content: entry.content.clone() };
        let (zone, id) = (ZoneId::from(entry.zone_id.clone()), entry.record_id.clone().map(RecordId::from));
        let adapter = self.dns.named(&entry.adapter)?;
        let removal = adapter.remove(&zone, id.as_ref(), &record);
        let too_slow =
            |_| Failure::retry(format!("{}: the removal took longer than {} s", entry.adapter, patience.as_secs()));
        Ok(tokio::time::timeout(patience, removal).await.map_err(too_slow)??)
    }

    /// What an adapter published that the settings no longer have stays where it is, and is told of once a day.
    async fn postpone_removals(&self, records: Vec<JournalledRecord>) -> Result<Vec<Cleanup>, StoreError> {
        let mut by_adapter: BTreeMap<String, Vec<JournalledRecord>> = BTreeMap::new();
        for record in records {
            by_adapter.entry(record.adapter.clone()).or_default().push(record);
        }
        let mut left = Vec::new();
        for (adapter, records) in by_adapter {
            let Err(error) = self.dns.named(&adapter) else { continue };
            let now = self.clock.now();
            let put_off = self.store.postpone_removals(&adapter, now, now + WARNING_INTERVAL).await?;
            if put_off > 0 {
                tracing::warn!(records = put_off, "challenge records cannot be removed: {error}");
            }
            let failed = CleanupOutcome::Failed(error.to_string().into());
            left.extend(records.into_iter().map(|record| Cleanup { record, outcome: failed.clone() }));
        }
        Ok(left)
    }
}

/// 1 minute, doubled with each try, at most an hour.
fn removal_pause(tries: u32) -> time::Duration {
    time::Duration::minutes(1 << tries.min(6)).min(time::Duration::hours(1))
}

const WARNING_INTERVAL: time::Duration = time::Duration::DAY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_are_tried_again_with_growing_pauses() {
        assert_eq!([0, 1, 3, 6, 9].map(removal_pause), [1, 2, 8, 60, 60].map(time::Duration::minutes));
    }
}
