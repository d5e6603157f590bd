//! What queries ask for has columns of its own, which are right also where the former release wrote: it knows none of them,
//! and reads the texts and documents that are still written beside them.

use autocertd::domain::failure::deferral::{Deferral, DeferralCause};
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::domain::provider::AccountNote;
use autocertd::domain::provider::rate_limit_ledger::LimitKind;
use autocertd::store::RecoveryEvidence;
use sqlx::Row;
use time::Duration;

use crate::fixture::{ALL, Fixture, first_failure_streak, on_both};
use crate::former_release::FormerRelease;

on_both! {
    holds_of_the_former_release_are_counted_and_let_go
    holds_of_this_release_are_read_by_the_former_one
    troubles_of_the_former_release_are_forgotten_by_what_they_mean
    a_probe_is_claimed_whoever_spelled_the_breaker
    a_deactivated_account_of_the_former_release_stays_so
    words_that_look_like_data_change_nothing
    columns_of_former_rows_are_filled
}

const TEXTS: [(&str, LimitKind); 4] = [
    ("orders of the account (300 in 3 h)", LimitKind::Orders),
    ("new certificates of provider-down.example (50 in 7 d)", LimitKind::Domain),
    ("certificates for exactly orders.example and 1 more (5 in 7 d)", LimitKind::NameSet),
    ("failed validations of a.example (5 in 1 h)", LimitKind::Failures),
];

async fn as_the_former_release(house: &Fixture, statement: &'static str, text: &str) {
    let written = sqlx::query(statement).bind(text.to_owned()).execute(&house.raw).await.unwrap();
    assert_eq!(written.rows_affected(), 1, "{statement}");
}

async fn holds_of_the_former_release_are_counted_and_let_go(house: Fixture) {
    let claim = house.claimed().await;
    let (id, provider) = (claim.lease.id, claim.auto_certificate.provider);
    let hold = "UPDATE auto_certificates SET held_until = 1900000000000000, held_by = $1";
    for (text, kind) in TEXTS {
        as_the_former_release(&house, hold, text).await;
        let cause = house.reload(id).await.standing.deferral.unwrap().cause;
        assert_eq!(cause, DeferralCause::RateLimit { kind, description: text.to_owned() });
        let line = house.store.provider_load(provider).await.unwrap().deferred_by_limit;
        assert_eq!(line, usize::from(kind == LimitKind::Orders), "{text}");
        assert!(!house.store.has_deferred_work(provider).await.unwrap());
    }
    assert_eq!(house.store.end_limit_deferrals().await.unwrap(), 1);
    assert_eq!(house.reload(id).await.standing.deferral, None);

    as_the_former_release(&house, hold, "provider-down").await;
    assert_eq!(house.reload(id).await.standing.deferral.unwrap().cause, DeferralCause::ProviderDown);
    assert!(house.store.has_deferred_work(provider).await.unwrap());
    assert_eq!(house.store.end_limit_deferrals().await.unwrap(), 0, "no limit holds it");
    // The former release lets it go, and the next hold is another one.
    house.execute_sql("UPDATE auto_certificates SET held_until = NULL, held_by = NULL").await;
    assert!(!house.store.has_deferred_work(provider).await.unwrap());
    assert_eq!(house.reload(id).await.standing.deferral, None);
}

async fn holds_of_this_release_are_read_by_the_former_one(house: Fixture) {
    let id = house.claimed().await.lease.id;
    house.execute_sql("UPDATE auto_certificates SET lease_until = 1").await;
    let down = std::iter::once((DeferralCause::ProviderDown, "provider-down"));
    let limits = TEXTS.map(|(text, kind)| (DeferralCause::RateLimit { kind, description: text.to_owned() }, text));
    for (cause, text) in limits.into_iter().chain(down) {
        let claim = house.claim(id).await;
        let hold = Deferral { until: house.now() + Duration::HOUR, cause };
        house.store.defer(&claim.lease, &hold).await.unwrap();
        assert_eq!(house.reload(id).await.standing.deferral.as_ref(), Some(&hold));
        let row = sqlx::query("SELECT held_by FROM auto_certificates").fetch_one(&house.raw).await.unwrap();
        assert_eq!(row.get::<String, _>("held_by"), text);
    }
    // Words of a later release have their kind from the column.
    let cause = DeferralCause::RateLimit { kind: LimitKind::Orders, description: "too many orders".to_owned() };
    let claim = house.claim(id).await;
    house.store.defer(&claim.lease, &Deferral { until: house.now() + Duration::HOUR, cause }).await.unwrap();
    assert_eq!(house.store.provider_load(claim.auto_certificate.provider).await.unwrap().deferred_by_limit, 1);
}

