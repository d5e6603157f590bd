//! How the store asks SQLite: that every look-up has its index, and that each connection is set up as it must be.

use std::sync::Arc;

use sqlx::{Row, SqlSafeStr};

use super::*;
use crate::domain::state::ResourceState;
use crate::runtime::clock::SystemClock;
use crate::store::listing::Conditions;

async fn fresh(folder: &Path) -> Store {
    let keys = KeyRing::generate(&folder.join("master.key")).unwrap();
    let settings = StoreSettings::of(StoreUrl::sqlite(folder.join("store.db")));
    Store::open(&settings, keys, Arc::new(SystemClock), Randomness::from_seed(1)).await.unwrap()
}

/// The steps of SQLite's plan for a statement, with every value left out.
async fn plan(store: &Store, statement: &str) -> Vec<String> {
    let statement = store.0.dialect.sql(format!("EXPLAIN QUERY PLAN {statement}")).into_sql_str();
    let rows = sqlx::query(statement).fetch_all(&store.0.pool).await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}

#[tokio::test]
async fn what_is_narrowed_is_searched_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(folder.path()).await;
    for statement in [
        providers::USERS.to_owned(),
        providers::SOME_USERS.to_owned(),
        accounts::CLAIM_DUE.to_owned(),
        auto_certificates::get_sql(),
        auto_certificates::list_sql(),
        listed(&auto_certificates::LISTED, &["common_name_form"]),
        auto_certificates::list_after_sql(),
        auto_certificates::get_listed_sql(),
        auto_certificates::MATCHING.to_owned(),
        certificates::GET.to_owned(),
        certificates::list_sql(),
        providers::list_sql(),
        listing::TOTAL.to_owned(),
        listed(&auto_certificates::LISTED, &["name"]),
        listed(&auto_certificates::LISTED, &["provider_id"]),
        listed(&auto_certificates::LISTED, &["key_algorithm"]),
        listed(&auto_certificates::LISTED, &["key_algorithm", "provider_id", "common_name_form", "name"]),
        listed(&certificates::LISTED, &["name"]),
        listed(&certificates::LISTED, &["common_name_form"]),
        listed(&providers::LISTED, &["name"]),
        providers::LISTED.page_sql(
            &providers::ProviderFilter { states: vec![ResourceState::Failed], ..Default::default() }.conditions(),
        ),
        listed(&certificates::LISTED, &["auto_certificate_id"]),
        listed(&certificates::LISTED, &["auto_certificate_id", "common_name_form"]),
        certificates::REMOVE_EXPIRED.to_owned(),
        progress::GET.to_owned(),
        progress::LOCK_ALL.to_owned(),
        progress::REQUEST_ALL.to_owned(),
        progress::LOCK_DELIVERIES.to_owned(),
        claims::AT_WORK.to_owned(),
        claims::DUE.to_owned(),
        queue::PROVIDERS_WITH_DUE_WORK.to_owned(),
        queue::queue_sql(),
        queue::queue_for_ids_sql(),
        not_in_service::candidates_sql(),
        breakers::RUNNING.to_owned(),
        breakers::COUNT_DEFERRED_BY_LIMIT.to_owned(),
        breakers::DEFERRED_BY_CAUSE.to_owned(),
        breakers::END_DEFERRALS.to_owned(),
        breakers::CLEAR_FAILURE_STREAKS.to_owned(),
        renewal_infos::NEWEST.to_owned(),
        claims::REPAIRS[0].1.to_owned(),
        claims::REPAIRS[0].2.to_owned(),
        claims::REPAIRS[1].1.to_owned(),
        claims::REPAIRS[1].2.to_owned(),
        claims::REPAIRS[2].1.to_owned(),
        claims::REPAIRS[2].2.to_owned(),
        claims::REPAIRS[3].1.to_owned(),
        claims::REPAIRS[3].2.to_owned(),
        claims::REPAIRS[4].1.to_owned(),
        claims::REPAIRS[4].2.to_owned(),
        revocations::CLAIM_DUE.to_owned(),
        revocations::TO_REVOKE.to_owned(),
        revocations::WAITING.to_owned(),
        revocations::PAGE.to_owned(),
        deliveries::CLAIM_DUE.to_owned(),
        deliveries::EARLIEST.to_owned(),
        deliveries::by_auto_certificates_sql(),
        deliveries::REQUEST_DELIVERIES.to_owned(),
        deliveries::WAKE.to_owned(),
        assignments::ASSIGNED.to_owned(),
        assignments::FORGET.to_owned(),
        assignments::REMOVE_TARGETS.to_owned(),
        attempts::GET_OPEN.to_owned(),
        journal::list_sql(),
        journal::orphaned_records_sql(),
        journal::EARLIEST_ORPHAN.to_owned(),
        journal::FORGET_IF_NEEDED.to_owned(),
        journal::RUNNING_REMOVAL.to_owned(),
        journal::POSTPONE.to_owned(),
        rate_limit_ledger::BY_SCOPE.to_owned(),
        rate_limit_ledger::FORGET_RECOVERED.to_owned(),
        declared::WITH_OPEN_ATTEMPT.to_owned(),
        tokens::LIST_NAMED.to_owned(),
    ] {
        let steps = plan(&store, &statement).await;
        assert!(steps.iter().any(|step| step.starts_with("SEARCH")), "{statement}: {steps:#?}");
        assert!(!steps.iter().any(|step| is_scan(step)), "{statement}: {steps:#?}");
    }
}

