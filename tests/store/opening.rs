//! Opening the store: files, migrations, the key check.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use autocertd::runtime::clock::SystemClock;
use autocertd::store::{KeyError, KeyRing, RemovalStart, Store, StoreError, StoreSettings, StoreUrl};
use secrecy::ExposeSecret;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, SqlSafeStr};

use crate::fixture::{Fixture, actor, new_provider, on_both, randomness};

on_both! {
    opening_again_changes_nothing
    many_open_at_once
    a_store_has_one_identity_for_all_replicas
    a_wrong_key_is_refused_and_nothing_overwritten
    a_key_under_another_id_is_missed_by_its_id
    a_store_from_the_future_is_refused
    a_journal_of_an_earlier_version_is_taken_over
}

async fn opening_again_changes_nothing(house: Fixture) {
    let provider = house.provider().await;
    let versions = "SELECT version FROM _sqlx_migrations";
    let applied = sqlx::query(versions).fetch_all(&house.raw).await.unwrap().len();
    for _ in 0..2 {
        let again = house.open_again().await.unwrap();
        assert!(again.account(provider.id).await.unwrap().unwrap().external_account.is_some());
        again.close().await;
        assert!(matches!(again.provider(provider.id).await, Err(StoreError::Unavailable(_))));
    }
    assert_eq!(sqlx::query(versions).fetch_all(&house.raw).await.unwrap().len(), applied);
}

async fn a_store_has_one_identity_for_all_replicas(house: Fixture) {
    house.execute_sql("DELETE FROM store_identity").await;
    let other = house.open_again().await.unwrap();
    let (one, two) = tokio::join!(house.store.identity(), other.identity());
    let identity = one.unwrap();
    assert_eq!(two.unwrap(), identity, "both made one at the same time");
    other.close().await;
    assert_eq!(house.open_again().await.unwrap().identity().await.unwrap(), identity);
    let keys = KeyRing::load(&house.key_file()).unwrap();
    let elsewhere = house.another_database().await;
    let elsewhere = Store::open(&elsewhere, keys, house.clock.clone(), randomness()).await.unwrap();
    assert_ne!(elsewhere.identity().await.unwrap(), identity, "another database is another store");
    house.execute_sql("UPDATE store_identity SET identity = 'damaged'").await;
    assert!(matches!(house.store.identity().await, Err(StoreError::CorruptRow { .. })), "it never becomes another one");
}

async fn many_open_at_once(house: Fixture) {
    let settings = house.another_database().await;
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (settings, keys) = (settings.clone(), KeyRing::load(&house.key_file()).unwrap());
        opening.spawn(async move { Store::open(&settings, keys, Arc::new(SystemClock), randomness()).await.unwrap() });
    }
    let stores = opening.join_all().await;
    for (number, store) in stores.iter().enumerate() {
        store.create_provider(&new_provider(&format!("number {number}")), &actor()).await.unwrap();
    }
    assert_eq!(stores[0].providers(crate::fixture::ALL).await.unwrap().items.len(), 4);
}

async fn a_wrong_key_is_refused_and_nothing_overwritten(house: Fixture) {
    let provider = house.provider().await;
    let file = std::fs::read_to_string(house.key_file()).unwrap();
    let id = file.lines().last().unwrap().split(' ').next().unwrap();
    // The same id with other bytes.
    std::fs::write(house.key_file(), format!("{id} {}=\n", "A".repeat(43))).unwrap();
    let error = house.open_again().await.unwrap_err();
    assert!(matches!(&error, StoreError::Key(KeyError::WrongKey { id: named, .. }) if named == id), "{error:?}");

    std::fs::write(house.key_file(), file).unwrap();
    let again = house.open_again().await.unwrap();
    assert!(again.account(provider.id).await.unwrap().unwrap().external_account.is_some());
}

async fn a_key_under_another_id_is_missed_by_its_id(house: Fixture) {
    let own = house.folder.path().join("other.key");
    let keys = KeyRing::generate(&own).unwrap();
    let opened = Store::open(&house.settings, keys, Arc::new(SystemClock), randomness()).await;
    let error = opened.unwrap_err();
    assert!(matches!(error, StoreError::Key(KeyError::UnknownKey { .. })), "{error:?}");
    assert!(error.to_string().contains("other.key"), "{error}");
    house.open_again().await.unwrap();
}

