//! The renewal daemon inside the test, under a clock that is turned: days pass in seconds, while CA, DNS and database are
//! the real ones.

use autocertd_support::timed::within;
use std::sync::Arc;

use autocertd::acme::AcmeClient;
use autocertd::config::acme::AcmeSection;
use autocertd::config::dns::{IonosSection, PropagationSection};
use autocertd::config::scheduler::SchedulerSection;
use autocertd::config::time_span::TimeSpan;
use autocertd::deliver::dispatcher::Dispatcher;
use autocertd::dns::adapters::ionos::Ionos;
use autocertd::dns::caa::CaaLookup;
use autocertd::dns::lookup::DnsLookup;
use autocertd::dns::propagation::Propagation;
use autocertd::dns::routes::DnsRoutes;
use autocertd::doctor::Doctor;
use autocertd::domain::certificate::key_algorithm::KeyAlgorithm;
use autocertd::domain::provider::NewProvider;
use autocertd::domain::renewal::auto_certificate::{AutoCertificate, NewAutoCertificate};
use autocertd::domain::renewal::dns_persist::DnsPersist;
use autocertd::domain::value::adapter_name::AdapterName;
use autocertd::domain::value::id::{AutoCertificateId, ProviderId};
use autocertd::domain::value::moment::Moment;
use autocertd::domain::value::resource::Actor;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::issuance::{AccountRegistrar, Issuance};
use autocertd::runtime::clock::{Clock, ManualClock, SharedClock, SystemClock};
use autocertd::runtime::randomness::Randomness;
use autocertd::runtime::wake::Wake;
use autocertd::scheduler::{ConfiguredWork, Scheduler};
use autocertd::store::{CreationOutcome, KeyRing, Store, StoreSettings, StoreUrl, Undeclared};
use secrecy::SecretString;
use time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fixture::Fixture;

pub(crate) struct ManualClockDaemon {
    pub(crate) world: Fixture,
    pub(crate) store: Store,
    pub(crate) provider: ProviderId,
    clock: Arc<ManualClock>,
    scheduler: Scheduler,
    tasks: TaskTracker,
}

impl ManualClockDaemon {
    /// A daemon with one provider: the world's CA behind the proxy. Its clock stands still a little ahead, so that what the
    /// CA issues meanwhile is valid already.
    pub(crate) async fn start(world: Fixture) -> Self {
        let propagation = propagation_section(&world);
        Self::with_propagation(world, &propagation).await
    }

    /// The same, with renewals rehearsed so long ahead.
    pub(crate) async fn with_preflights(world: Fixture, rehearse_ahead: TimeSpan) -> Self {
        let propagation = propagation_section(&world);
        Self::start_with_preflights(world, &propagation, rehearse_ahead).await
    }

    /// The same, which waits a moment only for what a CA does not finish.
    pub(crate) async fn with_short_poll_timeout(world: Fixture) -> Self {
        let propagation = propagation_section(&world);
        Self::start_with_poll_timeout(world, &propagation, TimeSpan::seconds(0), TimeSpan::millis(1_500)).await
    }

    /// The same with another wait for the name servers.
    pub(crate) async fn with_propagation(world: Fixture, propagation: &PropagationSection) -> Self {
        Self::start_with_preflights(world, propagation, TimeSpan::seconds(0)).await
    }

    async fn start_with_preflights(world: Fixture, propagation: &PropagationSection, rehearse_ahead: TimeSpan) -> Self {
        let poll_timeout = AcmeSection::default().poll_timeout;
        Self::start_with_poll_timeout(world, propagation, rehearse_ahead, poll_timeout).await
    }

    async fn start_with_poll_timeout(
        world: Fixture,
        propagation: &PropagationSection,
        rehearse_ahead: TimeSpan,
        poll_timeout: TimeSpan,
    ) -> Self {
        let clock = Arc::new(ManualClock::starting_at(SystemClock.now() + Duration::minutes(10)));
        Self::build(world, propagation, rehearse_ahead, poll_timeout, clock, None).await
    }

    /// The same daemon after a restart.
    pub(crate) async fn restart(self) -> Self {
        self.drain().await;
        self.store.close().await;
        let Self { world, store, provider, clock, scheduler, tasks } = self;
        drop((store, scheduler, tasks));
        clock.restart();
        let propagation = propagation_section(&world);
        let poll_timeout = AcmeSection::default().poll_timeout;
        Self::build(world, &propagation, TimeSpan::seconds(0), poll_timeout, clock, Some(provider)).await
    }

    async fn build(
        world: Fixture,
        propagation: &PropagationSection,
        rehearse_ahead: TimeSpan,
        poll_timeout: TimeSpan,
        clock: Arc<ManualClock>,
        provider: Option<ProviderId>,
    ) -> Self {
        let shared: SharedClock = clock.clone();
        let randomness = Randomness::from_seed(1);
        let url = StoreUrl::sqlite(world.folder.path().join("autocertd.db"));
        let ring = KeyRing::load_or_generate(&world.folder.path().join("master.key"), &url).unwrap();
        let settings = StoreSettings { max_connections: 10, ..StoreSettings::of(url) };
        let store = Store::open(&settings, ring, shared.clone(), randomness.clone()).await.unwrap();
        let new = NewProvider {
            name: "Pebble".parse().unwrap(),
            email: "ops@example.com".parse().unwrap(),
            server: ServerUrl::parse(&world.directory(), PlainHttpPolicy::Refused).unwrap(),
            external_account: None,
            profile: None,
        };
        let provider = match provider {
            Some(provider) => provider,
            None => store.create_provider(&new, &Actor::autocertd()).await.unwrap().id,
        };
        let work = work(&world, propagation, poll_timeout, &store, &shared, &randomness);
        let tasks = TaskTracker::new();
        let stopping = CancellationToken::new();
        let section = SchedulerSection { rehearse_ahead, ..SchedulerSection::default() };
        let scheduler = Scheduler::new(work, Wake::default(), &section, tasks.clone(), stopping);
        Self { world, store, provider, clock, scheduler, tasks }
    }

