//! Whether the delivered certificate is served, asked of real TLS servers and of what is none.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use autocertd::config::delivery::VerifyEntry;
use autocertd::config::time_span::TimeSpan;
use autocertd::deliver::DeliveryPayload;
use autocertd::deliver::verify::TlsVerification;
use autocertd::domain::certificate::fingerprint::Fingerprint;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd_support::tls_server::{TlsServer, answer};
use rcgen::{Certificate, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::fixture::{certificate, payload, wait_for_some};

const NAMES: [&str; 2] = ["www.example.com", "example.com"];

#[tokio::test]
async fn what_is_served_is_recognised_in_both_versions_of_tls_and_both_of_ip() {
    let (cert, key) = certificate(&NAMES);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let server = Server::start_at(local, &cert, &key, version).await;
            let parcel = payload(&cert, &key, &NAMES);
            verify(server.address, LONG).run(&parcel).await.unwrap();
            let seen = verify(server.address, LONG).probe_once(&parcel.recipient).await.unwrap();
            assert_eq!(seen.fingerprint, Fingerprint::from_der(cert.der()));
            assert_eq!(server.names(), ["www.example.com"; 2]);
        }
    }
}

#[tokio::test]
async fn a_service_may_take_its_time() {
    let ((old, old_key), (new, new_key)) = (certificate(&NAMES), certificate(&NAMES));
    let server = Server::start(&old, &old_key).await;
    let (verify, parcel) = (verify(server.address, LONG), payload(&new, &new_key, &NAMES));
    let task = tokio::spawn(async move { verify.run(&parcel).await });
    wait_for_some("two looks", || (server.names().len() >= 2).then_some(())).await;
    assert!(!task.is_finished());
    server.switch_to(&new, &new_key);
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_served_instead_is_told() {
    let ((old, old_key), (new, new_key)) = (certificate(&["old.example.com"]), certificate(&NAMES));
    let server = Server::start(&old, &old_key).await;
    let failure =
        verify(server.address, TimeSpan::millis(400)).run(&payload(&new, &new_key, &NAMES)).await.unwrap_err();
    assert_eq!(failure.disposition, Disposition::RETRY);
    let shown = Fingerprint::from_der(old.der()).to_string();
    let wanted = Fingerprint::from_der(new.der()).to_string();
    let place = format!("{}, asked for www.example.com, still serves another certificate 400ms after", server.address);
    assert!(failure.message.starts_with(&place), "{failure}");
    for words in ["that of \"old.example.com\"", "serial number", "valid until 4096-", &shown, &wanted] {
        assert!(failure.message.contains(words), "{words} is missing: {failure}");
    }
    assert!(server.names().len() >= 3, "it looked only {} times", server.names().len());
}

#[tokio::test]
async fn a_wildcard_and_a_set_name_are_asked_for() {
    let (cert, key) = certificate(&["*.example.com"]);
    let server = Server::start(&cert, &key).await;
    let parcel = payload(&cert, &key, &["*.example.com"]);
    verify(server.address, LONG).run(&parcel).await.unwrap();
    let entry = VerifyEntry {
        address: server.address.to_string(),
        server_name: Some("inner.example".to_owned()),
        timeout: LONG,
    };
    TlsVerification::new(&entry).unwrap().run(&parcel).await.unwrap();
    assert_eq!(server.names(), ["autocertd-verify.example.com", "inner.example"]);
}

#[tokio::test]
async fn a_service_that_wants_a_certificate_of_the_client_is_recognised() {
    let (cert, key) = certificate(&NAMES);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&["ca.example"]).0.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![cert.der().clone()], key_der(&key))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        answer(listener, move |stream| {
            let acceptor = acceptor.clone();
            async move { drop(acceptor.accept(stream).await) }
        });
        verify(address, LONG).run(&payload(&cert, &key, &NAMES)).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_not_taken_for_served() {
    let (cert, key) = certificate(&NAMES);
    let server = Server::start(&cert, &KeyPair::generate().unwrap()).await;
    let failure = run(server.address, &payload(&cert, &key, &NAMES)).await.unwrap_err();
    assert!(failure.message.contains("completes no TLS handshake"), "{failure}");
}

