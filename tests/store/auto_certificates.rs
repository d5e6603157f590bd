//! Auto-certificates: what the API asks, and how they stand.

use autocertd::domain::value::id::ProviderId;
use autocertd::store::{CreationOutcome, Page, RenewalRequestOutcome, RunOutcome, StoreError};
use time::Duration;

use crate::fixture::{ALL, Fixture, actor, claim_due, name, new_auto_certificate, on_both};

on_both! {
    a_rename_that_cannot_change_the_roster_changes_nothing
    an_auto_certificate_reads_back_as_it_was_sent
    the_limit_holds_however_many_ask_at_once
    filters_match_both_forms_of_a_name
    a_deleted_one_is_gone_for_everyone_but_its_clean_up
    a_person_may_mean_it_by_id_name_or_common_name
    a_wish_for_a_renewal_is_heard_once
    progress_counts_runs_and_shows_the_newest
    a_damaged_row_is_named
}

async fn an_auto_certificate_reads_back_as_it_was_sent(house: Fixture) {
    let provider = house.provider().await;
    let created = house.auto_certificate(provider.id, "WWW.Example.com").await;
    let read = house.reload(created.id).await;
    assert_eq!(read.common_name.sent(), "WWW.Example.com");
    let sent: Vec<&str> =
        read.subject_alternative_names.iter().map(autocertd::domain::value::name::RequestedName::sent).collect();
    assert_eq!(sent, ["Bücher.example", "WWW.Example.com"]);
    assert_eq!((read.provider, read.key_algorithm), (provider.id, created.key_algorithm));
    assert_eq!(read.audit.created_by, actor());
    let standing = read.standing;
    assert!(standing.newest.is_none() && standing.failure_streak.is_none() && standing.open_attempt.is_none());
    assert!(!standing.running && !standing.renewal_requested && !standing.deleted);
    assert_eq!((standing.last_issued, standing.clean_up_at), (None, None));

    house.turn(Duration::seconds(5));
    let renamed = house.store.rename_auto_certificate(created.id, &name("new"), &actor()).await.unwrap().unwrap();
    assert_eq!((renamed.name.as_str(), renamed.audit.modified), ("new", house.now()));

    let unknown = new_auto_certificate(ProviderId::from(uuid::Uuid::nil()), "www.example.com");
    let refused = house.store.create_auto_certificate(&unknown, &actor(), 50).await.unwrap();
    assert!(matches!(refused, CreationOutcome::UnknownProvider));
}

async fn the_limit_holds_however_many_ask_at_once(house: Fixture) {
    let provider = house.provider().await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (store, new) = (house.store.clone(), new_auto_certificate(provider.id, &format!("n{number}.example.com")));
        asking.spawn(async move { store.create_auto_certificate(&new, &actor(), 5).await.unwrap() });
    }
    let answers = asking.join_all().await;
    let created = answers.iter().filter(|answer| matches!(answer, CreationOutcome::Created(_))).count();
    assert_eq!(created, 5);
    assert!(answers.iter().all(|answer| matches!(answer, CreationOutcome::Created(_) | CreationOutcome::LimitReached)));

    let listed = house.store.auto_certificates(ALL, None).await.unwrap();
    house.store.delete_auto_certificate(listed.items[0].id).await.unwrap();
    let again = new_auto_certificate(provider.id, "again.example.com");
    let answer = house.store.create_auto_certificate(&again, &actor(), 5).await.unwrap();
    assert!(matches!(answer, CreationOutcome::Created(_)), "a deleted one still counts: {answer:?}");
}

async fn filters_match_both_forms_of_a_name(house: Fixture) {
    let provider = house.provider().await;
    let bücher = house.auto_certificate(provider.id, "BÜCHER.example.com").await;
    house.turn(Duration::seconds(1));
    let other = house.auto_certificate(provider.id, "other.example.com").await;
    for text in ["bücher.example.com", "xn--bcher-kva.example.com", "XN--BCHER-KVA.EXAMPLE.COM"] {
        let found = house.store.auto_certificates(ALL, Some(text)).await.unwrap();
        assert_eq!(found.items.iter().map(|item| item.id).collect::<Vec<_>>(), [bücher.id], "{text}");
    }
    let all = house.store.auto_certificates(ALL, None).await.unwrap();
    assert_eq!(all.items.iter().map(|item| item.id).collect::<Vec<_>>(), [bücher.id, other.id]);
    let second = house.store.auto_certificates(Page { offset: 1, limit: 1 }, None).await.unwrap();
    assert_eq!((second.items[0].id, second.has_more), (other.id, false));
    assert!(house.store.auto_certificates(ALL, Some("example.com")).await.unwrap().items.is_empty());
}

