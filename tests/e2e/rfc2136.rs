//! Certificates for names whose challenge records a BIND of one's own publishes.

use std::os::unix::fs::PermissionsExt;

use autocertd_support::bind::{Bind, BindOptions, BindZone, TsigKey};
use autocertd_support::cloud_dns::CloudDns;
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::FaultProxy;
use autocertd_support::pebble::{Pebble, PebbleOptions};

use crate::fixture::{Fixture, auto_certificate, newest};

const ZONE: &str = "office.test";

/// A BIND that holds [`ZONE`], and asks the Cloud DNS for everything else.
struct BindFixture {
    bind: Bind,
    key: TsigKey,
}

impl BindFixture {
    async fn start(cloud: &CloudDns) -> Self {
        let key = TsigKey::generate("autocertd", "hmac-sha384").unwrap();
        let stranger = "_acme-challenge TXT \"stranger\"".to_owned();
        let zone = BindZone { records: stranger, ..BindZone::new(ZONE, "grant autocertd zonesub TXT;") };
        let (ip, port) = (cloud.dns_addr().ip(), cloud.dns_addr().port());
        let options = format!(
            "recursion yes; dnssec-validation no; forward only; forwarders {{ {ip} port {port}; }};
            max-cache-ttl 0; max-ncache-ttl 0;"
        );
        let options = BindOptions { keys: vec![key.clone()], zones: vec![zone], options, ..BindOptions::default() };
        Self { bind: Bind::start(&options).await.unwrap(), key }
    }

    /// The daemon's settings with this BIND as the adapter of its zone, and as the server to look at.
    fn setup(&self, world: &Fixture) -> Setup {
        let key_file = world.folder.path().join("autocertd.key");
        std::fs::write(&key_file, self.key.statement()).unwrap();
        std::fs::set_permissions(&key_file, PermissionsExt::from_mode(0o600)).unwrap();
        let more = format!(
            "[dns.adapter.office]\ntype = \"rfc2136\"\nserver = \"{}\"\nkey_file = \"{}\"\n\
             [[dns.zone]]\nsuffix = \"{ZONE}\"\nadapter = \"office\"\n",
            self.bind.addr(),
            key_file.display()
        );
        Setup { dns_server: self.bind.addr(), more, ..world.setup() }
    }

    /// The records that are not the stranger's.
    async fn leftovers(&self) -> Vec<String> {
        let mut records = self.bind.txt_records(ZONE).await.unwrap();
        let strangers = records.iter().position(|record| record == "_acme-challenge.office.test stranger");
        records.remove(strangers.expect("nobody touches the stranger's record"));
        records
    }

    /// How many TXT records were ever added to the zone.
    fn additions(&self) -> usize {
        let log = self.bind.log();
        log.lines().filter(|line| line.contains("adding an RR") && line.contains("TXT")).count()
    }

    async fn await_no_leftovers(&self, daemon: &Daemon) {
        for _ in 0..MAX_POLLS {
            if self.leftovers().await.is_empty() {
                return;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        panic!("left over: {:?}; the log:\n{}", self.leftovers().await, daemon.log());
    }
}

/// A world in which the CA asks this BIND.
async fn world(bind: &Bind, dns: CloudDns) -> Fixture {
    let options = PebbleOptions { dns_server: Some(bind.addr()), ..PebbleOptions::default() };
    let pebble = Pebble::start(options).await.unwrap();
    let acme = FaultProxy::in_front_of(&pebble).await.unwrap();
    Fixture { pebble, dns, acme, folder: tempfile::tempdir().unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apex_its_wildcard_and_a_name_below_are_proven_in_a_bind_zone() {
    let dns = CloudDns::start().await.unwrap();
    let office = BindFixture::start(&dns).await;
    let world = world(&office.bind, dns).await;
    let daemon = Daemon::start(&office.setup(&world)).await.unwrap();
    let provider = world.provider(&daemon).await;

    let names = [ZONE, "*.office.test", "www.floor.office.test"];
    let path = auto_certificate(&daemon, &provider, "secp256r1", &names).await;
    let auto =
        daemon.api.wait_until_available(&path).await.unwrap_or_else(|error| panic!("{error}\n{}", office.bind.log()));

    newest(&daemon, &auto).await;
    assert_eq!(office.additions(), 3, "{}", office.bind.log());
    office.await_no_leftovers(&daemon).await;
    assert!(world.challenge_records().is_empty());
    assert!(!daemon.log().contains(&office.key.secret));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cname_in_the_cloud_dns_leads_into_a_bind_zone() {
    let dns = CloudDns::start().await.unwrap();
    let office = BindFixture::start(&dns).await;
    let zone = dns.add_zone("a.example");
    dns.add_record(&zone, "_acme-challenge.www", "CNAME", "www-a-example.office.test");
    let world = world(&office.bind, dns).await;
    let daemon = Daemon::start(&office.setup(&world)).await.unwrap();
    let provider = world.provider(&daemon).await;

    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.a.example"]).await;
    let auto =
        daemon.api.wait_until_available(&path).await.unwrap_or_else(|error| panic!("{error}\n{}", office.bind.log()));

    newest(&daemon, &auto).await;
    assert!(office.bind.log().contains("adding an RR at 'www-a-example.office.test' TXT"), "{}", office.bind.log());
    office.await_no_leftovers(&daemon).await;
    assert!(world.challenge_records().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_records_of_a_challenge_that_failed_are_removed() {
    // Its CA asks the Cloud DNS, which knows nothing of the BIND zone.
    let world = Fixture::start().await;
    let office = BindFixture::start(&world.dns).await;
    let daemon = Daemon::start(&office.setup(&world)).await.unwrap();
    let provider = world.provider(&daemon).await;

    let path = auto_certificate(&daemon, &provider, "secp256r1", &[ZONE, "*.office.test"]).await;

    let failed =
        |seen: &serde_json::Value| seen["metadata"]["message"].as_str().is_some_and(|said| said.contains("TXT"));
    daemon.api.wait_until(&path, failed).await.unwrap();
    assert_eq!(office.additions(), 2, "{}", office.bind.log());
    office.await_no_leftovers(&daemon).await;
}

const MAX_POLLS: u32 = 1_000;
const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);
