//! A Secret of type `kubernetes.io/tls`, written through the Kubernetes API with the pod's service account.
//!
//! A missing Secret is created by POST, which fails where somebody is faster. A Secret of ours is changed by server-side
//! apply that names the version it was read at: it leaves alone what others add, takes back what others changed of ours,
//! and fails where the Secret became another one meanwhile. An apply alone would create and overwrite without a question.

mod error;
mod naming;
mod secret;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use reqwest::{Certificate, Method};
use serde_json::Value;

use self::error::KubernetesError;
use self::naming::{NamePattern, is_label};
use self::secret::{DesiredSecret, ExistingSecret};
use crate::config::delivery::KubernetesEntry;
use crate::config::time_span::TimeSpan;
use crate::deliver::service::{AuthorizationAdvice, DeliveryService, ServiceCall, TokenFile};
use crate::deliver::{Delivery, DeliveryOutcome, DeliveryPayload};
use crate::domain::failure::disposition::Failure;
use crate::domain::value::endpoint::{Endpoint, InvalidEndpoint};
use crate::runtime::clock::SharedClock;
use crate::runtime::files;

/// A Kubernetes cluster to which certificates are written.
pub struct KubernetesDelivery {
    secret: NamePattern,
    /// Without one the pod's own.
    namespace: Option<String>,
    server: Endpoint,
    service_account: PathBuf,
    timeout: TimeSpan,
    clock: SharedClock,
}

/// Why the settings of a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableKubernetes {
    /// The name of the Secret.
    #[error(
        "kubernetes.secret = {0:?} is no name of a Secret: write lower-case letters, digits, '-' and '.', and {{name}} for the certificate's label"
    )]
    Secret(String),
    /// The namespace.
    #[error("kubernetes.namespace = {0:?} is no name of a namespace: write lower-case letters, digits and '-'")]
    Namespace(String),
    /// The address of the API server.
    #[error("kubernetes.server cannot be used")]
    Server(#[source] InvalidEndpoint),
    /// The address that the environment gives.
    #[error("$KUBERNETES_SERVICE_HOST and $KUBERNETES_SERVICE_PORT cannot be used")]
    Environment(#[source] InvalidEndpoint),
    /// No address is given.
    #[error(
        "there is no API server: only pods have $KUBERNETES_SERVICE_HOST and $KUBERNETES_SERVICE_PORT; set kubernetes.server"
    )]
    NoServer,
}