#[tokio::test]
async fn what_is_listed_whole_follows_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(folder.path()).await;
    for statement in [
        listed(&providers::LISTED, &[]),
        accounts::EARLIEST.to_owned(),
        listed(&auto_certificates::LISTED, &[]),
        in_state(&[ResourceState::Available]),
        in_state(&[ResourceState::Failed]),
        in_state(&[ResourceState::Provisioning]),
        in_state(&[ResourceState::Provisioning, ResourceState::Failed]),
        in_state(&[ResourceState::Provisioning, ResourceState::Available]),
        listed(&certificates::LISTED, &[]),
        not_in_service::list_sql(),
        not_in_service::count_sql(),
        deliveries::by_instance_sql(),
        queue::EARLIEST.to_owned(),
        lease::LEASE_OWNERS.to_owned(),
        preflights::EARLIEST.to_owned(),
        revocations::EARLIEST.to_owned(),
        revocations::REQUESTS.to_owned(),
        declared::PROVIDERS.to_owned(),
        declared::AUTO_CERTIFICATES.to_owned(),
        declared::IN_USE.to_owned(),
        tokens::LIST.to_owned(),
    ] {
        let steps = plan(&store, &statement).await;
        assert!(!steps.iter().any(|step| is_scan(step) && !step.contains(" INDEX ")), "{statement}: {steps:#?}");
    }
}

/// The statement that chooses a page of `table` by these columns.
fn listed(table: &listing::ListedTable, columns: &[&'static str]) -> String {
    let narrowed = |conditions: Conditions, column: &&'static str| conditions.and_any(column, [String::new()]);
    table.page_sql(&columns.iter().fold(Conditions::default(), narrowed))
}

/// The statement that chooses a page of auto-certificates by their state.
fn in_state(states: &[ResourceState]) -> String {
    let filter = auto_certificates::AutoCertificateFilter { states: states.to_vec(), ..Default::default() };
    auto_certificates::LISTED.page_sql(&filter.conditions(Moment::from_micros(0)))
}

/// Whether a step reads a table or an index from one end to the other. What a statement chose itself (a page, what is
/// due) or was given (listed) may be read whole.
fn is_scan(step: &str) -> bool {
    step.starts_with("SCAN")
        && !["SCAN page", "SCAN due", "SCAN listed", "SCAN json_each"].iter().any(|chosen| step.starts_with(chosen))
}

#[tokio::test]
async fn each_listing_follows_the_index_that_is_meant_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(folder.path()).await;
    for (statement, index) in [
        // Of two indexes in this order SQLite takes the one that covers the question.
        (listed(&auto_certificates::LISTED, &[]), "COVERING INDEX auto_certificates_by_state"),
        (listed(&auto_certificates::LISTED, &["common_name_form"]), "auto_certificates_by_form"),
        (listed(&auto_certificates::LISTED, &["name"]), "auto_certificates_by_name"),
        (listed(&auto_certificates::LISTED, &["provider_id"]), "auto_certificates_by_provider"),
        (listed(&auto_certificates::LISTED, &["key_algorithm"]), "auto_certificates_by_key_algorithm"),
        (in_state(&[ResourceState::Available]), "COVERING INDEX auto_certificates_by_state"),
        (in_state(&[ResourceState::Failed]), "COVERING INDEX auto_certificates_by_state"),
        (in_state(&[ResourceState::Provisioning]), "COVERING INDEX auto_certificates_by_state"),
        (listed(&certificates::LISTED, &[]), "certificates_in_order"),
        (listed(&certificates::LISTED, &["name"]), "certificates_by_name"),
        (listed(&providers::LISTED, &["name"]), "providers_by_name"),
        (listed(&certificates::LISTED, &["common_name_form"]), "certificates_by_form"),
        (listed(&certificates::LISTED, &["auto_certificate_id"]), "certificates_issued"),
        (listed(&providers::LISTED, &[]), "providers_in_order"),
        (auto_certificates::list_after_sql(), "COVERING INDEX auto_certificates_by_state"),
        (queue::EARLIEST.to_owned(), "auto_certificates_due"),
        (claims::DUE.to_owned(), "auto_certificates_due"),
        (preflights::CLAIM.to_owned(), "auto_certificates_to_rehearse"),
        (preflights::EARLIEST.to_owned(), "auto_certificates_to_rehearse"),
    ] {
        let steps = plan(&store, &statement).await;
        assert!(steps.iter().any(|step| step.contains(index)), "{statement}: {steps:#?}");
    }
    let steps = plan(&store, &certificates::list_sql()).await;
    let newest = steps.iter().filter(|step| step.contains("SEARCH n USING")).collect::<Vec<_>>();
    assert!(newest.iter().any(|step| step.contains("certificates_issued")), "{steps:#?}");
}

