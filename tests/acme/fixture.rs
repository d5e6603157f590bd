//! What each of these tests stands on: a Pebble, the proxy before it, and a client that trusts the proxy.

use std::path::PathBuf;
use std::sync::Arc;

use autocertd::acme::{AccountCredentials, AcmeAccount, AcmeClient, AcmeError, ChallengeKind, Order, Registration};
use autocertd::config::acme::AcmeSection;
use autocertd::config::time_span::TimeSpan;
use autocertd::domain::provider::ExternalAccountBinding;
use autocertd::domain::value::mac_key::MacKey;
use autocertd::domain::value::name::DnsName;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::runtime::clock::{SharedClock, SystemClock};
use autocertd_support::fault_proxy::FaultProxy;
use autocertd_support::pebble::{Pebble, PebbleOptions};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

pub(crate) struct Fixture {
    pub(crate) pebble: Pebble,
    pub(crate) proxy: FaultProxy,
    pub(crate) client: AcmeClient,
}

impl Fixture {
    pub(crate) async fn start(options: PebbleOptions) -> Self {
        let pebble = Pebble::start(options).await.unwrap();
        let proxy = FaultProxy::in_front_of(&pebble).await.unwrap();
        let client = client(&settings(vec![proxy.root_pem_path()]));
        Self { pebble, proxy, client }
    }

    /// A Pebble that takes every challenge as answered.
    pub(crate) async fn start_trusting() -> Self {
        Self::start(PebbleOptions { always_valid: true, ..PebbleOptions::default() }).await
    }

    /// A client that knows nothing of what another one did, as after a restart.
    pub(crate) fn client_with(&self, change: impl FnOnce(&mut AcmeSection)) -> AcmeClient {
        let mut settings = settings(vec![self.proxy.root_pem_path()]);
        change(&mut settings);
        client(&settings)
    }

    pub(crate) fn server(&self) -> ServerUrl {
        server(&self.proxy.directory_url())
    }

    pub(crate) fn registration(&self, external_account: Option<ExternalAccountBinding>) -> Registration {
        Registration { server: self.server(), email: "ops@example.com".parse().unwrap(), external_account }
    }

    /// Registers as a caller does: what is prepared is stored before it is sent, and prepared anew after a bad nonce.
    pub(crate) async fn register(
        &self,
        external_account: Option<ExternalAccountBinding>,
    ) -> Result<AccountCredentials, AcmeError> {
        loop {
            let prepared = self.client.prepare_registration(&self.registration(external_account.clone())).await?;
            match self.client.send_registration(prepared).await {
                Err(AcmeError::BadNonce) => {}
                outcome => return outcome,
            }
        }
    }

    pub(crate) async fn account(&self) -> AcmeAccount {
        let credentials = self.register(None).await.unwrap();
        self.client.account(&credentials).await.unwrap()
    }
}

pub(crate) fn settings(extra_roots: Vec<PathBuf>) -> AcmeSection {
    AcmeSection {
        accept_terms_of_service: true,
        extra_roots,
        first_poll: TimeSpan::millis(10),
        longest_poll: TimeSpan::millis(50),
        poll_timeout: TimeSpan::seconds(30),
        ..AcmeSection::default()
    }
}

pub(crate) fn client(settings: &AcmeSection) -> AcmeClient {
    client_at(settings, Arc::new(SystemClock))
}

pub(crate) fn client_at(settings: &AcmeSection, clock: SharedClock) -> AcmeClient {
    AcmeClient::new(settings, clock).unwrap()
}

pub(crate) fn server(url: &str) -> ServerUrl {
    ServerUrl::parse(url, PlainHttpPolicy::Allowed).unwrap()
}

pub(crate) fn binding(key_id: &str, key_secret: &str) -> ExternalAccountBinding {
    ExternalAccountBinding {
        key_id: key_id.to_owned(),
        key_secret: MacKey::from_stored(SecretString::from(key_secret.to_owned())),
    }
}

pub(crate) fn names(names: &[&str]) -> Vec<DnsName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

pub(crate) fn csr(names: &[DnsName]) -> Vec<u8> {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

pub(crate) async fn answer_all(order: &mut Order) -> Result<(), AcmeError> {
    for authorization in order.load_authorizations().await? {
        order.answer(&authorization, ChallengeKind::Dns01).await?;
    }
    Ok(())
}

/// The rest of an order whose challenges need no records.
pub(crate) async fn complete(order: &mut Order, names: &[DnsName]) -> Result<String, AcmeError> {
    answer_all(order).await?;
    order.await_ready(&CancellationToken::new()).await?;
    order.finalize(&csr(names)).await?;
    order.await_certificate(&CancellationToken::new()).await
}
