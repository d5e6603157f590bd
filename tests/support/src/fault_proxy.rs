//! A reverse proxy that records every request and breaks those that a hook chooses. It keeps the Host header, from which
//! Pebble builds its URLs, so that a client that begins at the proxy stays with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::forward::Forwarder;
pub use self::request::RequestInfo;
use crate::pebble::Pebble;
use crate::pebble::tls::ServerTls;

pub(crate) mod body;
mod forward;
mod request;

/// What happens to a request.
pub enum Action {
    /// It is forwarded, and its answer relayed.
    Pass,
    /// The callback runs, nothing is forwarded, and the connection is cut.
    KillBefore(Callback),
    /// It is forwarded; the callback runs once the answer is here, which is not relayed.
    KillAfter(Callback),
    /// It is answered in place.
    Respond(u16, HeaderMap, Bytes),
    /// The connection is cut without an answer; nothing is forwarded.
    Cut,
    /// It is forwarded after a wait.
    Stall(Duration),
    /// It is forwarded, and its answer cut off in the middle of the body.
    Truncate,
    /// It is forwarded, and its answer changed.
    Alter(ResponseAlteration),
}

/// Changes an answer before it is relayed.
pub type ResponseAlteration = Box<dyn FnOnce(&mut Response<Bytes>) + Send>;

/// Run between request and answer, to kill whoever waits for the answer.
pub type Callback = Box<dyn FnOnce() + Send>;

type Hook = Box<dyn Fn(&RequestInfo) -> Action + Send + Sync>;

/// Where the proxy stands.
#[derive(Debug)]
pub struct FaultProxyOptions {
    /// Scheme and authority of the server behind it.
    pub upstream: String,
    /// The root to trust for the server behind it, in PEM; for https.
    pub upstream_root_pem: Option<String>,
    /// Whether the proxy itself speaks https.
    pub tls: bool,
}

/// A running proxy.
pub struct FaultProxy {
    address: SocketAddr,
    tls: bool,
    folder: TempDir,
    shared: Arc<Shared>,
    stopping: CancellationToken,
}

impl FaultProxy {
    /// Starts a proxy on a free port of loopback, on the present runtime.
    ///
    /// # Errors
    /// Where it cannot listen or the upstream's root is not usable.
    pub async fn start(options: FaultProxyOptions) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let acceptor = if options.tls {
            let identity = ServerTls::generate(Ipv4Addr::LOCALHOST.into())?;
            std::fs::write(folder.path().join(ROOT_FILE), &identity.root_pem)?;
            Some(identity.acceptor()?)
        } else {
            None
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { requests: Mutex::default(), hook: Mutex::new(Arc::new(Box::new(|_| Action::Pass))) });
        let forwarder = Arc::new(Forwarder::new(&options, Arc::clone(&shared))?);
        let stopping = CancellationToken::new();
        tokio::spawn(accept(listener, acceptor, forwarder, stopping.clone()));
        Ok(Self { address, tls: options.tls, folder, shared, stopping })
    }

    /// Starts an https proxy in front of a Pebble.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn in_front_of(pebble: &Pebble) -> anyhow::Result<Self> {
        let upstream_root_pem = Some(pebble.root_pem().to_owned());
        Self::start(FaultProxyOptions {
            upstream: format!("https://{}", pebble.address()),
            upstream_root_pem,
            tls: true,
        })
        .await
    }

    /// Scheme and authority of the proxy.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// The ACME directory of the Pebble behind it.
    pub fn directory_url(&self) -> String {
        format!("{}/dir", self.url())
    }

    /// A file with the root of its own certificate; only there where it speaks https.
    pub fn root_pem_path(&self) -> PathBuf {
        self.folder.path().join(ROOT_FILE)
    }

    /// Decides from now on what happens to requests.
    pub fn set_hook(&self, hook: Box<dyn Fn(&RequestInfo) -> Action + Send + Sync>) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(hook);
    }

    /// Every request so far, those that were broken included.
    pub fn requests(&self) -> Vec<RequestInfo> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests of a kind there were.
    pub fn count(&self, kind: &str) -> usize {
        self.requests().iter().filter(|request| request.kind == kind).count()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

struct Shared {
    requests: Mutex<Vec<RequestInfo>>,
    hook: Mutex<Arc<Hook>>,
}

impl Shared {
    /// Records a request, and asks the hook about it.
    fn record(&self, mut request: RequestInfo) -> (RequestInfo, Action) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        request.index = requests.len();
        requests.push(request.clone());
        drop(requests);
        let hook = Arc::clone(&self.hook.lock().unwrap_or_else(PoisonError::into_inner));
        let action = hook(&request);
        (request, action)
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    forwarder: Arc<Forwarder>,
    stopping: CancellationToken,
) {
    while let Some(Ok((stream, _))) = stopping.run_until_cancelled(listener.accept()).await {
        let (acceptor, forwarder, stopping) = (acceptor.clone(), Arc::clone(&forwarder), stopping.clone());
        tokio::spawn(async move { stopping.run_until_cancelled(serve(stream, acceptor, forwarder)).await });
    }
}

/// Errors end the connection, which is all that a client is to see of them.
async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, forwarder: Arc<Forwarder>) {
    let service = hyper::service::service_fn(move |request| {
        let forwarder = Arc::clone(&forwarder);
        async move { forwarder.handle(request).await }
    });
    let http = hyper::server::conn::http1::Builder::new();
    if let Some(acceptor) = acceptor {
        if let Ok(stream) = acceptor.accept(stream).await {
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        }
    } else {
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }
}

const ROOT_FILE: &str = "root.pem";
