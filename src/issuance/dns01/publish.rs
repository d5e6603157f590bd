//! Publishing: every intent is in the journal before the first record is made, records of one zone are presented
//! together, and all of them are awaited together.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{ChallengeRecord, MAX_CONCURRENCY, gathered, run_bounded};
use crate::dns::DnsError;
use crate::dns::adapter::{RecordId, TxtRecord, Zone};
use crate::dns::routes::RecordLocation;
use crate::domain::renewal::attempt::Attempt;
use crate::domain::value::id::ChallengeRecordId;
use crate::issuance::AttemptError;
use crate::issuance::attempt_runner::AttemptRunner;
use crate::store::{IntendedRecord, JournalledRecord, StoreError};

/// A challenge with its entry in the journal.
#[derive(Clone)]
struct JournalledChallenge<'a> {
    challenge: &'a ChallengeRecord,
    entry: ChallengeRecordId,
    /// The record, where it was made already and its adapter does not bear to be asked again.
    existing_record: Option<RecordId>,
}

/// A challenge whose record was made.
struct PresentedChallenge<'a> {
    journalled: JournalledChallenge<'a>,
    record: RecordId,
}

impl<'a> JournalledChallenge<'a> {
    const fn new(challenge: &'a ChallengeRecord, entry: ChallengeRecordId) -> Self {
        Self { challenge, entry, existing_record: None }
    }

    fn from_entry(challenge: &'a ChallengeRecord, entry: &JournalledRecord) -> Self {
        let made = entry.record_id.clone().filter(|_| !challenge.place.adapter.is_repeatable());
        Self { existing_record: made.map(RecordId::from), ..Self::new(challenge, entry.id) }
    }
}

impl<'a> PresentedChallenge<'a> {
    /// One that was made earlier.
    fn from_existing(mut intended: JournalledChallenge<'a>) -> Option<Self> {
        intended.existing_record.take().map(|record| Self { journalled: intended, record })
    }
}

impl AttemptRunner<'_> {
    /// Publishes the records and waits until all authoritative servers show them. A tenure that ends ends all of it.
    pub(in crate::issuance) async fn publish(&self, challenges: &[ChallengeRecord]) -> Result<(), AttemptError> {
        let intended = self.journal_intents(challenges).await?;
        self.lease.run_while_held(self.await_removals()).await?;
        self.lease.ensure_held().await?;
        let presented = self.lease.run_while_held(self.present_all(intended)).await?;
        self.lease.run_while_held(self.await_published(&presented)).await?;
        self.lease.run_while_held(self.await_visible(challenges)).await
    }

    /// What the journal does not name yet is noted in one go.
    async fn journal_intents<'a>(
        &self,
        challenges: &'a [ChallengeRecord],
    ) -> Result<Vec<JournalledChallenge<'a>>, AttemptError> {
        let store = &self.issuance.store;
        let journal = store.challenge_records(self.auto_certificate.id).await?;
        let known =
            |challenge: &ChallengeRecord| journal.iter().find(|entry| is_entry_for(entry, self.attempt, challenge));
        let missing = challenges.iter().filter(|challenge| known(challenge).is_none());
        let missing: Vec<_> = missing.map(|challenge| self.to_intended_record(challenge)).collect();
        let noted =
            if missing.is_empty() { Vec::new() } else { store.journal_records(self.lease.lease(), &missing).await? };
        let mut noted = noted.into_iter();
        let intended = challenges.iter().filter_map(|challenge| match known(challenge) {
            Some(entry) => Some(JournalledChallenge::from_entry(challenge, entry)),
            None => noted.next().map(|entry| JournalledChallenge::new(challenge, entry)),
        });
        Ok(intended.collect())
    }

    fn to_intended_record<'a>(&self, challenge: &'a ChallengeRecord) -> IntendedRecord<'a> {
        let RecordLocation { adapter, zone, .. } = &challenge.place;
        IntendedRecord {
            attempt: self.attempt.id,
            adapter: adapter.name().as_str(),
            zone_id: zone.id.as_str(),
            name: challenge.place.name(),
            content: &challenge.content,
        }
    }

    /// A removal of an equal record that began before the intent was stored would take ours away with it. From now on
    /// none begins.
    async fn await_removals(&self) -> Result<(), StoreError> {
        while self.issuance.store.is_removal_running(self.attempt.id).await? {
            tokio::time::sleep(RECHECK_INTERVAL).await;
        }
        Ok(())
    }

    async fn present_all<'a>(
        &self,
        intended: Vec<JournalledChallenge<'a>>,
    ) -> Result<Vec<PresentedChallenge<'a>>, AttemptError> {
        let zones: Vec<_> =
            group_by_zone(intended).into_values().map(|of_zone| self.present_in_zone(of_zone)).collect();
        gathered(run_bounded(zones).await.into_iter().flatten().collect())
    }

    /// Whatever becomes of the others, the id of each record that was made is stored.
    async fn present_in_zone<'a>(
        &self,
        intended: Vec<JournalledChallenge<'a>>,
    ) -> Vec<Result<PresentedChallenge<'a>, AttemptError>> {
        let (made, intended): (Vec<_>, Vec<_>) =
            intended.into_iter().partition(|intended| intended.existing_record.is_some());
        let mut presented: Vec<Result<PresentedChallenge<'a>, AttemptError>> =
            made.into_iter().filter_map(|intended| PresentedChallenge::from_existing(intended).map(Ok)).collect();
        let Some(JournalledChallenge { challenge: ChallengeRecord { place, .. }, .. }) = intended.first() else {
            return presented;
        };
        let records: Vec<TxtRecord> = intended.iter().map(|intended| intended.challenge.to_txt_record()).collect();
        let made = place.adapter.present_all(&place.zone.id, &records).await;
        for (intended, record) in intended.into_iter().zip(made) {
            presented.push(match record {
                Ok(record) => {
                    let noted = self.issuance.store.store_record_id(intended.entry, record.as_str()).await;
                    noted.map(|()| PresentedChallenge { journalled: intended, record }).map_err(AttemptError::from)
                }
                Err(error) => Err(error.into()),
            });
        }
        presented
    }

    async fn await_published(&self, presented: &[PresentedChallenge<'_>]) -> Result<(), AttemptError> {
        let waits = presented.iter().map(|presented| self.await_record(presented)).collect();
        gathered(run_until_failure(waits).await).map(|_| ())
    }

    async fn await_record(&self, presented: &PresentedChallenge<'_>) -> Result<(), AttemptError> {
        let PresentedChallenge { journalled: JournalledChallenge { challenge, entry, .. }, record } = presented;
        let RecordLocation { adapter, zone, .. } = &challenge.place;
        let waited = self.issuance.propagation.await_published(&**adapter, &zone.id, record).await;
        if matches!(waited, Err(DnsError::RecordFailed { .. })) {
            // Were it left there, the next try would adopt it.
            match adapter.remove(&zone.id, Some(record), &challenge.to_txt_record()).await {
                Ok(()) => self.issuance.store.delete_record_entry(*entry).await?,
                Err(error) => tracing::warn!(%record, "the record that failed could not be removed: {error}"),
            }
        }
        Ok(waited?)
    }

    async fn await_visible(&self, challenges: &[ChallengeRecord]) -> Result<(), AttemptError> {
        let values = challenges.iter().map(|challenge| {
            let place = &challenge.place;
            (&place.zone, place.name(), challenge.content.as_str())
        });
        let waits = by_name(values).into_iter().map(async |(name, (zone, values))| {
            tracing::info!(attempt = %self.attempt.id, name, values = values.len(), "waiting for every name server");
            Ok(self.issuance.propagation.await_visible(zone, name, &values).await?)
        });
        gathered(run_until_failure(waits.collect()).await).map(|_| ())
    }
}

