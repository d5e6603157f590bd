//! A clock that was wrong: what it wrote is mended when it is right again, and nothing else changes.

use autocertd::domain::certificate::revocation::RevocationReason;
use autocertd::domain::clock_evidence::{ClockReading, ClockRecord};
use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::domain::provider::AccountNote;
use autocertd::domain::provider::rate_limit_ledger::{CaLimits, OrderFacts, RateLimit, RateLimitExemption};
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::store::{
    AssignmentTarget, LeaseState, LedgerAccount, OrderCharge, RevocationRequestOutcome, RunOutcome, Undeclared,
};
use sqlx::{AssertSqlSafe, Row, SqlSafeStr};
use time::Duration;

use crate::fixture::{Fixture, new_provider, on_both};

on_both! {
    what_a_clock_ahead_wrote_is_mended
    what_was_right_stays_as_it_is
    another_instance_whose_clock_was_ahead_is_told_of_once
    own_leases_run_anew
}

const AHEAD: Duration = Duration::days(400);

async fn number(house: &Fixture, question: &'static str) -> Option<i64> {
    sqlx::query(question).fetch_one(&house.raw).await.unwrap().get::<Option<i64>, _>(0)
}

fn charge() -> OrderCharge {
    let server = ServerUrl::parse("https://ca.example/directory", PlainHttpPolicy::Refused).unwrap();
    let limits = CaLimits { orders_per_account: RateLimit::new(2, Duration::HOUR), ..CaLimits::NONE };
    let books = LedgerAccount { account: Some("https://ca.example/acct/1".to_owned()), server, limits };
    OrderCharge {
        account: books,
        order: OrderFacts::new(&["www.example.com".parse().unwrap()], RateLimitExemption::None),
    }
}

fn failure_streak(house: &Fixture) -> FailureStreak {
    FailureStreak::after(None, Failure::retry("no answer"), house.now(), None, 0.5)
}

async fn deliver_to_one_target(house: &Fixture) {
    let key = "web".parse().unwrap();
    let target = AssignmentTarget { key: &key, instance: "here", place: None, accepts: &|_| true };
    house.store.sync_deliveries("here", &[target], Undeclared::Remove).await.unwrap();
}