async fn a_store_from_the_future_is_refused(house: Fixture) {
    house.execute_sql("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
    assert!(matches!(house.open_again().await, Err(StoreError::NewerTables { found: 9999, .. })));
}

#[tokio::test]
async fn the_files_of_sqlite_are_for_their_owner_alone() {
    let house = Fixture::on_sqlite().await;
    house.provider().await;
    let mode = |name: &str| house.folder.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
    for name in ["store.db", "store.db-wal", "store.db-shm", "master.key"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(mode("store.db.instances"), 0o700);
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_unavailable_and_keeps_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("postgres://me:hunter2@localhost/none?host={}", folder.path().display());
    let urls = [StoreUrl::parse(&nowhere).unwrap(), StoreUrl::sqlite(folder.path().join("missing/store.db"))];
    for (number, url) in urls.into_iter().enumerate() {
        let keys = KeyRing::generate(&folder.path().join(format!("{number}.key"))).unwrap();
        let settings = StoreSettings { max_connections: 1, ..StoreSettings::of(url) };
        let opened = Store::open(&settings, keys, Arc::new(SystemClock), randomness()).await;
        let error = opened.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_) | StoreError::File { .. }), "{error:?}");
        assert!(!format!("{error} {error:?} {settings:?}").contains("hunter2"));
    }
}

