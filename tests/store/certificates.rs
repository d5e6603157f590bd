//! Certificates, uploaded and issued.

use autocertd::domain::certificate::CertificateOrigin;
use autocertd::domain::value::moment::Moment;
use autocertd::store::{Page, StoreError};
use secrecy::ExposeSecret;
use time::Duration;

use crate::fixture::{ALL, Fixture, actor, name, new_certificate, on_both};

on_both! {
    an_upload_reads_back_as_it_was_given
    what_is_issued_points_to_the_newest
    filters_narrow_the_listing
    only_what_was_issued_is_removed_after_its_time
    a_damaged_certificate_is_named
    a_listing_of_many_gives_its_last_page
}

async fn an_upload_reads_back_as_it_was_given(house: Fixture) {
    let new = new_certificate("mine", Some("My Own CA"), house.now(), Duration::days(90));
    let uploaded = house.store.upload_certificate(&new, &actor()).await.unwrap();
    let read = house.store.certificate(uploaded.id).await.unwrap().unwrap();
    assert_eq!((&read.certificate, &read.chain, &read.leaf), (&new.certificate, &new.chain, &new.leaf));
    assert_eq!((read.origin, read.common_name.as_str()), (CertificateOrigin::Uploaded, "My Own CA"));
    assert_eq!((read.audit.created, read.audit.created_by), (house.now(), actor()));
    let key = house.store.certificate_private_key(uploaded.id).await.unwrap().unwrap();
    assert_eq!(key.expose_secret(), new.private_key.expose_secret());

    house.turn(Duration::seconds(1));
    let renamed = house.store.rename_certificate(uploaded.id, &name("yours"), &actor()).await.unwrap().unwrap();
    assert_eq!((renamed.name.as_str(), renamed.audit.modified), ("yours", house.now()));

    assert!(house.store.delete_certificate(uploaded.id).await.unwrap());
    assert!(!house.store.delete_certificate(uploaded.id).await.unwrap());
    assert!(house.store.certificate_private_key(uploaded.id).await.unwrap().is_none());
    assert!(house.store.rename_certificate(uploaded.id, &name("x"), &actor()).await.unwrap().is_none());
}

async fn what_is_issued_points_to_the_newest(house: Fixture) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "Bücher.example.com").await.id;
    let older = house.issue(id, Duration::days(90)).await;
    house.turn(Duration::days(60));
    let newer = house.issue(id, Duration::days(90)).await;
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());

    let superseded = house.store.certificate(older).await.unwrap().unwrap();
    assert_eq!(superseded.origin, CertificateOrigin::Issued { auto_certificate: id, newest: newer });
    assert_eq!(superseded.common_name, "Bücher.example.com");
    assert_eq!(superseded.audit.created_by.name, "autocertd");
    assert_eq!(house.reload(id).await.standing.newest.unwrap().id, newer);

    assert!(house.store.delete_certificate(newer).await.unwrap());
    let left = house.store.certificate(older).await.unwrap().unwrap();
    assert_eq!(left.origin, CertificateOrigin::Issued { auto_certificate: id, newest: older });
    let newest = house.reload(id).await.standing.newest.unwrap();
    assert_eq!((newest.id, newest.not_after), (older, left.leaf.not_after));
    assert_eq!(
        house.store.due_auto_certificates(house.now()).await.unwrap(),
        [id],
        "an older one serves now: look again"
    );

    assert!(house.store.delete_certificate(older).await.unwrap());
    let standing = house.reload(id).await.standing;
    assert_eq!((standing.newest, standing.last_issued), (None, Some(house.now())));
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [id]);
}

async fn filters_narrow_the_listing(house: Fixture) {
    let provider = house.provider().await;
    let id = house.auto_certificate(provider.id, "www.example.com").await.id;
    let upload = new_certificate("up", Some("WWW.example.com"), house.now(), Duration::days(9));
    let uploaded = house.store.upload_certificate(&upload, &actor()).await.unwrap().id;
    house.turn(Duration::seconds(1));
    let issued = house.issue(id, Duration::days(90)).await;
    house.turn(Duration::seconds(1));
    let nameless = new_certificate("nameless", None, house.now(), Duration::days(9));
    let nameless = house.store.upload_certificate(&nameless, &actor()).await.unwrap().id;
    for (common_name, auto_certificate, expected) in [
        (None, None, vec![uploaded, issued, nameless]),
        (Some("www.EXAMPLE.com"), None, vec![uploaded, issued]),
        (None, Some(id), vec![issued]),
        (Some("www.example.com"), Some(id), vec![issued]),
        (Some("other.example.com"), Some(id), vec![]),
        (Some(""), None, vec![nameless]),
    ] {
        let found = house.store.certificates(ALL, common_name, auto_certificate).await.unwrap();
        let found: Vec<_> = found.items.iter().map(|item| item.id).collect();
        assert_eq!(found, expected, "{common_name:?} {auto_certificate:?}");
    }
    let page = house.store.certificates(Page { offset: 1, limit: 1 }, None, None).await.unwrap();
    assert_eq!((page.items[0].id, page.has_more), (issued, true));
}