impl KubernetesDelivery {
    /// A delivery to the cluster of these settings. What the service account's folder holds is read when it is needed.
    ///
    /// # Errors
    /// Where a name or the address cannot be used.
    pub fn new(entry: &KubernetesEntry, clock: SharedClock) -> Result<Self, UnusableKubernetes> {
        let unusable = || UnusableKubernetes::Secret(entry.secret.clone());
        let secret = NamePattern::parse(&entry.secret).ok_or_else(unusable)?;
        if let Some(namespace) = entry.namespace.as_ref().filter(|namespace| !is_label(namespace)) {
            return Err(UnusableKubernetes::Namespace(namespace.clone()));
        }
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let server = choose_server(entry.server.as_deref(), variable(HOST_VARIABLE), variable(PORT_VARIABLE))?;
        Ok(Self {
            secret,
            namespace: entry.namespace.clone(),
            server,
            service_account: entry.service_account.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SERVICE_ACCOUNT)),
            timeout: entry.timeout,
            clock,
        })
    }

    /// The way to the cluster as it is now: Kubernetes exchanges token and root while the pod runs.
    async fn connect(&self) -> Result<ClusterConnection, KubernetesError> {
        let namespace = match &self.namespace {
            Some(namespace) => namespace.clone(),
            None => {
                String::from_utf8_lossy(&read_file(&self.service_account.join("namespace")).await?).trim().to_owned()
            }
        };
        let mut client = DeliveryService::client_builder(&self.server, self.timeout);
        if self.server.is_https() {
            let path = self.service_account.join("ca.crt");
            let roots = Certificate::from_pem_bundle(&read_file(&path).await?).ok().filter(|roots| !roots.is_empty());
            client = client.tls_certs_only(roots.ok_or(KubernetesError::NoRoot(path))?);
        }
        let token = TokenFile { key: "kubernetes.service_account", path: self.service_account.join("token") };
        let advice = AuthorizationAdvice {
            unauthenticated: format!("see that {} holds a token of this cluster", token.path.display()),
            forbidden: format!(
                "bind the pod's service account to a Role in namespace {namespace} that allows get, create and patch of \
                 secrets"
            ),
        };
        let (endpoint, clock) = (self.server.clone(), self.clock.clone());
        let http = client.build().map_err(KubernetesError::Client)?;
        let service =
            DeliveryService { name: NAME, http, endpoint, token, advice, read_message: secret::status_message, clock };
        Ok(ClusterConnection { service, namespace })
    }

    async fn ensure_secret(&self, parcel: &DeliveryPayload) -> Result<(), KubernetesError> {
        let cluster = self.connect().await?;
        let wanted = DesiredSecret::from_payload(
            parcel,
            self.secret.name_for(&parcel.recipient.label),
            cluster.namespace.clone(),
        );
        let Some(found) = cluster.find_secret(&wanted).await? else {
            cluster.create_secret(&wanted).await?;
            tracing::info!(secret = %wanted, "Secret created");
            return Ok(());
        };
        found.check_ours(&wanted)?;
        if !found.contains(&wanted) {
            found.check_changeable(&wanted)?;
            cluster.apply_secret(&wanted, &found).await?;
            tracing::info!(secret = %wanted, "Secret changed");
        }
        Ok(())
    }

    async fn is_current(&self, parcel: &DeliveryPayload) -> Result<bool, KubernetesError> {
        let cluster = self.connect().await?;
        let wanted = DesiredSecret::from_payload(
            parcel,
            self.secret.name_for(&parcel.recipient.label),
            cluster.namespace.clone(),
        );
        let found = cluster.find_secret(&wanted).await?;
        Ok(found.is_some_and(|found| found.check_ours(&wanted).is_ok() && found.contains(&wanted)))
    }
}

#[async_trait]
impl Delivery for KubernetesDelivery {
    async fn deliver(&self, parcel: &DeliveryPayload, _: Option<&Value>) -> Result<DeliveryOutcome, Failure> {
        self.ensure_secret(parcel).await?;
        Ok(DeliveryOutcome::default())
    }

    async fn is_in_place(&self, parcel: &DeliveryPayload, _: Option<&Value>) -> Result<bool, Failure> {
        Ok(self.is_current(parcel).await?)
    }
}

/// The API server, and the namespace to write to.
struct ClusterConnection {
    service: DeliveryService,
    namespace: String,
}

impl ClusterConnection {
    async fn find_secret(&self, wanted: &DesiredSecret) -> Result<Option<ExistingSecret>, KubernetesError> {
        let path = ["api", "v1", "namespaces", &self.namespace, "secrets", &wanted.name];
        match self.service.call_json(ServiceCall { method: Method::GET, path: &path, query: &[], body: None }).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.rejected_status() == Some(404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn create_secret(&self, wanted: &DesiredSecret) -> Result<(), KubernetesError> {
        let (path, manifest) = (["api", "v1", "namespaces", &self.namespace, "secrets"], wanted.manifest(None));
        let (query, body) = ([("fieldManager", FIELD_MANAGER.to_owned())], Some(("application/json", &manifest)));
        match self.service.send(ServiceCall { method: Method::POST, path: &path, query: &query, body }).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.rejected_status() {
                Some(409) => KubernetesError::Conflict(wanted.to_string()),
                Some(404) => KubernetesError::NoNamespace(self.namespace.clone()),
                _ => error.into(),
            }),
        }
    }