async fn a_deleted_one_is_gone_for_everyone_but_its_clean_up(house: Fixture) {
    let provider = house.provider().await;
    let gone = house.auto_certificate(provider.id, "www.example.com").await;
    let issued = house.issue(gone.id, Duration::days(90)).await;
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());

    assert!(house.store.delete_auto_certificate(gone.id).await.unwrap());
    assert!(!house.store.delete_auto_certificate(gone.id).await.unwrap());
    assert!(house.store.auto_certificate(gone.id).await.unwrap().is_none());
    assert!(house.store.auto_certificates(ALL, None).await.unwrap().items.is_empty());
    assert!(house.store.auto_certificates(ALL, Some("www.example.com")).await.unwrap().items.is_empty());
    assert!(house.store.matching_auto_certificates(&[&gone.id.to_string()]).await.unwrap().concat().is_empty());
    assert!(house.store.rename_auto_certificate(gone.id, &name("x"), &actor()).await.unwrap().is_none());
    assert_eq!(house.store.request_renewal(gone.id).await.unwrap(), RenewalRequestOutcome::Missing);
    assert!(house.store.certificate(issued).await.unwrap().is_some(), "its certificate must stay");

    let claim = claim_due(&house.store, house.now(), 5).await.pop().expect("the clean-up is due");
    assert!(claim.auto_certificate.standing.deleted);
    house.store.purge_auto_certificate(&claim.lease).await.unwrap();
    assert!(house.store.progress(&[gone.id]).await.unwrap().is_empty());
    assert!(house.store.certificate(issued).await.unwrap().is_some(), "its certificate must stay");
}

async fn a_person_may_mean_it_by_id_name_or_common_name(house: Fixture) {
    let provider = house.provider().await;
    let one = house.auto_certificate(provider.id, "bücher.example.com").await;
    house.turn(Duration::seconds(1));
    let other = house.auto_certificate(provider.id, "www.example.com").await;
    house.store.rename_auto_certificate(other.id, &name("the shop"), &actor()).await.unwrap();
    for (text, expected) in [
        (one.id.to_string(), vec![one.id]),
        (one.id.to_string().to_uppercase(), vec![one.id]),
        ("the shop".to_owned(), vec![other.id]),
        ("XN--bcher-kva.example.com".to_owned(), vec![one.id]),
        ("nobody".to_owned(), vec![]),
    ] {
        assert_eq!(house.store.matching_auto_certificates(&[&text]).await.unwrap().concat(), expected, "{text}");
    }
    house.store.rename_auto_certificate(one.id, &name("the shop"), &actor()).await.unwrap();
    assert_eq!(house.store.matching_auto_certificates(&["the shop"]).await.unwrap().concat(), [one.id, other.id]);
}

async fn a_wish_for_a_renewal_is_heard_once(house: Fixture) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "www.example.com").await.id;
    house.issue(id, Duration::days(90)).await;
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());

    assert_eq!(house.store.request_renewal(id).await.unwrap(), RenewalRequestOutcome::Requested);
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [id]);
    let claim = house.claim(id).await;
    assert!(claim.auto_certificate.standing.renewal_requested);
    let attempt = house.attempt(&claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    assert!(!house.reload(id).await.standing.renewal_requested, "the attempt fulfils the wish");
    assert_eq!(house.store.request_renewal(id).await.unwrap(), RenewalRequestOutcome::Running);
    assert!(!house.reload(id).await.standing.renewal_requested);

    // The attempt is broken off; its resumption is asked for, and fulfils the wish too.
    house
        .store
        .release_auto_certificate(&claim.lease, house.now() + Duration::days(1), RunOutcome::Interrupted)
        .await
        .unwrap();
    assert_eq!(house.store.request_renewal(id).await.unwrap(), RenewalRequestOutcome::Requested);
    let claim = house.claim(id).await;
    assert!(claim.auto_certificate.standing.renewal_requested);
    house.store.clear_renewal_request(&claim.lease).await.unwrap();
    assert!(!house.reload(id).await.standing.renewal_requested);
}

