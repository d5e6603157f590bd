//! The zones that the token sees: read page by page, kept for a short while, and chosen among.

use std::collections::HashSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use time::Duration;
use tokio::sync::Mutex;

use super::client::IonosClient;
use super::wire::{Page, Resource, ZoneResource};
use crate::dns::adapter::{Zone, ZoneId};
use crate::dns::error::DnsError;
use crate::domain::value::moment::Moment;
use crate::domain::value::name::normalize_common_name;
use crate::domain::value::zone_name::relative_name;

/// The list of zones, as last read.
#[derive(Default)]
pub(super) struct ZoneCache(Mutex<Option<Arc<ZoneList>>>);

impl ZoneCache {
    /// The longest enabled zone that holds `name`.
    pub(super) async fn find_zone(&self, client: &IonosClient, name: &str) -> Result<Zone, DnsError> {
        self.find_in_list(client, |list| list.zone_for(name).cloned()).await?.map_err(|list| DnsError::NoZone {
            adapter: client.name().clone(),
            name: name.to_owned(),
            zones: list.zones.len(),
        })
    }

    /// The name of a zone, enabled or not; `None` where there is no such zone.
    pub(super) async fn zone_name(&self, client: &IonosClient, id: &ZoneId) -> Result<Option<String>, DnsError> {
        Ok(self.find_in_list(client, |list| list.zone_with_id(id).map(|zone| zone.name.clone())).await?.ok())
    }

    /// What `pick` finds in the list. A miss counts only in a list that was read after the question: zones and
    /// auto-certificates are often created in the same minute. Returns the list that missed.
    async fn find_in_list<T>(
        &self,
        client: &IonosClient,
        pick: impl Fn(&ZoneList) -> Option<T>,
    ) -> Result<Result<T, Arc<ZoneList>>, DnsError> {
        let (list, just_read) = self.load_list(client, |list| list.is_fresh(client.now())).await?;
        if let Some(found) = pick(&list) {
            return Ok(Ok(found));
        }
        if just_read {
            return Ok(Err(list));
        }
        let (newer, _) = self.load_list(client, |held| !Arc::ptr_eq(held, &list)).await?;
        Ok(pick(&newer).ok_or(newer))
    }

    /// The list that is held where it is `acceptable`, else a new one; whether it is new. The lock is kept while
    /// reading, so that many askers cause one reading.
    async fn load_list(
        &self,
        client: &IonosClient,
        acceptable: impl Fn(&Arc<ZoneList>) -> bool,
    ) -> Result<(Arc<ZoneList>, bool), DnsError> {
        let mut held = self.0.lock().await;
        if let Some(list) = held.as_ref().filter(|list| acceptable(list)) {
            return Ok((Arc::clone(list), false));
        }
        let read_at = client.now();
        let resources = client.with_retries(|| fetch_all_pages(client, &["zones"], &[])).await?;
        let zones = resources.into_iter().map(ListedZone::from).collect();
        let list = Arc::new(ZoneList { read_at, zones });
        *held = Some(Arc::clone(&list));
        drop(held);
        Ok((list, true))
    }
}

/// All items of a list. A page that is shorter than the limit in force is the last one.
pub(super) async fn fetch_all_pages<P: DeserializeOwned, M: DeserializeOwned>(
    client: &IonosClient,
    path: &[&str],
    filters: &[(&str, String)],
) -> Result<Vec<Resource<P, M>>, DnsError> {
    let mut all: Vec<Resource<P, M>> = Vec::new();
    let mut seen = HashSet::new();
    let mut offset = 0;
    loop {
        let mut query = vec![("offset", offset.to_string()), ("limit", PAGE_SIZE.to_string())];
        query.extend_from_slice(filters);
        let page: Page<Resource<P, M>> = client.get(path, &query).await?;
        let (before, returned) = (all.len(), page.items.len());
        all.extend(page.items.into_iter().filter(|item| seen.insert(item.id.clone())));
        offset += returned;
        // A server that ignores the offset must not keep us here for ever.
        if returned < page.limit.unwrap_or(PAGE_SIZE).min(PAGE_SIZE) || all.len() == before {
            return Ok(all);
        }
    }
}

struct ZoneList {
    read_at: Moment,
    zones: Vec<ListedZone>,
}

struct ListedZone {
    zone: Zone,
    is_usable: bool,
}

impl ZoneList {
    fn is_fresh(&self, now: Moment) -> bool {
        (Duration::ZERO..CACHE_TTL).contains(&(now - self.read_at))
    }

    fn zone_for(&self, name: &str) -> Option<&Zone> {
        let usable = self.zones.iter().filter(|listed| listed.is_usable).map(|listed| &listed.zone);
        usable.filter(|zone| relative_name(name, &zone.name).is_some()).max_by_key(|zone| zone.name.len())
    }

    fn zone_with_id(&self, id: &ZoneId) -> Option<&Zone> {
        self.zones.iter().map(|listed| &listed.zone).find(|zone| zone.id == *id)
    }
}

impl From<ZoneResource> for ListedZone {
    fn from(resource: ZoneResource) -> Self {
        let (state, nameservers) =
            resource.metadata.map_or((None, None), |metadata| (metadata.state, metadata.nameservers));
        Self {
            is_usable: resource.properties.enabled.unwrap_or(true) && state.as_deref() != Some("DESTROYING"),
            zone: Zone {
                id: resource.id.into(),
                name: normalize_common_name(resource.properties.zone_name.trim_end_matches('.')),
                nameservers: nameservers.unwrap_or_default(),
            },
        }
    }
}

/// The most that the API gives at once.
const PAGE_SIZE: usize = 1_000;
const CACHE_TTL: Duration = Duration::minutes(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn list(zones: &[(&str, bool)]) -> ZoneList {
        let zones = zones
            .iter()
            .map(|(name, enabled)| {
                ListedZone::from(
                    serde_json::from_value::<ZoneResource>(serde_json::json!({
                        "id": name, "properties": {"zoneName": name, "enabled": enabled},
                    }))
                    .unwrap(),
                )
            })
            .collect();
        ZoneList { read_at: Moment::from_micros(0), zones }
    }

    #[test]
    fn the_longest_enabled_zone_on_label_boundaries_is_chosen() {
        let list = list(&[
            ("myexample.com", true),
            ("example.com", true),
            ("Sub.Example.com.", true),
            ("off.example.com", false),
            ("com.example", true),
        ]);
        let serving = |name: &str| list.zone_for(name).map(|zone| zone.name.as_str());
        assert_eq!(serving("_acme-challenge.example.com"), Some("example.com"));
        assert_eq!(serving("example.com"), Some("example.com"));
        assert_eq!(serving("_acme-challenge.a.b.sub.example.com"), Some("sub.example.com"));
        assert_eq!(serving("_acme-challenge.off.example.com"), Some("example.com"));
        assert_eq!(serving("_acme-challenge.notmyexample.com"), None);
    }

    #[test]
    fn a_list_from_the_future_is_not_young() {
        let list = list(&[]);
        assert!(list.is_fresh(Moment::from_micros(59_000_000)));
        assert!(!list.is_fresh(Moment::from_micros(60_000_000)));
        assert!(!list.is_fresh(Moment::from_micros(-1)));
    }
}
