//! Rehearsals: each is claimed by one, kept with its findings, and looked at again soon after settings were read anew.

use autocertd::domain::finding::{Check, CheckResult, CheckSubject};
use autocertd::domain::rehearsal::Preflight;
use time::Duration;

use crate::house::{House, on_both};

on_both! {
    a_rehearsal_is_claimed_once_and_again_when_it_is_due
    what_a_rehearsal_found_is_kept
}

async fn a_rehearsal_is_claimed_once_and_again_when_it_is_due(house: House) {
    let provider = house.provider().await;
    let one = house.auto_certificate(provider.id, "one.example.com").await.id;
    let other = house.auto_certificate(provider.id, "other.example.com").await.id;
    let first = house.store.claim_rehearsals(house.now(), 1).await.unwrap();
    let rest = house.store.claim_rehearsals(house.now(), 5).await.unwrap();
    let mut all = [first, rest].concat();
    all.sort_unstable();
    let mut both = vec![one, other];
    both.sort_unstable();
    assert_eq!(all, both);
    assert!(house.store.claim_rehearsals(house.now(), 5).await.unwrap().is_empty());

    house.store.put_rehearsal_off(one, house.now() + Duration::DAY).await.unwrap();
    house.turn(Duration::HOUR);
    assert_eq!(house.store.claim_rehearsals(house.now(), 5).await.unwrap(), [other], "one that was broken off");
    house.store.put_rehearsal_off(other, house.now() + Duration::days(700)).await.unwrap();
    assert_eq!(house.store.claim_rehearsals(house.now(), 5).await.unwrap(), [other], "by a clock that was ahead");
    house.store.put_rehearsal_off(one, house.now() + Duration::days(701)).await.unwrap();
    house.store.put_rehearsal_off(other, house.now() + Duration::days(700)).await.unwrap();
    assert_eq!(house.store.earliest_rehearsal_look().await.unwrap(), Some(house.now()), "all of them by such a clock");
    house.store.put_rehearsal_off(one, house.now() + Duration::hours(23)).await.unwrap();
    house.store.put_rehearsal_off(other, house.now() + Duration::days(2)).await.unwrap();
    assert_eq!(house.store.earliest_rehearsal_look().await.unwrap(), Some(house.now() + Duration::hours(23)));
    house.turn(Duration::days(3));
    assert!(house.store.delete_auto_certificate(other).await.unwrap());
    assert_eq!(house.store.claim_rehearsals(house.now(), 5).await.unwrap(), [one]);
}

async fn what_a_rehearsal_found_is_kept(house: House) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "www.example.com").await.id;
    assert_eq!(house.reload(id).await.standing.rehearsal, None);
    let about = CheckSubject::Name("www.example.com".to_owned());
    let findings = vec![CheckResult::fault(&about, Check::Zone, "there is none", "make one")];
    let rehearsal = Preflight { certificate: uuid::Uuid::from_u128(7).into(), at: house.now(), findings };
    house.store.claim_rehearsals(house.now(), 5).await.unwrap();
    house.store.store_rehearsal(id, &rehearsal, house.now() + Duration::DAY).await.unwrap();
    assert_eq!(house.reload(id).await.standing.rehearsal, Some(rehearsal));
    assert!(house.store.claim_rehearsals(house.now(), 5).await.unwrap().is_empty());
    house.store.rehearse_soon().await.unwrap();
    assert_eq!(house.store.claim_rehearsals(house.now(), 5).await.unwrap(), [id]);
    for unreadable in [
        "UPDATE auto_certificates SET rehearsal = '{\"version\": 9}'",
        "UPDATE auto_certificates SET rehearsal = 'rot13'",
    ] {
        house.tamper(unreadable).await;
        assert_eq!(house.reload(id).await.standing.rehearsal, None, "it is advice, and no reason to stop");
    }
}
