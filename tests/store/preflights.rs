//! Rehearsals: each is claimed by one, kept with its findings, and looked at again soon after settings were read anew.

use autocertd::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use autocertd::domain::renewal::preflight::Preflight;
use time::Duration;

use crate::fixture::{Fixture, on_both};

on_both! {
    a_rehearsal_is_claimed_once_and_again_when_it_is_due
    what_a_rehearsal_found_is_kept
}

async fn a_rehearsal_is_claimed_once_and_again_when_it_is_due(house: Fixture) {
    let provider = house.provider().await;
    let one = house.auto_certificate(provider.id, "one.example.com").await.id;
    let other = house.auto_certificate(provider.id, "other.example.com").await.id;
    let first = house.store.claim_preflights(house.now(), 1).await.unwrap();
    let rest = house.store.claim_preflights(house.now(), 5).await.unwrap();
    let mut all = [first, rest].concat();
    all.sort_unstable();
    let mut both = vec![one, other];
    both.sort_unstable();
    assert_eq!(all, both);
    assert!(house.store.claim_preflights(house.now(), 5).await.unwrap().is_empty());

    house.store.postpone_preflight(one, house.now() + Duration::DAY).await.unwrap();
    house.turn(Duration::HOUR);
    assert_eq!(house.store.claim_preflights(house.now(), 5).await.unwrap(), [other], "one that was broken off");
    house.store.postpone_preflight(other, house.now() + Duration::days(700)).await.unwrap();
    assert_eq!(house.store.claim_preflights(house.now(), 5).await.unwrap(), [other], "by a clock that was ahead");
    house.store.postpone_preflight(one, house.now() + Duration::days(701)).await.unwrap();
    house.store.postpone_preflight(other, house.now() + Duration::days(700)).await.unwrap();
    assert_eq!(house.store.earliest_preflight_check().await.unwrap(), Some(house.now()), "all of them by such a clock");
    house.store.postpone_preflight(one, house.now() + Duration::hours(23)).await.unwrap();
    house.store.postpone_preflight(other, house.now() + Duration::days(2)).await.unwrap();
    assert_eq!(house.store.earliest_preflight_check().await.unwrap(), Some(house.now() + Duration::hours(23)));
    house.turn(Duration::days(3));
    assert!(house.store.delete_auto_certificate(other).await.unwrap());
    assert_eq!(house.store.claim_preflights(house.now(), 5).await.unwrap(), [one]);
}

async fn what_a_rehearsal_found_is_kept(house: Fixture) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "www.example.com").await.id;
    assert_eq!(house.reload(id).await.standing.preflight, None);
    let about = CheckSubject::Name("www.example.com".to_owned());
    let findings = vec![CheckResult::fault(&about, Check::Zone, "there is none", "make one")];
    let rehearsal = Preflight { certificate: uuid::Uuid::from_u128(7).into(), at: house.now(), results: findings };
    house.store.claim_preflights(house.now(), 5).await.unwrap();
    house.store.store_preflight(id, &rehearsal, house.now() + Duration::DAY).await.unwrap();
    assert_eq!(house.reload(id).await.standing.preflight, Some(rehearsal));
    assert!(house.store.claim_preflights(house.now(), 5).await.unwrap().is_empty());
    house.store.recheck_preflights().await.unwrap();
    assert_eq!(house.store.claim_preflights(house.now(), 5).await.unwrap(), [id]);
    for unreadable in [
        "UPDATE auto_certificates SET rehearsal = '{\"version\": 9}'",
        "UPDATE auto_certificates SET rehearsal = 'rot13'",
    ] {
        house.execute_sql(unreadable).await;
        assert_eq!(house.reload(id).await.standing.preflight, None, "it is advice, and no reason to stop");
    }
}