async fn only_what_was_issued_is_removed_after_its_time(house: Fixture) {
    let provider = house.provider().await;
    let (kept, gone) = (
        house.auto_certificate(provider.id, "kept.example.com").await.id,
        house.auto_certificate(provider.id, "gone.example.com").await.id,
    );
    let upload = new_certificate("up", None, house.now(), Duration::days(1));
    let uploaded = house.store.upload_certificate(&upload, &actor()).await.unwrap().id;
    let (issued, orphan) = (house.issue(kept, Duration::days(10)).await, house.issue(gone, Duration::days(10)).await);
    house.store.delete_auto_certificate(gone).await.unwrap();
    let claim = house.claim(gone).await;
    house.store.purge_auto_certificate(&claim.lease).await.unwrap();

    let newest = house.issue(kept, Duration::days(10)).await;

    let due: Moment = house.now() + Duration::days(40);
    assert_eq!(house.store.remove_expired(due - Duration::seconds(1)).await.unwrap(), 0);
    assert_eq!(house.store.remove_expired(due).await.unwrap(), 2);
    assert!(house.store.certificate(issued).await.unwrap().is_none());
    assert!(house.store.certificate(orphan).await.unwrap().is_none());
    assert!(house.store.certificate(uploaded).await.unwrap().is_some());
    // Whatever the clock says, the newest certificate of what is not deleted stays, with its key.
    for ahead in [Duration::days(400), Duration::days(3_000_000)] {
        assert_eq!(house.store.remove_expired(due + ahead).await.unwrap(), 0);
        assert!(house.store.certificate_private_key(newest).await.unwrap().is_some());
    }
}

async fn a_damaged_certificate_is_named(house: Fixture) {
    let new = new_certificate("mine", None, house.now(), Duration::days(90));
    let id = house.store.upload_certificate(&new, &actor()).await.unwrap().id;
    house.execute_sql("UPDATE certificates SET certificate = 'no certificate'").await;
    let sound = house.store.upload_certificate(&new, &actor()).await.unwrap().id;
    let listed = house.store.certificates(ALL, None, None).await.unwrap().items;
    assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), [sound], "one damaged row hides no other");
    let error = house.store.certificate(id).await.unwrap_err();
    let StoreError::CorruptRow { table, column, row, source } = error else { panic!("{error:?}") };
    assert_eq!((table, column, row), ("certificates", "certificate", id.to_string()));
    assert!(source.is_some());
}

/// 20,000 rows, written beside the store; that an index is used is seen by the plans in `src/store/tests.rs`.
async fn a_listing_of_many_gives_its_last_page(house: Fixture) {
    let new = new_certificate("mine", None, house.now(), Duration::days(90));
    house.store.upload_certificate(&new, &actor()).await.unwrap();
    // Ids only have to sort and to read as UUIDs.
    let copied = house
        .execute_sql(
            "INSERT INTO certificates (id, name, common_name, common_name_form, certificate, chain, private_key, \
             not_before, not_after, created_at, created_by, created_by_id, modified_at, modified_by, modified_by_id) \
             WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 20000) \
             SELECT '00000000-0000-4000-8000-0000000' || CAST(10000 + n AS TEXT), name, common_name, \
             common_name_form, certificate, chain, private_key, not_before, not_after, created_at + n, created_by, \
             created_by_id, modified_at, modified_by, modified_by_id FROM certificates, counter",
        )
        .await;
    assert_eq!(copied, 20_000);
    let page = house.store.certificates(Page { offset: 19_999, limit: 10 }, None, None).await.unwrap();
    assert_eq!((page.items.len(), page.has_more), (2, false));
    assert_eq!(page.items[1].id.to_string(), "00000000-0000-4000-8000-000000030000");
}
