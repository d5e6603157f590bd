//! The wait until what was published is visible: first at the DNS service, then on every authoritative name server of
//! the zone, asked directly. A CA that looks from several places may ask any of them. Settings let resolvers be looked at
//! instead, or nobody.

mod evidence;
mod nameserver;
mod resolver;
mod zones;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use self::evidence::Evidence;
use self::nameserver::Nameserver;
use self::resolver::LaggingResolver;
use self::zones::NameserverCache;
use crate::config::dns::{PropagationCheck, PropagationSection};
use crate::config::span::Span;
use crate::dns::adapter::{Adapter, RecordId, Zone, ZoneId};
use crate::dns::error::{DnsError, LaggingNameserver};
use crate::dns::lookup::Lookup;

/// How and where to wait. The waits are plain futures: dropping one ends it.
#[derive(Clone, Debug)]
pub struct Propagation {
    section: PropagationSection,
    lookup: Lookup,
    /// `servers` of the settings.
    servers: Arc<[Nameserver]>,
    zones: Arc<NameserverCache>,
}

impl Propagation {
    /// A wait with these settings.
    pub fn new(section: &PropagationSection) -> Self {
        Self {
            section: section.clone(),
            lookup: Lookup::new(section),
            servers: section.servers.iter().copied().map(Nameserver::at).collect(),
            zones: Arc::default(),
        }
    }

    /// Waits until the service has published the record.
    ///
    /// # Errors
    /// [`DnsError::Unpublished`] when the time is up, or what the adapter reports.
    pub async fn await_published(
        &self,
        adapter: &dyn Adapter,
        zone: &ZoneId,
        record: &RecordId,
    ) -> Result<(), DnsError> {
        let mut looks = CheckPauses::new(&self.section);
        while !adapter.is_published(zone, record).await? {
            if !looks.pause().await {
                let (adapter, record, waited) = (adapter.name().clone(), record.to_string(), self.section.timeout);
                return Err(DnsError::Unpublished { adapter, record, waited });
            }
        }
        Ok(())
    }

    /// Waits until all `values` are seen as TXT records at `name` wherever the settings say.
    ///
    /// A name server counts as good where one of its addresses shows them all and none answers otherwise. One that was
    /// good is not asked again.
    ///
    /// # Errors
    /// [`DnsError::NotVisible`] when the time is up, or [`DnsError::NoNameServers`].
    pub async fn await_visible(&self, zone: &Zone, name: &str, values: &[String]) -> Result<(), DnsError> {
        let unknown = |source| DnsError::NoLookup { what: "the TXT records", name: name.to_owned(), source };
        match self.section.look {
            PropagationCheck::Off => Ok(()),
            PropagationCheck::Wait => {
                sleep(self.section.wait.duration()).await;
                Ok(())
            }
            PropagationCheck::Authoritative => {
                let evidence = Evidence::at_authority(name, values).map_err(unknown)?;
                self.await_nameservers(zone, name, &evidence).await
            }
            PropagationCheck::Resolvers => {
                let evidence = Evidence::at_resolver(name, values).map_err(unknown)?;
                self.await_resolvers(name, &evidence).await
            }
        }
    }

    /// One look where the settings say; gives those that do not show all `values` as TXT records at `name`. Where nobody
    /// is to be looked at, nobody lags.
    ///
    /// # Errors
    /// [`DnsError::NoNameServers`].
    pub async fn lagging(&self, zone: &Zone, name: &str, values: &[String]) -> Result<Vec<LaggingNameserver>, DnsError> {
        let unknown = |source| DnsError::NoLookup { what: "the TXT records", name: name.to_owned(), source };
        match self.section.look {
            PropagationCheck::Off | PropagationCheck::Wait => Ok(Vec::new()),
            PropagationCheck::Authoritative => {
                let evidence = Evidence::at_authority(name, values).map_err(unknown)?;
                self.look(zone, &evidence, &mut HashSet::new()).await
            }
            PropagationCheck::Resolvers => {
                let evidence = Evidence::at_resolver(name, values).map_err(unknown)?;
                let asked = self.lookup.resolvers().await.into_iter().map(LaggingResolver::for_resolver).collect();
                Ok(resolver::look(asked, &evidence).await.iter().map(LaggingResolver::lag).collect())
            }
        }
    }

