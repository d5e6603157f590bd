//! dns-persist-01 end to end: one record stands, and renewals ask nothing of the DNS.

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::timed::{Timed, http_client};
use autocertd_support::wait::wait_for_some;
use serde_json::Value;

use crate::fixture::{Fixture, auto_certificate};

fn setup(world: &Fixture, mode: &str) -> Setup {
    Setup { more: format!("[experimental]\ndns_persist_01 = {mode:?}\n"), ..world.setup() }
}

/// All records, sorted.
fn persist_records(world: &Fixture) -> Vec<String> {
    let mut records = world.challenge_records();
    records.sort();
    records
}

/// Has it renewed by a one-shot beside the daemon; gives the certificate that serves then.
async fn renewed(setup: &Setup, daemon: &Daemon, path: &str) -> Value {
    let mut renew = setup.command(&["--renew-now", "for www.stand.example"]).unwrap();
    let ended = tokio::task::spawn_blocking(move || renew.timed_output().unwrap()).await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}{}", String::from_utf8_lossy(&ended.stderr), daemon.log());
    daemon.api.get(path).await.unwrap()["metadata"]["lastIssuedCertificate"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_record_stands_and_renewals_need_no_dns() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("stand.example");
    let setup = setup(&world, "publish");
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    let names = ["www.stand.example", "sub.stand.example", "*.sub.stand.example"];
    let path = auto_certificate(&daemon, &provider, "secp256r1", &names).await;
    let first = daemon.api.wait_until_available(&path).await.unwrap()["metadata"]["lastIssuedCertificate"].clone();

    let stands = persist_records(&world);
    assert_eq!(stands.len(), 2, "{stands:#?}");
    let issuer = " pebble.letsencrypt.org; accounturi=https://";
    assert!(stands.iter().all(|record| record.starts_with("_validation-persist.") && record.contains(issuer)));
    let wild = |record: &&String| record.starts_with("_validation-persist.sub.stand.example ");
    assert!(stands.iter().find(wild).unwrap().ends_with("; policy=wildcard"), "{stands:#?}");

    let asked = world.dns.requests().len();
    assert_ne!(renewed(&setup, &daemon, &path).await, first);
    assert_eq!((world.dns.requests().len(), persist_records(&world)), (asked, stands.clone()));

    // The CA tells when it is gone; it is made again.
    for record in world.dns.records(&zone) {
        let url = format!("{}/zones/{zone}/records/{}", world.dns.http_url(), record.id);
        let removed = http_client().delete(url).bearer_auth(world.dns.token()).send().await.unwrap();
        assert_eq!(removed.status(), 202);
    }
    wait_for_some("the removal", || world.challenge_records().is_empty().then_some(())).await;
    let mut renew = setup.command(&["--renew-now", "for www.stand.example"]).unwrap();
    let failed = tokio::task::spawn_blocking(move || renew.timed_output().unwrap()).await.unwrap();
    assert_eq!(failed.status.code(), Some(1), "{}", String::from_utf8_lossy(&failed.stdout));
    assert_ne!(renewed(&setup, &daemon, &path).await, first);
    // A name whose record the CA saw in the very last moment needs none by now.
    let again = persist_records(&world);
    assert!(!again.is_empty() && again.iter().all(|record| stands.contains(record)), "{again:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_made_by_hand_is_asked_for_and_then_relied_on() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("stand.example");
    let setup = setup(&world, "by-hand");
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.stand.example"]).await;
    let waits = daemon.api.wait_until(&path, |seen| seen["metadata"]["state"] == "FAILED").await.unwrap();
    let message = waits["metadata"]["message"].as_str().unwrap();
    let content = message.split_once("with the content \"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
    assert!(message.contains("make the TXT record _validation-persist.www.stand.example"), "{message}");
    assert_eq!(world.acme.count("challenge"), 0, "the CA was asked in vain");

    world.dns.add_record(&zone, "_validation-persist.www", "TXT", content);
    let asked = world.dns.requests().len();
    let first = renewed(&setup, &daemon, &path).await;
    assert_ne!(renewed(&setup, &daemon, &path).await, first);
    assert_eq!(world.dns.requests().len(), asked);
    assert_eq!(world.challenge_records().len(), 1);
}
