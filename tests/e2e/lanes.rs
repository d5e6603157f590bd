//! The lanes of the scheduler: what is damaged in one place holds up nothing elsewhere.

use autocertd::domain::certificate::key_algorithm::KeyAlgorithm;
use autocertd::domain::provider::NewProvider;
use autocertd::domain::renewal::auto_certificate::NewAutoCertificate;
use autocertd::domain::value::resource::Actor;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::store::CreationOutcome;
use sqlx::any::AnyPoolOptions;
use time::Duration;

use crate::fixture::Fixture;
use crate::manual_clock_daemon::ManualClockDaemon;

/// What is sealed and cannot be opened stops no certificate for ever: where it is the key of an open order another one is
/// made, and where it is that of an account people are told, while the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_key_is_told_and_that_of_an_order_is_replaced() {
    let world = Fixture::start().await;
    world.dns.add_zone("sealed.example");
    let clockwork = ManualClockDaemon::start(world).await;
    let (sealed, sound) = (
        clockwork.auto_certificate(&["lost.sealed.example"]).await,
        clockwork.auto_certificate(&["sealed.example"]).await,
    );
    let url = format!("sqlite://{}", clockwork.world.at("autocertd.db").display());
    let raw = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    let attempt = "INSERT INTO attempts (id, auto_certificate_id, provider_id, names, key_algorithm, reason, started_at, \
                   stage, order_url, private_key, csr) SELECT '00000000-0000-0000-0000-000000000001', id, provider_id, \
                   '[\"lost.sealed.example\"]', 'secp256r1', 'test', 0, 'finalizing', 'https://localhost/order', x'0102', x'00' \
                   FROM auto_certificates WHERE name = 'lost.sealed.example'";
    sqlx::query(attempt).execute(&raw).await.unwrap();
    clockwork.run_for(Duration::ZERO).await;
    assert!(clockwork.load(sound).await.standing.newest.is_some(), "it was held up");
    assert!(clockwork.load(sealed).await.standing.newest.is_some(), "a new order with another key follows at once");

    // Nobody can open the account any more.
    let account = "UPDATE providers SET account_credentials = x'0102'";
    sqlx::query(account).execute(&raw).await.unwrap();
    let late = clockwork.auto_certificate(&["late.sealed.example"]).await;
    clockwork.run_for(Duration::ZERO).await;
    let trouble = clockwork.load(late).await.standing.failure_streak.expect("people see what is wrong");
    let said = trouble.last.message;
    assert!(said.contains("account_credentials") && said.contains("restore it from a backup"), "{said}");
    raw.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_provider_and_a_failing_lane_hold_up_no_other() {
    let world = Fixture::start().await;
    world.dns.add_zone("lanes.example");
    let clockwork = ManualClockDaemon::start(world).await;
    let server = ServerUrl::parse(&clockwork.world.directory(), PlainHttpPolicy::Refused).unwrap();
    let email: autocertd::domain::value::email::Email = "ops@example.com".parse().unwrap();
    let mut troubled = Vec::new();
    for name in ["damaged", "down and damaged", "not registered"] {
        let new = NewProvider {
            name: name.parse().unwrap(),
            email: email.clone(),
            server: server.clone(),
            external_account: None,
            profile: None,
        };
        let provider = clockwork.store.create_provider(&new, &Actor::autocertd()).await.unwrap().id;
        let new = NewAutoCertificate {
            name: name.parse().unwrap(),
            provider,
            common_name: "damaged.lanes.example".parse().unwrap(),
            key_algorithm: KeyAlgorithm::Secp256r1,
            subject_alternative_names: Vec::new(),
            profile: None,
        };
        match clockwork.store.create_auto_certificate(&new, &Actor::autocertd(), 1_000).await.unwrap() {
            CreationOutcome::Created(made) => troubled.push(made.id),
            refused => panic!("{refused:?}"),
        }
    }
    let sound = clockwork.auto_certificate(&["sound.lanes.example"]).await;
    let unreadable = clockwork.auto_certificate(&["unreadable.lanes.example"]).await;
    let url = format!("sqlite://{}", clockwork.world.at("autocertd.db").display());
    let raw = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    for damage in [
        "UPDATE providers SET fallbacks = '[', next_look = NULL WHERE name = 'damaged'",
        "UPDATE providers SET breaker = '{', email = 'nobody' WHERE name = 'down and damaged'",
        "UPDATE providers SET server = 'no URL' WHERE name = 'not registered'",
        "UPDATE auto_certificates SET key_algorithm = 'none' WHERE name = 'unreadable.lanes.example'",
        // The lane that removes what has expired fails until somebody mends this.
        "ALTER TABLE ledger RENAME TO elsewhere",
    ] {
        sqlx::query(damage).execute(&raw).await.unwrap();
    }
    let mended = async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        sqlx::query("ALTER TABLE elsewhere RENAME TO ledger").execute(&raw).await.unwrap();
    };
    let worked = async { tokio::join!(clockwork.run_for(Duration::ZERO), mended) };
    tokio::time::timeout(std::time::Duration::from_mins(2), worked).await.expect("the scheduler comes to rest");
    assert!(clockwork.load(sound).await.standing.newest.is_some(), "it was held up");
    for id in troubled {
        let trouble = clockwork.load(id).await.standing.failure_streak.expect("people see what is wrong");
        assert!(trouble.last.message.contains("table providers, column "), "{}", trouble.last.message);
    }
    assert!(clockwork.store.auto_certificate(unreadable).await.is_err());
    assert_eq!(
        clockwork.store.due_auto_certificates(clockwork.now()).await.unwrap(),
        [],
        "what is damaged is not due for ever"
    );
    raw.close().await;
}
