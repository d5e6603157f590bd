//! What counts against the limits of CAs, also where several replicas count.

use autocertd::domain::provider::rate_limit_ledger::{
    CaLimits, LimitExceeded, OrderFacts, RateLimit, RateLimitBucket, RateLimitExemption, RateLimitLedger,
};
use autocertd::domain::value::moment::Moment;
use autocertd::domain::value::name::DnsName;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::store::{ClaimedAutoCertificate, LedgerAccount, OrderCharge, Store, StoreError};
use futures_util::future::join_all;
use time::Duration;

use crate::fixture::{Fixture, new_certificate, on_both};

on_both! {
    an_empty_bucket_refuses_until_its_next_token
    replicas_never_take_the_last_token_twice
    what_is_issued_counts_once_with_its_certificate
    failures_count_for_each_name_of_the_account
    accounts_share_what_is_the_cas_and_nothing_else
    what_has_settled_is_forgotten
    a_name_set_of_any_length_has_its_row
}

async fn an_empty_bucket_refuses_until_its_next_token(house: Fixture) {
    let claim = house.claimed().await;
    let booking = charge(&["www.example.com"], RateLimitExemption::None);
    for _ in 0..3 {
        assert_eq!(take(&house.store, &claim, &booking).await, Ok(()));
    }
    let full = take(&house.store, &claim, &booking).await.unwrap_err();
    assert_eq!((full.bucket, full.until), (RateLimitBucket::Orders, house.now() + Duration::HOUR));
    let level = &ledger(&house, &booking.account).await.levels(house.now())[0];
    assert_eq!((level.bucket.clone(), level.used), (RateLimitBucket::Orders, 3), "what was refused does not count");

    let spared = OrderCharge {
        order: OrderFacts::new(&names(&["a.example"]), RateLimitExemption::InRenewalWindow),
        ..booking.clone()
    };
    assert_eq!(take(&house.store, &claim, &spared).await, Ok(()), "a renewal in its window neither waits nor counts");
    house.turn(Duration::HOUR);
    assert_eq!(take(&house.store, &claim, &booking).await, Ok(()));
    assert!(take(&house.store, &claim, &booking).await.is_err());

    let stale =
        ClaimedAutoCertificate { lease: autocertd::store::AutoCertificateLease { epoch: 0, ..claim.lease }, ..claim };
    assert!(matches!(house.store.charge_order(&stale.lease, &booking).await, Err(StoreError::LostLease)));
    let unlimited = OrderCharge { account: LedgerAccount { limits: CaLimits::NONE, ..booking.account }, ..booking };
    assert_eq!(ledger(&house, &unlimited.account).await.check_order(&unlimited.order, house.now()), Ok(()));
}

async fn replicas_never_take_the_last_token_twice(house: Fixture) {
    let provider = house.provider().await;
    let replicas = [house.store.clone(), house.open_again().await.unwrap()];
    let mut claims = Vec::new();
    for number in 0..8 {
        let store = &replicas[number % 2];
        let id = house.auto_certificate(provider.id, &format!("h{number}.example.com")).await.id;
        claims.push((store, store.claim(id).await.unwrap().unwrap()));
    }
    let booking = charge(&["www.example.com"], RateLimitExemption::None);
    let taken = join_all(claims.iter().map(|(store, claim)| take(store, claim, &booking))).await;
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 3, "{taken:?}");
}

async fn what_is_issued_counts_once_with_its_certificate(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = house.attempt(&claim);
    let booking = charge(&["www.example.com", "example.com"], RateLimitExemption::None);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    assert_eq!(take(&house.store, &claim, &booking).await, Ok(()));
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    for _ in 0..2 {
        house.store.store_issued(&claim.lease, &attempt, &new, Some(&booking), house.now()).await.unwrap();
    }
    assert_eq!(
        used(&house, &booking.account).await,
        [
            (RateLimitBucket::Orders, 1),
            (RateLimitBucket::Domain("example.com".to_owned()), 1),
            (RateLimitBucket::NameSet("example.com,www.example.com".to_owned()), 1)
        ]
    );
    let full = take(&house.store, &claim, &booking).await.unwrap_err();
    assert_eq!(full.bucket, RateLimitBucket::NameSet("example.com,www.example.com".to_owned()));
}

