//! A provider that is down while the certificate nears its end: a fallback takes its place where CAA permits it, and the
//! next renewal is the usual provider's again.

use std::time::{Duration, Instant};

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::{Action, FaultProxy};
use autocertd_support::pebble::{Pebble, PebbleOptions};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::declared::{only, provider, wish};
use crate::fixture::{Fixture, newest};
use crate::one_shot::run;

/// Two CAs: that of the world, whose certificates live for seconds, and one that stands by.
struct TwoCaFixture {
    fixture: Fixture,
    fallback: FaultProxy,
    setup: Setup,
    _pebble: Pebble,
}

impl TwoCaFixture {
    /// With these CAA records at the zone `failover.example`. The fallback calls itself `fallback.example` there.
    async fn start(caa: &[&str]) -> Self {
        let world = Fixture::with(PebbleOptions { validity_seconds: 12, ..PebbleOptions::default() }).await;
        let zone = world.dns.add_zone("failover.example");
        for content in caa {
            world.dns.add_record(&zone, "", "CAA", content);
        }
        let options = PebbleOptions { dns_server: Some(world.dns.dns_addr()), ..PebbleOptions::default() };
        let pebble = Pebble::start(options).await.unwrap();
        let fallback = FaultProxy::in_front_of(&pebble).await.unwrap();
        name_itself(&fallback).await;
        let roots = world.folder.path().join("roots.pem");
        let pem = |path| std::fs::read_to_string(path).unwrap();
        std::fs::write(&roots, pem(world.acme.root_pem_path()) + &pem(fallback.root_pem_path())).unwrap();
        let primary = provider(&world.directory(), "ops@example.com") + "fallback = [\"second\"]\n";
        let second = provider(&fallback.directory_url(), "ops@example.com").replace("\"pebble\"", "\"second\"");
        let settings = primary + &second + &wish("www", &["failover.example", "*.failover.example"]);
        let setup = Setup { acme_root: roots, ..world.declaring(&settings) };
        Self { fixture: world, fallback, setup, _pebble: pebble }
    }

    /// Starts autocertd and waits for the first certificate, which is the primary one's.
    async fn issued(&self) -> (Daemon, Value) {
        let daemon = Daemon::start(&self.setup).await.unwrap();
        let path = only(&daemon, "/auto-certificates").await;
        let first = newest(&daemon, &daemon.api.wait_until_available(&path).await.unwrap()).await;
        assert_eq!(self.finalized(), [1, 0]);
        (daemon, first)
    }

    /// From now on the primary CA answers everything with 503.
    fn primary_fails(&self) {
        let overloaded = |_: &_| Action::Respond(503, HeaderMap::new(), Bytes::from_static(b"come back later"));
        self.fixture.acme.set_hook(Box::new(overloaded));
    }

    fn primary_is_back(&self) {
        self.fixture.acme.set_hook(Box::new(|_| Action::Pass));
    }

    /// Asks for a renewal again and again until `done` says so.
    async fn renew_until(&self, daemon: &Daemon, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < WAIT_TIMEOUT, "it does not come to what is awaited:\n{}", daemon.log());
            run(&self.setup, &["--renew-now", "www"]).await;
        }
    }

    /// How many orders each CA has been sent to their end.
    fn finalized(&self) -> [usize; 2] {
        [self.fixture.acme.count("finalize"), self.fallback.count("finalize")]
    }
}

/// Every Pebble has the same name for CAA records, so that the proxy gives this one another.
async fn name_itself(proxy: &FaultProxy) {
    let root = std::fs::read(proxy.root_pem_path()).unwrap();
    let root = reqwest::Certificate::from_pem(&root).unwrap();
    let http = autocertd_support::timed::http().user_agent("test").tls_certs_only([root]).build().unwrap();
    let mut directory: Value = http.get(proxy.directory_url()).send().await.unwrap().json().await.unwrap();
    directory["meta"]["caaIdentities"] = json!(["fallback.example"]);
    let directory = Bytes::from(directory.to_string());
    proxy.set_hook(Box::new(move |request| match request.kind {
        "directory" => Action::Respond(200, HeaderMap::new(), directory.clone()),
        _ => Action::Pass,
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_takes_over_near_the_end_and_the_next_renewal_returns() {
    let caa = [r#"0 issue "primary.example""#, r#"0 issue "fallback.example; validationmethods=dns-01""#];
    let pair = TwoCaFixture::start(&caa).await;
    let (daemon, first) = pair.issued().await;
    pair.primary_fails();
    let refused = run(&pair.setup, &["--renew-now", "www"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert_eq!(pair.fallback.count("new-order"), 0, "more than a sixth of the lifetime is left");

    pair.renew_until(&daemon, || pair.finalized() == [1, 1]).await;
    let path = only(&daemon, "/auto-certificates").await;
    let issued = |seen: &Value| seen["metadata"]["lastIssuedCertificate"] != first["id"];
    let renewed = daemon.api.wait_until(&path, issued).await.unwrap();
    assert_eq!(renewed["metadata"]["state"], "AVAILABLE", "{renewed:#}");
    assert!(daemon.log().contains("changed over to"), "{}", daemon.log());
    let provider = &renewed["properties"]["provider"];
    let path = format!("/providers/{}", provider.as_str().unwrap());
    let usual = daemon.api.get(&path).await.unwrap();
    assert_eq!(usual["properties"]["server"], json!(pair.fixture.directory()), "the wish has not changed");

    pair.primary_is_back();
    let back = run(&pair.setup, &["--renew-now", "www"]).await;
    assert_eq!((back.status.code(), pair.finalized()), (Some(0), [2, 1]), "{back:?}");
    assert!(daemon.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_that_caa_forbids_is_passed_over() {
    let pair = TwoCaFixture::start(&[r#"0 issue "primary.example""#, r#"0 issuewild "fallback.example""#]).await;
    let (daemon, _) = pair.issued().await;
    pair.primary_fails();
    let words = "a fallback is passed over: CAA forbids a certificate for failover.example: \
                 its records let only primary.example issue, and not fallback.example";
    pair.renew_until(&daemon, || daemon.log().contains(words)).await;
    assert_eq!((pair.fallback.count("new-order"), pair.finalized()), (0, [1, 0]));

    pair.primary_is_back();
    pair.renew_until(&daemon, || pair.finalized() == [2, 0]).await;
    assert!(daemon.terminate().await.unwrap().success());
}

const WAIT_TIMEOUT: Duration = Duration::from_mins(1);
