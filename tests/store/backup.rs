//! Backups: from either database into either.

use autocertd::domain::value::token::TokenScope;
use autocertd::store::{Backup, BackupContents, BackupError, KeyRing, Store, StoreSettings, StoreUrl};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use time::Duration;

use crate::fixture::{
    ALL, EAB_SECRET, Fixture, actor, claim_due, fresh_postgres, name, new_certificate, on_both, randomness,
};

on_both! {
    everything_moves_to_the_other_database_and_back
    only_an_empty_store_takes_a_backup
    a_backup_is_checked_before_anything_is_written
    a_changed_backup_is_refused
    columns_of_other_versions_are_carried_or_take_their_defaults
    what_is_deleted_or_under_way_stays_behind
}

/// A provider with an account, an auto-certificate with a certificate, an upload and a token, whose text this gives.
async fn fill(house: &Fixture) -> String {
    let provider = house.provider().await;
    let lease = house.store.claim_provider(provider.id).await.unwrap().unwrap();
    let credentials = "{\"key\": \"of the account\"}".to_owned().into();
    house.store.store_account(&lease, "https://ca.example/acct/1", &credentials).await.unwrap();
    house.store.release_provider(&lease).await.unwrap();
    let wish = house.auto_certificate(provider.id, "bücher.example").await;
    house.turn(Duration::SECOND);
    house.issue(wish.id, Duration::days(90)).await;
    let upload = new_certificate("uploaded", Some("up.example"), house.now(), Duration::days(9));
    house.store.upload_certificate(&upload, &actor()).await.unwrap();
    let (_, token) = house.store.create_token(&name("ops"), TokenScope::Full).await.unwrap();
    token.expose_secret().to_owned()
}

async fn exported(store: &Store) -> Vec<u8> {
    store.export().await.unwrap().to_json().unwrap()
}

/// What is compared of an export: all but the moment of its making.
fn rows(export: &[u8]) -> Value {
    serde_json::from_slice::<Value>(export).unwrap()["tables"].take()
}

/// A store of the other kind than the house's, under the same keys, and a way into it beside that.
async fn other_kind(house: &Fixture) -> (Store, AnyPool) {
    let (url, raw) = if house.is_sqlite() {
        let url = fresh_postgres().await;
        (StoreUrl::parse(&url).unwrap(), url)
    } else {
        let path = house.folder.path().join("other.db");
        (StoreUrl::sqlite(&path), format!("sqlite://{}", path.display()))
    };
    let settings = StoreSettings { max_connections: 2, ..StoreSettings::of(url) };
    let keys = KeyRing::load(&house.key_file()).unwrap();
    let store = Store::open(&settings, keys, house.clock.clone(), randomness()).await.unwrap();
    (store, AnyPoolOptions::new().connect(&raw).await.unwrap())
}

async fn everything_moves_to_the_other_database_and_back(house: Fixture) {
    let token = fill(&house).await;
    let first = exported(&house.store).await;
    assert!(!String::from_utf8_lossy(&first).contains("PRIVATE KEY"), "keys stay sealed");
    let backup = Backup::from_json(&first).unwrap();
    let contents = BackupContents { providers: 1, auto_certificates: 1, certificates: 2, tokens: 1 };
    assert_eq!(backup.contents(), contents);

    let (other, _) = other_kind(&house).await;
    other.restore(&backup).await.unwrap();
    assert_eq!(other.contents().await.unwrap(), contents);
    let second = exported(&other).await;
    assert_eq!(rows(&first), rows(&second));

    let (before, after) = (&house.store, &other);
    let shown = async |store: &Store| {
        let providers = store.providers(ALL).await.unwrap().items;
        let wishes = store.auto_certificates(ALL, Some("BÜCHER.example")).await.unwrap().items;
        let certificates = store.certificates(ALL, None, None).await.unwrap().items;
        format!("{providers:?} {wishes:?} {certificates:?}")
    };
    assert_eq!(shown(before).await, shown(after).await);
    for certificate in before.certificates(ALL, None, None).await.unwrap().items {
        let key = async |store: &Store| store.certificate_private_key(certificate.id).await.unwrap().unwrap();
        assert_eq!(key(before).await.expose_secret(), key(after).await.expose_secret());
    }
    let provider = before.providers(ALL).await.unwrap().items[0].id;
    let account = after.account(provider).await.unwrap().unwrap();
    assert_eq!(account.registered.unwrap().credentials.expose_secret(), "{\"key\": \"of the account\"}");
    assert_eq!(account.external_account.unwrap().key_secret.expose_secret(), EAB_SECRET);
    assert_eq!(after.authenticate(&token).await.unwrap().unwrap().name.as_str(), "ops");

    let again = house.another_database().await;
    let keys = KeyRing::load(&house.key_file()).unwrap();
    let again = Store::open(&again, keys, house.clock.clone(), randomness()).await.unwrap();
    again.restore(&Backup::from_json(&second).unwrap()).await.unwrap();
    assert_eq!(rows(&first), rows(&exported(&again).await));
}

