//! A Pebble with a proxy before it, and a store with one provider whose account is cared for.

use std::sync::Arc;

use autocertd::acme::{AccountCredentials, AcmeClient};
use autocertd::domain::provider::{NewProvider, Provider};
use autocertd::domain::value::id::ProviderId;
use autocertd::domain::value::resource::Actor;
use autocertd::issuance::AccountRegistrar;
use autocertd::runtime::clock::{ManualClock, SharedClock, SystemClock};
use autocertd::runtime::randomness::Randomness;
use autocertd::store::{KeyRing, ProviderAccount, ProviderLease, Store, StoreSettings, StoreUrl};
use autocertd_support::fault_proxy::{Action, RequestInfo};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use tempfile::TempDir;

use crate::fixture::{Fixture, client_at, settings};

pub(crate) struct RegistrarFixture {
    pub(crate) stage: Fixture,
    pub(crate) store: Store,
    pub(crate) registrar: AccountRegistrar,
    pub(crate) provider: ProviderId,
    pub(crate) clock: Arc<ManualClock>,
    _folder: TempDir,
}

impl RegistrarFixture {
    /// One whose provider has no account yet.
    pub(crate) async fn new(stage: Fixture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::starting_at(autocertd::runtime::clock::Clock::now(&SystemClock)));
        let url = StoreUrl::sqlite(folder.path().join("store.db"));
        let keys = KeyRing::generate(&folder.path().join("master.key")).unwrap();
        let store_settings = StoreSettings { max_connections: 2, ..StoreSettings::of(url) };
        let store = Store::open(&store_settings, keys, clock.clone(), randomness()).await.unwrap();
        let new = NewProvider {
            name: "a CA".parse().unwrap(),
            email: "ops@example.com".parse().unwrap(),
            server: stage.server(),
            external_account: None,
            profile: None,
        };
        let provider = store.create_provider(&new, &Actor::autocertd()).await.unwrap().id;
        let client = client_at(&settings(vec![stage.proxy.root_pem_path()]), clock.clone());
        let registrar = registrar(&store, client, clock.clone());
        Self { stage, store, registrar, provider, clock, _folder: folder }
    }

    /// One whose provider has its account.
    pub(crate) async fn registered(stage: Fixture) -> Self {
        let registry = Self::new(stage).await;
        registry.registrar.register_on_request(registry.provider).await.unwrap();
        registry
    }

    pub(crate) async fn lease(&self) -> ProviderLease {
        self.store.claim_provider(self.provider).await.unwrap().expect("nobody has it")
    }

    pub(crate) async fn account(&self) -> ProviderAccount {
        self.store.account(self.provider).await.unwrap().unwrap()
    }

    pub(crate) async fn provider(&self) -> Provider {
        self.store.provider(self.provider).await.unwrap().unwrap()
    }

    pub(crate) async fn credentials(&self) -> AccountCredentials {
        AccountCredentials::from_stored(self.account().await.registered.unwrap().credentials).unwrap()
    }

    /// Whether the CA takes an order that is signed with these.
    pub(crate) async fn can_order(&self, credentials: &AccountCredentials) -> bool {
        let account = self.stage.client.account(credentials).await.unwrap();
        account.new_order(&crate::fixture::names(&["example.com"])).await.is_ok()
    }

    /// Requests of this kind are answered with a problem from now on.
    pub(crate) fn refuse(&self, kind: &'static str, status: u16, problem: &'static str) {
        self.meet(kind, move || refusal(status, problem));
    }

    pub(crate) fn meet(&self, kind: &'static str, action: impl Fn() -> Action + Send + Sync + 'static) {
        let chosen = move |request: &RequestInfo| if request.kind == kind { action() } else { Action::Pass };
        self.stage.proxy.set_hook(Box::new(chosen));
    }

    pub(crate) fn pass(&self) {
        self.stage.proxy.set_hook(Box::new(|_| Action::Pass));
    }
}

fn registrar(store: &Store, client: AcmeClient, clock: SharedClock) -> AccountRegistrar {
    AccountRegistrar::new(store.clone(), client, clock, randomness())
}

fn refusal(status: u16, problem: &str) -> Action {
    let body = format!(r#"{{"type": "urn:ietf:params:acme:error:{problem}", "detail": "says the test"}}"#);
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, "application/problem+json".parse().unwrap())]);
    Action::Respond(status, headers, body.into())
}

fn randomness() -> Randomness {
    Randomness::from_system().unwrap()
}
