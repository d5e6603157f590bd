//! One store for one test: a fresh database, its key file, a clock that stands still, and what goes into it.

use std::path::PathBuf;
use std::sync::Arc;

use autocertd::domain::certificate::NewCertificate;
use autocertd::domain::certificate::key_algorithm::KeyAlgorithm;
use autocertd::domain::certificate::leaf::Leaf;
use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::Failure;
use autocertd::domain::provider::{ExternalAccountBinding, NewProvider, Provider};
use autocertd::domain::renewal::attempt::{Attempt, Planned, Stage};
use autocertd::domain::renewal::auto_certificate::{AutoCertificate, NewAutoCertificate};
use autocertd::domain::value::id::{AutoCertificateId, CertificateId, ProviderId};
use autocertd::domain::value::mac_key::MacKey;
use autocertd::domain::value::moment::Moment;
use autocertd::domain::value::resource::{Actor, ResourceName};
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::runtime::clock::{Clock, ManualClock};
use autocertd::runtime::randomness::Randomness;
use autocertd::store::{
    ClaimedAutoCertificate, CreationOutcome, KeyRing, Page, RunOutcome, Store, StoreError, StoreSettings, StoreUrl,
};
use autocertd_support::postgres::Postgres;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use tempfile::TempDir;
use time::Duration;

/// Runs a test on both databases.
macro_rules! on_both {
    ($($(#[$meta:meta])* $name:ident)*) => {
        $(mod $name {
            #[tokio::test]
            async fn on_sqlite() {
                super::$name(crate::fixture::Fixture::on_sqlite().await).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                super::$name(crate::fixture::Fixture::on_postgres().await).await;
            }
        })*
    };
}
pub(crate) use on_both;

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) settings: StoreSettings,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: TempDir,
    /// A way into the database beside the store.
    pub(crate) raw: AnyPool,
}

impl Fixture {
    pub(crate) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let raw = format!("sqlite://{}", path.display());
        Self::with(folder, StoreUrl::sqlite(path), &raw).await
    }

    pub(crate) async fn on_postgres() -> Self {
        let url = fresh_postgres().await;
        Self::with(tempfile::tempdir().unwrap(), StoreUrl::parse(&url).unwrap(), &url).await
    }

    async fn with(folder: TempDir, url: StoreUrl, raw: &str) -> Self {
        let settings = StoreSettings { max_connections: 4, ..StoreSettings::of(url) };
        let clock = Arc::new(ManualClock::starting_at(START));
        let keys = KeyRing::generate(&folder.path().join("master.key")).unwrap();
        let store = Store::open(&settings, keys, clock.clone(), randomness()).await.unwrap();
        let raw = AnyPoolOptions::new().max_connections(2).connect(raw).await.unwrap();
        Self { store, settings, clock, folder, raw }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.settings.url, StoreUrl::Sqlite(_))
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.path().join("master.key")
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn turn(&self, span: Duration) {
        self.clock.turn(span);
    }

    /// The same store, opened as another process would.
    pub(crate) async fn open_again(&self) -> Result<Store, StoreError> {
        let keys = KeyRing::load(&self.key_file())?;
        Store::open(&self.settings, keys, self.clock.clone(), randomness()).await
    }

    /// A database of the same kind that nobody opened yet.
    pub(crate) async fn another_database(&self) -> StoreSettings {
        let url = match &self.settings.url {
            StoreUrl::Sqlite(path) => StoreUrl::sqlite(path.with_file_name("another.db")),
            StoreUrl::Postgres(_) => StoreUrl::parse(&fresh_postgres().await).unwrap(),
        };
        StoreSettings { url, ..self.settings }
    }

    /// Runs a statement beside the store.
    pub(crate) async fn execute_sql(&self, statement: &'static str) -> u64 {
        sqlx::query(statement).execute(&self.raw).await.unwrap().rows_affected()
    }

    pub(crate) async fn provider(&self) -> Provider {
        self.store.create_provider(&new_provider("a CA"), &actor()).await.unwrap()
    }

    pub(crate) async fn auto_certificate(&self, provider: ProviderId, common_name: &str) -> AutoCertificate {
        let new = new_auto_certificate(provider, common_name);
        match self.store.create_auto_certificate(&new, &actor(), 1_000_000).await.unwrap() {
            CreationOutcome::Created(created) => *created,
            other => panic!("{other:?}"),
        }
    }

    /// A provider with one auto-certificate, claimed.
    pub(crate) async fn claimed(&self) -> ClaimedAutoCertificate {
        let provider = self.provider().await;
        let auto_certificate = self.auto_certificate(provider.id, "www.example.com").await;
        self.claim(auto_certificate.id).await
    }

    pub(crate) async fn claim(&self, id: AutoCertificateId) -> ClaimedAutoCertificate {
        self.store.claim(id).await.unwrap().expect("it is free")
    }

    pub(crate) async fn reload(&self, id: AutoCertificateId) -> AutoCertificate {
        self.store.auto_certificate(id).await.unwrap().expect("it is there")
    }

    /// Issues a certificate for it and gives the lease back.
    pub(crate) async fn issue(&self, id: AutoCertificateId, lifetime: Duration) -> CertificateId {
        let claim = self.claim(id).await;
        let attempt = self.attempt(&claim);
        self.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
        let new = new_certificate("issued", None, self.now(), lifetime);
        let issued = self.store.store_issued(&claim.lease, &attempt, &new, None, self.now()).await.unwrap();
        self.store.release_auto_certificate(&claim.lease, self.now() + lifetime, RunOutcome::Finished).await.unwrap();
        issued
    }

    pub(crate) fn attempt(&self, claim: &ClaimedAutoCertificate) -> Attempt {
        Attempt {
            id: randomness().uuid().into(),
            auto_certificate: claim.lease.id,
            provider: claim.auto_certificate.provider,
            names: claim.auto_certificate.names_to_order(),
            key_algorithm: claim.auto_certificate.key_algorithm,
            profile: claim.auto_certificate.profile.clone(),
            replaces: None,
            reason: "there is no certificate yet".to_owned(),
            started: self.now(),
            stage: Stage::Planned(Planned),
        }
    }
}

