//! Renewals at the CA's suggestion (RFC 9773), through the daemon: when, once, and as the replacement of what they renew.

use autocertd_support::timed::Timed;
use std::sync::{Arc, Mutex};

use autocertd::domain::renewal::renewal_info::CertId;
use autocertd::domain::value::moment::Moment;
use autocertd::runtime::clock::{Clock, SystemClock};
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::{Action, FaultProxy, RequestInfo};
use autocertd_support::postgres::Postgres;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Row};
use time::Duration;

use crate::declared::{only, provider, stop, wish};
use crate::fixture::{Fixture, auto_certificate, newest, open_store, store_auto_certificate};
use crate::kill::{kill_process, renew_now};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_moved_into_the_past_renews_a_young_certificate_and_a_far_one_keeps_it() {
    let world = Fixture::start().await;
    world.dns.add_zone("ari.example");
    let daemon = world.daemon().await;
    let ca = world.provider(&daemon).await;
    let [revoked, kept] = [
        auto_certificate(&daemon, &ca, "secp256r1", &["revoked.ari.example"]).await,
        auto_certificate(&daemon, &ca, "secp256r1", &["kept.ari.example"]).await,
    ];
    let [of_revoked, of_kept] = [planned(&daemon, &revoked).await, planned(&daemon, &kept).await];
    let ([revoked_pem, kept_pem], database) =
        ([&of_revoked, &of_kept].map(|it| pem_of(&it.certificate)), DaemonDatabase::of(&world.setup()));
    stop(daemon).await;

    let why = json!("https://ca.example/incident\u{1b}[31m");
    world.pebble.set_renewal_info(&revoked_pem, &suggestion(-48, -24, &why)).await.unwrap();
    world.pebble.set_renewal_info(&kept_pem, &suggestion(24 * 70, 24 * 71, &why)).await.unwrap();
    database.shift_times(Duration::hours(2)).await;
    let daemon = world.daemon().await;
    let renewed = daemon.api.wait_until(&revoked, |seen| issued(seen) != issued(&of_revoked.auto)).await.unwrap();
    assert_ne!(newest(&daemon, &renewed).await["id"], of_revoked.certificate["id"]);
    let explained = "; the CA explains its window at https://ca.example/incident%1B[31m";
    let far = daemon.api.wait_until(&kept, |seen| message(seen).ends_with(explained)).await.unwrap();
    assert!(message(&far).contains("in the window that the CA suggests ("), "{far:#}");
    assert_eq!(issued(&far), issued(&of_kept.auto), "a far window keeps it");
    let log = daemon.log();
    assert!(log.contains("the CA wants the certificate replaced now (its window was "), "{log}");
    assert!(log.contains("https://ca.example/incident%1B[31m") && !log.contains("incident\\u001b"), "{log}");
    assert_eq!(replaced(&world.acme), [None, None, CertId::from_pem(&revoked_pem)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_picked_moment_is_that_of_all_replicas_and_of_their_next_life() {
    let world = Fixture::start().await;
    world.dns.add_zone("agreed.example");
    let url = Postgres::shared().unwrap().fresh_database().unwrap();
    let key = world.folder.path().join("shared.key");
    let more = format!("[store]\nurl = \"{url}\"\n[keys]\nfile = \"{}\"\n", key.display());
    let setup = |name: &str| Setup { folder: world.folder.path().join(name), more: more.clone(), ..world.setup() };
    assert!(setup("one").command(&["keys", "create"]).unwrap().timed_status().unwrap().success());
    let one = Daemon::start(&setup("one")).await.unwrap();
    std::fs::create_dir_all(setup("two").state()).unwrap();
    std::fs::copy(setup("one").state().join("first-token"), setup("two").state().join("first-token")).unwrap();
    let two = Daemon::start(&setup("two")).await.unwrap();

    let ca = world.provider(&one).await;
    let path = auto_certificate(&one, &ca, "secp256r1", &["www.agreed.example"]).await;
    let planned = planned(&one, &path).await;
    assert_eq!(message(&two.api.get(&path).await.unwrap()), message(&planned.auto));
    assert_eq!(world.acme.count("renewal-info"), 1, "one of them asked for both");
    stop(one).await;
    stop(two).await;

    let database = DaemonDatabase(url);
    for name in ["one", "two"] {
        let asked = world.acme.count("renewal-info");
        database.shift_times(Duration::ZERO).await;
        let daemon = Daemon::start(&setup(name)).await.unwrap();
        daemon.api.wait_until(&path, |_| world.acme.count("renewal-info") > asked).await.unwrap();
        database.await_answer().await;
        assert_eq!(message(&daemon.api.get(&path).await.unwrap()), message(&planned.auto));
        stop(daemon).await;
    }
    assert_eq!(world.acme.count("new-order"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_left_behind_by_a_crash_is_made_again_without_what_it_replaces() {
    let world = Fixture::start().await;
    world.dns.add_zone("crash.example");
    let setup = world.setup();
    let store = open_store(&setup).await;
    store_auto_certificate(&store, &world.directory(), "www.crash.example").await;
    store.close().await;
    let victim = Arc::new(Mutex::new(None));
    assert!(renew_now(&setup, &victim).await);

    let database = DaemonDatabase::of(&setup);
    let first = database.newest_certificate().await;
    world.pebble.set_renewal_info(&first, &suggestion(-48, -24, &Value::Null)).await.unwrap();
    database.shift_times(Duration::hours(2)).await;
    let killer = Arc::clone(&victim);
    world.acme.set_hook(Box::new(move |request| {
        let victim = Arc::clone(&killer);
        match request.kind {
            "new-order" => Action::KillAfter(Box::new(move || kill_process(&victim))),
            _ => Action::Pass,
        }
    }));
    assert!(!renew_now(&setup, &victim).await, "it was killed before it could store the order's URL");

    // Pebble alone would take it, as nothing was issued for the order that was left behind.
    world.acme.set_hook(Box::new(|request| match &request.payload {
        Some(order) if request.kind == "new-order" && order["replaces"].is_string() => already_replaced(),
        _ => Action::Pass,
    }));
    assert!(renew_now(&setup, &victim).await);
    let of_first = CertId::from_pem(&first);
    assert_eq!(replaced(&world.acme), [None, of_first.clone(), of_first, None]);
    assert_ne!(database.newest_certificate().await, first);
    assert_eq!(world.acme.count("finalize"), 2);
    assert_eq!(world.challenge_records(), Vec::<String>::new());
}

/// Known from other clients: five certificates in ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_always_wants_a_renewal_now_gets_one_order_an_hour() {
    let world = Fixture::start().await;
    world.dns.add_zone("loop.example");
    world.acme.set_hook(Box::new(|request| match request.kind {
        "renewal-info" => Action::Respond(200, HeaderMap::new(), suggestion(-48, -24, &Value::Null).into()),
        _ => Action::Pass,
    }));
    let setup = world.setup();
    let daemon = world.daemon().await;
    let ca = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &ca, "secp256r1", &["www.loop.example"]).await;
    let database = DaemonDatabase::of(&setup);
    let mut daemon = Some(daemon);
    for hour in 1..=2 {
        for look in 1..=5 {
            let running = match daemon.take() {
                Some(daemon) => daemon,
                None => world.daemon().await,
            };
            let asks = (hour - 1) * 5 + look;
            running.api.wait_until(&path, |_| world.acme.count("renewal-info") >= asks).await.unwrap();
            running.api.wait_until(&path, |seen| message(seen).contains("less than an hour ago")).await.unwrap();
            assert_eq!(world.acme.count("new-order"), hour, "hour {hour}, look {look}");
            stop(running).await;
            database.shift_times(Duration::ZERO).await;
        }
        database.shift_times(Duration::minutes(61)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_ca_is_told_of_no_replacement() {
    let world = Fixture::start().await;
    world.dns.add_zone("moved.example");
    let declaring = |server: &str, roots: &Setup| Setup {
        more: provider(server, "ops@example.com") + &wish("www", &["www.moved.example"]),
        ..roots.clone()
    };
    let daemon = Daemon::start(&declaring(&world.directory(), &world.setup())).await.unwrap();
    let path = only(&daemon, "/auto-certificates").await;
    let first = daemon.api.wait_until_available(&path).await.unwrap();
    stop(daemon).await;

    let other = FaultProxy::in_front_of(&world.pebble).await.unwrap();
    let roots = Setup { acme_root: other.root_pem_path(), ..world.setup() };
    let moved = declaring(&other.directory_url(), &roots);
    let moved = Setup { more: moved.more.replace("\"pebble\"", "\"other\""), ..moved };
    let daemon = Daemon::start(&moved).await.unwrap();
    daemon.api.wait_until(&path, |seen| issued(seen) != issued(&first)).await.unwrap();
    assert_eq!((replaced(&world.acme), replaced(&other)), (vec![None], vec![None]));
}

/// An auto-certificate whose CA has said when it would like the renewal.
struct PlannedFixture {
    auto: Value,
    certificate: Value,
}

async fn planned(daemon: &Daemon, path: &str) -> PlannedFixture {
    let told = |seen: &Value| message(seen).contains("in the window that the CA suggests (");
    let auto = daemon.api.wait_until(path, told).await.unwrap();
    PlannedFixture { certificate: newest(daemon, &auto).await, auto }
}

/// The database beneath a daemon, in which time can be made to have passed.
struct DaemonDatabase(String);

impl DaemonDatabase {
    fn of(setup: &Setup) -> Self {
        Self(format!("sqlite://{}", setup.state().join("autocertd.db").display()))
    }

    async fn open(&self) -> AnyPool {
        sqlx::any::install_default_drivers();
        AnyPoolOptions::new().max_connections(1).connect(&self.0).await.unwrap()
    }

    /// Puts what was issued so much further into the past, and makes the next question due. Nobody may be at work.
    async fn shift_times(&self, span: Duration) {
        let database = self.open().await;
        let span = i64::try_from(span.whole_microseconds()).unwrap();
        sqlx::query("UPDATE auto_certificates SET last_issued = last_issued - $1, next_look = 0")
            .bind(span)
            .execute(&database)
            .await
            .unwrap();
        for (id, mut info) in infos(&database).await {
            info["ask_at"] = 0.into();
            sqlx::query("UPDATE certificates SET renewal_info = $1 WHERE id = $2")
                .bind(info.to_string())
                .bind(id)
                .execute(&database)
                .await
                .unwrap();
        }
        database.close().await;
    }

    /// Waits until the answers to all questions that were due are kept.
    async fn await_answer(&self) {
        let database = self.open().await;
        let begun = std::time::Instant::now();
        while infos(&database).await.iter().any(|(_, info)| info["ask_at"] == 0) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(30), "no answer was kept");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        database.close().await;
    }

    /// The newest certificate, PEM.
    async fn newest_certificate(&self) -> String {
        let database = self.open().await;
        let newest = sqlx::query("SELECT id, certificate FROM certificates ORDER BY created_at DESC LIMIT 1");
        let pem = newest.fetch_one(&database).await.unwrap().get("certificate");
        database.close().await;
        pem
    }
}

async fn infos(database: &AnyPool) -> Vec<(String, Value)> {
    let rows = sqlx::query("SELECT id, renewal_info FROM certificates WHERE renewal_info IS NOT NULL");
    let rows = rows.fetch_all(database).await.unwrap();
    rows.iter().map(|row| (row.get("id"), serde_json::from_str(row.get("renewal_info")).unwrap())).collect()
}

/// What a CA says about a window, in hours from now.
fn suggestion(from: i64, to: i64, explanation: &Value) -> String {
    let at = |hours| Moment::to_string(&(SystemClock.now() + Duration::hours(hours)));
    json!({ "suggestedWindow": { "start": at(from), "end": at(to) }, "explanationURL": explanation }).to_string()
}

/// Boulder's words.
fn already_replaced() -> Action {
    let problem = json!({
        "type": "urn:ietf:params:acme:error:alreadyReplaced",
        "detail": "Could not validate ARI 'replaces' field :: cannot indicate an order replaces a certificate which already \
                   has a replacement order",
        "status": 409,
    });
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    Action::Respond(409, HeaderMap::from_iter([json]), problem.to_string().into())
}

/// What each newOrder replaces, in their order.
fn replaced(acme: &FaultProxy) -> Vec<Option<CertId>> {
    let of = |request: &RequestInfo| request.payload.as_ref()?["replaces"].as_str()?.parse().ok();
    acme.requests().iter().filter(|request| request.kind == "new-order").map(of).collect()
}

fn message(resource: &Value) -> &str {
    resource["metadata"]["message"].as_str().unwrap()
}

fn issued(auto_certificate: &Value) -> &Value {
    &auto_certificate["metadata"]["lastIssuedCertificate"]
}

fn pem_of(certificate: &Value) -> String {
    certificate["properties"]["certificate"].as_str().unwrap().to_owned()
}