    async fn await_nameservers(&self, zone: &Zone, name: &str, evidence: &Evidence) -> Result<(), DnsError> {
        let mut looks = CheckPauses::new(&self.section);
        let mut good = HashSet::new();
        loop {
            let fault = match self.look(zone, evidence, &mut good).await {
                Ok(lagging) if lagging.is_empty() => return Ok(()),
                Ok(lagging) => DnsError::NotVisible { name: name.to_owned(), waited: self.section.timeout, lagging },
                Err(error) => error,
            };
            if !looks.pause().await {
                return Err(fault);
            }
            tracing::debug!(name, %fault, "looking again");
        }
    }

    /// One look at all name servers that are not `good` yet; returns those that lag.
    async fn look(
        &self,
        zone: &Zone,
        evidence: &Evidence,
        good: &mut HashSet<String>,
    ) -> Result<Vec<LaggingNameserver>, DnsError> {
        let patience = self.section.timeout.duration().min(LONGEST_ANSWER);
        let all = if self.servers.is_empty() {
            self.zones.servers(zone, &self.lookup).await?
        } else {
            Arc::clone(&self.servers)
        };
        let asked: Vec<&Nameserver> = all.iter().filter(|server| !good.contains(&server.key())).collect();
        let lags = join_all(asked.iter().map(|server| server.lag(evidence, patience))).await;
        good.extend(asked.iter().zip(&lags).filter(|(_, lag)| lag.is_none()).map(|(server, _)| server.key()));
        Ok(lags.into_iter().flatten().collect())
    }

    /// The first look comes after a pause: a resolver that is asked too early remembers that there is nothing.
    async fn await_resolvers(&self, name: &str, evidence: &Evidence) -> Result<(), DnsError> {
        let mut looks = CheckPauses::new(&self.section);
        let (begun, usual_end) = (Instant::now(), looks.end);
        let mut waiting: Vec<LaggingResolver> = self.lookup.resolvers().await.into_iter().map(LaggingResolver::for_resolver).collect();
        loop {
            resolver::rest(&waiting, looks.next(), looks.end).await;
            waiting = resolver::look(waiting, evidence).await;
            if waiting.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if now < usual_end {
                looks.end = resolver::last_memory(&waiting).map_or(usual_end, |memory| memory.max(usual_end));
            }
            if now >= looks.end {
                let waited = self.section.timeout.max(Span::seconds(begun.elapsed().as_secs()));
                let lagging = waiting.iter().map(LaggingResolver::lag).collect();
                return Err(DnsError::NotVisible { name: name.to_owned(), waited, lagging });
            }
            tracing::debug!(name, lagging = waiting.len(), "looking at resolvers again");
        }
    }
}

/// The pauses between looks, growing, until the time is up.
struct CheckPauses {
    pauses: <ExponentialBuilder as BackoffBuilder>::Backoff,
    longest: Duration,
    end: Instant,
}

impl CheckPauses {
    fn new(section: &PropagationSection) -> Self {
        let (first, longest) = (section.first_pause.duration().max(SHORTEST_PAUSE), section.longest_pause.duration());
        let longest = longest.max(first);
        let pauses =
            ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest).without_max_times().build();
        Self { pauses, longest, end: Instant::now() + section.timeout.duration() }
    }

    /// Pauses before the next look; `false` where the time is up. The last pause is cut, for a last look at the end.
    async fn pause(&mut self) -> bool {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(self.next().min(left)).await;
        true
    }

    /// The next pause.
    fn next(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.longest)
    }
}

/// Settings of nothing must not make a busy loop.
const SHORTEST_PAUSE: Duration = Span::millis(1).duration();
/// How long one name server may take over one transport.
const LONGEST_ANSWER: Duration = Duration::from_secs(3);
