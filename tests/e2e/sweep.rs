//! `autocertd dns sweep` and the sweep of the daemon: what crashed and what was left behind goes, and nothing else.

use std::sync::{Arc, Mutex};

use autocertd::domain::value::id::{AutoCertificateId, ChallengeRecordId};
use autocertd::runtime::clock::{Clock, SystemClock};
use autocertd::store::{IntendedCanary, Page, RunOutcome, Store};
use autocertd_support::cloud_dns::Fault;
use autocertd_support::daemon::Setup;
use autocertd_support::fault_proxy::{Action, FaultProxy, FaultProxyOptions};
use serde_json::{Value, json};
use time::Duration;

use crate::fixture::{Fixture, open_store, store_auto_certificate};
use crate::kill::{kill_process, renew_now};
use crate::manual_clock_daemon::ManualClockDaemon;
use crate::one_shot::{json_of, run};

/// Where a record is in its life when its maker is killed: before or after this request, the how-many-th of its kind.
const RECORD_LIFETIME: [(&str, Side); 7] = [
    ("dns-list-records", Side::Before),
    ("dns-create-record", Side::Before),
    ("dns-create-record", Side::After),
    ("dns-get-record", Side::Before),
    ("challenge", Side::Before),
    ("dns-delete-record", Side::Before),
    ("dns-delete-record", Side::After),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// Here nobody goes on with the order: its auto-certificate is deleted, and the sweep alone cleans up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_at_any_point_of_a_records_life_a_sweep_leaves_nothing_but_what_is_of_others() {
    let world = Fixture::start().await;
    for (number, (kind, side)) in RECORD_LIFETIME.into_iter().enumerate() {
        let at = format!("{side:?} {kind}");
        let name = format!("crash{number}.example");
        let zone = world.dns.add_zone(&name);
        world.dns.add_record(&zone, "_acme-challenge", "TXT", "of-somebody-else");
        let (setup, acme, dns) = behind_proxies(&world, &name).await;
        let store = open_store(&setup).await;
        store_auto_certificate(&store, &acme.directory_url(), &name).await;
        store.close().await;
        let victim = Arc::new(Mutex::new(None));
        for proxy in [&acme, &dns] {
            let victim = Arc::clone(&victim);
            proxy.set_hook(Box::new(move |request| {
                let victim = Arc::clone(&victim);
                let kill = Box::new(move || kill_process(&victim));
                match side {
                    _ if request.kind != kind => Action::Pass,
                    Side::Before => Action::KillBefore(kill),
                    Side::After => Action::KillAfter(kill),
                }
            }));
        }
        assert!(!renew_now(&setup, &victim).await, "{at}: it was killed");
        for proxy in [&acme, &dns] {
            proxy.set_hook(Box::new(|_| Action::Pass));
        }

        let store = open_store(&setup).await;
        let [noted] = store.journal().await.unwrap().try_into().unwrap();
        let over = kind == "dns-delete-record";
        assert_eq!(noted.is_needed, !over, "{at}");
        if !over {
            let looked = run(&setup, &["dns", "sweep", "--json"]).await;
            assert_eq!(states(&looked.stdout), ["inUse"], "{at}: the open order goes on after a restart");
            store.delete_auto_certificate(noted.auto_certificate.unwrap()).await.unwrap();
        }
        let swept = run(&setup, &["dns", "sweep", "--json"]).await;
        assert_eq!(
            (swept.status.code(), states(&swept.stdout)),
            (Some(0), vec!["removed".to_owned()]),
            "{at} {swept:?}"
        );
        assert!(store.journal().await.unwrap().is_empty(), "{at}");
        let left: Vec<String> = world.dns.records(&zone).into_iter().map(|record| record.content).collect();
        assert_eq!(left, ["of-somebody-else"], "{at}");
        let again = run(&setup, &["dns", "sweep"]).await;
        assert_eq!(String::from_utf8_lossy(&again.stdout), "nothing is left over\n", "{at}");
        store.close().await;
    }
}