async fn what_a_clock_ahead_wrote_is_mended(house: Fixture) {
    let provider = house.provider().await.id;
    let id = house.auto_certificate(provider, "www.example.com").await.id;
    let before = house.issue(id, Duration::days(900)).await;
    let right = house.now();
    house.clock.step(AHEAD);
    house.clock.step(Duration::MINUTE);
    deliver_to_one_target(&house).await;
    let during = house.issue(id, Duration::days(90)).await;
    let claim = house.claim(id).await;
    for _ in 0..2 {
        house.store.charge_order(&claim.lease, &charge()).await.unwrap().unwrap();
    }
    assert!(house.store.charge_order(&claim.lease, &charge()).await.unwrap().is_err());
    house.store.record_failure_streak(&claim.lease, &failure_streak(&house)).await.unwrap();
    house
        .store
        .release_auto_certificate(&claim.lease, house.now() + Duration::HOUR, RunOutcome::Finished)
        .await
        .unwrap();
    let disposition = Disposition::ProviderDown { not_before: Some(house.now() + Duration::HOUR) };
    let failure = Failure { disposition, message: "HTTP 503".into() };
    house.store.record_provider_failure(provider, Some(id), &failure, 0.5).await.unwrap();
    let lease = house.store.claim_provider(provider).await.unwrap().unwrap();
    let note = AccountNote::Lost { account: "https://ca.example/acct/1".to_owned(), at: house.now() };
    house.store.store_account_note(&lease, Some(&note)).await.unwrap();
    house.store.record_account_failure_streak(&lease, &failure_streak(&house)).await.unwrap();
    house.store.release_provider(&lease).await.unwrap();
    let RevocationRequestOutcome::Stored(_) =
        house.store.request_revocation(before, RevocationReason::Superseded).await.unwrap()
    else {
        panic!("it is not revoked yet")
    };
    house.store.postpone_preflight(id, house.now() + Duration::DAY).await.unwrap();
    let web = "web".parse().unwrap();
    let [delivery] = house.store.claim_due_deliveries(&web, "here", house.now(), 9).await.unwrap().try_into().unwrap();
    house.store.record_delivery_failure_streak(&delivery.lease, Some(&failure_streak(&house))).await.unwrap();
    house.store.release_delivery(&delivery.lease, house.now() + Duration::HOUR).await.unwrap();

    house.clock.step(-AHEAD);
    let now = house.now();
    assert!(house.store.repair_next_checks(now, true).await.unwrap() > 0);
    assert!(house.store.repair_after_clock_ahead(now, AHEAD).await.unwrap() > 0);

    let standing = house.reload(id).await.standing;
    assert_eq!(standing.newest.unwrap().id, during, "what is newer stays newer, and nothing is deleted");
    assert!(house.store.certificate_private_key(during).await.unwrap().is_some());
    assert!(standing.last_issued.unwrap() <= now && standing.last_issued.unwrap() > right);
    assert_eq!((standing.failure_streak, standing.deferral), (None, None));
    assert_eq!(house.store.due_auto_certificates(now).await.unwrap(), [id]);
    let mended = house.store.provider(provider).await.unwrap().unwrap();
    assert_eq!((mended.failure_streak, mended.down_since), (None, None));
    assert_eq!(house.store.provider_load(provider).await.unwrap().breaker, None);
    assert!(matches!(mended.account_note, Some(AccountNote::Lost { at, .. }) if at == now), "the fact stays");
    assert!(house.store.earliest_provider_check().await.unwrap().unwrap() <= now);
    let revoked = house.store.certificate(before).await.unwrap().unwrap().revocation.unwrap();
    assert!(revoked.requested_at <= now && revoked.done_at.is_none());
    assert_eq!(house.store.claim_due_revocations(now, 9).await.unwrap().len(), 1);
    assert!(house.store.earliest_preflight_check().await.unwrap().unwrap() <= now);
    assert_eq!(house.store.claim_due_deliveries(&web, "here", now, 9).await.unwrap().len(), 1);
    for question in [
        "SELECT MAX(created_at) FROM certificates",
        "SELECT MAX(certificate_created_at) FROM deliveries",
        "SELECT MAX(delivered_at) FROM deliveries",
        "SELECT MAX(written_at) FROM ledger",
    ] {
        assert!(number(&house, question).await.is_none_or(|latest| latest <= now.micros()), "{question}");
    }
    // The orders count, and no longer than they would have: the next is due within the hour.
    let full = house.claim(id).await;
    let full = house.store.charge_order(&full.lease, &charge()).await.unwrap().unwrap_err();
    assert!(full.until <= now + Duration::HOUR, "{full:?}");
    assert_eq!(house.store.repair_after_clock_ahead(now, AHEAD).await.unwrap(), 0, "done again it changes nothing");
}

async fn what_was_right_stays_as_it_is(house: Fixture) {
    let provider = house.provider().await.id;
    let id = house.auto_certificate(provider, "www.example.com").await.id;
    deliver_to_one_target(&house).await;
    house.issue(id, Duration::days(90)).await;
    let claim = house.claim(id).await;
    house.store.charge_order(&claim.lease, &charge()).await.unwrap().unwrap();
    house.store.record_failure_streak(&claim.lease, &failure_streak(&house)).await.unwrap();
    let failure = Failure { disposition: Disposition::ProviderDown { not_before: None }, message: "HTTP 503".into() };
    house.store.record_provider_failure(provider, None, &failure, 0.5).await.unwrap();
    house.store.postpone_preflight(id, house.now()).await.unwrap();
    house.clock.step(Duration::MINUTE);
    let tables = ["auto_certificates", "providers", "certificates", "deliveries", "ledger", "challenge_records"];
    let before = everything(&house, &tables).await;
    assert_eq!(house.store.repair_after_clock_ahead(house.now(), AHEAD).await.unwrap(), 0);
    assert_eq!(everything(&house, &tables).await, before);
}

/// All rows of these tables as text, in the order of their ids.
async fn everything(house: &Fixture, tables: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for table in tables {
        let question = if house.is_sqlite() {
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            let columns = sqlx::query(AssertSqlSafe(columns).into_sql_str()).fetch_all(&house.raw).await.unwrap();
            let columns: Vec<String> =
                columns.iter().map(|row| format!("quote({})", row.get::<String, _>("name"))).collect();
            format!("SELECT {} AS row FROM {table} ORDER BY id", columns.join(" || '|' || "))
        } else {
            format!("SELECT CAST(t AS TEXT) AS row FROM {table} t ORDER BY id")
        };
        let rows = sqlx::query(AssertSqlSafe(question).into_sql_str()).fetch_all(&house.raw).await.unwrap();
        all.extend(rows.iter().map(|row| row.get::<String, _>("row")));
    }
    all
}

