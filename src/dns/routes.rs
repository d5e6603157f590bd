//! Who publishes what: the adapters of the settings, and the routes that choose among them by the name where a record
//! goes.

mod registration;

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

pub use self::registration::ChallengeRegistration;
use crate::config::dns::{DnsSection, PropagationCheck, ZoneEntry};
use crate::dns::adapter::{DnsAdapter, Zone};
use crate::dns::adapters;
use crate::dns::alias::Aliases;
use crate::dns::error::DnsError;
use crate::dns::lookup::DnsLookup;
use crate::domain::value::adapter_name::AdapterName;
use crate::domain::value::zone_name::ZoneName;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;

/// All adapters, and which of them serves which names.
#[derive(Clone)]
pub struct DnsRoutes {
    adapters: BTreeMap<AdapterName, Arc<dyn DnsAdapter>>,
    /// The longest suffix first.
    by_suffix: Vec<ZoneEntry>,
    lookup: DnsLookup,
    /// Whether nothing is looked for in the DNS.
    skips_dns_checks: bool,
    /// Why names without a route have no adapter; nothing where `[dns.ionos]` serves them.
    unrouted: Option<&'static str>,
    randomness: Randomness,
}

/// Where a challenge record goes.
#[derive(Clone)]
pub struct RecordLocation {
    /// Who publishes it.
    pub adapter: Arc<dyn DnsAdapter>,
    /// The zone that holds it.
    pub zone: Zone,
    /// The way from the challenge's name to the record's.
    pub aliases: Aliases,
}

impl RecordLocation {
    /// The name of the record.
    pub fn name(&self) -> &str {
        self.aliases.end()
    }
}

impl DnsRoutes {
    /// The adapters and routes of the settings. `token` is that of `[dns.ionos]`. Nothing is asked over the network yet.
    ///
    /// # Errors
    /// [`DnsError::Setting`] where an adapter or a route cannot be used.
    pub fn from_config(
        section: &DnsSection,
        token: Option<&SecretString>,
        clock: &SharedClock,
        randomness: &Randomness,
    ) -> Result<Self, DnsError> {
        let lookup = DnsLookup::new(&section.propagation);
        let adapters = adapters::build_adapters(section, token, &lookup, clock, randomness)?;
        let mut routes: Vec<ZoneEntry> = Vec::new();
        for route in section.zones.iter().cloned().chain(section.delegated.zone.iter().map(delegated_route)) {
            check_route(&route, &routes, &adapters)?;
            routes.push(route);
        }
        let has_others = !routes.is_empty() || !section.adapters.is_empty();
        let unrouted = token.is_none().then_some(if has_others { ADD_ROUTE } else { ADD_ROUTE_OR_TOKEN });
        let routes = Self::new(adapters, routes, lookup, randomness.clone());
        Ok(Self {
            skips_dns_checks: matches!(section.propagation.look, PropagationCheck::Wait | PropagationCheck::Off),
            unrouted,
            ..routes
        })
    }

    /// One adapter for all names.
    pub fn with_only(adapter: Arc<dyn DnsAdapter>, lookup: DnsLookup, randomness: Randomness) -> Self {
        let everything = AdapterName::ionos();
        Self::new(BTreeMap::from([(everything, adapter)]), Vec::new(), lookup, randomness)
    }

    fn new(
        adapters: BTreeMap<AdapterName, Arc<dyn DnsAdapter>>,
        mut by_suffix: Vec<ZoneEntry>,
        lookup: DnsLookup,
        randomness: Randomness,
    ) -> Self {
        by_suffix.sort_by_key(|route| std::cmp::Reverse(route.suffix.as_str().len()));
        Self { adapters, by_suffix, lookup, skips_dns_checks: false, unrouted: None, randomness }
    }

    /// Where the record of a challenge goes: behind all aliases, into the zone that holds the name there.
    ///
    /// # Errors
    /// Where the aliases cannot be followed, or the adapter finds no zone.
    pub async fn locate(&self, challenge: &str) -> Result<RecordLocation, DnsError> {
        let aliases = match Aliases::resolve(challenge, &self.lookup, &self.randomness).await {
            Ok(aliases) => aliases,
            // Who sees nothing of the DNS, and says so by the settings, has no aliases.
            Err(error @ DnsError::NoLookup { .. }) if self.skips_dns_checks => {
                tracing::warn!(name = challenge, "taken as no alias: {error}");
                return self.locate_without_aliases(challenge, error).await;
            }
            Err(error) => return Err(error),
        };
        if let Some(wildcard) = &aliases.wildcard {
            let (name, parent, target) = (aliases.end(), &wildcard.parent, &wildcard.target);
            tracing::info!(
                name,
                "the wildcard CNAME *.{parent} -> {target} is not followed: the record itself goes before it"
            );
        }
        let adapter = Arc::clone(self.adapter_for(aliases.end())?);
        let zone = adapter.zone_for(aliases.end()).await?;
        Ok(RecordLocation { adapter, zone, aliases })
    }

