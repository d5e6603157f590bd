//! How the store asks SQLite: that every look-up has its index, and that each connection is set up as it must be.

use std::sync::Arc;

use sqlx::{Row, SqlSafeStr};

use super::*;
use crate::domain::report::state::ResourceState;
use crate::runtime::clock::SystemClock;
use crate::store::database::listing::Conditions;

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
        provider::providers::USERS.to_owned(),
        provider::providers::SOME_USERS.to_owned(),
        provider::accounts::CLAIM_DUE.to_owned(),
        auto_certificate::auto_certificates::get_sql(),
        auto_certificate::auto_certificates::list_sql(),
        listed(&auto_certificate::auto_certificates::LISTED, &["common_name_form"]),
        auto_certificate::auto_certificates::list_after_sql(),
        auto_certificate::auto_certificates::get_listed_sql(),
        auto_certificate::auto_certificates::MATCHING.to_owned(),
        certificate::certificates::GET.to_owned(),
        certificate::certificates::list_sql(),
        provider::providers::list_sql(),
        database::listing::TOTAL.to_owned(),
        listed(&auto_certificate::auto_certificates::LISTED, &["name"]),
        listed(&auto_certificate::auto_certificates::LISTED, &["provider_id"]),
        listed(&auto_certificate::auto_certificates::LISTED, &["key_algorithm"]),
        listed(
            &auto_certificate::auto_certificates::LISTED,
            &["key_algorithm", "provider_id", "common_name_form", "name"],
        ),
        listed(&certificate::certificates::LISTED, &["name"]),
        listed(&certificate::certificates::LISTED, &["common_name_form"]),
        listed(&provider::providers::LISTED, &["name"]),
        provider::providers::LISTED.page_sql(
            &provider::providers::ProviderFilter { states: vec![ResourceState::Failed], ..Default::default() }
                .conditions(),
        ),
        listed(&certificate::certificates::LISTED, &["auto_certificate_id"]),
        listed(&certificate::certificates::LISTED, &["auto_certificate_id", "common_name_form"]),
        certificate::certificates::REMOVE_EXPIRED.to_owned(),
        auto_certificate::progress::GET.to_owned(),
        auto_certificate::progress::LOCK_ALL.to_owned(),
        auto_certificate::progress::REQUEST_ALL.to_owned(),
        auto_certificate::progress::LOCK_DELIVERIES.to_owned(),
        auto_certificate::claims::AT_WORK.to_owned(),
        auto_certificate::claims::DUE.to_owned(),
        auto_certificate::queue::PROVIDERS_WITH_DUE_WORK.to_owned(),
        auto_certificate::queue::queue_sql(),
        auto_certificate::queue::queue_for_ids_sql(),
        auto_certificate::not_in_service::candidates_sql(),
        provider::breakers::RUNNING.to_owned(),
        provider::breakers::COUNT_DEFERRED_BY_LIMIT.to_owned(),
        provider::breakers::DEFERRED_BY_CAUSE.to_owned(),
        provider::breakers::END_DEFERRALS.to_owned(),
        provider::breakers::CLEAR_FAILURE_STREAKS.to_owned(),
        auto_certificate::renewal_infos::NEWEST.to_owned(),
        auto_certificate::claims::REPAIRS[0].1.to_owned(),
        auto_certificate::claims::REPAIRS[0].2.to_owned(),
        auto_certificate::claims::REPAIRS[1].1.to_owned(),
        auto_certificate::claims::REPAIRS[1].2.to_owned(),
        auto_certificate::claims::REPAIRS[2].1.to_owned(),
        auto_certificate::claims::REPAIRS[2].2.to_owned(),
        auto_certificate::claims::REPAIRS[3].1.to_owned(),
        auto_certificate::claims::REPAIRS[3].2.to_owned(),
        auto_certificate::claims::REPAIRS[4].1.to_owned(),
        auto_certificate::claims::REPAIRS[4].2.to_owned(),
        certificate::revocations::CLAIM_DUE.to_owned(),
        certificate::revocations::TO_REVOKE.to_owned(),
        certificate::revocations::WAITING.to_owned(),
        certificate::revocations::PAGE.to_owned(),
        delivery::deliveries::CLAIM_DUE.to_owned(),
        delivery::deliveries::EARLIEST.to_owned(),
        delivery::deliveries::by_auto_certificates_sql(),
        delivery::deliveries::REQUEST_DELIVERIES.to_owned(),
        delivery::deliveries::WAKE.to_owned(),
        delivery::assignments::ASSIGNED.to_owned(),
        delivery::assignments::FORGET.to_owned(),
        delivery::assignments::REMOVE_TARGETS.to_owned(),
        auto_certificate::attempts::GET_OPEN.to_owned(),
        dns::journal::list_sql(),
        dns::journal::orphaned_records_sql(),
        dns::journal::EARLIEST_ORPHAN.to_owned(),
        dns::journal::FORGET_IF_NEEDED.to_owned(),
        dns::journal::RUNNING_REMOVAL.to_owned(),
        dns::journal::POSTPONE.to_owned(),
        provider::rate_limit_ledger::BY_SCOPE.to_owned(),
        provider::rate_limit_ledger::FORGET_RECOVERED.to_owned(),
        auto_certificate::declared::WITH_OPEN_ATTEMPT.to_owned(),
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
        listed(&provider::providers::LISTED, &[]),
        provider::accounts::EARLIEST.to_owned(),
        listed(&auto_certificate::auto_certificates::LISTED, &[]),
        in_state(&[ResourceState::Available]),
        in_state(&[ResourceState::Failed]),
        in_state(&[ResourceState::Provisioning]),
        in_state(&[ResourceState::Provisioning, ResourceState::Failed]),
        in_state(&[ResourceState::Provisioning, ResourceState::Available]),
        listed(&certificate::certificates::LISTED, &[]),
        auto_certificate::not_in_service::list_sql(),
        auto_certificate::not_in_service::count_sql(),
        delivery::deliveries::by_instance_sql(),
        auto_certificate::queue::EARLIEST.to_owned(),
        database::lease::LEASE_OWNERS.to_owned(),
        auto_certificate::preflights::EARLIEST.to_owned(),
        certificate::revocations::EARLIEST.to_owned(),
        certificate::revocations::REQUESTS.to_owned(),
        auto_certificate::declared::PROVIDERS.to_owned(),
        auto_certificate::declared::AUTO_CERTIFICATES.to_owned(),
        auto_certificate::declared::IN_USE.to_owned(),
        tokens::LIST.to_owned(),
    ] {
        let steps = plan(&store, &statement).await;
        assert!(!steps.iter().any(|step| is_scan(step) && !step.contains(" INDEX ")), "{statement}: {steps:#?}");
    }
}

