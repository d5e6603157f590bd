//! The zones that the token sees: read page by page, kept for a short while, and chosen among.

use std::collections::HashSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use time::Duration;
use tokio::sync::Mutex;

use super::client::Client;
use super::wire::{Page, Resource, ZoneResource};
use crate::dns::adapter::{Zone, ZoneId};
use crate::dns::error::DnsError;
use crate::domain::moment::Moment;
use crate::domain::name::filter_form;
use crate::domain::zone_name::relative_name;

/// The list of zones, as last read.
#[derive(Default)]
pub(super) struct ZoneCache(Mutex<Option<Arc<List>>>);

impl ZoneCache {
    /// The longest enabled zone that holds `name`.
    pub(super) async fn serving(&self, client: &Client, name: &str) -> Result<Zone, DnsError> {
        self.find(client, |list| list.serving(name).cloned()).await?.map_err(|list| DnsError::NoZone {
            adapter: client.name().clone(),
            name: name.to_owned(),
            zones: list.zones.len(),
        })
    }

    /// The name of a zone, enabled or not; `None` where there is no such zone.
    pub(super) async fn name_of(&self, client: &Client, id: &ZoneId) -> Result<Option<String>, DnsError> {
        Ok(self.find(client, |list| list.with_id(id).map(|zone| zone.name.clone())).await?.ok())
    }

    /// What `pick` finds in the list. A miss counts only in a list that was read after the question: zones and
    /// auto-certificates are often created in the same minute. Returns the list that missed.
    async fn find<T>(
        &self,
        client: &Client,
        pick: impl Fn(&List) -> Option<T>,
    ) -> Result<Result<T, Arc<List>>, DnsError> {
        let (list, just_read) = self.list(client, |list| list.is_young(client.now())).await?;
        if let Some(found) = pick(&list) {
            return Ok(Ok(found));
        }
        if just_read {
            return Ok(Err(list));
        }
        let (newer, _) = self.list(client, |held| !Arc::ptr_eq(held, &list)).await?;
        Ok(pick(&newer).ok_or(newer))
    }

    /// The list that is held where it is `acceptable`, else a new one; whether it is new. The lock is kept while
    /// reading, so that many askers cause one reading.
    async fn list(
        &self,
        client: &Client,
        acceptable: impl Fn(&Arc<List>) -> bool,
    ) -> Result<(Arc<List>, bool), DnsError> {
        let mut held = self.0.lock().await;
        if let Some(list) = held.as_ref().filter(|list| acceptable(list)) {
            return Ok((Arc::clone(list), false));
        }
        let read_at = client.now();
        let resources = client.retried(|| all_pages(client, &["zones"], &[])).await?;
        let zones = resources.into_iter().map(ListedZone::from).collect();
        let list = Arc::new(List { read_at, zones });
        *held = Some(Arc::clone(&list));
        drop(held);
        Ok((list, true))
    }
}

/// All items of a list. A page that is shorter than the limit in force is the last one.
pub(super) async fn all_pages<P: DeserializeOwned, M: DeserializeOwned>(
    client: &Client,
    path: &[&str],
    filters: &[(&str, String)],
) -> Result<Vec<Resource<P, M>>, DnsError> {
    let mut all: Vec<Resource<P, M>> = Vec::new();
    let mut seen = HashSet::new();
    let mut offset = 0;
    loop {
        let mut query = vec![("offset", offset.to_string()), ("limit", PAGE.to_string())];
        query.extend_from_slice(filters);
        let page: Page<Resource<P, M>> = client.get(path, &query).await?;
        let (before, returned) = (all.len(), page.items.len());
        all.extend(page.items.into_iter().filter(|item| seen.insert(item.id.clone())));
        offset += returned;
        // A server that ignores the offset must not keep us here for ever.
        if returned < page.limit.unwrap_or(PAGE).min(PAGE) || all.len() == before {
            return Ok(all);
        }
    }
}

struct List {
    read_at: Moment,
    zones: Vec<ListedZone>,
}

struct ListedZone {
    zone: Zone,
    usable: bool,
}

impl List {
    fn is_young(&self, now: Moment) -> bool {
        (Duration::ZERO..KEPT).contains(&(now - self.read_at))
    }

    fn serving(&self, name: &str) -> Option<&Zone> {
        let usable = self.zones.iter().filter(|listed| listed.usable).map(|listed| &listed.zone);
        usable.filter(|zone| relative_name(name, &zone.name).is_some()).max_by_key(|zone| zone.name.len())
    }

    fn with_id(&self, id: &ZoneId) -> Option<&Zone> {
        self.zones.iter().map(|listed| &listed.zone).find(|zone| zone.id == *id)
    }
}

impl From<ZoneResource> for ListedZone {
    fn from(resource: ZoneResource) -> Self {
        let (state, nameservers) =
            resource.metadata.map_or((None, None), |metadata| (metadata.state, metadata.nameservers));
        Self {
            usable: resource.properties.enabled.unwrap_or(true) && state.as_deref() != Some("DESTROYING"),
            zone: Zone {
                id: resource.id.into(),
                name: filter_form(resource.properties.zone_name.trim_end_matches('.')),
                nameservers: nameservers.unwrap_or_default(),
            },
        }
    }
}

/// The most that the API gives at once.
const PAGE: usize = 1_000;
const KEPT: Duration = Duration::minutes(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn list(zones: &[(&str, bool)]) -> List {
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
        List { read_at: Moment::from_micros(0), zones }
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
        let serving = |name: &str| list.serving(name).map(|zone| zone.name.as_str());
        assert_eq!(serving("_acme-challenge.example.com"), Some("example.com"));
        assert_eq!(serving("example.com"), Some("example.com"));
        assert_eq!(serving("_acme-challenge.a.b.sub.example.com"), Some("sub.example.com"));
        assert_eq!(serving("_acme-challenge.off.example.com"), Some("example.com"));
        assert_eq!(serving("_acme-challenge.notmyexample.com"), None);
    }

    #[test]
    fn a_list_from_the_future_is_not_young() {
        let list = list(&[]);
        assert!(list.is_young(Moment::from_micros(59_000_000)));
        assert!(!list.is_young(Moment::from_micros(60_000_000)));
        assert!(!list.is_young(Moment::from_micros(-1)));
    }
}
