//! Opening the store: files, migrations, the key check.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use autocertd::runtime::clock::SystemClock;
use autocertd::store::{KeyError, KeyRing, Store, StoreError, StoreSettings, StoreUrl};

use crate::house::{House, actor, new_provider, on_both, randomness};

on_both! {
    opening_again_changes_nothing
    many_open_at_once
    a_wrong_key_is_refused_and_nothing_overwritten
    a_key_under_another_id_is_missed_by_its_id
    a_store_from_the_future_is_refused
}

async fn opening_again_changes_nothing(house: House) {
    let provider = house.provider().await;
    for _ in 0..2 {
        let again = house.open_again().await.unwrap();
        assert!(again.account(provider.id).await.unwrap().unwrap().external_account.is_some());
        again.close().await;
        assert!(matches!(again.provider(provider.id).await, Err(StoreError::Unavailable(_))));
    }
    let applied = sqlx::query("SELECT version FROM _sqlx_migrations").fetch_all(&house.raw).await.unwrap();
    assert_eq!(applied.len(), 4);
}

async fn many_open_at_once(house: House) {
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
    assert_eq!(stores[0].providers(crate::house::ALL).await.unwrap().items.len(), 4);
}

async fn a_wrong_key_is_refused_and_nothing_overwritten(house: House) {
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

async fn a_key_under_another_id_is_missed_by_its_id(house: House) {
    let own = house.folder.path().join("other.key");
    let keys = KeyRing::generate(&own).unwrap();
    let opened = Store::open(&house.settings, keys, Arc::new(SystemClock), randomness()).await;
    let error = opened.unwrap_err();
    assert!(matches!(error, StoreError::Key(KeyError::UnknownKey { .. })), "{error:?}");
    assert!(error.to_string().contains("other.key"), "{error}");
    house.open_again().await.unwrap();
}

async fn a_store_from_the_future_is_refused(house: House) {
    house.tamper("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
    assert!(matches!(house.open_again().await, Err(StoreError::Migration(_))));
}

#[tokio::test]
async fn the_files_of_sqlite_are_for_their_owner_alone() {
    let house = House::on_sqlite().await;
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
        let settings = StoreSettings { url, max_connections: 1 };
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
    assert!(matches!(KeyRing::of_store(&keys, &postgres), Err(KeyError::Missing { .. })));
    std::fs::write(&database, "").unwrap();
    let sqlite = StoreUrl::sqlite(&database);
    assert!(matches!(KeyRing::of_store(&keys, &sqlite), Err(KeyError::Missing { .. })));
    assert!(!keys.exists());

    std::fs::remove_file(&database).unwrap();
    let made = format!("{:?}", KeyRing::of_store(&keys, &sqlite).unwrap());
    assert_eq!(format!("{:?}", KeyRing::of_store(&keys, &sqlite).unwrap()), made, "the same file is read again");
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