async fn progress_counts_runs_and_shows_the_newest(house: Fixture) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "www.example.com").await.id;
    let other = house.auto_certificate(provider.id, "other.example.com").await.id;
    let before = house.store.progress(&[other, id]).await.unwrap();
    assert_eq!(before.iter().map(|progress| progress.id).collect::<Vec<_>>(), [other, id]);
    assert_eq!((before[1].runs, before[1].running, before[1].stage), (0, false, None));
    assert!(before[1].newest.is_none());

    let issued = house.issue(id, Duration::days(90)).await;
    let claim = house.claim(id).await;
    let after = house.store.progress(&[id]).await.unwrap().pop().unwrap();
    assert_eq!((after.runs, after.running, after.common_name.as_str()), (1, true, "www.example.com"));
    let newest = after.newest.unwrap();
    let leaf = house.store.certificate(issued).await.unwrap().unwrap().leaf;
    assert_eq!((newest.id, newest.serial_number, newest.issuer), (issued, leaf.serial_number, leaf.issuer));
    assert_eq!(newest.not_after, leaf.not_after);

    house.store.release_auto_certificate(&claim.lease, house.now(), RunOutcome::Interrupted).await.unwrap();
    assert_eq!(house.store.progress(&[id]).await.unwrap()[0].runs, 1, "a run that was broken off does not count");
    house.store.delete_auto_certificate(id).await.unwrap();
    assert!(house.store.progress(&[id]).await.unwrap()[0].deleted);
}

async fn a_damaged_row_is_named(house: Fixture) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "www.example.com").await.id;
    house.execute_sql("UPDATE auto_certificates SET key_algorithm = 'rot13'").await;
    let error = house.store.auto_certificate(id).await.unwrap_err();
    let StoreError::CorruptRow { table, column, row, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*table, *column, row), ("auto_certificates", "key_algorithm", &id.to_string()));
    let said = error.to_string();
    assert!(said.contains("key_algorithm") && said.contains(&id.to_string()), "{said}");

    house.execute_sql("UPDATE auto_certificates SET key_algorithm = 'rsa2048', trouble = '{'").await;
    let other = house.auto_certificate(provider.id, "other.example.com").await.id;
    let listed = house.store.auto_certificates(ALL, None).await.unwrap().items;
    assert_eq!(listed.iter().map(|found| found.id).collect::<Vec<_>>(), [other], "it hides no other");
    let after = house.store.auto_certificates_after(None, 1).await.unwrap();
    assert_eq!(after.iter().map(|found| found.id).collect::<Vec<_>>(), [other], "a sound one takes its place");
    assert!(house.store.auto_certificates_after(after.last(), 1).await.unwrap().is_empty());
    house.execute_sql("UPDATE auto_certificates SET next_look = 0").await;
    let queue = house.store.queue_at(provider.id, house.now(), 10).await.unwrap();
    assert_eq!(queue.iter().map(|due| due.auto_certificate.id).collect::<Vec<_>>(), [other]);
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [other], "it is put off");
}

async fn a_rename_that_cannot_change_the_roster_changes_nothing(house: Fixture) {
    let provider = house.provider().await;
    let before = house.auto_certificate(provider.id, "www.example.com").await;
    let version = house.store.auto_certificates_version().await.unwrap();
    house.execute_sql("ALTER TABLE locks RENAME TO elsewhere").await;
    let refused = house.store.rename_auto_certificate(before.id, &crate::fixture::name("other"), &actor()).await;
    assert!(refused.is_err());
    assert_eq!(house.reload(before.id).await.name, before.name);
    house.execute_sql("ALTER TABLE elsewhere RENAME TO locks").await;
    house.store.rename_auto_certificate(before.id, &crate::fixture::name("other"), &actor()).await.unwrap().unwrap();
    assert_eq!(house.store.auto_certificates_version().await.unwrap(), version + 1);
}
