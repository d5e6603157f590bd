//! Names proven by standing records (dns-persist-01): made once, by the adapter or by a person, and then relied on, so that
//! a renewal asks nothing of the DNS. Experimental, as its draft is.

use crate::acme::{Authorization, ChallengeKind};
use crate::dns::adapter::{TxtRecord, Zone};
use crate::dns::alias::Aliases;
use crate::domain::failure::disposition::Failure;
use crate::domain::renewal::dns_persist::{DnsPersist, PersistRecord};
use crate::domain::value::name::DnsName;
use crate::issuance::AttemptError;
use crate::issuance::attempt_runner::AttemptRunner;
use crate::issuance::dns01::{gathered, run_bounded};
use crate::store::{PersistRecordLocation, StoredPersistRecord};

impl AttemptRunner<'_> {
    /// How control of a name is proven: by a standing record where the settings want that and the CA offers it.
    pub(super) const fn challenge_kind_for(&self, authorization: &Authorization) -> ChallengeKind {
        match (self.issuance.dns_persist, &authorization.dns_persist01) {
            (DnsPersist::ByHand | DnsPersist::Publish, Some(_)) => ChallengeKind::DnsPersist01,
            (DnsPersist::Off, _) | (_, None) => ChallengeKind::Dns01,
        }
    }

    /// Makes sure that the standing records are there which these authorizations want; those proven otherwise want none.
    pub(super) async fn ensure_persist_records(
        &mut self,
        authorizations: &[Authorization],
    ) -> Result<(), AttemptError> {
        let account = self.load_account().await?.url().to_owned();
        let authorizations = authorizations.iter().filter(|one| self.uses_persist_record(one));
        let records = wanted_records(authorizations, &account, &self.attempt.names);
        gathered(run_bounded(records.iter().map(|record| self.ensure_persist_record(record)).collect()).await)
            .map(|_| ())
    }

    async fn ensure_persist_record(&self, record: &PersistRecord) -> Result<(), AttemptError> {
        match self.issuance.store.standing(record).await? {
            Some(StoredPersistRecord { seen: true, .. }) => Ok(()),
            _ if self.issuance.dns_persist == DnsPersist::Publish => self.publish_persist_record(record).await,
            _ => self.check_persist_record(record).await,
        }
    }

    /// The CA did not find what stood there: it is looked for anew before it is relied on again.
    pub(super) async fn recheck_persist_records(&self) -> Result<(), AttemptError> {
        if self.issuance.dns_persist != DnsPersist::Off {
            for name in &self.attempt.names {
                self.issuance.store.recheck_persist_records(&PersistRecord::name_for(name.base())).await?;
            }
        }
        Ok(())
    }

    fn uses_persist_record(&self, authorization: &Authorization) -> bool {
        authorization.awaits_answer() && self.challenge_kind_for(authorization) == ChallengeKind::DnsPersist01
    }

    async fn publish_persist_record(&self, record: &PersistRecord) -> Result<(), AttemptError> {
        let (store, propagation) = (&self.issuance.store, &self.issuance.propagation);
        let place = self.locate_record(&record.name).await?;
        let zone = &place.zone;
        let noted = PersistRecordLocation {
            adapter: place.adapter.name().as_str(),
            zone_id: zone.id.as_str(),
            name: place.name(),
        };
        store.journal_persist_record(record, Some(noted)).await?;
        self.lease.ensure_held().await?;
        let txt = TxtRecord { name: place.name().to_owned(), content: record.content.clone() };
        let id = place.adapter.present(&zone.id, &txt).await?;
        store.store_persist_record_id(record, id.as_str()).await?;
        self.lease.run_while_held(propagation.await_published(&*place.adapter, &zone.id, &id)).await?;
        let values = [record.content.clone()];
        self.lease.run_while_held(propagation.await_visible(zone, place.name(), &values)).await?;
        tracing::info!(name = record.name, "standing record published; renewals rely on it from now on");
        Ok(store.mark_persist_record_seen(record).await?)
    }

    /// A person makes the record. Without it the CA is not asked: failed validations count against its limits.
    async fn check_persist_record(&self, record: &PersistRecord) -> Result<(), AttemptError> {
        let issuance = self.issuance;
        issuance.store.journal_persist_record(record, None).await?;
        let lookup = issuance.dns.lookup();
        let aliases = self.lease.run_while_held(Aliases::resolve(&record.name, lookup, &issuance.randomness)).await?;
        let zone = Zone {
            id: String::new().into(),
            name: self.lease.run_while_held(lookup.find_zone(aliases.end())).await?,
            nameservers: Vec::new(),
        };
        let lagging = issuance.propagation.find_lagging(&zone, aliases.end(), std::slice::from_ref(&record.content));
        if let Some(lagging) = self.lease.run_while_held(lagging).await?.first() {
            let PersistRecord { name, content } = record;
            return Err(Failure::operator(format!(
                "the standing record is not there ({lagging}); make the TXT record {name} with the content \"{content}\""
            ))
            .into());
        }
        Ok(issuance.store.mark_persist_record_seen(record).await?)
    }
}

/// One record for each name; it lets the wildcard be proven too, where that is among the `ordered` names.
fn wanted_records<'a>(
    authorizations: impl Iterator<Item = &'a Authorization>,
    account: &str,
    ordered: &[DnsName],
) -> Vec<PersistRecord> {
    let mut records = Vec::new();
    for authorization in authorizations {
        let issuer = authorization.dns_persist01.as_ref().and_then(|challenge| challenge.issuers.first());
        let Some(issuer) = issuer else { continue };
        let base = &authorization.name;
        let wildcard = ordered.iter().any(|name| name.is_wildcard() && name.base() == base);
        let record = PersistRecord::new(base, issuer, account, wildcard);
        if !records.contains(&record) {
            records.push(record);
        }
    }
    records
}
