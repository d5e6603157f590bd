//! One small world per test: an ACME server, a Cloud DNS, and a folder for autocertd.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use autocertd::config::store::{StoreSettings, StoreUrl};
use autocertd::domain::certificate::key_algorithm::KeyAlgorithm;
use autocertd::domain::provider::{ExternalAccountBinding, NewProvider};
use autocertd::domain::renewal::auto_certificate::NewAutoCertificate;
use autocertd::domain::value::resource::Actor;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::runtime::clock::SystemClock;
use autocertd::runtime::randomness::Randomness;
use autocertd::store::{CreationOutcome, KeyRing, Store};
use autocertd_support::cloud_dns::CloudDns;
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::FaultProxy;
use autocertd_support::pebble::{Pebble, PebbleOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The external account that every Pebble here knows.
pub(crate) const KEY_ID: &str = "kid-1";
/// Its HMAC key, base64url.
pub(crate) const KEY_SECRET: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

pub(crate) struct Fixture {
    pub(crate) pebble: Pebble,
    pub(crate) dns: CloudDns,
    pub(crate) acme: FaultProxy,
    pub(crate) folder: TempDir,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(PebbleOptions::default()).await
    }

    /// A world with an ACME server that insists on external account binding.
    pub(crate) async fn with_binding() -> Self {
        Self::with(PebbleOptions {
            eab_required: true,
            eab_keys: [(KEY_ID.into(), KEY_SECRET.into())].into(),
            ..PebbleOptions::default()
        })
        .await
    }

    pub(crate) async fn with(options: PebbleOptions) -> Self {
        let dns = CloudDns::start().await.unwrap();
        let pebble = Pebble::start(PebbleOptions { dns_server: Some(dns.dns_addr()), ..options }).await.unwrap();
        let acme = FaultProxy::in_front_of(&pebble).await.unwrap();
        Self { pebble, dns, acme, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn setup(&self) -> Setup {
        Setup {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_autocertd")),
            folder: self.folder.path().join("autocertd"),
            cloud_dns: self.dns.http_url(),
            cloud_dns_token: self.dns.token().to_owned(),
            dns_server: self.dns.dns_addr(),
            acme_root: self.acme.root_pem_path(),
            log: "info,autocertd=debug".to_owned(),
            more: String::new(),
        }
    }

    pub(crate) async fn daemon(&self) -> Daemon {
        Daemon::start(&self.setup()).await.unwrap()
    }

    /// The directory URL, through the proxy.
    pub(crate) fn directory(&self) -> String {
        self.acme.directory_url()
    }

    /// Creates a provider without external account binding; returns its id.
    pub(crate) async fn provider(&self, daemon: &Daemon) -> String {
        let properties = json!({ "name": "Pebble", "email": "ops@example.com", "server": self.directory() });
        id_of(&daemon.api.create("/providers", properties).await.unwrap())
    }

    /// The values of all challenge records that are there now.
    pub(crate) fn challenge_records(&self) -> Vec<String> {
        self.dns.txt_records().into_iter().map(|record| format!("{} {}", record.fqdn, record.content)).collect()
    }
}

/// Creates an auto-certificate; returns its path.
pub(crate) async fn auto_certificate(daemon: &Daemon, provider: &str, algorithm: &str, names: &[&str]) -> String {
    let properties = json!({
        "provider": provider,
        "commonName": names[0],
        "keyAlgorithm": algorithm,
        "name": format!("for {}", names[0]),
        "subjectAlternativeNames": names[1..],
    });
    format!("/auto-certificates/{}", id_of(&daemon.api.create("/auto-certificates", properties).await.unwrap()))
}

/// The newest certificate of an auto-certificate that is AVAILABLE.
pub(crate) async fn newest(daemon: &Daemon, auto_certificate: &Value) -> Value {
    let id = auto_certificate["metadata"]["lastIssuedCertificate"].as_str().expect("AVAILABLE means issued");
    daemon.api.get(&format!("/certificates/{id}")).await.unwrap()
}

pub(crate) fn id_of(resource: &Value) -> String {
    resource["id"].as_str().unwrap().to_owned()
}

/// Opens the store of a setup as autocertd does, with the master key beside it.
pub(crate) async fn open_store(setup: &Setup) -> Store {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(setup.state()).unwrap();
    let url = StoreUrl::sqlite(setup.state().join("autocertd.db"));
    let ring = KeyRing::load_or_generate(&setup.state().join("master.key"), &url).unwrap();
    let settings = StoreSettings { max_connections: 2, ..StoreSettings::of(url) };
    Store::open(&settings, ring, Arc::new(SystemClock), Randomness::from_system().unwrap()).await.unwrap()
}

/// Puts a provider and an auto-certificate into a store that no daemon works on.
pub(crate) async fn store_auto_certificate(store: &Store, directory: &str, name: &str) {
    store_auto_certificate_with(store, directory, None, name, name).await;
}

/// The same, with an external account and a second name.
pub(crate) async fn store_auto_certificate_with(
    store: &Store,
    directory: &str,
    external_account: Option<ExternalAccountBinding>,
    name: &str,
    alternative_name: &str,
) {
    let provider = NewProvider {
        name: "Pebble".parse().unwrap(),
        email: "ops@example.com".parse().unwrap(),
        server: ServerUrl::parse(directory, PlainHttpPolicy::Refused).unwrap(),
        external_account,
        profile: None,
    };
    let wish = NewAutoCertificate {
        name: format!("for {name}").parse().unwrap(),
        provider: store.create_provider(&provider, &Actor::autocertd()).await.unwrap().id,
        common_name: name.parse().unwrap(),
        key_algorithm: KeyAlgorithm::Secp256r1,
        subject_alternative_names: vec![alternative_name.parse().unwrap()],
        profile: None,
    };
    let made = store.create_auto_certificate(&wish, &Actor::autocertd(), 50).await.unwrap();
    assert!(matches!(made, CreationOutcome::Created(_)));
}