/// The statement that chooses a page of `table` by these columns.
fn listed(table: &database::listing::ListedTable, columns: &[&'static str]) -> String {
    let narrowed = |conditions: Conditions, column: &&'static str| conditions.and_any(column, [String::new()]);
    table.page_sql(&columns.iter().fold(Conditions::default(), narrowed))
}

/// The statement that chooses a page of auto-certificates by their state.
fn in_state(states: &[ResourceState]) -> String {
    let filter =
        auto_certificate::auto_certificates::AutoCertificateFilter { states: states.to_vec(), ..Default::default() };
    auto_certificate::auto_certificates::LISTED.page_sql(&filter.conditions(Moment::from_micros(0)))
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
        (listed(&auto_certificate::auto_certificates::LISTED, &[]), "COVERING INDEX auto_certificates_by_state"),
        (listed(&auto_certificate::auto_certificates::LISTED, &["common_name_form"]), "auto_certificates_by_form"),
        (listed(&auto_certificate::auto_certificates::LISTED, &["name"]), "auto_certificates_by_name"),
        (listed(&auto_certificate::auto_certificates::LISTED, &["provider_id"]), "auto_certificates_by_provider"),
        (
            listed(&auto_certificate::auto_certificates::LISTED, &["key_algorithm"]),
            "auto_certificates_by_key_algorithm",
        ),
        (in_state(&[ResourceState::Available]), "COVERING INDEX auto_certificates_by_state"),
        (in_state(&[ResourceState::Failed]), "COVERING INDEX auto_certificates_by_state"),
        (in_state(&[ResourceState::Provisioning]), "COVERING INDEX auto_certificates_by_state"),
        (listed(&certificate::certificates::LISTED, &[]), "certificates_in_order"),
        (listed(&certificate::certificates::LISTED, &["name"]), "certificates_by_name"),
        (listed(&provider::providers::LISTED, &["name"]), "providers_by_name"),
        (listed(&certificate::certificates::LISTED, &["common_name_form"]), "certificates_by_form"),
        (listed(&certificate::certificates::LISTED, &["auto_certificate_id"]), "certificates_issued"),
        (listed(&provider::providers::LISTED, &[]), "providers_in_order"),
        (auto_certificate::auto_certificates::list_after_sql(), "COVERING INDEX auto_certificates_by_state"),
        (auto_certificate::queue::EARLIEST.to_owned(), "auto_certificates_due"),
        (auto_certificate::claims::DUE.to_owned(), "auto_certificates_due"),
        (auto_certificate::preflights::CLAIM.to_owned(), "auto_certificates_to_rehearse"),
        (auto_certificate::preflights::EARLIEST.to_owned(), "auto_certificates_to_rehearse"),
    ] {
        let steps = plan(&store, &statement).await;
        assert!(steps.iter().any(|step| step.contains(index)), "{statement}: {steps:#?}");
    }
    let steps = plan(&store, &certificate::certificates::list_sql()).await;
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