    async fn apply_secret(&self, wanted: &DesiredSecret, found: &ExistingSecret) -> Result<(), KubernetesError> {
        let path = ["api", "v1", "namespaces", &self.namespace, "secrets", &wanted.name];
        let manifest = wanted.manifest(found.version());
        let query = [("fieldManager", FIELD_MANAGER.to_owned()), ("force", "true".to_owned())];
        // All JSON is YAML.
        let body = Some(("application/apply-patch+yaml", &manifest));
        match self.service.send(ServiceCall { method: Method::PATCH, path: &path, query: &query, body }).await {
            Ok(_) => Ok(()),
            Err(error) if error.rejected_status() == Some(409) => Err(KubernetesError::Conflict(wanted.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

/// The API server of the settings, else the pod's own.
fn choose_server(
    set: Option<&str>,
    host: Option<String>,
    port: Option<String>,
) -> Result<Endpoint, UnusableKubernetes> {
    match (set, host, port) {
        (Some(server), ..) => Endpoint::parse(server).map_err(UnusableKubernetes::Server),
        (None, Some(host), Some(port)) => endpoint_in_pod(&host, &port).map_err(UnusableKubernetes::Environment),
        (None, ..) => Err(UnusableKubernetes::NoServer),
    }
}

/// The API server as pods know it; an IPv6 address needs its brackets.
fn endpoint_in_pod(host: &str, port: &str) -> Result<Endpoint, InvalidEndpoint> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Endpoint::parse(&format!("https://{host}:{port}"))
}

async fn read_file(path: &Path) -> Result<Vec<u8>, KubernetesError> {
    files::read(path).await.map_err(|source| KubernetesError::Unreadable { path: path.to_owned(), source })
}

impl std::fmt::Debug for KubernetesDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesDelivery").field("server", &self.server).finish_non_exhaustive()
    }
}

const NAME: &str = "kubernetes";
/// Who writes, as `managedFields` tell it.
const FIELD_MANAGER: &str = "autocertd";
const HOST_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";
const PORT_VARIABLE: &str = "KUBERNETES_SERVICE_PORT";
/// Where Kubernetes mounts it into each pod.
const DEFAULT_SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::clock::SystemClock;

    #[test]
    fn the_pods_own_server_may_have_any_kind_of_address() {
        for (host, url) in [
            ("10.96.0.1", "https://10.96.0.1/api"),
            ("fd00::1", "https://[fd00::1]/api"),
            ("kubernetes.default.svc", "https://kubernetes.default.svc/api"),
        ] {
            assert_eq!(endpoint_in_pod(host, "443").unwrap().join(&["api"]).as_str(), url);
        }
        assert!(endpoint_in_pod("10.96.0.1", "tcp://x").is_err());
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let usable = "server = 'https://10.96.0.1'";
        for (text, words) in [
            ("secret = 'TLS'\n", "kubernetes.secret = \"TLS\" is no name"),
            ("secret = '{nam}-tls'\n", "{name} for the certificate's label"),
            ("namespace = 'kube/system'\n", "kubernetes.namespace = \"kube/system\" is no name"),
        ] {
            let entry: KubernetesEntry = toml::from_str(&format!("{text}{usable}")).unwrap();
            let error = KubernetesDelivery::new(&entry, Arc::new(SystemClock)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for text in ["server = 'http://10.96.0.1'", "server = '10.96.0.1'"] {
            let entry: KubernetesEntry = toml::from_str(text).unwrap();
            let error = KubernetesDelivery::new(&entry, Arc::new(SystemClock)).unwrap_err();
            assert!(matches!(error, UnusableKubernetes::Server(_)), "{error:?}");
        }
        let host = Some("10.96.0.1".to_owned());
        assert!(matches!(choose_server(None, host.clone(), None), Err(UnusableKubernetes::NoServer)));
        assert!(matches!(choose_server(None, host, Some("tcp:443".into())), Err(UnusableKubernetes::Environment(_))));
    }
}