    pub(crate) async fn auto_certificate(&self, names: &[&str]) -> AutoCertificateId {
        let wish = NewAutoCertificate {
            name: names[0].parse().unwrap(),
            provider: self.provider,
            common_name: names[0].parse().unwrap(),
            key_algorithm: KeyAlgorithm::Secp256r1,
            subject_alternative_names: names[1..].iter().map(|name| name.parse().unwrap()).collect(),
            profile: None,
        };
        match self.store.create_auto_certificate(&wish, &Actor::autocertd(), 1_000).await.unwrap() {
            CreationOutcome::Created(made) => made.id,
            refused => panic!("{refused:?}"),
        }
    }

    pub(crate) async fn load(&self, id: AutoCertificateId) -> AutoCertificate {
        self.store.auto_certificate(id).await.unwrap().unwrap()
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Has the clock show another time by so much, without any time passing.
    pub(crate) fn step_clock(&self, by: Duration) {
        self.clock.step(by);
    }

    /// One scan, and what it begins.
    pub(crate) async fn scan(&self) {
        self.scheduler.scan().await;
        self.drain().await;
    }

    pub(crate) fn turn(&self, span: Duration) {
        self.clock.turn(span);
    }

    /// Lets so much time pass: whatever falls due in it is done at its moment. At once where `span` is zero.
    pub(crate) async fn run_for(&self, span: Duration) {
        let end = self.now() + span;
        let mut seen = None;
        loop {
            let next = self.scheduler.scan().await;
            let idle = self.tasks.is_empty();
            self.drain().await;
            // What was worked on during the scan is looked at again: only the same answer twice counts.
            if !idle || seen.replace(next) != Some(next) {
                continue;
            }
            match next {
                Some(next) if next <= self.now() => {}
                Some(next) if next <= end => self.turn(next - self.now()),
                _ => break,
            }
        }
        self.turn(end - self.now());
    }

    async fn drain(&self) {
        self.tasks.close();
        within("the scheduler", self.tasks.wait()).await;
        self.tasks.reopen();
    }
}

/// Waits long enough for any machine, for the one name server of the world.
pub(crate) fn propagation_section(world: &Fixture) -> PropagationSection {
    PropagationSection {
        timeout: TimeSpan::seconds(20),
        first_pause: TimeSpan::millis(50),
        longest_pause: TimeSpan::millis(200),
        servers: vec![world.dns.dns_addr()],
        resolvers: vec![world.dns.dns_addr().into()],
        ..PropagationSection::default()
    }
}

fn work(
    world: &Fixture,
    propagation: &PropagationSection,
    poll_timeout: TimeSpan,
    store: &Store,
    clock: &SharedClock,
    randomness: &Randomness,
) -> ConfiguredWork {
    let acme = AcmeSection {
        accept_terms_of_service: true,
        extra_roots: vec![world.acme.root_pem_path()],
        timeout: TimeSpan::seconds(5),
        first_poll: TimeSpan::millis(50),
        longest_poll: TimeSpan::millis(200),
        poll_timeout,
        ..AcmeSection::default()
    };
    let acme = AcmeClient::new(&acme, clock.clone()).unwrap();
    let ionos = IonosSection { endpoint: world.dns.http_url(), ..IonosSection::default() };
    let token = SecretString::from(world.dns.token().to_owned());
    let dns = Ionos::new(AdapterName::ionos(), &ionos, Some(&token), clock.clone(), randomness.clone()).unwrap();
    let issuance = Issuance {
        store: store.clone(),
        accounts: AccountRegistrar::new(store.clone(), acme.clone(), clock.clone(), randomness.clone()),
        acme,
        dns: DnsRoutes::with_only(Arc::new(dns), DnsLookup::new(propagation), randomness.clone()),
        dns_persist: DnsPersist::Off,
        propagation: Propagation::new(propagation),
        caa: CaaLookup::new(propagation),
        clock: clock.clone(),
        randomness: randomness.clone(),
    };
    let dispatch = Dispatcher::new(
        store.clone(),
        clock.clone(),
        randomness.clone(),
        "here".to_owned(),
        Vec::new(),
        Undeclared::Remove,
    );
    let doctor = Doctor {
        store: Some(store.clone()),
        acme: issuance.acme.clone(),
        dns: issuance.dns.clone(),
        dns_persist: issuance.dns_persist,
        propagation_section: propagation.clone(),
        clock: clock.clone(),
        randomness: randomness.clone(),
    };
    ConfiguredWork { issuance: Arc::new(issuance), dispatcher: Arc::new(dispatch), doctor: Arc::new(doctor) }
}