/// The value proves control of the name to the CA, so that nobody else has a use for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_equal_value_that_a_person_made_is_adopted_and_goes_with_the_order() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("adopted.example");
    let (setup, acme, dns) = behind_proxies(&world, "adopted").await;
    let store = open_store(&setup).await;
    store_auto_certificate(&store, &acme.directory_url(), "adopted.example").await;
    let victim = Arc::new(Mutex::new(None));
    dns.set_hook(Box::new({
        let victim = Arc::clone(&victim);
        move |request| {
            let victim = Arc::clone(&victim);
            let first = request.kind == "dns-create-record";
            if first { Action::KillBefore(Box::new(move || kill_process(&victim))) } else { Action::Pass }
        }
    }));
    assert!(!renew_now(&setup, &victim).await);
    let content = store.journal().await.unwrap().remove(0).content;
    world.dns.add_record(&zone, "_acme-challenge", "TXT", &content);
    world.dns.add_record(&zone, "_acme-challenge", "TXT", "another");
    assert!(renew_now(&setup, &victim).await);
    assert_eq!(dns.count("dns-create-record"), 1, "only the one that was held back");
    let left: Vec<String> = world.dns.records(&zone).into_iter().map(|record| record.content).collect();
    assert_eq!(left, ["another"]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_says_what_became_of_each_record() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("sweep.example");
    let setup = world.setup();
    let store = open_store(&setup).await;
    let sweep = async |arguments: &[&str]| run(&setup, &[&["dns", "sweep"], arguments].concat()).await;
    let nothing = sweep(&[]).await;
    assert_eq!((nothing.status.code(), text(&nothing.stdout)), (Some(0), "nothing is left over\n".to_owned()));

    for name in ["left", "young", "strange"] {
        world.dns.add_record(&zone, &format!("_acme-challenge.{name}"), "TXT", "canary");
    }
    let left = canary(&store, "ionos", &zone, "_acme-challenge.left.sweep.example").await;
    canary(&store, "ionos", &zone, "_acme-challenge.young.sweep.example").await;
    let gone = canary(&store, "office", "z", "_acme-challenge.gone.example").await;
    for id in [left, gone] {
        store.record_removal_failure(id, SystemClock.now() + Duration::hours(1)).await.unwrap();
    }

    let looked = sweep(&["--dry-run"]).await;
    assert_eq!(looked.status.code(), Some(0), "{looked:?}");
    let shown = text(&looked.stdout);
    assert!(shown.contains("would be removed: TXT _acme-challenge.left.sweep.example \"canary\" (ionos)\n"), "{shown}");
    assert!(shown.ends_with("2 would be removed, 1 in use\n"), "{shown}");
    assert_eq!(store.journal().await.unwrap().len(), 3);

    world.dns.fault(1, "GET", "/records", Fault::Status(422));
    let refused = sweep(&[]).await;
    let shown = text(&refused.stdout);
    assert_eq!(refused.status.code(), Some(1), "{shown}");
    assert!(shown.contains("(ionos): ionos: GET /records was rejected with status 422"), "{shown}");
    assert!(shown.contains("the settings no longer have the DNS adapter office"), "{shown}");
    assert!(shown.contains("in use: TXT _acme-challenge.young.sweep.example"), "{shown}");
    assert!(shown.ends_with("2 not removed, 1 in use\n"), "{shown}");

    let swept = sweep(&["--json"]).await;
    assert_eq!(swept.status.code(), Some(1), "one adapter is unknown");
    let rows = json_of(&swept);
    let removed = rows.as_array().unwrap().iter().find(|row| row["state"] == "removed").unwrap();
    assert_eq!(
        *removed,
        json!({
            "name": "_acme-challenge.left.sweep.example", "content": "canary", "adapter": "ionos", "zone": zone,
            "record": null, "autoCertificate": null, "state": "removed", "message": null,
        })
    );

    let known = sweep(&["--forget", "ionos"]).await;
    assert_eq!(known.status.code(), Some(2), "{known:?}");
    let forgotten = sweep(&["--forget", "office"]).await;
    assert_eq!(forgotten.status.code(), Some(0));
    assert!(text(&forgotten.stdout).ends_with("1 forgotten\n"), "{forgotten:?}");
    assert_eq!(store.journal().await.unwrap().len(), 1, "the young one is of a check that may still run");
    let left: Vec<String> = world.dns.records(&zone).into_iter().map(|record| record.fqdn).collect();
    assert_eq!(left, ["_acme-challenge.young.sweep.example", "_acme-challenge.strange.sweep.example"]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_is_at_work_on_is_left_to_them() {
    let world = Fixture::start().await;
    world.dns.add_zone("busy.example");
    world.dns.fault(1_000, "DELETE", "/zones", Fault::Status(503));
    let setup = world.setup();
    let store = open_store(&setup).await;
    store_auto_certificate(&store, &world.directory(), "busy.example").await;
    run(&setup, &["--renew-now"]).await;
    let id = only(&store).await;
    let claim = store.claim(id).await.unwrap().unwrap();
    let busy = run(&setup, &["dns", "sweep"]).await;
    let shown = text(&busy.stdout);
    assert_eq!(busy.status.code(), Some(0), "{shown}");
    assert!(shown.contains(": a running renewal is at work on it\n1 in use\n"), "{shown}");

    store.release_auto_certificate(&claim.lease, SystemClock.now(), RunOutcome::Interrupted).await.unwrap();
    let refused = run(&setup, &["dns", "sweep"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stdout).contains("status 503"), "{refused:?}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_removes_strays_and_keeps_what_it_cannot_remove() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("stray.example");
    world.dns.add_record(&zone, "_acme-challenge.left", "TXT", "canary");
    world.dns.add_record(&zone, "_acme-challenge.left", "TXT", "of-somebody-else");
    let clockwork = ManualClockDaemon::start(world).await;
    canary(&clockwork.store, "ionos", &zone, "_acme-challenge.left.stray.example").await;
    canary(&clockwork.store, "office", "z", "_acme-challenge.gone.example").await;

    clockwork.run_for(Duration::minutes(9)).await;
    assert_eq!(clockwork.world.dns.records(&zone).len(), 2, "whoever made it may still need it");
    clockwork.run_for(Duration::minutes(2)).await;
    let left: Vec<String> = clockwork.world.dns.records(&zone).into_iter().map(|record| record.content).collect();
    assert_eq!(left, ["of-somebody-else"]);

    clockwork.run_for(Duration::days(3)).await;
    let [kept] = clockwork.store.journal().await.unwrap().try_into().unwrap();
    assert_eq!(kept.adapter, "office");
    assert!((3..=4).contains(&kept.failed_removals), "{} warnings in three days", kept.failed_removals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_takes_no_record_of_a_running_check_for_orphaned() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("clock.example");
    for name in ["young", "ahead"] {
        world.dns.add_record(&zone, &format!("_acme-challenge.{name}"), "TXT", "canary");
    }
    let clockwork = ManualClockDaemon::start(world).await;
    canary(&clockwork.store, "ionos", &zone, "_acme-challenge.young.clock.example").await;
    let ahead = Duration::days(400);
    clockwork.step_clock(ahead);
    let clockwork = clockwork.restart().await;
    clockwork.scan().await;
    assert_eq!(clockwork.world.dns.records(&zone).len(), 2, "a check may still wait for it");
    assert!(clockwork.world.acme.count("directory") > 0, "a CA was asked for the time");

    // What the wrong clock notes is forgotten with it.
    canary(&clockwork.store, "ionos", &zone, "_acme-challenge.ahead.clock.example").await;
    clockwork.turn(Duration::minutes(1));
    clockwork.step_clock(-ahead);
    clockwork.run_for(Duration::minutes(25)).await;
    assert!(clockwork.world.dns.records(&zone).is_empty(), "{:?}", clockwork.world.dns.records(&zone));
    assert!(clockwork.store.journal().await.unwrap().is_empty());
}

async fn behind_proxies(world: &Fixture, folder: &str) -> (Setup, FaultProxy, FaultProxy) {
    let acme = FaultProxy::in_front_of(&world.pebble).await.unwrap();
    let options = FaultProxyOptions { upstream: world.dns.http_url(), upstream_root_pem: None, tls: false };
    let dns = FaultProxy::start(options).await.unwrap();
    let setup = Setup {
        folder: world.folder.path().join(folder),
        acme_root: acme.root_pem_path(),
        cloud_dns: dns.url(),
        ..world.setup()
    };
    (setup, acme, dns)
}

/// Notes a canary of this name.
async fn canary(store: &Store, adapter: &str, zone_id: &str, name: &str) -> ChallengeRecordId {
    store.journal_canary(&IntendedCanary { adapter, zone_id, name, content: "canary" }).await.unwrap()
}

fn states(stdout: &[u8]) -> Vec<String> {
    let rows: Value = serde_json::from_slice(stdout).unwrap();
    rows.as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect()
}

fn text(stdout: &[u8]) -> String {
    String::from_utf8_lossy(stdout).into_owned()
}

/// The one auto-certificate that there is.
async fn only(store: &Store) -> AutoCertificateId {
    let [one] = store.auto_certificates(Page { offset: 0, limit: 2 }, None).await.unwrap().items.try_into().unwrap();
    one.id
}
