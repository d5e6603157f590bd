//! Databases that fail: a server that vanishes without a word, rows that are locked from both ends, causes in words.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autocertd::domain::failure::deferral::{Deferral, DeferralCause};
use autocertd::domain::provider::rate_limit_ledger::LimitKind;
use autocertd::runtime::clock::SystemClock;
use autocertd::store::{AssignmentTarget, FaultCause, KeyRing, Store, StoreError, StoreSettings, StoreUrl, Undeclared};
use autocertd_support::pgbouncer::Pgbouncer;
use autocertd_support::stalling_proxy::StallingProxy;

use crate::fixture::{ALL, Fixture, actor, fresh_postgres, new_provider, randomness};

/// The folder of the server's socket, and the name of the database.
fn parts(url: &str) -> (&str, &str) {
    let (rest, folder) = url.split_once("?host=").unwrap();
    (folder, rest.rsplit('/').next().unwrap())
}

async fn open(url: &str, folder: &Path, timeout: Duration) -> Result<Store, StoreError> {
    let file = folder.join("master.key");
    let keys = KeyRing::load(&file).or_else(|_| KeyRing::generate(&file)).unwrap();
    let settings = StoreSettings { timeout, max_connections: 2, ..StoreSettings::of(StoreUrl::parse(url).unwrap()) };
    Store::open(&settings, keys, Arc::new(SystemClock), randomness()).await
}

fn cause(error: &StoreError) -> FaultCause {
    match error {
        StoreError::Unavailable(fault) => fault.cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_vanishes_holds_up_nothing() {
    let url = fresh_postgres().await;
    let (socket_folder, database) = parts(&url);
    let proxy = StallingProxy::in_front_of(Path::new(socket_folder).join(".s.PGSQL.5432")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let through = format!("postgres://postgres@{}/{database}?sslmode=disable", proxy.address());
    let store = open(&through, folder.path(), Duration::from_secs(3)).await.unwrap();
    store.create_provider(&new_provider("a CA"), &actor()).await.unwrap();

    proxy.set_stalled(true);
    let begun = Instant::now();
    for _ in 0..3 {
        let error = store.providers(ALL).await.unwrap_err();
        assert_eq!(cause(&error), FaultCause::NoAnswer, "{error:?}");
    }
    let error = store.create_provider(&new_provider("another CA"), &actor()).await.unwrap_err();
    assert_eq!(cause(&error), FaultCause::NoAnswer, "{error:?}");
    assert!(store.check_writable().await.is_err());
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());

    proxy.set_stalled(false);
    let begun = Instant::now();
    while store.check_writable().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not recover");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(store.providers(ALL).await.unwrap().items.iter().any(|provider| provider.name.to_string() == "a CA"));

    proxy.set_stalled(true);
    let begun = Instant::now();
    store.close().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn rows_that_are_locked_from_both_ends_end_in_no_deadlock() {
    let house = Fixture::on_postgres().await;
    let other = house.open_again().await.unwrap();
    let provider = house.provider().await;
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(house.auto_certificate(provider.id, &format!("host{number}.example.com")).await.id);
    }
    let now = house.now();
    let hold = Deferral {
        until: now + time::Duration::HOUR,
        cause: DeferralCause::RateLimit { kind: LimitKind::Orders, description: "a limit".to_owned() },
    };
    let web = "web".parse().unwrap();
    let target = AssignmentTarget { key: &web, instance: "here", place: None, accepts: &|_| true };
    house.store.sync_deliveries("here", &[target], Undeclared::Remove).await.unwrap();
    let backwards_ids: Vec<_> = ids.iter().rev().copied().collect();
    for _ in 0..20 {
        let due = house.store.queue_for_ids(&ids, now).await.unwrap();
        assert_eq!(due.len(), ids.len());
        let forwards: Vec<_> = due.into_iter().map(|due| (due, hold.clone())).collect();
        let backwards: Vec<_> = forwards.iter().rev().cloned().collect();
        let (one, two, three, four, five, six) = tokio::join!(
            house.store.defer_due(&forwards, now),
            other.defer_due(&backwards, now),
            other.end_limit_deferrals(),
            house.store.wake_target_deliveries(&web, "here"),
            other.claim_due_deliveries(&web, "here", now, 30),
            house.store.request_renewals(&backwards_ids),
        );
        one.unwrap();
        two.unwrap();
        three.unwrap();
        four.unwrap();
        six.unwrap();
        let claimed = five.unwrap();
        let (freed, woken) = tokio::join!(
            async {
                for claim in &claimed {
                    house.store.request_deliveries(claim.row.auto_certificate).await.unwrap();
                }
            },
            other.request_renewals(&ids)
        );
        woken.unwrap();
        let () = freed;
        house.execute_sql("UPDATE deliveries SET lease_until = NULL, lease_owner = NULL").await;
    }
    let deadlocks =
        "SELECT CAST(deadlocks AS BIGINT) AS deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let row = sqlx::query(deadlocks).fetch_one(&house.raw).await.unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&row, "deadlocks"), 0);
}

#[tokio::test]
async fn each_way_not_to_reach_postgres_has_its_words() {
    let url = fresh_postgres().await;
    let (socket_folder, database) = parts(&url);
    let folder = tempfile::tempdir().unwrap();
    let proxy = StallingProxy::in_front_of(Path::new(socket_folder).join(".s.PGSQL.5432")).await.unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = taken.local_addr().unwrap();
    drop(taken);
    for (url, expected) in [
        (format!("postgres://postgres@localhost/nobody_made_it?host={socket_folder}"), FaultCause::NoDatabase),
        (format!("postgres://stranger@localhost/{database}?host={socket_folder}"), FaultCause::Authentication),
        (format!("postgres://postgres@{closed}/{database}?sslmode=disable"), FaultCause::Unreachable),
        (format!("postgres://postgres@{}/{database}?sslmode=require", proxy.address()), FaultCause::Tls),
    ] {
        let error = open(&url, folder.path(), Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(cause(&error), expected, "{error:?}");
        let chain = format!("{:#}", anyhow::Error::new(error));
        assert!(!chain.contains("pool timed out") && !chain.contains("defect"), "{chain}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    std::fs::write(&path, "this is no database, whatever its name says. ".repeat(100)).unwrap();
    let error = open(&format!("sqlite:{}", path.display()), folder.path(), Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(cause(&error), FaultCause::Corrupt, "{error:?}");
}

#[tokio::test]
async fn a_pooler_by_transaction_is_refused_and_one_by_session_is_not() {
    for (pool_mode, is_refused) in [("transaction", true), ("statement", true), ("session", false)] {
        let url = fresh_postgres().await;
        let (socket_folder, database) = parts(&url);
        let pooler = Pgbouncer::start(Path::new(socket_folder), database, pool_mode).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&pooler.url(database), folder.path(), Duration::from_secs(10)).await;
        match opened {
            Ok(store) if !is_refused => {
                store.check_writable().await.unwrap();
                store.close().await;
            }
            Err(error) if is_refused => assert_eq!(cause(&error), FaultCause::TransactionPooling, "{error:?}"),
            other => panic!("{pool_mode}: {other:?}"),
        }
    }
}