#[tokio::test]
async fn each_connection_is_durable_and_patient() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(folder.path()).await;
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(store.0.pool.acquire().await.unwrap());
    }
    for connection in &mut connections {
        for (pragma, value) in [("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5_000)] {
            let statement = store.0.dialect.sql(format!("PRAGMA {pragma}"));
            let row = sqlx::query(statement).fetch_one(&mut *connection).await.unwrap();
            assert_eq!(row.get::<i64, _>(0), value, "{pragma}");
        }
        let mode = sqlx::query("PRAGMA journal_mode").fetch_one(&mut *connection).await.unwrap();
        assert_eq!(mode.get::<String, _>(0), "wal");
    }
}

#[tokio::test]
async fn after_a_full_disk_the_next_write_succeeds_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyRing::generate(&folder.path().join("master.key")).unwrap();
    let url = StoreUrl::sqlite(folder.path().join("store.db"));
    let settings = StoreSettings { max_connections: 1, ..StoreSettings::of(url) };
    let store = Store::open(&settings, keys, Arc::new(SystemClock), Randomness::from_seed(1)).await.unwrap();
    let limit_pages = async |pages: u32| {
        let mut connection = store.0.pool.acquire().await.unwrap();
        let statement = store.0.dialect.sql(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(statement).fetch_one(&mut connection).await.unwrap();
    };
    let write = async || {
        let mut transaction = store.begin().await?;
        let insert = "INSERT INTO write_probes (id, value) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET value = $2";
        store.query(insert).bind("large").bind(vec![1_u8; 200_000]).execute(&mut *transaction).await?;
        Ok::<_, StoreError>(transaction.commit().await?)
    };
    store.check_writable().await.unwrap();
    limit_pages(1).await;
    for _ in 0..2 {
        let error = write().await.unwrap_err();
        assert!(matches!(&error, StoreError::Unavailable(fault) if fault.cause == FaultCause::DiskFull), "{error:?}");
        assert_eq!(store.outage().map(|fault| fault.cause), Some(FaultCause::DiskFull));
        assert!(store.check_writable().await.is_err(), "it is ready although the disk is full");
        assert!(store.tokens().await.unwrap().is_empty(), "reading goes on");
    }
    limit_pages(1_000_000).await;
    write().await.unwrap();
    assert_eq!(store.outage(), None);
    store.check_writable().await.unwrap();
}

/// SQLite rolls a transaction back by itself when the disk is full; what follows must not be told that it is in one.
#[tokio::test]
async fn a_transaction_that_is_over_already_leaves_a_sound_connection() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(folder.path()).await;
    for _ in 0..8 {
        let mut transaction = store.begin().await.unwrap();
        sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
        drop(transaction);
        let mut transaction = store.begin().await.unwrap();
        store.lock_auto_certificates(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

#[test]
fn a_path_with_signs_of_urls_is_taken_as_it_is() {
    let url = sqlite_url(Path::new("/var/lib/50%/a?b#c d.db")).unwrap();
    assert_eq!(url.expose_secret(), "sqlite:///var/lib/50%25/a%3Fb%23c%20d.db");
}
