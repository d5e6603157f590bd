//! The wait until what was published is visible: first at the DNS service, then on every authoritative name server of
//! the zone, asked directly. A CA that looks from several places may ask any of them.

mod nameserver;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::join_all;
use tokio::time::Instant;

use self::nameserver::{Nameserver, of_zone};
use crate::config::dns::PropagationSection;
use crate::config::span::Span;
use crate::dns::adapter::{Adapter, RecordId, Zone, ZoneId};
use crate::dns::error::{DnsError, Lagging};

/// How and where to wait. The waits are plain futures: dropping one ends it.
#[derive(Clone, Debug)]
pub struct Propagation {
    section: PropagationSection,
}

impl Propagation {
    /// A wait with these settings.
    pub fn new(section: &PropagationSection) -> Self {
        Self { section: section.clone() }
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
        let mut looks = Looks::new(&self.section);
        while !adapter.is_published(zone, record).await? {
            if !looks.pause().await {
                let (adapter, record, waited) = (adapter.name().clone(), record.to_string(), self.section.timeout);
                return Err(DnsError::Unpublished { adapter, record, waited });
            }
        }
        Ok(())
    }

    /// Waits until all name servers of `zone` show all `values` as TXT records at `name`.
    ///
    /// A name server counts as good where one of its addresses shows them all and none answers otherwise.
    ///
    /// # Errors
    /// [`DnsError::NotVisible`] when the time is up, or [`DnsError::NoNameServers`].
    pub async fn await_visible(&self, zone: &Zone, name: &str, values: &[String]) -> Result<(), DnsError> {
        let mut looks = Looks::new(&self.section);
        loop {
            let fault = match self.lagging(zone, name, values).await {
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

    /// One look at all name servers of `zone`; gives those that do not show all `values` as TXT records at `name`.
    ///
    /// # Errors
    /// [`DnsError::NoNameServers`].
    pub async fn lagging(&self, zone: &Zone, name: &str, values: &[String]) -> Result<Vec<Lagging>, DnsError> {
        let patience = self.section.timeout.duration().min(LONGEST_ANSWER);
        let servers = if self.section.servers.is_empty() {
            of_zone(zone, &self.section.resolvers, patience).await?
        } else {
            self.section.servers.iter().copied().map(Nameserver::at).collect()
        };
        let looks = servers.iter().map(|server| server.lag(name, values, patience));
        Ok(join_all(looks).await.into_iter().flatten().collect())
    }
}

/// The pauses between looks, growing, until the time is up.
struct Looks {
    pauses: <ExponentialBuilder as BackoffBuilder>::Backoff,
    longest: Duration,
    end: Instant,
}

impl Looks {
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
        tokio::time::sleep(self.pauses.next().unwrap_or(self.longest).min(left)).await;
        true
    }
}

/// Settings of nothing must not make a busy loop.
const SHORTEST_PAUSE: Duration = Span::millis(1).duration();
/// How long one name server may take over one transport.
const LONGEST_ANSWER: Duration = Duration::from_secs(3);