fn is_entry_for(entry: &JournalledRecord, attempt: &Attempt, challenge: &ChallengeRecord) -> bool {
    let RecordLocation { adapter, zone, .. } = &challenge.place;
    entry.attempt == Some(attempt.id)
        && entry.adapter == adapter.name().as_str()
        && entry.zone_id == zone.id.as_str()
        && entry.name == challenge.place.name()
        && entry.content == challenge.content
}

/// Waits for all, a number at a time. After the first that fails no other is begun: each may wait for minutes.
async fn run_until_failure<F: Future<Output = Result<(), AttemptError>>>(
    waits: Vec<F>,
) -> Vec<Result<(), AttemptError>> {
    let failed = CancellationToken::new();
    stream::iter(waits)
        .take_until(failed.cancelled())
        .buffer_unordered(MAX_CONCURRENCY)
        .inspect(|waited| {
            if waited.is_err() {
                failed.cancel();
            }
        })
        .collect()
        .await
}

fn group_by_zone(intended: Vec<JournalledChallenge<'_>>) -> BTreeMap<(&str, &str), Vec<JournalledChallenge<'_>>> {
    let mut zones: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for intended in intended {
        let RecordLocation { adapter, zone, .. } = &intended.challenge.place;
        zones.entry((adapter.name().as_str(), zone.id.as_str())).or_default().push(intended);
    }
    zones
}

/// An apex and its wildcard need two values at one name; they are waited for together.
fn by_name<'a>(
    values: impl Iterator<Item = (&'a Zone, &'a str, &'a str)>,
) -> BTreeMap<&'a str, (&'a Zone, Vec<String>)> {
    let mut names: BTreeMap<&str, (&Zone, Vec<String>)> = BTreeMap::new();
    for (zone, name, value) in values {
        names.entry(name).or_insert_with(|| (zone, Vec::new())).1.push(value.to_owned());
    }
    names
}

const RECHECK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::disposition::Failure;

    #[test]
    fn two_values_at_one_name_are_waited_for_together() {
        let zone = Zone { id: "z".to_owned().into(), name: "example.com".to_owned(), nameservers: Vec::new() };
        let names = by_name([(&zone, "a", "1"), (&zone, "b", "2"), (&zone, "a", "3")].into_iter());
        assert_eq!(names["a"].1, ["1", "3"]);
        assert_eq!(names["b"].1, ["2"]);
    }

    #[tokio::test]
    async fn no_wait_is_begun_after_one_that_failed() {
        let waits = (0..MAX_CONCURRENCY * 3)
            .map(async |number| if number == 0 { Err(Failure::retry("late").into()) } else { Ok(()) });
        let waited = run_until_failure(waits.collect()).await;
        assert!(waited.len() <= MAX_CONCURRENCY + 1, "{}", waited.len());
        assert_eq!(waited.iter().filter(|waited| waited.is_err()).count(), 1);
    }
}