async fn troubles_of_the_former_release_are_forgotten_by_what_they_mean(house: Fixture) {
    let claim = house.claimed().await;
    let (id, provider) = (claim.lease.id, claim.auto_certificate.provider);
    let trouble = "UPDATE auto_certificates SET trouble = $1";
    // Another order of members and blanks, as another library spells JSON.
    let down = r#"{ "failures" : 1, "at" : 1, "next_try" : 2,
        "last" : { "message" : "503", "not_before" : null, "disposition" : "provider-down" } }"#;
    let mentions = r#"{"failures":1,"at":1,"next_try":2,"last":{"disposition":"restart","not_before":null,
        "message":"x","details":{"disposition":"provider-down"}}}"#;
    for (text, is_forgotten) in [(down, true), (mentions, false)] {
        as_the_former_release(&house, trouble, text).await;
        open(&house, &claim).await;
        assert!(house.store.record_recovery(provider, RecoveryEvidence::Order).await.unwrap());
        assert_eq!(house.reload(id).await.standing.failure_streak.is_none(), is_forgotten, "{text}");
    }
    as_the_former_release(&house, trouble, "no document at all").await;
    open(&house, &claim).await;
    assert!(
        house.store.record_recovery(provider, RecoveryEvidence::Order).await.unwrap(),
        "a damaged row holds up nothing"
    );
}

async fn open(house: &Fixture, claim: &autocertd::store::ClaimedAutoCertificate) {
    let disposition = Disposition::ProviderDown { not_before: Some(house.now() + Duration::HOUR) };
    let failure = Failure { disposition, message: "HTTP 503".into() };
    let opened =
        house.store.record_provider_failure(claim.auto_certificate.provider, Some(claim.lease.id), &failure, 0.5).await;
    assert!(opened.unwrap().unwrap().open_until().is_some());
}

async fn a_probe_is_claimed_whoever_spelled_the_breaker(house: Fixture) {
    let provider = house.provider().await.id;
    // Its message is not printable, which it was not cleaned of then.
    let breaker = r#"{ "failures": 4, "since": 1799999000000000, "first": null, "shared": true,
        "probe_at": 1799999900000000,
        "last": {"disposition": "provider-down", "not_before": null, "message": "HTTP 503\u001b[31m\u202e down"} }"#;
    as_the_former_release(&house, "UPDATE providers SET breaker = $1", breaker).await;
    let read = house.store.provider_load(provider).await.unwrap().breaker.unwrap();
    let until = house.now() + Duration::minutes(2);
    assert!(house.store.claim_probe(provider, &read, until).await.unwrap());
    assert!(!house.store.claim_probe(provider, &read, until).await.unwrap(), "one probe at a time");
    let claimed = house.store.provider_load(provider).await.unwrap().breaker.unwrap();
    assert_eq!(claimed.open_until(), Some(until));
    let other = house.open_again().await.unwrap();
    let again = until + Duration::MINUTE;
    let (one, two) =
        tokio::join!(house.store.claim_probe(provider, &claimed, again), other.claim_probe(provider, &claimed, again));
    assert!(one.unwrap() != two.unwrap(), "one of two replicas claims it");
    house.execute_sql("UPDATE providers SET breaker = NULL").await;
    assert!(!house.store.claim_probe(provider, &claimed, until).await.unwrap(), "the former release closed it");
}