#[tokio::test]
async fn what_serves_no_certificate_is_explained() {
    let (cert, key) = certificate(&NAMES);
    let parcel = payload(&cert, &key, &NAMES);

    let closed = autocertd_support::loopback::own_address();
    assert_told(run(closed, &parcel).await, "refuses the connection");

    let plain = respond(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    assert_told(run(plain.await, &parcel).await, "speaks no TLS");

    let silent = respond(|mut stream| async move { while let Ok(1..) = stream.read(&mut [0; 512]).await {} });
    let begun = Instant::now();
    assert_told(run(silent.await, &parcel).await, "does not answer in time");
    assert!(begun.elapsed() < Duration::from_secs(10));

    let gone = respond(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
    });
    assert_told(run(gone.await, &parcel).await, "ends the connection");

    let unwilling =
        TlsServer::start("127.0.0.1:0", &rustls::version::TLS13, Arc::new(NoCertificateResolver)).await.unwrap();
    assert_told(run(unwilling.address, &parcel).await, "refuses the TLS handshake with the alert");

    let entry = VerifyEntry { address: "no-such-host.invalid:443".to_owned(), server_name: None, timeout: LONG };
    let failure = TlsVerification::new(&entry).unwrap().probe_once(&parcel.recipient).await.unwrap_err();
    assert!(failure.message.contains("cannot be reached"), "{failure}");
}

fn assert_told(outcome: Result<(), Failure>, words: &str) {
    let failure = outcome.unwrap_err();
    assert!(failure.message.contains(words), "{words}: {failure}");
}

async fn run(address: SocketAddr, parcel: &DeliveryPayload) -> Result<(), Failure> {
    verify(address, TimeSpan::millis(500)).run(parcel).await
}

fn verify(address: SocketAddr, timeout: TimeSpan) -> TlsVerification {
    TlsVerification::new(&VerifyEntry { address: address.to_string(), server_name: None, timeout }).unwrap()
}

/// A TLS server that notes which names it is asked for, and whose certificate can be switched.
struct Server {
    address: SocketAddr,
    shop: Arc<SwitchableResolver>,
}

#[derive(Debug)]
struct SwitchableResolver {
    shown: Mutex<Arc<CertifiedKey>>,
    asked: Mutex<Vec<String>>,
}

impl Server {
    async fn start(cert: &Certificate, key: &KeyPair) -> Self {
        Self::start_at("127.0.0.1:0", cert, key, &rustls::version::TLS13).await
    }

    async fn start_at(
        local: &str,
        cert: &Certificate,
        key: &KeyPair,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let shop = Arc::new(SwitchableResolver { shown: Mutex::new(certified(cert, key)), asked: Mutex::default() });
        let shown = Arc::clone(&shop) as Arc<dyn ResolvesServerCert>;
        let TlsServer { address } = TlsServer::start(local, version, shown).await.unwrap();
        Self { address, shop }
    }

    fn switch_to(&self, cert: &Certificate, key: &KeyPair) {
        *self.shop.shown.lock().unwrap() = certified(cert, key);
    }

    fn names(&self) -> Vec<String> {
        self.shop.asked.lock().unwrap().clone()
    }
}

impl ResolvesServerCert for SwitchableResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked.lock().unwrap().push(hello.server_name().unwrap_or_default().to_owned());
        Some(Arc::clone(&self.shown.lock().unwrap()))
    }
}

/// Has no certificate for anybody.
#[derive(Debug)]
struct NoCertificateResolver;

impl ResolvesServerCert for NoCertificateResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

fn certified(cert: &Certificate, key: &KeyPair) -> Arc<CertifiedKey> {
    let key = default_provider().key_provider.load_private_key(key_der(key)).unwrap();
    Arc::new(CertifiedKey::new(vec![cert.der().clone()], key))
}

fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

/// Listens on loopback and gives each connection to `each`.
async fn respond<A: Future<Output = ()> + Send + 'static>(
    each: impl Fn(TcpStream) -> A + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    answer(listener, each);
    address
}

const LONG: TimeSpan = TimeSpan::seconds(30);
