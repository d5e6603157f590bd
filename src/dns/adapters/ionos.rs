//! IONOS Cloud DNS. Filters of its lists match parts of names, a 202 is a promise, and answers may lack a body: all
//! matches are made here, exactly, and what was created is looked for where the answer does not tell.

mod client;
mod wire;
mod zones;

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use self::client::IonosClient;
use self::wire::{RecordResource, TXT, txt_body};
use self::zones::{ZoneCache, fetch_all_pages};
use crate::config::dns::IonosSection;
use crate::config::secret;
use crate::dns::adapter::{DnsAdapter, RecordId, TxtRecord, Zone, ZoneId};
use crate::dns::adapters::AdapterContext;
use crate::dns::error::DnsError;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::credential::Credential;
use crate::domain::value::zone_name::relative_name;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// `[dns.adapter.NAME]` of the type `ionos`: a further contract.
///
/// # Errors
/// [`DnsError::Setting`] where a setting or the token cannot be used.
pub fn make(given: AdapterContext) -> Result<Arc<dyn DnsAdapter>, DnsError> {
    let section: IonosSection = given.settings()?;
    let Some(file) = &section.token_file else {
        return Err(
            given.setting_error("token_file", "it is missing; only [dns.ionos] reads its token elsewhere".to_owned())
        );
    };
    let token =
        secret::token("token_file", file).map_err(|error| given.setting_error("token_file", error.to_string()))?;
    Ok(Arc::new(Ionos::new(given.name, &section, Some(&token), given.clock, given.randomness)?))
}

/// The zones of one IONOS contract, as far as a token sees them.
pub struct Ionos {
    client: IonosClient,
    zones: ZoneCache,
    /// The token, where it tells its end.
    credential: Option<Credential>,
}

impl Ionos {
    /// An adapter that uses `token`; without one every call says so.
    ///
    /// # Errors
    /// [`DnsError::Setting`] where the endpoint or the token cannot be used. Nothing is asked over the network yet.
    pub fn new(
        name: AdapterName,
        section: &IonosSection,
        token: Option<&SecretString>,
        clock: SharedClock,
        randomness: Randomness,
    ) -> Result<Self, DnsError> {
        let what = format!("the token of {}", name.section());
        let credential = token.and_then(|token| Credential::from_token(what, token.expose_secret()));
        Ok(Self {
            client: IonosClient::new(name, section, token, clock, randomness)?,
            zones: ZoneCache::default(),
            credential,
        })
    }

    /// Looks before it creates, so that it can be repeated whatever became of an earlier try.
    async fn adopt_or_create(
        &self,
        zone: &ZoneId,
        relative_name: &str,
        record: &TxtRecord,
    ) -> Result<RecordId, DnsError> {
        if let Some(id) = self.find_adoptable(zone, relative_name, record).await? {
            return Ok(id);
        }
        let body = txt_body(relative_name, &record.content);
        let created = self.client.post::<RecordResource>(&["zones", zone.as_str(), "records"], &body).await;
        let nothing_found = match created {
            Ok(Some(created)) => return Ok(created.id.into()),
            Ok(None) => DnsError::Unconfirmed { adapter: self.name().clone(), name: record.name.clone() },
            Err(DnsError::Rejected { status: 409, said, .. }) => {
                DnsError::Conflict { adapter: self.name().clone(), name: record.name.clone(), said }
            }
            Err(error) => return Err(error),
        };
        let equal = self.find_equal_records(zone, relative_name, record).await?;
        match equal.iter().find(|found| is_adoptable(found)) {
            Some(found) => Ok(found.id.clone().into()),
            None if equal.is_empty() => Err(nothing_found),
            // One of ours is still on its way out, and for so long in the way of another.
            None => Err(DnsError::Unconfirmed { adapter: self.name().clone(), name: record.name.clone() }),
        }
    }

    /// A record of equal content that is not on its way out. A failed one is adopted too: so it is journaled, and
    /// removed with the attempt.
    async fn find_adoptable(
        &self,
        zone: &ZoneId,
        relative_name: &str,
        record: &TxtRecord,
    ) -> Result<Option<RecordId>, DnsError> {
        let equal = self.find_equal_records(zone, relative_name, record).await?;
        Ok(equal.into_iter().find(is_adoptable).map(|found| found.id.into()))
    }

