//! The DNS server that comes with Pebble, for TXT records.

use autocertd_support::timed::{TimedChild, http_client};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use autocertd_support::loopback::own_address;
use serde_json::json;

pub(crate) struct ChallengeDns {
    child: Child,
    pub(crate) address: SocketAddr,
    management: SocketAddr,
}

impl ChallengeDns {
    pub(crate) async fn start() -> Self {
        for _ in 0..5 {
            if let Some(dns) = Self::try_start().await {
                return dns;
            }
        }
        panic!("pebble-challtestsrv does not start");
    }

    pub(crate) async fn add_txt(&self, name: &str, value: &str) {
        let url = format!("http://{}/set-txt", self.management);
        let body = json!({"host": format!("{name}."), "value": value});
        http_client().post(url).json(&body).send().await.unwrap().error_for_status().unwrap();
    }

    async fn try_start() -> Option<Self> {
        let (address, management) = (own_address(), own_address());
        let child = Command::new("pebble-challtestsrv")
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
            .args(["-dnsserver", &address.to_string(), "-management", &management.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run tools/install-pebble, its package has pebble-challtestsrv too");
        let mut dns = Self { child, address, management };
        for _ in 0..500 {
            if dns.child.try_wait().unwrap().is_some() {
                return None;
            }
            if http_client().get(format!("http://{management}/")).send().await.is_ok() {
                return Some(dns);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }
}

impl Drop for ChallengeDns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.timed_wait();
    }
}
