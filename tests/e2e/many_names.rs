//! Many names over one zone: all at once, each record made once, known to the journal before it is there, and gone after.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autocertd::store::Store;
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::{Action, FaultProxy, FaultProxyOptions, RequestInfo};
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyPoolOptions;

use crate::fixture::{Fixture, auto_certificate, open_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_names_in_parallel_over_one_zone() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("hundred.example");
    let dns = in_front_of_dns(&world).await;
    let daemon = Daemon::start(&Setup {
        cloud_dns: dns.url(),
        more: "[scheduler]\nconcurrency = 100\n".to_owned(),
        ..world.setup()
    })
    .await
    .unwrap();
    let provider = world.provider(&daemon).await;
    let mut paths = Vec::new();
    for order in 0..10 {
        let names: Vec<String> = (0..10).map(|name| format!("n{name}.o{order}.hundred.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        paths.push(auto_certificate(&daemon, &provider, "secp256r1", &names).await);
    }
    for path in &paths {
        daemon.api.wait_until_available(path).await.unwrap();
    }
    daemon.api.wait_until("/auto-certificates", |_| world.dns.records(&zone).is_empty()).await.unwrap();

    let made: Vec<String> = of_kind(&dns, "dns-create-record").iter().map(name_in).collect();
    assert_eq!((made.len(), made.iter().collect::<BTreeSet<_>>().len()), (100, 100), "each record is made once");
    assert_eq!(dns.count("dns-delete-record"), 100, "each record is removed once");
    assert!(dns.count("dns-zones") < 10, "the zones are read once a minute, not for every name");
    assert_eq!((world.acme.count("new-order"), world.acme.count("finalize")), (10, 10));
    let store = open_store(&world.setup()).await;
    tokio::time::timeout(Duration::from_secs(30), emptied(&store)).await.expect("the journal follows the DNS");
    store.close().await;
}

/// Waits until the journal names nothing.
async fn emptied(store: &Store) {
    while !store.journal().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What an entry of the journal says of a record: its name and content, and its id at the DNS service.
type Entry = (String, String, Option<String>);

/// A request with the journal as it was when the request came.
type Seen = (RequestInfo, Vec<Entry>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_names_every_record_of_an_order_before_the_first_is_made() {
    let world = Fixture::start().await;
    world.dns.add_zone("journal.example");
    let dns = in_front_of_dns(&world).await;
    let setup = Setup { cloud_dns: dns.url(), ..world.setup() };
    let database = setup.state().join("autocertd.db");
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    dns.set_hook(Box::new({
        let seen = Arc::clone(&seen);
        move |request| {
            if ["dns-create-record", "dns-get-record", "dns-delete-record"].contains(&request.kind) {
                seen.lock().unwrap().push((request.clone(), journal_now(&database)));
            }
            Action::Pass
        }
    }));
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    let names = ["journal.example", "*.journal.example", "a.b.journal.example", "c.d.journal.example"];
    let path = auto_certificate(&daemon, &provider, "secp256r1", &names).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();

    let seen = seen.lock().unwrap().clone();
    let of = |kind: &str| seen.iter().filter(|(request, _)| request.kind == kind).cloned().collect::<Vec<_>>();
    let (posts, looks, deletions) = (of("dns-create-record"), of("dns-get-record"), of("dns-delete-record"));
    assert_eq!((posts.len(), deletions.len()), (4, 4));
    for (post, journal) in &posts {
        let (name, content) = (name_in(post), content_in(post));
        assert_eq!(journal.len(), 4, "all intents come before the first record");
        assert!(journal.iter().any(|entry| entry.0.starts_with(&name) && entry.1 == content), "{name} {journal:?}");
    }
    for (request, journal) in looks.iter().chain(&deletions) {
        let id = request.path.split('/').nth(4).unwrap();
        assert!(journal.iter().any(|entry| entry.2.as_deref() == Some(id)), "{} {journal:?}", request.path);
    }
    let last_post = posts.iter().map(|(request, _)| request.index).max();
    assert!(last_post < looks.iter().map(|(request, _)| request.index).min(), "all are made before one is awaited");
}

async fn in_front_of_dns(world: &Fixture) -> FaultProxy {
    let options = FaultProxyOptions { upstream: world.dns.http_url(), upstream_root_pem: None, tls: false };
    FaultProxy::start(options).await.unwrap()
}

/// The journal at this moment, read beside the daemon.
fn journal_now(database: &Path) -> Vec<Entry> {
    let url = format!("sqlite://{}", database.display());
    let read = async move {
        sqlx::any::install_default_drivers();
        let raw = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        let rows = sqlx::query("SELECT name, content, record_id FROM challenge_records").fetch_all(&raw).await.unwrap();
        raw.close().await;
        rows.iter().map(|row| (row.get("name"), row.get("content"), row.get("record_id"))).collect()
    };
    // The hook is asked inside of a runtime, which cannot wait for another.
    std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(read)).join().unwrap()
}

fn of_kind(dns: &FaultProxy, kind: &str) -> Vec<RequestInfo> {
    dns.requests().into_iter().filter(|request| request.kind == kind).collect()
}

fn name_in(request: &RequestInfo) -> String {
    property(request, "name")
}

fn content_in(request: &RequestInfo) -> String {
    property(request, "content")
}

fn property(request: &RequestInfo, name: &str) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["properties"][name].as_str().unwrap().to_owned()
}