    /// The adapter that published a record of the journal.
    ///
    /// # Errors
    /// [`DnsError::NoSuchAdapter`] where the settings no longer have it.
    pub fn named(&self, adapter: &str) -> Result<&Arc<dyn DnsAdapter>, DnsError> {
        let found = self.adapters.iter().find(|(name, _)| name.as_str() == adapter).map(|(_, adapter)| adapter);
        found.ok_or_else(|| DnsError::NoSuchAdapter { adapter: adapter.to_owned() })
    }

    /// What aliases and zones are looked up with.
    pub const fn lookup(&self) -> &DnsLookup {
        &self.lookup
    }

    /// All adapters, by their names.
    pub fn adapters(&self) -> impl Iterator<Item = &Arc<dyn DnsAdapter>> {
        self.adapters.values()
    }

    /// The adapter that serves the names at and below this one.
    ///
    /// # Errors
    /// [`DnsError::NoSuchAdapter`] where a route names one that is not there, [`DnsError::NoRoute`] where none leads
    /// anywhere and `[dns.ionos]` is not set up.
    pub fn adapter_for(&self, name: &str) -> Result<&Arc<dyn DnsAdapter>, DnsError> {
        let route = self.by_suffix.iter().find(|route| route.suffix.contains(name));
        match (route, self.unrouted) {
            (Some(route), _) => self.named(route.adapter.as_str()),
            (None, Some(remedy)) => Err(DnsError::NoRoute { name: name.to_owned(), remedy }),
            (None, None) => self.named(AdapterName::ionos().as_str()),
        }
    }

    /// Whether IONOS Cloud DNS lacks the token that a route leads to.
    pub fn lacks_ionos_token(&self) -> bool {
        self.unrouted.is_some() && self.by_suffix.iter().any(|route| route.adapter == AdapterName::ionos())
    }

    /// Whether no name has a DNS adapter.
    pub fn serves_nothing(&self) -> bool {
        self.unrouted.is_some() && self.by_suffix.is_empty()
    }

    async fn locate_without_aliases(&self, name: &str, unseen: DnsError) -> Result<RecordLocation, DnsError> {
        let adapter = Arc::clone(self.adapter_for(name)?);
        let Ok(zone) = adapter.zone_for(name).await else {
            return Err(unseen);
        };
        Ok(RecordLocation { adapter, zone, aliases: Aliases { chain: vec![name.to_owned()], wildcard: None } })
    }
}

/// A route must lead to an adapter, and be the only one of its suffix.
fn check_route(
    route: &ZoneEntry,
    before: &[ZoneEntry],
    adapters: &BTreeMap<AdapterName, Arc<dyn DnsAdapter>>,
) -> Result<(), DnsError> {
    let unusable = |reason| DnsError::Setting { setting: format!("dns.zone {}", route.suffix), reason };
    let adapter = &route.adapter;
    if !adapters.contains_key(adapter) {
        let known = adapters.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let later = if *adapter == AdapterName::delegated() {
            "; what [dns.delegated] says comes into force with the next start"
        } else {
            ""
        };
        return Err(unusable(format!("there is no DNS adapter {adapter}; there are {known}{later}")));
    }
    match before.iter().find(|other| other.suffix == route.suffix && other.adapter != *adapter) {
        Some(other) => Err(unusable(format!("it leads to {} and to {adapter}; leave one of the two", other.adapter))),
        None => Ok(()),
    }
}

/// What is delegated to autocertd needs no route of its own.
fn delegated_route(zone: &ZoneName) -> ZoneEntry {
    ZoneEntry { suffix: zone.clone(), adapter: AdapterName::delegated() }
}

/// Who has set up another adapter is not told of IONOS.
const ADD_ROUTE: &str = "add a [[dns.zone]] for it, then reload";
const ADD_ROUTE_OR_TOKEN: &str = "set up a DNS adapter with a [[dns.zone]] that leads to it, or, for IONOS Cloud DNS, set \
                                  dns.ionos.token_file or $IONOS_TOKEN and restart autocertd";
