//! The doctor: looks at every link of the chain that leads to a certificate, without an order. A file for each link, each
//! look an answer of findings; one that needs a link which is broken says no more than that. All that it writes is a canary
//! record, which the journal names first and which goes again at once.

mod adapter;
mod caa;
mod canary;
mod challenge_path;
mod check_list;
mod clock;
mod delegation;
mod dnssec;
mod ending;
mod provider;
mod secrets;
mod shared;
mod storage;

pub use check_list::{CheckList, declares};
pub use ending::{Ending, OUT_OF_TIME};
pub use secrets::check_secrets;
pub use storage::{InstancePaths, check_storage};

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use tokio::sync::{Mutex, Semaphore};

use crate::acme::AcmeClient;
use crate::config::dns::PropagationSection;
use crate::dns::caa::CaaLookup;
use crate::dns::lookup::DnsLookup;
use crate::dns::propagation::Propagation;
use crate::dns::routes::DnsRoutes;
use crate::doctor::canary::CanaryResults;
use crate::doctor::challenge_path::ChallengePath;
use crate::doctor::check_list::CheckedName;
use crate::doctor::provider::ProviderReport;
use crate::doctor::shared::Shared;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::renewal::dns_persist::DnsPersist;
use crate::domain::value::adapter_name::AdapterName;
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
    pub dns: DnsRoutes,
    /// Whether names are proven by standing records.
    pub dns_persist: DnsPersist,
    /// How to look into the DNS.
    pub propagation_section: PropagationSection,
    /// Tells the time.
    pub clock: SharedClock,
    /// Makes canaries that nobody can guess.
    pub randomness: Randomness,
}

/// How to look.
pub struct DoctorOptions<'a> {
    /// Where canary records are written.
    pub canary_mode: CanaryMode,
    /// When the round ends; what was written is removed all the same.
    pub ending: &'a Ending,
    /// Is told what is being looked at, where that takes a while.
    pub progress: &'a (dyn Fn(String) + Send + Sync),
}

/// Where canary records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryMode {
    /// Nowhere.
    Nowhere,
    /// At the challenge record of every name, once for all names that share it.
    EveryName,
    /// For one name of each zone, for all names in it.
    EveryZone,
    /// For one name of each zone, one after the other, and none any more once one was not seen.
    OneAtATime,
}

/// The ways in which one round looks into the DNS, so that its looks share what they find.
struct DnsView {
    lookup: DnsLookup,
    caa: CaaLookup,
    propagation: Propagation,
    /// By adapter and zone.
    delegations: Shared<(AdapterName, String), Vec<CheckResult>>,
    /// By zone.
    securities: Shared<String, CheckResult>,
    /// By adapter, zone, and, where each name has its own, the name of the record.
    canaries: Shared<(AdapterName, String, Option<String>), CheckResult>,
    writing: Semaphore,
    written: Mutex<CanaryResults>,
    checked: AtomicUsize,
}

impl Doctor {
    /// Looks at the providers, DNS adapters and names of a round; the findings come in this order. What the round has no
    /// time for is skipped, and told.
    pub async fn run_checks(&self, round: &CheckList, manner: &DoctorOptions<'_>) -> Vec<CheckResult> {
        let view = self.view();
        let providers: Vec<_> = round
            .providers
            .iter()
            .map(|examined| {
                (manner.progress)(format!("asking {}", examined.provider.server()));
                self.check_provider(examined, manner.ending)
            })
            .collect();
        let seen: Vec<ProviderReport> = stream::iter(providers).buffered(MAX_CONCURRENT_NAMES).collect().await;
        let all = round.names.len();
        let (mut names, mut looks, mut found) =
            (round.names.iter().enumerate(), FuturesUnordered::new(), Vec::with_capacity(all));
        // One name that hangs holds up no others.
        loop {
            while looks.len() < MAX_CONCURRENT_NAMES
                && let Some((at, patient)) = names.next()
            {
                looks.push(self.check_name(&view, (at, patient, all), &seen, manner));
            }
            let Some(look) = looks.next().await else { break };
            found.push(look);
        }
        found.sort_by_key(|(at, _)| *at);
        let ways: Vec<(ChallengePath, Vec<CheckResult>)> = found.into_iter().map(|(_, found)| found).collect();
        let mut findings: Vec<CheckResult> = clock::check_clock(&seen).into_iter().collect();
        findings.extend(seen.iter().flat_map(|seen| seen.results.clone()));
        findings.extend(self.check_adapters(&ways));
        findings.extend(ways.into_iter().flat_map(|(_, of_name)| of_name));
        findings
    }

    fn view(&self) -> DnsView {
        DnsView {
            lookup: DnsLookup::new(&self.propagation_section),
            caa: CaaLookup::new(&self.propagation_section),
            propagation: Propagation::new(&self.propagation_section),
            delegations: Shared::default(),
            securities: Shared::default(),
            canaries: Shared::default(),
            writing: Semaphore::new(CANARIES_AT_ONCE),
            written: Mutex::default(),
            checked: AtomicUsize::new(0),
        }
    }

    /// What there is to say of one name, with its place in the list.
    async fn check_name(
        &self,
        view: &DnsView,
        (at, patient, all): (usize, &CheckedName, usize),
        seen: &[ProviderReport],
        manner: &DoctorOptions<'_>,
    ) -> (usize, (ChallengePath, Vec<CheckResult>)) {
        let (about, ending) = (CheckSubject::Name(patient.name.to_string()), manner.ending);
        let tell = |doing: &str| {
            let done = view.checked.load(Ordering::Relaxed);
            (manner.progress)(if all > 1 {
                format!("{done} of {all} names checked; {doing}")
            } else {
                doing.to_owned()
            });
        };
        tell(&format!("checking {}", patient.name));
        let way = self.find_path(view, patient, ending).await;
        let mut findings = way.results.clone();
        match &way.location {
            Ok(place) => {
                let skipped = |check| CheckResult::skipped(&about, check, ending.reason());
                let delegation = ending.during(self.check_delegation(view, &about, place)).await;
                findings.extend(delegation.unwrap_or_else(|| vec![skipped(Check::Delegation)]));
                let dnssec = ending.during(dnssec::check_dnssec(view, &about, &place.zone.name)).await;
                findings.push(dnssec.unwrap_or_else(|| skipped(Check::Dnssec)));
            }
            Err(_) if way.is_unneeded => {}
            Err(missing) => findings.extend(delegation::not_checked_results(&about, missing)),
        }
        let caa = ending.during(caa::check_caa(&view.caa, &about, patient, seen, self.dns_persist)).await;
        findings.extend(caa.unwrap_or_else(|| vec![CheckResult::skipped(&about, Check::Caa, ending.reason())]));
        findings.extend(self.canary_of_name(view, &about, &way, (manner, &tell)).await);
        view.checked.fetch_add(1, Ordering::Relaxed);
        (at, (way, findings))
    }
}

/// Providers and names are looked at in parallel, some at a time.
const MAX_CONCURRENT_NAMES: usize = 16;
const CANARIES_AT_ONCE: usize = 4;