async fn only_an_empty_store_takes_a_backup(house: Fixture) {
    fill(&house).await;
    let before = exported(&house.store).await;
    let error = house.store.restore(&Backup::from_json(&before).unwrap()).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)));
    let there = "1 provider, 1 auto-certificate, 2 certificates, 1 API token";
    assert!(error.to_string().contains(there), "{error}");
    assert_eq!(rows(&before), rows(&exported(&house.store).await));
}

async fn a_backup_is_checked_before_anything_is_written(house: Fixture) {
    fill(&house).await;
    let good: Value = serde_json::from_slice(&exported(&house.store).await).unwrap();
    let (other, _) = other_kind(&house).await;
    let keys = KeyRing::load(&house.key_file()).unwrap();
    let restored = async |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        let result = match Backup::from_json(&serde_json::to_vec(&changed).unwrap()) {
            Ok(backup) => {
                assert!(matches!(other.restore(&backup).await, Err(BackupError::Altered)), "the change is not noticed");
                other.restore(&backup.reauthenticate(&keys).unwrap()).await
            }
            Err(error) => Err(error),
        };
        assert_eq!(other.contents().await.unwrap(), BackupContents::default(), "something was written");
        result.unwrap_err()
    };
    let other_place = restored(&|export| {
        let moved = export["tables"]["certificates"][0]["private_key"].clone();
        export["tables"]["certificates"][1]["private_key"] = moved;
    });
    assert!(matches!(other_place.await, BackupError::Sealed(_)));
    let newer = restored(&|export| export["schema"] = json!(99)).await;
    assert!(matches!(newer, BackupError::Newer { .. }));
    assert!(matches!(restored(&|export| export["version"] = json!(2)).await, BackupError::Newer { .. }));
    assert!(matches!(restored(&|export| export["format"] = json!("x")).await, BackupError::NotAnExport(_)));
    assert!(matches!(restored(&|export| export["tables"] = json!({})).await, BackupError::NotAnExport(_)));
    // The last row of the last table: what was written before it is undone.
    let injected = restored(&|export| export["tables"]["certificates"][1]["id) VALUES ('x'); --"] = json!(1));
    assert!(matches!(injected.await, BackupError::Damaged { .. }));
    let doubled = restored(&|export| {
        let row = export["tables"]["certificates"][1].clone();
        export["tables"]["certificates"].as_array_mut().unwrap().push(row);
    });
    assert!(matches!(doubled.await, BackupError::Store(_)));

    let backup = Backup::from_json(&serde_json::to_vec(&good).unwrap()).unwrap();
    let others = KeyRing::generate(&house.folder.path().join("others.key")).unwrap();
    assert!(matches!(backup.check(&others), Err(BackupError::Sealed(_))));
    other.restore(&backup).await.unwrap();
}

