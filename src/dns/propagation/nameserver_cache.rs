//! The authoritative name servers of zones, kept for a short while: all names of an order share them, and the bounds on how
//! many questions each server gets at a time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::nameserver::Nameserver;
use crate::dns::adapter::Zone;
use crate::dns::error::DnsError;
use crate::dns::lookup::{DNS_PORT, DnsLookup};
use crate::dns::question::QueryError;

/// The name servers of the zones that were asked for lately.
#[derive(Debug, Default)]
pub(super) struct NameserverCache(Mutex<HashMap<String, CachedZone>>);

/// What was found; shared while it is looked for.
type SharedLookup = Arc<OnceCell<Result<Arc<[Nameserver]>, QueryError>>>;

#[derive(Debug)]
struct CachedZone {
    looked_up_at: Instant,
    servers: SharedLookup,
}

impl NameserverCache {
    /// The authoritative name servers of a zone. Many askers cause one look-up.
    pub(super) async fn servers(&self, zone: &Zone, lookup: &DnsLookup) -> Result<Arc<[Nameserver]>, DnsError> {
        let found = self.entry(&zone.name);
        let servers = found.get_or_init(|| find_servers(zone, lookup)).await.clone();
        servers.map_err(|source| DnsError::NoNameServers { zone: zone.name.clone(), source })
    }

    /// Where the servers of this zone are kept; empty where they are to be looked for anew.
    fn entry(&self, zone: &str) -> SharedLookup {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, kept| kept.looked_up_at.elapsed() < kept.ttl());
        let kept = all
            .entry(zone.to_owned())
            .or_insert_with(|| CachedZone { looked_up_at: Instant::now(), servers: SharedLookup::default() });
        Arc::clone(&kept.servers)
    }
}

impl CachedZone {
    fn ttl(&self) -> Duration {
        match self.servers.get() {
            Some(Ok(servers)) if servers.iter().all(Nameserver::has_address) => CACHE_TTL,
            None => CACHE_TTL,
            Some(_) => FAULT_CACHE_TTL,
        }
    }
}

/// Those of the NS records, or where they cannot be found, as in a zone that is not delegated yet, those that the DNS
/// service names.
async fn find_servers(zone: &Zone, lookup: &DnsLookup) -> Result<Arc<[Nameserver]>, QueryError> {
    let names = match lookup.ns(&zone.name).await {
        // None must never pass for all of them.
        Ok(names) if !names.is_empty() => names,
        _ if !zone.nameservers.is_empty() => {
            tracing::debug!(zone = zone.name, "no NS records found; asking the servers that the service names");
            zone.nameservers.clone()
        }
        Ok(_) => return Err("the resolver's answer names none".into()),
        Err(DnsError::NoNameServers { source, .. }) => return Err(source),
        Err(error) => return Err(QueryError::new(error.to_string())),
    };
    let servers = names.into_iter().map(async |name| {
        let addresses = lookup.addresses(&name).await.unwrap_or_else(|error| {
            tracing::debug!(name, %error, "no address found");
            Vec::new()
        });
        Nameserver::named(name, addresses.into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT)))
    });
    Ok(join_all(servers).await.into())
}

const CACHE_TTL: Duration = Duration::from_mins(1);
/// Long enough for all that asked together.
const FAULT_CACHE_TTL: Duration = Duration::from_secs(1);