async fn a_deactivated_account_of_the_former_release_stays_so(house: Fixture) {
    let provider = house.provider().await.id;
    for (text, stays) in [
        (r#"{ "fate" : "deactivated", "account" : "https://ca.example/acct/1", "at" : 1 }"#, true),
        (r#"{"fate":"lost","account":"https://ca.example/x?","at":1,"more":{"fate":"deactivated"}}"#, false),
    ] {
        let lease = house.store.claim_provider(provider).await.unwrap().unwrap();
        as_the_former_release(&house, "UPDATE providers SET next_look = 5, account_note = $1", text).await;
        assert_eq!(house.store.provider(provider).await.unwrap().unwrap().is_deactivated(), stays);
        house.store.forget_key_change(&lease).await.unwrap();
        house.store.release_provider(&lease).await.unwrap();
        let look = house.store.earliest_provider_check().await.unwrap();
        assert_eq!(look.is_none(), stays, "no account is registered anew without a person: {text}");
    }
    let lease = house.store.claim_provider(provider).await.unwrap().unwrap();
    let note = AccountNote::Deactivated { account: "https://ca.example/acct/1".to_owned(), at: house.now() };
    house.store.forget_account(&lease, &note, None).await.unwrap();
    let row = sqlx::query("SELECT account_note, account_fate FROM providers").fetch_one(&house.raw).await.unwrap();
    assert!(row.get::<String, _>("account_note").contains(r#""fate":"deactivated""#), "as the former release asks");
    assert_eq!(row.get::<String, _>("account_fate"), "deactivated");
}

async fn words_that_look_like_data_change_nothing(house: Fixture) {
    let claim = house.claimed().await;
    let (id, provider) = (claim.lease.id, claim.auto_certificate.provider);
    let words = r#"it says "disposition":"provider-down" and {"last":{"disposition":"provider-down"}}"#;
    house.store.record_failure_streak(&claim.lease, &first_failure_streak(Failure::operator(words))).await.unwrap();
    open(&house, &claim).await;
    assert!(house.store.record_recovery(provider, RecoveryEvidence::Order).await.unwrap());
    let kept = house.reload(id).await.standing.failure_streak.unwrap();
    assert_eq!(kept.last.disposition, Disposition::Operator);
}

async fn columns_of_former_rows_are_filled(house: Fixture) {
    let former = FormerRelease::copied(house).await;
    let store = former.open().await;
    let counted = "SELECT COALESCE(held_kind, '') AS kind FROM auto_certificates WHERE held_by IS NOT NULL ORDER BY 1";
    let rows = sqlx::query(counted).fetch_all(&former.raw).await.unwrap();
    let kinds: Vec<String> = rows.iter().map(|row| row.get("kind")).collect();
    assert_eq!(kinds, ["domain", "failures", "name-set", "orders", "orders", "orders", "provider-down"]);
    let fates = "SELECT name FROM providers WHERE account_fate = 'deactivated'";
    let rows = sqlx::query(fates).fetch_all(&former.raw).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<String, _>("name")).collect::<Vec<_>>(), ["Deactivated"]);

    // What failed with the provider is forgotten, and what only speaks of it is not.
    let providers = store.providers(ALL).await.unwrap().items;
    let down = providers.iter().find(|provider| provider.name.to_string() == "Down").unwrap().id;
    let disposition = Disposition::ProviderDown { not_before: Some(crate::former_release::MADE + Duration::HOUR) };
    let failure = Failure { disposition, message: "HTTP 503".into() };
    store.record_provider_failure(down, None, &failure, 0.5).await.unwrap();
    assert!(store.record_recovery(down, RecoveryEvidence::Order).await.unwrap());
    let wishes = store.auto_certificates(ALL, None).await.unwrap().items;
    for (name, is_kept) in [
        ("troubled-retry", true),
        ("troubled-operator", true),
        ("troubled-restart", true),
        ("troubled-tricky", true),
        ("troubled-down", false),
        ("troubled-down-after", false),
    ] {
        let wish = wishes.iter().find(|wish| wish.name.to_string() == name).unwrap();
        assert_eq!(wish.standing.failure_streak.is_some(), is_kept, "{name}");
    }
    store.close().await;
}
