//! What all work with CAs shares: the HTTP client with its trust and bounds, and the pace of polling.

use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use http::header::DATE;
use reqwest::Certificate;
use reqwest::redirect::Policy;

use crate::acme::directory::{DirectoryCache, DirectoryMeta, parse_meta};
use crate::acme::error::AcmeError;
use crate::acme::problem::AcmeStep;
use crate::acme::transport::{CaConnection, Transport};
use crate::config::acme::AcmeSection;
use crate::domain::failure::retry_after::parse_http_date;
use crate::domain::provider::rate_limit_ledger::CaLimits;
use crate::domain::value::moment::Moment;
use crate::domain::value::server_url::ServerUrl;
use crate::runtime::clock::SharedClock;
use crate::runtime::files;

/// The client for every CA. Cheap to clone; clones share connections and directories.
#[derive(Clone)]
pub struct AcmeClient {
    pub(super) settings: Arc<AcmeSection>,
    transport: Transport,
}

/// Settings with which no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum UnusableAcmeSettings {
    /// A file of `extra_roots` cannot be read.
    #[error("cannot read {path}, which extra_roots in [acme] names")]
    UnreadableRoot {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// A file of `extra_roots` holds no certificate.
    #[error("{path} holds no PEM certificate, though extra_roots in [acme] names it")]
    NoRoot {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error(
        "cannot set up TLS; install the system's CA certificates (package ca-certificates) or name roots in extra_roots in [acme]"
    )]
    Tls(#[source] reqwest::Error),
}

impl AcmeClient {
    /// A client with these settings.
    ///
    /// # Errors
    /// Where an extra root cannot be read, or the system has no trusted roots at all.
    pub fn new(settings: &AcmeSection, clock: SharedClock) -> Result<Self, UnusableAcmeSettings> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("autocertd/", env!("CARGO_PKG_VERSION")))
            .timeout(settings.timeout.duration())
            .redirect(Policy::none())
            .https_only(!settings.allow_http)
            .tls_certs_merge(load_extra_roots(settings)?)
            .build()
            .map_err(UnusableAcmeSettings::Tls)?;
        let transport = Transport { http, clock, directories: Arc::new(DirectoryCache::default()) };
        Ok(Self { settings: Arc::new(settings.clone()), transport })
    }

    /// The names by which the CA knows itself in CAA records (RFC 8555 section 7.1.1); none where it tells none.
    ///
    /// # Errors
    /// Where its directory cannot be read.
    pub async fn caa_identities(&self, server: &ServerUrl) -> Result<Vec<String>, AcmeError> {
        Ok(self.directory_meta(server).await?.caa_identities)
    }

    /// The names of the profiles that the CA offers (draft-ietf-acme-profiles), in their order.
    ///
    /// # Errors
    /// Where its directory cannot be read.
    pub async fn profiles(&self, server: &ServerUrl) -> Result<Vec<String>, AcmeError> {
        Ok(self.directory_meta(server).await?.profiles.into_keys().collect())
    }

    /// Reads the directory of a CA anew, and gives what the CA's clock showed, where the answer tells it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn check_directory(&self, server: &ServerUrl) -> Result<Option<Moment>, AcmeError> {
        let answer = self.connection(server)?.fetch_directory().await;
        let answer = answer.map_err(|error| AcmeError::from_transport(AcmeStep::Directory, error))?;
        Ok(answer.headers().get(DATE).and_then(|date| parse_http_date(date.to_str().ok()?)))
    }

    async fn directory_meta(&self, server: &ServerUrl) -> Result<DirectoryMeta, AcmeError> {
        let directory = self.connection(server)?.load_directory().await;
        let directory = directory.map_err(|error| AcmeError::from_transport(AcmeStep::Directory, error))?;
        Ok(parse_meta(&directory))
    }

    /// Asks a CA for a nonce, which costs it nothing, to see whether it is there.
    ///
    /// # Errors
    /// Where it gives none.
    pub async fn probe(&self, server: &ServerUrl) -> Result<(), AcmeError> {
        let exchange = self.connection(server)?;
        let new_nonce = exchange.load_endpoints().await?.new_nonce;
        exchange.fetch_nonce(&new_nonce).await.map_err(|error| AcmeError::from_transport(AcmeStep::Nonce, error))?;
        Ok(())
    }

    /// A way of its own to one CA.
    pub(super) fn connection(&self, server: &ServerUrl) -> Result<CaConnection, AcmeError> {
        let unusable = || AcmeError::UnusableServer(server.to_string());
        let directory: Uri = server.as_str().parse().map_err(|_| unusable())?;
        // instant-acme parses it again, and panics where that fails.
        directory.host().ok_or_else(unusable)?;
        Ok(CaConnection::new(self.transport.clone(), directory))
    }

    /// The limits of a CA that are known.
    pub fn limits_for(&self, server: &ServerUrl) -> CaLimits {
        self.settings.limits_for(server)
    }

    pub(super) const fn clock(&self) -> &SharedClock {
        &self.transport.clock
    }
}

fn load_extra_roots(settings: &AcmeSection) -> Result<Vec<Certificate>, UnusableAcmeSettings> {
    let mut roots = Vec::new();
    for path in &settings.extra_roots {
        let pem = files::read_at_once(path, files::LONGEST_FILE)
            .map_err(|error| UnusableAcmeSettings::UnreadableRoot { path: path.clone(), error })?;
        match Certificate::from_pem_bundle(&pem) {
            Ok(found) if !found.is_empty() => roots.extend(found),
            _ => return Err(UnusableAcmeSettings::NoRoot { path: path.clone() }),
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::SystemClock;

    #[test]
    fn extra_roots_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, empty) = (folder.path().join("missing.pem"), folder.path().join("empty.pem"));
        std::fs::write(&empty, "no certificate").unwrap();
        for (path, words) in [(missing, "cannot read"), (empty, "holds no PEM certificate")] {
            let settings = AcmeSection { extra_roots: vec![path.clone()], ..AcmeSection::default() };
            let error = AcmeClient::new(&settings, Arc::new(SystemClock)).err().unwrap().to_string();
            assert!(error.contains(words) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}