async fn another_instance_whose_clock_was_ahead_is_told_of_once(house: Fixture) {
    let now = house.now();
    let record = |latest| ClockRecord {
        readings: vec![ClockReading { uptime: Duration::HOUR, shown: latest }],
        latest_moment: latest,
    };
    house.store.store_clock_record("there", &record(now + AHEAD)).await.unwrap();
    house.store.store_clock_record("elsewhere", &record(now + Duration::minutes(40))).await.unwrap();
    house.store.store_clock_record("here", &record(now + AHEAD)).await.unwrap();
    let kept = house.store.clock_record("there").await.unwrap().unwrap();
    assert_eq!((kept.latest_moment, kept.readings.len()), (now + AHEAD, 1));
    assert_eq!(house.store.acknowledge_clock_ahead("here", now).await.unwrap(), None, "it mends that by itself");

    house.execute_sql("UPDATE clock_records SET written_at = written_at - 7200000000").await;
    assert_eq!(
        house.store.acknowledge_clock_ahead("here", now).await.unwrap(),
        Some(AHEAD),
        "it is heard of no longer"
    );
    assert_eq!(house.store.acknowledge_clock_ahead("here", now).await.unwrap(), None, "once");
    assert_eq!(
        house.store.clock_record("here").await.unwrap().unwrap().latest_moment,
        now + AHEAD,
        "one's own is left alone"
    );

    house
        .execute_sql("UPDATE clock_records SET written_at = written_at - 2592000000000 WHERE instance = 'there'")
        .await;
    house.store.store_clock_record("here", &record(now)).await.unwrap();
    assert!(house.store.clock_record("there").await.unwrap().is_none(), "after a month it is forgotten");
    assert!(house.store.clock_record("elsewhere").await.unwrap().is_some());
    house.execute_sql("UPDATE clock_records SET readings = 'damaged'").await;
    assert!(house.store.clock_record("here").await.unwrap().unwrap().readings.is_empty());
}

async fn own_leases_run_anew(house: Fixture) {
    let provider = house.store.create_provider(&new_provider("a CA"), &crate::fixture::actor()).await.unwrap().id;
    let own = house.auto_certificate(provider, "own.example.com").await.id;
    let others = house.auto_certificate(provider, "others.example.com").await.id;
    deliver_to_one_target(&house).await;
    let claim = house.claim(own).await;
    let lease = house.store.claim_provider(provider).await.unwrap().unwrap();
    let web = "web".parse().unwrap();
    assert_eq!(house.store.claim_due_deliveries(&web, "here", house.now(), 1).await.unwrap().len(), 1);
    let other = house.open_again().await.unwrap();
    other.claim(others).await.unwrap().unwrap();
    let years = "SELECT COUNT(*) FROM auto_certificates WHERE lease_until = 9000000000000000";
    for table in ["auto_certificates", "providers", "deliveries"] {
        let far = format!("UPDATE {table} SET lease_until = 9000000000000000 WHERE lease_owner IS NOT NULL");
        sqlx::query(AssertSqlSafe(far).into_sql_str()).execute(&house.raw).await.unwrap();
    }
    house.store.renew_own_leases().await.unwrap();
    if house.is_sqlite() {
        assert_eq!(number(&house, years).await, Some(1), "those of others are theirs");
        let latest =
            "SELECT MAX(lease_until) FROM (SELECT lease_until FROM providers UNION SELECT lease_until FROM deliveries)";
        let soon = 2 * 60_000_000;
        let now = number(&house, "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)").await.unwrap();
        assert!(number(&house, latest).await.unwrap() < now + soon);
        let own = "SELECT MIN(lease_until) FROM auto_certificates";
        assert!(
            (now..now + soon).contains(&number(&house, own).await.unwrap()),
            "it is neither free nor leased for years"
        );
    } else {
        assert_eq!(number(&house, years).await, Some(2), "they run by the time of the database, which was not set");
    }
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Held);
    assert_eq!(house.store.renew_provider_lease(&lease).await.unwrap(), LeaseState::Held);
}
