//! A TLS server on loopback that does nothing but shake hands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A running server; it ends with the runtime.
#[derive(Debug)]
pub struct TlsServer {
    /// Where it listens.
    pub address: SocketAddr,
}

impl TlsServer {
    /// Starts a server at `local` that shows what `certificates` gives it, by one version of TLS.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start(
        local: &str,
        version: &'static SupportedProtocolVersion,
        certificates: Arc<dyn ResolvesServerCert>,
    ) -> anyhow::Result<Self> {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(local).await?;
        let address = listener.local_addr()?;
        answer(listener, move |stream| {
            let acceptor = acceptor.clone();
            async move { drop(acceptor.accept(stream).await) }
        });
        Ok(Self { address })
    }
}

/// Starts a server on loopback that shows one certificate, as it is, and says where it listens; it ends with the runtime.
///
/// # Errors
/// Where it cannot listen, or key and certificate cannot be used at all.
pub async fn serve_pair(certificate: Vec<u8>, key: Vec<u8>) -> anyhow::Result<SocketAddr> {
    let key = PrivateKeyDer::Pkcs8(key.into());
    let key = default_provider().key_provider.load_private_key(key)?;
    let pair = Arc::new(CertifiedKey::new(vec![CertificateDer::from(certificate)], key));
    Ok(TlsServer::start("127.0.0.1:0", &rustls::version::TLS13, Arc::new(OnePair(pair))).await?.address)
}

#[derive(Debug)]
struct OnePair(Arc<CertifiedKey>);

impl ResolvesServerCert for OnePair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Gives each connection to `each`, until the runtime ends.
pub fn answer<A: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    each: impl Fn(TcpStream) -> A + Send + 'static,
) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
}

/// The certificate and key of a published folder, read anew at each handshake, unless it is deaf: then it shows what it
/// read last, as a service that does not hear of a reload.
#[derive(Debug)]
pub struct PublishedPair {
    folder: PathBuf,
    deaf: AtomicBool,
    read: Mutex<Option<Arc<CertifiedKey>>>,
}

impl PublishedPair {
    /// What `folder` holds.
    pub fn from_folder(folder: &Path) -> Arc<Self> {
        Arc::new(Self { folder: folder.to_owned(), deaf: AtomicBool::new(false), read: Mutex::default() })
    }

    /// Whether it goes on with what it read last.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::SeqCst);
    }

    /// The pair of one version: the folder's link is followed once.
    fn current_pair(&self) -> Option<Arc<CertifiedKey>> {
        let version = std::fs::canonicalize(self.folder.join("fullchain.pem")).ok()?;
        let chain = CertificateDer::pem_file_iter(&version).ok()?.collect::<Result<_, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_file(version.with_file_name("privkey.pem")).ok()?;
        let key = default_provider().key_provider.load_private_key(key).ok()?;
        Some(Arc::new(CertifiedKey::new(chain, key)))
    }
}

impl ResolvesServerCert for PublishedPair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.is_none() || !self.deaf.load(Ordering::SeqCst) {
            *read = self.current_pair();
        }
        read.clone()
    }
}
