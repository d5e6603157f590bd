//! Another Certificate Manager, and what tests do with it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autocertd::config::delivery::CertificateManagerEntry;
use autocertd::deliver::certificate_manager::CertificateManagerDelivery;
use autocertd::deliver::{Delivery, DeliveryOutcome, DeliveryPayload};
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::domain::value::moment::Moment;
use autocertd::runtime::clock::{Clock, ManualClock};
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::{Action, FaultProxy, FaultProxyOptions, RequestInfo};
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::Duration;

use crate::payloads::{START, payload, payload_with_common_name};

/// Another Certificate Manager, and a delivery to it through a proxy.
pub(super) struct Fixture {
    pub(super) daemon: Daemon,
    pub(super) proxy: FaultProxy,
    folder: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) delivery: CertificateManagerDelivery,
}

impl Fixture {
    pub(super) async fn start() -> Self {
        Self::with_timeout("30s").await
    }

    pub(super) async fn with_timeout(timeout: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let acme_root = folder.path().join("root.pem");
        fs::write(&acme_root, payload("root").leaf_pem).unwrap();
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let daemon = Daemon::start(&Setup {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_autocertd")),
            folder: folder.path().join("autocertd"),
            cloud_dns: format!("http://{nowhere}"),
            cloud_dns_token: "unused".to_owned(),
            dns_server: nowhere,
            acme_root,
            log: "info".to_owned(),
            more: String::new(),
        })
        .await
        .unwrap();
        let upstream = daemon.api.base.clone();
        let proxy =
            FaultProxy::start(FaultProxyOptions { upstream, upstream_root_pem: None, tls: false }).await.unwrap();
        let token_file = folder.path().join(TOKEN_FILE);
        fs::write(&token_file, &daemon.api.token).unwrap();
        let clock = clock();
        let entry = entry(&proxy.url(), &token_file, timeout);
        let delivery = CertificateManagerDelivery::new(&entry, clock.clone()).unwrap();
        Self { daemon, proxy, folder, clock, delivery }
    }

    pub(super) async fn deliver(&self, parcel: &DeliveryPayload, receipt: Option<&Value>) -> DeliveryOutcome {
        self.delivery.deliver(parcel, receipt).await.unwrap_or_else(|failure| panic!("{failure}"))
    }

    pub(super) async fn failure(&self, parcel: &DeliveryPayload, receipt: Option<&Value>) -> Failure {
        self.delivery.deliver(parcel, receipt).await.unwrap_err()
    }

    /// What is there, as its API shows it.
    pub(super) async fn uploads(&self) -> Vec<Value> {
        let list = self.daemon.api.get("/certificates?limit=1000").await.unwrap();
        list["items"].as_array().unwrap().clone()
    }

    pub(super) async fn upload(&self, name: &str, parcel: &DeliveryPayload) -> Value {
        let properties = json!({
            "name": name,
            "certificate": parcel.leaf_pem,
            "certificateChain": parcel.chain_pem,
            "privateKey": parcel.private_key.expose_secret(),
        });
        self.daemon.api.create("/certificates", properties).await.unwrap()
    }

    /// Uploads of other people with the same names.
    pub(super) async fn upload_others(&self, count: usize) {
        let other = payload_with_common_name("other", Some("www.example.com"));
        for number in 0..count {
            self.upload(&format!("other {number}"), &other).await;
        }
    }

    /// How many requests of a method the delivery sent.
    pub(super) fn count(&self, method: &str) -> usize {
        self.proxy.requests().iter().filter(|request| request.method == method).count()
    }

    /// Decides what happens to requests of a method.
    pub(super) fn set_hook_for(&self, method: &str, decide: impl Fn(&RequestInfo) -> Action + Send + Sync + 'static) {
        let method: Method = method.parse().unwrap();
        self.proxy.set_hook(Box::new(
            move |request| {
                if request.method == method { decide(request) } else { Action::Pass }
            },
        ));
    }

    pub(super) fn clear_hook(&self) {
        self.proxy.set_hook(Box::new(|_| Action::Pass));
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.folder.path().join(TOKEN_FILE)
    }
}

pub(super) fn current_path(delivered: &DeliveryOutcome) -> String {
    format!("/certificates/{}", delivered.receipt.as_ref().unwrap()["present"]["id"].as_str().unwrap())
}

pub(super) fn entry(endpoint: &str, token_file: &Path, timeout: &str) -> CertificateManagerEntry {
    let grace = GRACE.whole_seconds();
    let text = format!(
        "endpoint = '{endpoint}'\ntoken_file = '{}'\ngrace = '{grace}s'\ntimeout = '{timeout}'",
        token_file.display()
    );
    toml::from_str(&text).unwrap()
}

pub(super) fn clock() -> Arc<ManualClock> {
    let clock = ManualClock::starting_at(START);
    // Right, as a CA says.
    clock.evidence().record_ca_time("ca.example", START, clock.uptime());
    Arc::new(clock)
}

/// An answer in the form of the API.
pub(super) fn api_error(status: u16, retry_after: Option<&str>) -> Action {
    let body = json!({"httpStatus": status, "messages": [{"errorCode": "demanded-1", "message": "on demand"}]});
    let headers = retry_after.map(|value| (RETRY_AFTER, value.parse().unwrap()));
    Action::Respond(status, HeaderMap::from_iter(headers), Bytes::from(body.to_string()))
}

pub(super) fn retry_at(moment: Moment) -> Disposition {
    Disposition::Retry { not_before: Some(moment) }
}

pub(super) const GRACE: Duration = Duration::days(7);
const TOKEN_FILE: &str = "certificate-manager-token";
/// As many certificates as the delivery asks for at once.
pub(super) const PAGE: usize = 100;
