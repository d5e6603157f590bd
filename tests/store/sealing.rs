//! What lies in the database is sealed, and bound to its place.

use autocertd::domain::renewal::attempt::{Ready, SigningRequest};
use autocertd::domain::value::server_url::OrderUrl;
use autocertd::store::{KeyError, StoreError};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use time::Duration;

use crate::fixture::{EAB_SECRET, Fixture, actor, new_certificate, new_provider, on_both};

on_both! {
    no_secret_lies_open_in_the_database
    a_sealed_value_opens_only_at_its_place
    a_damaged_value_is_named_and_not_opened
}

const PENDING: &str = "pending-credentials-of-the-account-0123456789";
const REGISTERED: &str = "registered-credentials-of-the-account-0123456789";
const ATTEMPT_KEY: &str = "private-key-of-an-open-attempt-0123456789";

/// Fills every sealed column and gives what must not be found.
async fn fill(house: &Fixture) -> Vec<String> {
    let claim = house.claimed().await;
    let provider = house.store.claim_provider(claim.auto_certificate.provider).await.unwrap().unwrap();
    house.store.store_account(&provider, "https://ca.example/acct/1", &SecretString::from(REGISTERED)).await.unwrap();
    house.store.store_pending_account(&provider, &SecretString::from(PENDING)).await.unwrap();
    let attempt = house.attempt(&claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    let request = SigningRequest { private_key: SecretString::from(ATTEMPT_KEY), csr: vec![1] };
    let stage = Ready { order: OrderUrl::from("https://ca.example/order/1".to_owned()) }.finalizing(request);
    house.store.store_stage(&claim.lease, attempt.id, &stage).await.unwrap();
    let upload = new_certificate("mine", None, house.now(), Duration::days(90));
    house.store.upload_certificate(&upload, &actor()).await.unwrap();
    let pem_line = upload.private_key.expose_secret().lines().nth(1).unwrap().to_owned();
    vec![EAB_SECRET.to_owned(), PENDING.to_owned(), REGISTERED.to_owned(), ATTEMPT_KEY.to_owned(), pem_line]
}

async fn no_secret_lies_open_in_the_database(house: Fixture) {
    let secrets = fill(&house).await;
    let haystack = if house.is_sqlite() { files_of_sqlite(&house) } else { rows_of_postgres(&house).await };
    assert!(contains(&haystack, b"https://ca.example/order/1"), "what is no secret is not found: the search is blind");
    for secret in secrets {
        let bytes = secret.as_bytes();
        let hex: String = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        for shape in [secret.clone(), hex.to_uppercase(), hex, STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes)] {
            assert!(!contains(&haystack, shape.as_bytes()), "{shape} lies open");
        }
        let shown = format!("{:?}", house.store);
        assert!(!shown.contains(&secret));
    }
}

fn files_of_sqlite(house: &Fixture) -> Vec<u8> {
    let files = ["store.db", "store.db-wal"];
    files.iter().flat_map(|name| std::fs::read(house.folder.path().join(name)).unwrap()).collect()
}

/// Every row as text, with bytes in hex and as they are.
async fn rows_of_postgres(house: &Fixture) -> Vec<u8> {
    let mut haystack = Vec::new();
    for statement in [
        "SELECT CAST(t AS TEXT) FROM providers t",
        "SELECT CAST(t AS TEXT) FROM attempts t",
        "SELECT CAST(t AS TEXT) FROM certificates t",
        "SELECT encode(eab_key_secret, 'escape') || encode(account_credentials, 'escape') \
         || encode(pending_credentials, 'escape') FROM providers",
        "SELECT encode(private_key, 'escape') FROM attempts",
        "SELECT encode(private_key, 'escape') FROM certificates",
    ] {
        for row in sqlx::query(statement).fetch_all(&house.raw).await.unwrap() {
            haystack.extend_from_slice(sqlx::Row::get::<String, _>(&row, 0).as_bytes());
        }
    }
    haystack
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

async fn a_sealed_value_opens_only_at_its_place(house: Fixture) {
    let provider = house.provider().await;
    let other = house.store.create_provider(&new_provider("other"), &actor()).await.unwrap();
    let moved = sqlx::query(
        "UPDATE providers SET eab_key_secret = (SELECT p.eab_key_secret FROM providers p WHERE p.id = $1) WHERE id = $2",
    );
    moved.bind(provider.id.to_string()).bind(other.id.to_string()).execute(&house.raw).await.unwrap();
    let error = house.store.account(other.id).await.unwrap_err();
    let expected = format!("providers/eab_key_secret/{}", other.id);
    assert!(matches!(&error, StoreError::Key(KeyError::Unreadable { place }) if *place == expected), "{error:?}");
    house.store.account(provider.id).await.unwrap();

    // Nor in another column of the same row.
    house.execute_sql("UPDATE providers SET pending_credentials = eab_key_secret").await;
    let error = house.store.account(provider.id).await.unwrap_err();
    assert!(error.to_string().contains("providers/pending_credentials/"), "{error}");

    // Nor in another certificate.
    let one = new_certificate("one", None, house.now(), Duration::days(90));
    let one = house.store.upload_certificate(&one, &actor()).await.unwrap().id;
    let two = new_certificate("two", None, house.now(), Duration::days(90));
    let two = house.store.upload_certificate(&two, &actor()).await.unwrap().id;
    let moved = sqlx::query(
        "UPDATE certificates SET private_key = (SELECT c.private_key FROM certificates c WHERE c.id = $1) WHERE id = $2",
    );
    moved.bind(one.to_string()).bind(two.to_string()).execute(&house.raw).await.unwrap();
    assert!(house.store.certificate_private_key(one).await.is_ok());
    assert!(house.store.certificate_private_key(two).await.is_err());
}

async fn a_damaged_value_is_named_and_not_opened(house: Fixture) {
    let new = new_certificate("mine", None, house.now(), Duration::days(90));
    let id = house.store.upload_certificate(&new, &actor()).await.unwrap().id;
    let row = sqlx::query("SELECT private_key FROM certificates").fetch_one(&house.raw).await.unwrap();
    let sealed: Vec<u8> = sqlx::Row::get(&row, 0);
    let flipped = |at: usize| {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        damaged
    };
    for damaged in [flipped(0), flipped(sealed.len() - 1), flipped(25), sealed[..20].to_vec(), Vec::new()] {
        let write = sqlx::query("UPDATE certificates SET private_key = $1").bind(damaged.clone());
        write.execute(&house.raw).await.unwrap();
        let error = house.store.certificate_private_key(id).await.unwrap_err();
        let named = error.to_string().contains(&format!("certificates/private_key/{id}"));
        assert!(named, "{damaged:?}: {error:?}");
    }
}