    /// All records of exactly this zone, name and content.
    async fn find_equal_records(
        &self,
        zone: &ZoneId,
        relative_name: &str,
        record: &TxtRecord,
    ) -> Result<Vec<RecordResource>, DnsError> {
        let mut filters = vec![("filter.zoneId", zone.to_string()), ("filter.type", TXT.to_owned())];
        if !relative_name.is_empty() {
            filters.push(("filter.name", relative_name.to_owned()));
        }
        let mut records: Vec<RecordResource> = fetch_all_pages(&self.client, &["records"], &filters).await?;
        records.retain(|found| found.matches(zone.as_str(), relative_name, &record.content));
        Ok(records)
    }

    async fn remove_equal_records(
        &self,
        zone: &ZoneId,
        relative_name: &str,
        record: &TxtRecord,
    ) -> Result<(), DnsError> {
        for found in self.find_equal_records(zone, relative_name, record).await? {
            self.client.delete(&["zones", zone.as_str(), "records", &found.id]).await?;
        }
        Ok(())
    }
}

fn is_adoptable(found: &RecordResource) -> bool {
    found.properties.enabled != Some(false) && found.state() != Some("DESTROYING")
}

#[async_trait]
impl DnsAdapter for Ionos {
    fn name(&self) -> &AdapterName {
        self.client.name()
    }

    async fn zone_for(&self, name: &str) -> Result<Zone, DnsError> {
        self.zones.find_zone(&self.client, name).await
    }

    fn asks_service_for_zones(&self) -> bool {
        true
    }

    async fn present(&self, zone: &ZoneId, record: &TxtRecord) -> Result<RecordId, DnsError> {
        let zone_name = self.zones.zone_name(&self.client, zone).await?;
        let relative = zone_name.as_deref().and_then(|zone_name| relative_name(&record.name, zone_name));
        let Some(relative) = relative else {
            return Err(DnsError::ZoneChanged {
                adapter: self.name().clone(),
                name: record.name.clone(),
                zone: zone.to_string(),
            });
        };
        self.client.with_retries(|| self.adopt_or_create(zone, relative, record)).await
    }

    async fn is_published(&self, zone: &ZoneId, record: &RecordId) -> Result<bool, DnsError> {
        let path = ["zones", zone.as_str(), "records", record.as_str()];
        let found = self.client.with_retries(|| self.client.get::<RecordResource>(&path, &[])).await;
        let gone = || DnsError::RecordGone { adapter: self.name().clone(), record: record.to_string() };
        let found = found.map_err(|error| match error {
            DnsError::Rejected { status: 404, .. } => gone(),
            other => other,
        })?;
        match found.state() {
            Some("PROVISIONING") => Ok(false),
            Some("FAILED") => Err(DnsError::RecordFailed { adapter: self.name().clone(), record: record.to_string() }),
            Some("DESTROYING") => Err(gone()),
            // AVAILABLE, the older CREATED and words yet unknown: the look at the name servers decides.
            _ => Ok(true),
        }
    }

    async fn remove(&self, zone: &ZoneId, id: Option<&RecordId>, record: &TxtRecord) -> Result<(), DnsError> {
        if let Some(id) = id {
            let path = ["zones", zone.as_str(), "records", id.as_str()];
            return self.client.with_retries(|| self.client.delete(&path)).await;
        }
        let zone_name = self.zones.zone_name(&self.client, zone).await?;
        let Some(relative) = zone_name.as_deref().and_then(|zone_name| relative_name(&record.name, zone_name)) else {
            tracing::warn!(adapter = %self.name(), %zone, name = record.name, "the zone is gone, and the TXT record with it");
            return Ok(());
        };
        self.client.with_retries(|| self.remove_equal_records(zone, relative, record)).await
    }

    fn credential(&self) -> Option<Credential> {
        self.credential.clone()
    }
}
