//! A small Kubernetes API server over TLS. It speaks Secrets and nothing else, and is as strict about them as the real
//! one: roles, types, versions, Base64. Dropping it ends all its tasks.

mod api;
mod state;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::state::State;
pub use self::state::{Refusal, Request};
use crate::pebble::tls::ServerTls;

/// A running API server.
pub struct Kubernetes {
    state: Arc<State>,
    address: SocketAddr,
    tls: ServerTls,
    serving: JoinHandle<()>,
}

impl Kubernetes {
    /// Starts one on a free loopback port, with the namespace `default`.
    ///
    /// # Errors
    /// Where no port can be bound or TLS not be set up.
    pub async fn start() -> anyhow::Result<Self> {
        let tls = ServerTls::generate(Ipv4Addr::LOCALHOST.into())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let serving = tokio::spawn(api::serve(listener, tls.acceptor()?, Arc::clone(&state)));
        Ok(Self { state, address, tls, serving })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Writes what Kubernetes mounts into a pod of the namespace `default`: `token`, `ca.crt` and `namespace`.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn mount_service_account(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("token"), self.state.token())?;
        fs::write(folder.join("ca.crt"), &self.tls.root_pem)?;
        fs::write(folder.join("namespace"), "default")?;
        Ok(())
    }

    /// Takes another token from now on, and the old one no longer.
    pub fn exchange_token(&self, token: &str) {
        self.state.exchange_token(token);
    }

    /// Takes a verb, such as `patch`, from the service account's role.
    pub fn deny(&self, verb: &'static str) {
        self.state.deny(verb);
    }

    /// Answers the next request like this, without carrying it out.
    pub fn refuse_next(&self, refusal: Refusal) {
        self.state.refuse_next(refusal);
    }

    /// The Secret of this name in `default`.
    pub fn secret(&self, name: &str) -> Option<Value> {
        self.state.secret("default", name)
    }

    /// Puts a Secret into `default` as somebody else would, in place of one of the same name.
    pub fn put(&self, secret: Value) {
        self.state.put(secret);
    }

    /// Lets somebody else put a Secret just before the next change is carried out.
    pub fn put_before_next_write(&self, secret: Value) {
        self.state.put_before_next_write(secret);
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests()
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