/// Who can write to a backup, and has no master key, cannot have a token or another server come back with it.
async fn a_changed_backup_is_refused(house: Fixture) {
    fill(&house).await;
    let good: Value = serde_json::from_slice(&exported(&house.store).await).unwrap();
    let (other, _) = other_kind(&house).await;
    let keys = KeyRing::generate(&house.folder.path().join("others.key")).unwrap();
    let restored = async |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        other.restore(&Backup::from_json(&serde_json::to_vec(&changed).unwrap()).unwrap()).await
    };
    let token = restored(&|export| {
        let mut token = export["tables"]["tokens"][0].clone();
        token["id"] = json!("0b9ac1d2-6a0f-4f52-9d0f-0d3c1c5a7e11");
        export["tables"]["tokens"].as_array_mut().unwrap().push(token);
    });
    assert!(matches!(token.await, Err(BackupError::Altered)));
    let server = restored(&|export| export["tables"]["providers"][0]["server"] = json!("https://evil.example/dir"));
    assert!(matches!(server.await, Err(BackupError::Altered)));
    assert!(matches!(restored(&|export| export["made"] = json!("later")).await, Err(BackupError::Altered)));
    assert!(matches!(restored(&|export| export["authentication"] = Value::Null).await, Err(BackupError::Altered)));
    let untagged = restored(&|export| _ = export.as_object_mut().unwrap().remove("authentication"));
    assert!(matches!(untagged.await, Err(BackupError::Altered)));
    assert!(matches!(
        restored(&|export| export["authentication"]["tag"] = json!("AAAA")).await,
        Err(BackupError::Altered)
    ));
    let foreign = Backup::from_json(&serde_json::to_vec(&good).unwrap()).unwrap().reauthenticate(&keys).unwrap();
    assert!(matches!(other.restore(&foreign).await, Err(BackupError::Sealed(_))));
    assert_eq!(other.contents().await.unwrap(), BackupContents::default());
    restored(&|_| {}).await.unwrap();
}

async fn columns_of_other_versions_are_carried_or_take_their_defaults(house: Fixture) {
    const LATER: &str = "ALTER TABLE providers ADD COLUMN later SMALLINT NOT NULL DEFAULT 7";
    const LATER_TEXT: &str = "ALTER TABLE auto_certificates ADD COLUMN later_text TEXT";
    const LOOK: &str = "SELECT id FROM providers WHERE later = 7";
    fill(&house).await;
    let older = exported(&house.store).await;
    let (other, raw) = other_kind(&house).await;
    for statement in [LATER, LATER_TEXT] {
        sqlx::query(statement).execute(&raw).await.unwrap();
        house.execute_sql(statement).await;
    }
    other.restore(&Backup::from_json(&older).unwrap()).await.unwrap();
    assert_eq!(sqlx::query(LOOK).fetch_all(&raw).await.unwrap().len(), 1);

    house.execute_sql("UPDATE providers SET later = 8").await;
    house.execute_sql("UPDATE auto_certificates SET later_text = 'kept'").await;
    let newer = exported(&house.store).await;
    for table in ["tokens", "certificates", "auto_certificates", "providers"] {
        let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
        sqlx::query(delete).execute(&raw).await.unwrap();
    }
    other.restore(&Backup::from_json(&newer).unwrap()).await.unwrap();
    assert_eq!(rows(&newer), rows(&exported(&other).await));
    assert!(sqlx::query(LOOK).fetch_all(&raw).await.unwrap().is_empty());
    let kept = sqlx::query("SELECT id FROM auto_certificates WHERE later_text = 'kept'");
    assert_eq!(kept.fetch_all(&raw).await.unwrap().len(), 1);
}

async fn what_is_deleted_or_under_way_stays_behind(house: Fixture) {
    let claim = house.claimed().await;
    house.store.begin_attempt(&claim.lease, &house.attempt(&claim)).await.unwrap();
    let provider = claim.auto_certificate.provider;
    let deleted = house.auto_certificate(provider, "gone.example").await;
    assert!(house.store.delete_auto_certificate(deleted.id).await.unwrap());
    let backup = house.store.export().await.unwrap();
    assert_eq!(backup.contents().auto_certificates, 1);
    assert_eq!((backup.omitted_work().open_attempts, backup.omitted_work().challenge_records), (1, 0));
    let (other, _) = other_kind(&house).await;
    other.restore(&backup).await.unwrap();
    let due = claim_due(&other, house.now(), 10).await;
    assert_eq!(due.len(), 1, "nobody holds it");
    assert!(due[0].auto_certificate.standing.open_attempt.is_none());
}