#[test]
fn a_key_file_is_made_only_beside_a_new_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, database) = (folder.path().join("master.key"), folder.path().join("store.db"));
    let postgres = StoreUrl::parse("postgres://db.example/certs").unwrap();
    assert!(matches!(KeyRing::load_or_generate(&keys, &postgres), Err(KeyError::Missing { .. })));
    std::fs::write(&database, "").unwrap();
    let sqlite = StoreUrl::sqlite(&database);
    assert!(matches!(KeyRing::load_or_generate(&keys, &sqlite), Err(KeyError::Missing { .. })));
    assert!(!keys.exists());

    std::fs::remove_file(&database).unwrap();
    let made = format!("{:?}", KeyRing::load_or_generate(&keys, &sqlite).unwrap());
    assert_eq!(
        format!("{:?}", KeyRing::load_or_generate(&keys, &sqlite).unwrap()),
        made,
        "the same file is read again"
    );
    assert_eq!(keys.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_key_file_is_never_overwritten_and_shows_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let ring = KeyRing::generate(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(matches!(KeyRing::generate(&path), Err(KeyError::Exists { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let key = text.lines().last().unwrap().split(' ').nth(1).unwrap();
    assert!(!format!("{ring:?}").contains(key));
}

#[test]
fn key_files_that_are_open_or_malformed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let good = format!("old-1 {}=", "A".repeat(43));
    for (text, line) in [
        (String::new(), 1),
        ("# only words\n\n".to_owned(), 3),
        ("old-1".to_owned(), 1),
        (format!("# fine\n{good}\nold-2 AAAA\n"), 3),
        (format!("old_1 {}=", "A".repeat(43)), 1),
        (format!("{good}\n{good}\n"), 2),
    ] {
        write_private(&path, &text);
        let error = KeyRing::load(&path).unwrap_err();
        assert!(matches!(error, KeyError::Malformed { line: at, .. } if at == line), "{text:?}: {error:?}");
        assert!(!error.to_string().contains("AAAA"), "{error}");
    }
    write_private(&path, &format!("# words\n\n{good}\n"));
    KeyRing::load(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    assert!(matches!(KeyRing::load(&path), Err(KeyError::OpenToOthers { mode: 0o604, .. })));

    // systemd hands out credentials as root's files that a group may read; nobody else's file may be so.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
    let owned_by_root = path.metadata().unwrap().uid() == 0;
    assert_eq!(KeyRing::load(&path).is_ok(), owned_by_root);
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// What an earlier version noted in the DNS is still to be removed by this one.
async fn a_journal_of_an_earlier_version_is_taken_over(house: Fixture) {
    let settings = house.another_database().await;
    let earlier = earlier_database(&settings).await;
    for statement in EARLIER_ROWS {
        sqlx::query(statement).execute(&earlier).await.unwrap();
    }
    earlier.close().await;

    let keys = KeyRing::load(&house.key_file()).unwrap();
    let store = Store::open(&settings, keys, house.clock.clone(), randomness()).await.unwrap();
    let [open, ended] = store.journal().await.unwrap().try_into().unwrap();
    let id = |text: &str| text.parse::<uuid::Uuid>().unwrap();
    assert_eq!(ended.attempt, Some(id("00000000-0000-4000-8000-0000000000a1").into()));
    assert_eq!(open.attempt, Some(id("00000000-0000-4000-8000-0000000000a2").into()));
    for record in [&open, &ended] {
        assert_eq!(record.auto_certificate, Some(id("00000000-0000-4000-8000-000000000001").into()));
        assert_eq!((record.adapter.as_str(), record.zone_id.as_str()), ("ionos", "zone-1"));
    }
    assert_eq!((open.name.as_str(), open.content.as_str()), ("_acme-challenge.b.example", "digest-b"));
    assert_eq!((&open.record_id, open.failed_removals, open.is_needed), (&None, 0, true));
    assert_eq!((ended.record_id.as_deref(), ended.failed_removals, ended.is_needed), (Some("record-7"), 3, false));
    assert_eq!(ended.next_try.micros(), 5);

    let owner = ended.auto_certificate.unwrap();
    assert_eq!(store.auto_certificate(owner).await.unwrap().unwrap().standing.clean_up_at, Some(ended.next_try));
    assert_eq!(store.begin_removal(ended.id, std::time::Duration::from_mins(1)).await.unwrap(), RemovalStart::Started);
    store.delete_record_entry(ended.id).await.unwrap();
    assert_eq!(store.journal().await.unwrap().len(), 1);
    store.close().await;
}

/// A database with the tables of the version before the one that knows canaries.
async fn earlier_database(settings: &StoreSettings) -> AnyPool {
    let (url, blob) = match &settings.url {
        StoreUrl::Sqlite(path) => (format!("sqlite://{}?mode=rwc", path.display()), "BLOB"),
        StoreUrl::Postgres(url) => (url.expose_secret().to_owned(), "BYTEA"),
    };
    let pool = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    let files = [
        ("first tables", include_str!("../../src/store/migrations/0001_first_tables.sql")),
        ("declared and delivered", include_str!("../../src/store/migrations/0002_declared_and_delivered.sql")),
        ("renewal", include_str!("../../src/store/migrations/0003_renewal.sql")),
    ];
    let migrations = (1..).zip(files).map(|(version, (description, text))| {
        let text = AssertSqlSafe(text.replace("@blob", blob)).into_sql_str();
        Migration::new(version, description.into(), MigrationType::Simple, text, false)
    });
    Migrator::with_migrations(migrations.collect()).run(&pool).await.unwrap();
    pool
}

/// One auto-certificate with an ended attempt and an open one, and a record of each.
const EARLIER_ROWS: [&str; 5] = [
    "INSERT INTO auto_certificates (id, name, provider_id, common_name, common_name_form, key_algorithm, \
     subject_alternative_names, renewal_requested, runs, wakes, next_look, created_at, created_by, created_by_id, \
     modified_at, modified_by, modified_by_id, lease_epoch) \
     VALUES ('00000000-0000-4000-8000-000000000001', 'www', '00000000-0000-4000-8000-000000000002', 'www.example', \
     'www.example', 'secp256r1', '[]', 0, 0, 0, 1, 1, 'ada', '00000000-0000-4000-8000-000000000003', 1, 'ada', \
     '00000000-0000-4000-8000-000000000003', 0)",
    "INSERT INTO attempts (id, auto_certificate_id, provider_id, names, key_algorithm, reason, started_at, stage, ended_at) \
     VALUES ('00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-000000000001', \
     '00000000-0000-4000-8000-000000000002', '[\"www.example\"]', 'secp256r1', 'once', 1, 'planned', 2)",
    "INSERT INTO attempts (id, auto_certificate_id, provider_id, names, key_algorithm, reason, started_at, stage) \
     VALUES ('00000000-0000-4000-8000-0000000000a2', '00000000-0000-4000-8000-000000000001', \
     '00000000-0000-4000-8000-000000000002', '[\"www.example\"]', 'secp256r1', 'again', 3, 'planned')",
    "INSERT INTO challenge_records (id, auto_certificate_id, attempt_id, adapter, zone_id, record_id, name, content, \
     removal_tries, next_try, created_at) VALUES ('00000000-0000-4000-8000-0000000000b1', \
     '00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-0000000000a1', 'ionos', 'zone-1', 'record-7', \
     '_acme-challenge.a.example', 'digest-a', 3, 5, 4)",
    "INSERT INTO challenge_records (id, auto_certificate_id, attempt_id, adapter, zone_id, name, content, \
     removal_tries, next_try, created_at) VALUES ('00000000-0000-4000-8000-0000000000b2', \
     '00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-0000000000a2', 'ionos', 'zone-1', \
     '_acme-challenge.b.example', 'digest-b', 0, 3, 3)",
];
