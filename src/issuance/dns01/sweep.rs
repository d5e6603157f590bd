//! The sweep by hand: whatever of the journal nobody needs goes now, pauses or not, beside the daemons that share the
//! store.

use std::collections::BTreeMap;

use time::Duration;
use tokio_util::sync::CancellationToken;

use super::removal::{Cleanup, CleanupOutcome};
use crate::domain::value::id::AutoCertificateId;
use crate::domain::value::moment::Moment;
use crate::issuance::confirmed_clock::ConfirmedBy;
use crate::issuance::{AttemptError, HeldLease, Issuance};
use crate::store::{JournalledRecord, RunOutcome, StoreError};

/// What a sweep does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepMode {
    /// It removes what nobody needs.
    Remove,
    /// It only looks.
    DryRun,
    /// It forgets the records of this adapter, which a person removed.
    Forget(String),
}

impl Issuance {
    /// Sweeps, and says what became of each record that the journal names.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn sweep(&self, sweep: &SweepMode, stopping: &CancellationToken) -> Result<Vec<Cleanup>, StoreError> {
        self.store.free_dead_leases().await?;
        let mut by_owner: BTreeMap<Option<AutoCertificateId>, Vec<JournalledRecord>> = BTreeMap::new();
        for record in self.store.journal().await?.into_iter().filter(|record| sweep.includes(record)) {
            by_owner.entry(record.auto_certificate).or_default().push(record);
        }
        let has_canaries = by_owner.get(&None).is_some_and(|canaries| canaries.iter().any(is_untried));
        let clock = if has_canaries { Some(self.confirm_clock().await?) } else { None };
        let until = clock.and_then(|clock| match clock.confirmed_by {
            // There is nobody to ask, and a person has.
            ConfirmedBy::NobodyToAsk => Some(self.clock.now()),
            ConfirmedBy::Evidence => clock.deletable_until,
        });
        let mut all = Vec::new();
        for (owner, records) in by_owner {
            let (needed, left): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| is_needed(record, until));
            all.extend(needed.into_iter().map(|record| cleanup_in_use(record, until)));
            all.extend(match owner {
                _ if left.is_empty() => Vec::new(),
                Some(id) if *sweep != SweepMode::DryRun => self.sweep_claimed(sweep, id, left, stopping).await?,
                _ => self.sweep_records(sweep, left).await?,
            });
        }
        Ok(all)
    }

    /// Nobody else works on it meanwhile.
    async fn sweep_claimed(
        &self,
        sweep: &SweepMode,
        id: AutoCertificateId,
        left: Vec<JournalledRecord>,
        stopping: &CancellationToken,
    ) -> Result<Vec<Cleanup>, StoreError> {
        let at_work = |record| Cleanup { record, outcome: CleanupOutcome::InUse("a running renewal is at work on it") };
        let Some(claim) = self.store.claim(id).await? else {
            return Ok(left.into_iter().map(at_work).collect());
        };
        // What was removed before the claim is nobody's business any more.
        let mut present = self.store.challenge_records(id).await?;
        present.retain(|record| !record.is_needed && sweep.includes(record));
        let tenure = HeldLease::new(self.store.clone(), &claim, stopping);
        let swept = tokio::select! {
            swept = tenure.run_while_held(async { Ok::<_, AttemptError>(self.sweep_records(sweep, present.clone()).await?) }) => swept,
            never = tenure.keep_renewed() => match never {},
        };
        let swept = match swept {
            Ok(swept) => swept,
            Err(AttemptError::Store(error)) => return Err(error),
            // Whoever took it over removes them.
            Err(_) => return Ok(present.into_iter().map(at_work).collect()),
        };
        // What a deletion waited for may be done now.
        match self.store.release_auto_certificate(tenure.lease(), self.clock.now(), RunOutcome::Interrupted).await {
            Ok(()) | Err(StoreError::LostLease) => Ok(swept),
            Err(error) => Err(error),
        }
    }

    async fn sweep_records(
        &self,
        sweep: &SweepMode,
        records: Vec<JournalledRecord>,
    ) -> Result<Vec<Cleanup>, StoreError> {
        let fate = match sweep {
            SweepMode::Remove => return self.remove_records(records).await,
            SweepMode::DryRun => CleanupOutcome::WouldBeRemoved,
            SweepMode::Forget(_) => CleanupOutcome::Forgotten,
        };
        let mut swept = Vec::with_capacity(records.len());
        for record in records {
            if fate == CleanupOutcome::Forgotten {
                self.store.delete_record_entry(record.id).await?;
            }
            swept.push(Cleanup { record, outcome: fate.clone() });
        }
        Ok(swept)
    }
}

impl SweepMode {
    fn includes(&self, record: &JournalledRecord) -> bool {
        match self {
            Self::Remove | Self::DryRun => true,
            Self::Forget(adapter) => record.adapter == *adapter,
        }
    }
}

/// A canary is in use until its time is over by a clock that can be believed, or its removal was tried. No canary has more
/// time than [`LONGEST_CANARY`]: whoever gave it more had a clock that was ahead.
fn is_needed(record: &JournalledRecord, until: Option<Moment>) -> bool {
    let may_be_in_use = |until: Moment| record.next_try > until && record.next_try <= until + LONGEST_CANARY;
    record.is_needed || (is_untried(record) && until.is_none_or(may_be_in_use))
}

fn is_untried(record: &JournalledRecord) -> bool {
    record.auto_certificate.is_none() && record.failed_removals == 0
}

fn cleanup_in_use(record: JournalledRecord, until: Option<Moment>) -> Cleanup {
    let why = match until {
        _ if record.is_needed => "an open order needs it",
        Some(_) => "a check made it a few minutes ago",
        None => {
            "a check may still use it: no CA confirms this machine's clock; set the clock, or try again when a CA answers"
        }
    };
    Cleanup { record, outcome: CleanupOutcome::InUse(why) }
}

/// The ten minutes that it gets, and the hour by which the clocks of a fleet may differ.
const LONGEST_CANARY: Duration = Duration::minutes(70);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn canary(next_try: Moment) -> JournalledRecord {
        JournalledRecord {
            id: uuid::Uuid::nil().into(),
            auto_certificate: None,
            attempt: None,
            adapter: "ionos".to_owned(),
            zone_id: "1".to_owned(),
            record_id: None,
            name: "_acme-challenge.a.example".to_owned(),
            content: "canary".to_owned(),
            failed_removals: 0,
            next_try,
            is_needed: false,
        }
    }

    #[test]
    fn a_canary_is_judged_by_a_clock_that_can_be_believed() {
        let (young, over, of_wrong_clock) =
            (canary(NOW + Duration::minutes(5)), canary(NOW - Duration::minutes(5)), canary(NOW + Duration::days(400)));
        assert!(is_needed(&young, Some(NOW)) && !is_needed(&over, Some(NOW)) && !is_needed(&of_wrong_clock, Some(NOW)));
        assert!([&young, &over, &of_wrong_clock].iter().all(|canary| is_needed(canary, None)), "nobody knows");
        assert!(!is_needed(&JournalledRecord { failed_removals: 1, ..young }, None), "its maker tried that");
    }
}
