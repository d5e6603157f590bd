//! The doctor: looks at every link of the chain that leads to a certificate, without an order. A file for each link, each
//! look an answer of findings; one that needs a link which is broken says no more than that. All that it writes is a canary
//! record, which the journal names first and which goes again at once.

mod adapter;
mod caa;
mod canary;
mod clock;
mod delegation;
mod dnssec;
mod provider;
mod round;
mod secrets;
mod set_up;
mod way;

pub use round::Round;
pub use secrets::secrets;
pub use set_up::{Place, set_up};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::acme::AcmeClient;
use crate::config::dns::PropagationSection;
use crate::dns::caa::CaaLookup;
use crate::dns::lookup::Lookup;
use crate::dns::propagation::Propagation;
use crate::dns::routes::Routes;
use crate::doctor::canary::Written;
use crate::doctor::provider::Seen;
use crate::doctor::way::Way;
use crate::domain::finding::{Finding, Subject};
use crate::domain::standing::DnsPersist;
use crate::runtime::clock::SharedClock;
use crate::runtime::randomness::Randomness;
use crate::store::Store;

/// Looks at what a certificate takes.
pub struct Doctor {
    /// Where accounts and the journal are; without it there is neither account nor canary.
    pub store: Option<Store>,
    /// Speaks to CAs.
    pub acme: AcmeClient,
    /// Who publishes records.
    pub dns: Routes,
    /// Whether names are proven by standing records.
    pub persist: DnsPersist,
    /// How to look into the DNS.
    pub section: PropagationSection,
    /// Tells the time.
    pub clock: SharedClock,
    /// Makes canaries that nobody can guess.
    pub randomness: Randomness,
}

/// How to look.
pub struct Manner<'a> {
    /// Where canary records are written.
    pub canaries: Canaries,
    /// Ends all waits once it is cancelled; what was written is removed all the same.
    pub stopping: &'a CancellationToken,
    /// Is told what is being looked at, where that takes a while.
    pub progress: &'a (dyn Fn(String) + Send + Sync),
}

/// Where canary records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canaries {
    /// Nowhere.
    Nowhere,
    /// For every name.
    EveryName,
    /// For one name of each zone, one after the other, and none any more once one was not seen.
    EveryZone,
}

/// The ways in which one round looks into the DNS, so that its looks share what they find.
struct View {
    lookup: Lookup,
    caa: CaaLookup,
    propagation: Propagation,
}

impl Doctor {
    /// Looks at the providers, DNS adapters and names of a round; the findings come in this order.
    pub async fn examine(&self, round: &Round, manner: &Manner<'_>) -> Vec<Finding> {
        let view = View {
            lookup: Lookup::new(&self.section),
            caa: CaaLookup::new(&self.section),
            propagation: Propagation::new(&self.section),
        };
        let providers: Vec<_> = round
            .providers
            .iter()
            .map(|examined| {
                (manner.progress)(format!("asking {}", examined.provider.server));
                self.provider(examined)
            })
            .collect();
        let Some(seen) = manner.stopping.run_until_cancelled(join_all(providers)).await else { return Vec::new() };
        let ways: Vec<_> = round.names.iter().map(|patient| self.way(&view, patient)).collect();
        let ways = stream::iter(ways).buffered(AT_ONCE).collect::<Vec<Way>>();
        let ways = manner.stopping.run_until_cancelled(ways).await.unwrap_or_default();
        let mut findings: Vec<Finding> = clock::clock(&seen).into_iter().collect();
        findings.extend(seen.iter().flat_map(|seen| seen.findings.clone()));
        findings.extend(self.adapters(&ways));
        let written = Mutex::new(Written::default());
        let names: Vec<_> = ways.iter().map(|way| self.name(&view, way, &seen, (manner, &written))).collect();
        let of_names: Vec<Vec<Finding>> = stream::iter(names).buffered(AT_ONCE).collect().await;
        findings.extend(of_names.into_iter().flatten());
        findings
    }

    /// What there is to say of one name.
    async fn name(
        &self,
        view: &View,
        way: &Way,
        seen: &[Seen],
        (manner, written): (&Manner<'_>, &Mutex<Written>),
    ) -> Vec<Finding> {
        let about = Subject::Name(way.patient.name.to_string());
        (manner.progress)(format!("looking at {}", way.patient.name));
        let looks = async {
            let mut findings = way.findings.clone();
            match &way.place {
                Ok(place) => {
                    findings.extend(self.delegation(view, &about, place).await);
                    findings.push(dnssec::dnssec(&view.lookup, &about, &place.zone.name).await);
                }
                Err(_) if way.is_needless => {}
                Err(missing) => findings.extend(delegation::unseen(&about, missing)),
            }
            findings.extend(caa::caa(&view.caa, &about, &way.patient, seen, self.persist).await);
            findings
        };
        let Some(mut findings) = manner.stopping.run_until_cancelled(looks).await else { return Vec::new() };
        match manner.canaries {
            _ if way.is_needless => {}
            Canaries::Nowhere => {}
            Canaries::EveryName => findings.push(self.canary(view, &about, way, manner).await),
            Canaries::EveryZone => {
                let mut written = written.lock().await;
                if !manner.stopping.is_cancelled() && written.lacks(way) {
                    let finding = self.canary(view, &about, way, manner).await;
                    written.note(way, &finding);
                    findings.push(finding);
                }
            }
        }
        findings
    }
}

/// Names are looked at in parallel, a few at a time.
const AT_ONCE: usize = 4;
