//! What a delivered autocertd stands among: an ACME server, a Cloud DNS, and a folder.

use std::path::PathBuf;

use autocertd_support::cloud_dns::CloudDns;
use autocertd_support::daemon::Setup;
use autocertd_support::pebble::{Pebble, PebbleOptions};
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) pebble: Pebble,
    pub(crate) dns: CloudDns,
    pub(crate) folder: TempDir,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let dns = CloudDns::start().await.unwrap();
        let options = PebbleOptions { dns_server: Some(dns.dns_addr()), ..PebbleOptions::default() };
        let pebble = Pebble::start(options).await.unwrap();
        Self { pebble, dns, folder: tempfile::tempdir().unwrap() }
    }

    /// A daemon with these further settings.
    pub(crate) fn setup(&self, more: String) -> Setup {
        Setup {
            binary: binary(),
            folder: self.folder.path().join("autocertd"),
            cloud_dns: self.dns.http_url(),
            cloud_dns_token: self.dns.token().to_owned(),
            dns_server: self.dns.dns_addr(),
            acme_root: self.pebble.root_pem_path(),
            log: "info,autocertd=debug".to_owned(),
            more,
        }
    }
}

/// The release binary where `make dist-test` made one, else that of this build.
fn binary() -> PathBuf {
    std::env::var_os("AUTOCERTD_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_autocertd")), PathBuf::from)
}