async fn failures_count_for_each_name_of_the_account(house: Fixture) {
    let claim = house.claimed().await;
    let books = account("https://ca.example/acct/1");
    let failed = names(&["bad.example.com", "*.bad.example.com", "worse.example.com"]);
    for _ in 0..2 {
        house.store.charge_failed_validations(&claim.lease, &books, &failed).await.unwrap();
    }
    let failures = |name: &str| RateLimitBucket::FailedValidations(name.to_owned());
    assert_eq!(
        used(&house, &books).await,
        [(failures("bad.example.com"), 2), (failures("worse.example.com"), 2)],
        "a name and its wildcard are one name"
    );
    let order = |name| OrderCharge {
        account: books.clone(),
        order: OrderFacts::new(&names(&[name]), RateLimitExemption::None),
    };
    let full = take(&house.store, &claim, &order("bad.example.com")).await.unwrap_err();
    assert_eq!(full.to_string(), "failed validations of bad.example.com (2 in 1 h)");
    assert_eq!(take(&house.store, &claim, &order("good.example.com")).await, Ok(()));
}

async fn accounts_share_what_is_the_cas_and_nothing_else(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = house.attempt(&claim);
    let booking = charge(&["www.example.com"], RateLimitExemption::None);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    assert_eq!(take(&house.store, &claim, &booking).await, Ok(()));
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    house.store.store_issued(&claim.lease, &attempt, &new, Some(&booking), house.now()).await.unwrap();
    house.store.charge_failed_validations(&claim.lease, &booking.account, &names(&["a.example"])).await.unwrap();

    let shared = [
        (RateLimitBucket::Domain("example.com".to_owned()), 1),
        (RateLimitBucket::NameSet("www.example.com".to_owned()), 1),
    ];
    assert_eq!(used(&house, &account("https://ca.example/acct/2")).await, shared);
    let unregistered = LedgerAccount { account: None, ..booking.account.clone() };
    assert_eq!(used(&house, &unregistered).await, shared);
    let server = ServerUrl::parse("https://other.example/directory", PlainHttpPolicy::Refused).unwrap();
    assert_eq!(used(&house, &LedgerAccount { account: None, server, ..booking.account }).await, []);
}

async fn what_has_settled_is_forgotten(house: Fixture) {
    let claim = house.claimed().await;
    assert_eq!(take(&house.store, &claim, &charge(&["www.example.com"], RateLimitExemption::None)).await, Ok(()));
    let kept = async || sqlx::query("SELECT id FROM ledger").fetch_all(&house.raw).await.unwrap().len();
    assert!(kept().await > 0);
    house.store.remove_expired(house.now() + Duration::minutes(59)).await.unwrap();
    assert_eq!(kept().await, 1);
    house.store.remove_expired(house.now() + Duration::HOUR).await.unwrap();
    assert_eq!(kept().await, 0);
}

/// An index of PostgreSQL takes no row of more than 2.7 kB.
async fn a_name_set_of_any_length_has_its_row(house: Fixture) {
    let claim = house.claimed().await;
    let attempt = house.attempt(&claim);
    let label = |number: u64| format!("{:063x}", u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).pow(2));
    let long: Vec<String> = (1..=100)
        .map(|number| format!("{}.{}.{}.example", label(number), label(number + 100), label(number + 200)))
        .collect();
    let booking = charge(&long.iter().map(String::as_str).collect::<Vec<_>>(), RateLimitExemption::SameNames);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    assert_eq!(take(&house.store, &claim, &booking).await, Ok(()));
    let new = new_certificate("issued", None, house.now(), Duration::days(90));
    house.store.store_issued(&claim.lease, &attempt, &new, Some(&booking), house.now()).await.unwrap();
    assert_eq!(used(&house, &booking.account).await.len(), 2);
}

async fn take(store: &Store, claim: &ClaimedAutoCertificate, booking: &OrderCharge) -> Result<(), LimitExceeded> {
    store.charge_order(&claim.lease, booking).await.unwrap()
}

async fn ledger(house: &Fixture, books: &LedgerAccount) -> RateLimitLedger {
    house.store.ledger(books, house.now()).await.unwrap()
}

async fn used(house: &Fixture, books: &LedgerAccount) -> Vec<(RateLimitBucket, u32)> {
    let now: Moment = house.now();
    ledger(house, books).await.levels(now).into_iter().map(|level| (level.bucket, level.used)).collect()
}

fn names(names: &[&str]) -> Vec<DnsName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn charge(order: &[&str], allowance: RateLimitExemption) -> OrderCharge {
    OrderCharge { account: account("https://ca.example/acct/1"), order: OrderFacts::new(&names(order), allowance) }
}

fn account(account: &str) -> LedgerAccount {
    LedgerAccount {
        account: Some(account.to_owned()),
        server: ServerUrl::parse("https://ca.example/directory", PlainHttpPolicy::Refused).unwrap(),
        limits: CaLimits {
            orders_per_account: RateLimit::new(3, Duration::hours(3)),
            certificates_per_domain: RateLimit::new(50, Duration::days(7)),
            certificates_per_name_set: RateLimit::new(1, Duration::days(1)),
            failed_validations_per_name: RateLimit::new(2, Duration::HOUR),
        },
    }
}
