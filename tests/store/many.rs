//! Many auto-certificates at once: one query for all of them, in one order, a page at a time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use autocertd::domain::clock_evidence::ClockEvidence;
use autocertd::domain::value::id::AutoCertificateId;
use autocertd::domain::value::moment::Moment;
use autocertd::runtime::clock::Clock;
use autocertd::runtime::randomness::Randomness;
use autocertd::store::{KeyRing, Store};
use time::Duration;

use crate::fixture::{Fixture, on_both};

on_both! {
    a_queue_of_hundreds_is_ordered_whatever_the_clock_does
    many_are_looked_at_and_asked_for_in_one_query
    what_may_be_overdue_is_found_a_page_at_a_time
}

async fn a_queue_of_hundreds_is_ordered_whatever_the_clock_does(house: Fixture) {
    let provider = house.provider().await;
    let mut ids = Vec::new();
    for number in 0..100 {
        ids.push(house.auto_certificate(provider.id, &format!("bare{number}.example.com")).await.id);
    }
    let urgent = house.auto_certificate(provider.id, "urgent.example.com").await.id;
    house.issue(urgent, Duration::hours(20)).await;
    let relaxed = house.auto_certificate(provider.id, "relaxed.example.com").await.id;
    house.issue(relaxed, Duration::days(60)).await;
    ids.extend([relaxed, urgent]);
    let later = house.now() + Duration::HOUR;
    let keys = KeyRing::load(&house.key_file()).unwrap();
    let jumping = Store::open(&house.settings, keys, Arc::new(JumpingClock::new()), Randomness::from_seed(5)).await;
    let queue = jumping.unwrap().queue_for_ids(&ids, later).await.unwrap();
    let queue: Vec<AutoCertificateId> = queue.iter().map(|due| due.auto_certificate.id).collect();
    assert_eq!((queue.len(), queue[0], queue[101]), (102, urgent, relaxed));
    house.execute_sql("UPDATE auto_certificates SET next_look = 0").await;
    let at_provider = house.store.queue_at(provider.id, later, 200).await.unwrap();
    let at_provider: Vec<AutoCertificateId> = at_provider.iter().map(|due| due.auto_certificate.id).collect();
    let again = house.store.queue_for_ids(&ids, later).await.unwrap();
    assert_eq!(again.iter().map(|due| due.auto_certificate.id).collect::<Vec<_>>(), at_provider, "one order for both");
    house.claim(urgent).await;
    assert!(house.store.queue_for_ids(&[urgent], later).await.unwrap().is_empty(), "somebody works on it");
}

/// A clock that shows another moment at each look, now later and now earlier.
struct JumpingClock {
    looks: AtomicI64,
    evidence: Mutex<ClockEvidence>,
}

impl JumpingClock {
    fn new() -> Self {
        Self { looks: AtomicI64::new(0), evidence: Mutex::new(ClockEvidence::NONE) }
    }
}

impl Clock for JumpingClock {
    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn evidence(&self) -> MutexGuard<'_, ClockEvidence> {
        self.evidence.lock().unwrap()
    }

    fn now(&self) -> Moment {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        Moment::from_micros(1_800_000_000_000_000 + (look * 7_919 % 1_009) * 86_400_000_000)
    }
}

async fn many_are_looked_at_and_asked_for_in_one_query(house: Fixture) {
    let provider = house.provider().await;
    let mut ids = Vec::new();
    for number in 0..60 {
        ids.push(house.auto_certificate(provider.id, &format!("www{number}.example.com")).await.id);
    }
    house.issue(ids[3], Duration::days(60)).await;
    let nobody = AutoCertificateId::from(uuid::Uuid::nil());
    let asked: Vec<AutoCertificateId> = ids.iter().rev().copied().chain([nobody]).collect();
    let progress = house.store.progress(&asked).await.unwrap();
    assert_eq!(progress.iter().map(|one| one.id).collect::<Vec<_>>(), asked[..60], "in the order of the question");
    assert!(progress[56].newest.is_some() && progress[55].newest.is_none());

    let claim = house.claim(ids[0]).await;
    house.store.begin_attempt(&claim.lease, &house.attempt(&claim)).await.unwrap();
    assert_eq!(house.store.auto_certificates_at_work().await.unwrap(), [ids[0]]);
    house.store.request_renewals(&asked).await.unwrap();
    let requested = house.store.progress(&ids).await.unwrap();
    assert_eq!(requested.iter().filter(|one| one.renewal_requested).count(), 59, "what is under way is the answer");
    assert!(!requested[0].renewal_requested);

    let names: Vec<String> =
        ids.iter().map(ToString::to_string).chain(["WWW7.example.com".into(), "a\0b".into()]).collect();
    let matching = house.store.matching_auto_certificates(&names).await.unwrap();
    assert_eq!(matching[..60].concat(), ids);
    assert_eq!(matching[60..], [vec![ids[7]], vec![]]);
    let found = house.store.auto_certificates_with_ids(&asked).await.unwrap();
    assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), asked[..60]);
    let (mut last, mut all) = (None, Vec::new());
    while let Some(page) =
        Some(house.store.auto_certificates_after(last.as_ref(), 25).await.unwrap()).filter(|page| !page.is_empty())
    {
        all.extend(page.iter().map(|one| one.id));
        last = page.last().cloned();
    }
    assert_eq!(all.len(), 60);
}

async fn what_may_be_overdue_is_found_a_page_at_a_time(house: Fixture) {
    let provider = house.provider().await;
    let mut lacking = Vec::new();
    for number in 0..7 {
        lacking.push(house.auto_certificate(provider.id, &format!("www{number}.example.com")).await.id);
    }
    let served = house.auto_certificate(provider.id, "served.example.com").await.id;
    house.issue(served, Duration::days(60)).await;
    lacking.sort_unstable_by_key(ToString::to_string);
    let (mut cursor, mut found) = (None, Vec::new());
    loop {
        let page = house.store.overdue_candidates(cursor, house.now(), 3).await.unwrap();
        found.extend(page.iter().map(|one| one.id));
        cursor = page.last().map(|one| one.id);
        if page.len() < 3 {
            break;
        }
    }
    assert_eq!(found, lacking);
    let unserved = house.store.not_in_service("here", house.now(), 3).await.unwrap();
    assert_eq!((unserved.total, unserved.affected_total, unserved.affected.len()), (8, 7, 3));
}
