//! The wait until what was published is visible: first at the DNS service, then on every authoritative name server of
//! the zone, asked directly. A CA that looks from several places may ask any of them. Settings let resolvers be looked at
//! instead, or nobody.

mod expected_values;
mod nameserver;
mod nameserver_cache;
mod resolver;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use self::expected_values::ExpectedValues;
use self::nameserver::Nameserver;
use self::nameserver_cache::NameserverCache;
use self::resolver::LaggingResolver;
use crate::config::dns::{PropagationCheck, PropagationSection};
use crate::config::time_span::TimeSpan;
use crate::dns::adapter::{DnsAdapter, RecordId, Zone, ZoneId};
use crate::dns::error::{DnsError, LaggingNameserver};
use crate::dns::lookup::DnsLookup;

/// How and where to wait. The waits are plain futures: dropping one ends it.
#[derive(Clone, Debug)]
pub struct Propagation {
    section: PropagationSection,
    lookup: DnsLookup,
    /// `servers` of the settings.
    servers: Arc<[Nameserver]>,
    nameserver_cache: Arc<NameserverCache>,
}

impl Propagation {
    /// A wait with these settings.
    pub fn new(section: &PropagationSection) -> Self {
        Self {
            section: section.clone(),
            lookup: DnsLookup::new(section),
            servers: section.servers.iter().copied().map(Nameserver::from_address).collect(),
            nameserver_cache: Arc::default(),
        }
    }

    /// Waits until the service has published the record.
    ///
    /// # Errors
    /// [`DnsError::Unpublished`] when the time is up, or what the adapter reports.
    pub async fn await_published(
        &self,
        adapter: &dyn DnsAdapter,
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
                let evidence = ExpectedValues::for_authority(name, values).map_err(unknown)?;
                self.await_nameservers(zone, name, &evidence).await
            }
            PropagationCheck::Resolvers => {
                let evidence = ExpectedValues::for_resolver(name, values).map_err(unknown)?;
                self.await_resolvers(name, &evidence).await
            }
        }
    }

    /// One look where the settings say; gives those that do not show all `values` as TXT records at `name`. Where nobody
    /// is to be looked at, nobody lags.
    ///
    /// # Errors
    /// [`DnsError::NoNameServers`].
    pub async fn find_lagging(
        &self,
        zone: &Zone,
        name: &str,
        values: &[String],
    ) -> Result<Vec<LaggingNameserver>, DnsError> {
        let unknown = |source| DnsError::NoLookup { what: "the TXT records", name: name.to_owned(), source };
        match self.section.look {
            PropagationCheck::Off | PropagationCheck::Wait => Ok(Vec::new()),
            PropagationCheck::Authoritative => {
                let evidence = ExpectedValues::for_authority(name, values).map_err(unknown)?;
                self.check_nameservers(zone, &evidence, &mut HashSet::new()).await
            }
            PropagationCheck::Resolvers => {
                let evidence = ExpectedValues::for_resolver(name, values).map_err(unknown)?;
                let asked = self.lookup.resolvers().await.into_iter().map(LaggingResolver::for_resolver).collect();
                Ok(resolver::check_due(asked, &evidence).await.iter().map(LaggingResolver::to_lagging).collect())
            }
        }
    }

    async fn await_nameservers(&self, zone: &Zone, name: &str, evidence: &ExpectedValues) -> Result<(), DnsError> {
        let mut looks = CheckPauses::new(&self.section);
        let mut good = HashSet::new();
        loop {
            let fault = match self.check_nameservers(zone, evidence, &mut good).await {
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
    async fn check_nameservers(
        &self,
        zone: &Zone,
        evidence: &ExpectedValues,
        good: &mut HashSet<String>,
    ) -> Result<Vec<LaggingNameserver>, DnsError> {
        let patience = self.section.timeout.duration().min(ANSWER_TIMEOUT);
        let all = if self.servers.is_empty() {
            self.nameserver_cache.servers(zone, &self.lookup).await?
        } else {
            Arc::clone(&self.servers)
        };
        let asked: Vec<&Nameserver> = all.iter().filter(|server| !good.contains(&server.identity())).collect();
        let lags = join_all(asked.iter().map(|server| server.check(evidence, patience))).await;
        good.extend(asked.iter().zip(&lags).filter(|(_, lag)| lag.is_none()).map(|(server, _)| server.identity()));
        Ok(lags.into_iter().flatten().collect())
    }

    /// The first look comes after a pause: a resolver that is asked too early remembers that there is nothing.
    async fn await_resolvers(&self, name: &str, evidence: &ExpectedValues) -> Result<(), DnsError> {
        let mut looks = CheckPauses::new(&self.section);
        let (begun, usual_end) = (Instant::now(), looks.deadline);
        let mut waiting: Vec<LaggingResolver> =
            self.lookup.resolvers().await.into_iter().map(LaggingResolver::for_resolver).collect();
        loop {
            resolver::sleep_until_due(&waiting, looks.next_pause(), looks.deadline).await;
            waiting = resolver::check_due(waiting, evidence).await;
            if waiting.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if now < usual_end {
                looks.deadline =
                    resolver::latest_cached_until(&waiting).map_or(usual_end, |memory| memory.max(usual_end));
            }
            if now >= looks.deadline {
                let waited = self.section.timeout.max(TimeSpan::seconds(begun.elapsed().as_secs()));
                let lagging = waiting.iter().map(LaggingResolver::to_lagging).collect();
                return Err(DnsError::NotVisible { name: name.to_owned(), waited, lagging });
            }
            tracing::debug!(name, lagging = waiting.len(), "looking at resolvers again");
        }
    }
}

/// The pauses between looks, growing, until the time is up.
struct CheckPauses {
    pauses: <ExponentialBuilder as BackoffBuilder>::Backoff,
    max_pause: Duration,
    deadline: Instant,
}

impl CheckPauses {
    fn new(section: &PropagationSection) -> Self {
        let (first, longest) = (section.first_pause.duration().max(MIN_PAUSE), section.longest_pause.duration());
        let max_pause = longest.max(first);
        let pauses =
            ExponentialBuilder::default().with_min_delay(first).with_max_delay(max_pause).without_max_times().build();
        Self { pauses, max_pause, deadline: Instant::now() + section.timeout.duration() }
    }

    /// Pauses before the next look; `false` where the time is up. The last pause is cut, for a last look at the end.
    async fn pause(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(self.next_pause().min(left)).await;
        true
    }

    /// The next pause.
    fn next_pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.max_pause)
    }
}

/// Settings of nothing must not make a busy loop.
const MIN_PAUSE: Duration = TimeSpan::millis(1).duration();
/// How long one name server may take over one transport.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
