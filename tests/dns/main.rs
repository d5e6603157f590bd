//! The DNS adapters and the wait for name servers, over real HTTP and real DNS packets against local servers, and with real
//! programs.

#![expect(clippy::unwrap_used, reason = "tests end where something unforeseen happens")]

mod acme_dns;
mod alias;
mod caa;
mod cloud_dns;
mod delegated;
mod exec;
mod faults;
mod log;
mod lookup;
mod propagation;
mod records;
mod resolvers;
mod rfc2136;
mod zones;

use std::sync::Arc;

use autocertd::config::dns::IonosSection;
use autocertd::config::time_span::TimeSpan;
use autocertd::dns::DnsError;
use autocertd::dns::adapter::{DnsAdapter, RecordId, TxtRecord, Zone, ZoneId};
use autocertd::dns::adapters::ionos::Ionos;
use autocertd::dns::routes::DnsRoutes;
use autocertd::domain::value::adapter_name::AdapterName;
use autocertd::domain::value::moment::Moment;
use autocertd::runtime::clock::{ManualClock, SharedClock};
use autocertd::runtime::randomness::Randomness;
use autocertd_support::cloud_dns::CloudDns;
use secrecy::SecretString;

/// A local Cloud DNS and an adapter that speaks to it, with a clock that stands still.
struct Bench {
    cloud: CloudDns,
    clock: Arc<ManualClock>,
    adapter: Ionos,
}

impl Bench {
    async fn start() -> Self {
        Self::with_timeout(TimeSpan::seconds(30)).await
    }

    async fn with_timeout(timeout: TimeSpan) -> Self {
        log::Log::shared();
        let cloud = CloudDns::start().await.unwrap();
        let clock = Arc::new(ManualClock::starting_at(START));
        let adapter = adapter(&cloud, cloud.token(), timeout, &clock);
        Self { cloud, clock, adapter }
    }

    /// Presents a value at a name, in the zone that serves it.
    async fn present(&self, name: &str, content: &str) -> (Zone, RecordId) {
        let zone = self.adapter.zone_for(name).await.unwrap();
        let record = self.adapter.present(&zone.id, &txt(name, content)).await.unwrap();
        (zone, record)
    }

    /// How many requests of this kind the API has seen.
    fn count(&self, method: &str, path: &str) -> usize {
        self.cloud.requests().iter().filter(|request| request.method == method && request.path == path).count()
    }

    /// The contents of all TXT records, sorted.
    fn contents(&self) -> Vec<String> {
        let mut contents: Vec<String> = self.cloud.txt_records().into_iter().map(|record| record.content).collect();
        contents.sort();
        contents
    }
}

fn adapter(cloud: &CloudDns, token: &str, timeout: TimeSpan, clock: &Arc<ManualClock>) -> Ionos {
    let section = IonosSection { endpoint: cloud.http_url(), timeout, ..IonosSection::default() };
    Ionos::new(
        AdapterName::ionos(),
        &section,
        Some(&SecretString::from(token)),
        clock.clone(),
        Randomness::from_seed(1),
    )
    .unwrap()
}

/// The adapters and routes of a `[dns]` section, with a clock that stands still.
fn routes(section: &str) -> Result<DnsRoutes, DnsError> {
    log::Log::shared();
    let clock: SharedClock = Arc::new(ManualClock::starting_at(START));
    DnsRoutes::from_config(&toml::from_str(section).unwrap(), None, &clock, &Randomness::from_seed(1))
}

/// The adapter `other` of a `[dns]` section.
fn other(section: &str) -> Arc<dyn DnsAdapter> {
    Arc::clone(routes(section).unwrap().named("other").unwrap())
}

fn txt(name: &str, content: &str) -> TxtRecord {
    TxtRecord { name: name.to_owned(), content: content.to_owned() }
}

fn zone_id(id: &str) -> ZoneId {
    id.to_owned().into()
}

/// 2023-11-14T22:13:20Z, a Tuesday.
const START: Moment = Moment::from_micros(1_700_000_000_000_000);
