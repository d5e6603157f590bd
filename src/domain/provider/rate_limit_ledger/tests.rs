use proptest::prelude::*;

use super::*;

const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

fn order(names: &[&str], allowance: RateLimitExemption) -> OrderFacts {
    let names: Vec<DnsName> = names.iter().map(|name| name.parse().unwrap()).collect();
    OrderFacts::new(&names, allowance)
}

fn lets_encrypt() -> RateLimitLedger {
    RateLimitLedger::new(CaLimits::LETS_ENCRYPT, [])
}

/// How many orders of this kind pass at once, each of them issued.
fn burst(
    ledger: &mut RateLimitLedger,
    name: impl Fn(u32) -> String,
    allowance: RateLimitExemption,
) -> (u32, Option<LimitExceeded>) {
    for number in 0..1_000 {
        let order = order(&[&name(number)], allowance);
        if let Err(full) = ledger.check_order(&order, NOW) {
            return (number, Some(full));
        }
        ledger.charge_order(&order, NOW);
        ledger.issued(&order, NOW);
    }
    (1_000, None)
}

#[test]
fn three_hundred_orders_of_an_account_pass_but_for_the_reserve_and_then_one_every_36_seconds() {
    let (passed, full) = burst(&mut lets_encrypt(), |number| format!("www.d{number}.com"), RateLimitExemption::None);
    let full = full.unwrap();
    assert_eq!((passed, full.bucket.clone()), (297, RateLimitBucket::Orders));
    assert_eq!(full.until - NOW, Duration::seconds(36));
    assert_eq!(full.to_string(), "orders of the account (300 in 3 h)");
}

#[test]
fn fifty_new_certificates_of_a_registered_domain_pass_but_for_the_reserve_and_repetitions_do_not_count() {
    let name = |number| format!("h{number}.example.co.uk");
    let (passed, full) = burst(&mut lets_encrypt(), name, RateLimitExemption::None);
    assert_eq!((passed, full.unwrap().bucket), (48, RateLimitBucket::Domain("example.co.uk".to_owned())));
    assert_eq!(burst(&mut lets_encrypt(), name, RateLimitExemption::SameNames).0, 297);
}

#[test]
fn five_of_the_same_names_pass_and_the_next_comes_after_34_hours() {
    let (passed, full) = burst(&mut lets_encrypt(), |_| "a.example.com".to_owned(), RateLimitExemption::SameNames);
    let full = full.unwrap();
    assert_eq!((passed, full.until - NOW), (5, Duration::days(7) / 5));
    assert_eq!(full.bucket, RateLimitBucket::NameSet("a.example.com".to_owned()));
}

#[test]
fn a_renewal_in_its_window_neither_waits_nor_counts() {
    let mut ledger = lets_encrypt();
    assert_eq!(burst(&mut ledger, |_| "a.example.com".to_owned(), RateLimitExemption::InRenewalWindow), (1_000, None));
    assert!(ledger.levels(NOW).is_empty());
}

#[test]
fn failed_validations_of_one_name_hold_up_only_that_name() {
    let mut ledger = lets_encrypt();
    for _ in 0..5 {
        ledger.charge_failed_validation(&"bad.example.com".parse().unwrap(), NOW);
    }
    let full = ledger
        .check_order(&order(&["good.example.com", "*.bad.example.com"], RateLimitExemption::None), NOW)
        .unwrap_err();
    assert_eq!(
        (full.bucket, full.until - NOW),
        (RateLimitBucket::FailedValidations("bad.example.com".to_owned()), Duration::minutes(12))
    );
    assert_eq!(ledger.check_order(&order(&["good.example.com"], RateLimitExemption::None), NOW), Ok(()));
}

#[test]
fn levels_tell_what_counts_and_when_one_more_passes() {
    let mut ledger = lets_encrypt();
    let order = order(&["www.example.com", "example.com"], RateLimitExemption::None);
    ledger.charge_order(&order, NOW);
    ledger.issued(&order, NOW);
    let levels = ledger.levels(NOW);
    let used: Vec<_> = levels.iter().map(|level| (level.bucket.to_string(), level.used)).collect();
    let expected =
        ["orders of the account", "new certificates of example.com", "certificates for exactly example.com and 1 more"];
    assert_eq!(used, expected.map(|bucket| (bucket.to_owned(), 1)));
    assert!(levels.iter().all(|level| level.next_allowed <= NOW));
    ledger.forget_recovered(NOW + Duration::days(2));
    assert!(ledger.levels(NOW).is_empty());
}

#[test]
fn a_clock_that_was_ahead_holds_up_nothing() {
    let order = order(&["a.com"], RateLimitExemption::None);
    let far = RateLimitLedger::new(CaLimits::LETS_ENCRYPT, [(RateLimitBucket::Orders, NOW + Duration::days(400))]);
    assert_eq!(far.check_order(&order, NOW), Ok(()));
    let near = RateLimitLedger::new(CaLimits::LETS_ENCRYPT, [(RateLimitBucket::Orders, NOW + Duration::hours(4))]);
    assert_eq!(near.check_order(&order, NOW).unwrap_err().until - NOW, Duration::seconds(144));
    assert_eq!(near.check_order(&order, NOW + Duration::hours(2)), Ok(()));
}

#[test]
fn without_limits_everything_passes() {
    assert_eq!(
        burst(&mut RateLimitLedger::default(), |_| "a.example.com".to_owned(), RateLimitExemption::None),
        (1_000, None)
    );
}

#[test]
fn buckets_read_back() {
    let text = || "x.example".to_owned();
    for bucket in [
        RateLimitBucket::Orders,
        RateLimitBucket::Domain(text()),
        RateLimitBucket::NameSet(text()),
        RateLimitBucket::FailedValidations(text()),
    ] {
        assert_eq!(RateLimitBucket::from_parts(bucket.kind().as_str(), bucket.subject().to_owned()), Some(bucket));
    }
}

proptest! {
    /// Whatever is sent when the ledger says so stays within the limit in every span, give or take the refill.
    #[test]
    fn nothing_beyond_the_limit_passes(count in 1u32..50, minutes in 1i64..600, pauses in proptest::collection::vec(0i64..3_600, 1..300)) {
        let rate = RateLimit::new(count, Duration::minutes(minutes)).unwrap();
        let limits = CaLimits { orders_per_account: Some(rate), ..CaLimits::NONE };
        let mut ledger = RateLimitLedger::new(limits, []);
        let order = order(&["a.example"], RateLimitExemption::None);
        let (mut now, mut sent) = (NOW, Vec::new());
        for pause in pauses {
            now = now + Duration::seconds(pause);
            if ledger.check_order(&order, now).is_ok() {
                ledger.charge_order(&order, now);
                sent.push(now);
            }
        }
        for start in &sent {
            let within = sent.iter().filter(|at| *start <= **at && **at < *start + rate.span()).count();
            prop_assert!(within <= 2 * usize::try_from(count).unwrap());
        }
    }
}