pub(crate) async fn fresh_postgres() -> String {
    let fresh = tokio::task::spawn_blocking(|| Postgres::shared().and_then(Postgres::fresh_database));
    fresh.await.unwrap().expect("a PostgreSQL server for the tests; tools/install-postgres installs it")
}

pub(crate) fn randomness() -> Randomness {
    Randomness::from_system().unwrap()
}

pub(crate) fn actor() -> Actor {
    Actor { name: "ada".to_owned(), id: uuid::Uuid::from_u128(0xada) }
}

pub(crate) fn name(text: &str) -> ResourceName {
    text.parse().unwrap()
}

pub(crate) fn new_provider(text: &str) -> NewProvider {
    NewProvider {
        name: name(text),
        email: "ops@example.com".parse().unwrap(),
        server: ServerUrl::parse("https://ca.example/directory", PlainHttpPolicy::Refused).unwrap(),
        external_account: Some(ExternalAccountBinding {
            key_id: "kid-1".to_owned(),
            key_secret: MacKey::from_stored(EAB_SECRET),
        }),
        profile: None,
    }
}

pub(crate) fn new_auto_certificate(provider: ProviderId, common_name: &str) -> NewAutoCertificate {
    NewAutoCertificate {
        name: name(&format!("for {common_name}")),
        provider,
        common_name: common_name.parse().unwrap(),
        key_algorithm: KeyAlgorithm::Secp256r1,
        subject_alternative_names: vec!["Bücher.example".parse().unwrap(), common_name.parse().unwrap()],
        profile: None,
    }
}

/// A self-signed certificate with its key.
pub(crate) fn new_certificate(
    text: &str,
    common_name: Option<&str>,
    not_before: Moment,
    lifetime: Duration,
) -> NewCertificate {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["www.example.com".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if let Some(common_name) = common_name {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.not_before = not_before.to_date_time();
    params.not_after = (not_before + lifetime).to_date_time();
    let pem = params.self_signed(&key).unwrap().pem();
    NewCertificate {
        name: name(text),
        leaf: Leaf::from_pem(&pem).unwrap(),
        certificate: pem.clone(),
        chain: pem,
        private_key: key.serialize_pem().into(),
    }
}

/// Claims what is due at all providers, at most so many at each and as far as nobody is faster.
pub(crate) async fn claim_due(store: &Store, now: Moment, limit: u32) -> Vec<ClaimedAutoCertificate> {
    let mut claims = Vec::new();
    for provider in store.providers_with_due_work(now).await.unwrap() {
        for due in store.queue_at(provider, now, limit).await.unwrap() {
            claims.extend(store.claim(due.auto_certificate.id).await.unwrap());
        }
    }
    claims
}

pub(crate) const START: Moment = Moment::from_micros(1_800_000_000_000_000);
pub(crate) const EAB_SECRET: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
pub(crate) const ALL: Page = Page { offset: 0, limit: 1_000 };

/// A first trouble that began with `failure`.
pub(crate) fn first_failure_streak(failure: Failure) -> FailureStreak {
    FailureStreak::after(None, failure, Moment::from_micros(0), None, 0.5)
}
