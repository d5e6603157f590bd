//! What lists are narrowed by and counted by: always as the resources themselves say, whoever wrote them.

use std::collections::BTreeSet;

use autocertd::domain::report::state::{ResourceState, auto_certificate_state, provider_state};
use autocertd::domain::value::id::{AutoCertificateId, ProviderId};
use autocertd::store::{AutoCertificateFilter, Page, ProviderFilter, Store};
use serde_json::json;
use sqlx::{AnyPool, AssertSqlSafe, Row};
use time::Duration;

use crate::fixture::{ALL, Fixture, START, actor, new_certificate, new_provider, on_both};
use crate::former_release::FormerRelease;

on_both! {
    a_list_by_state_has_those_that_say_they_are_in_it
    providers_by_state_are_those_that_say_so
    the_limits_hold_against_many_at_once
    what_a_former_release_wrote_is_counted_and_in_its_state
}

/// Every combination of what the state of an auto-certificate depends on. It is written beside the store, as another
/// release would.
async fn a_list_by_state_has_those_that_say_they_are_in_it(house: Fixture) {
    let provider = house.provider().await;
    let template = house.auto_certificate(provider.id, "www.example.com").await.id;
    let trouble = |disposition: &str| {
        let last = json!({ "disposition": disposition, "not_before": null, "message": "\"disposition\":\"operator\"" });
        Some(json!({ "failures": 1, "last": last, "at": 0, "next_try": 0 }).to_string())
    };
    let troubles = [None, trouble("retry"), trouble("operator"), trouble("restart"), trouble("provider-down")];
    // Ends of certificates in the order of their making, against START; the last element tells whether the newest is
    // deleted again.
    let histories: [(&[i64], bool); 8] = [
        (&[], false),
        (&[-5], false),
        (&[5], false),
        (&[0], false),
        (&[5, -5], false),
        (&[-5, 5], false),
        (&[-5, 5], true),
        (&[5], true),
    ];
    let leases = [None, Some(0), Some(i64::MAX / 2)];
    let mut number = 0;
    for trouble in &troubles {
        for (ends, newest_deleted) in histories {
            for lease in leases {
                number += 1;
                let id = format!("00000000-0000-4000-8000-{number:012}");
                write(
                    &house.raw,
                    &format!("{COPY} SELECT '{id}', {REST} FROM auto_certificates WHERE id = '{template}'"),
                )
                .await;
                let mut last = String::new();
                for (place, end) in ends.iter().enumerate() {
                    last = format!("00000000-0000-4000-9000-{:012}", number * 10 + place);
                    let end = (START + Duration::seconds(*end)).micros();
                    write(&house.raw, &format!("{CERTIFICATE} ('{last}', 'x', '{id}', '', '', '', '', {BLOB}, 0, {end}, {place}, '', '', 0, '', '')")).await;
                }
                if newest_deleted {
                    write(&house.raw, &format!("DELETE FROM certificates WHERE id = '{last}'")).await;
                }
                let trouble = trouble.as_ref().map_or("NULL".to_owned(), |document| format!("'{document}'"));
                let lease = lease.map_or("NULL".to_owned(), |until| until.to_string());
                write(
                    &house.raw,
                    &format!(
                        "UPDATE auto_certificates SET trouble = {trouble}, lease_until = {lease} WHERE id = '{id}'"
                    ),
                )
                .await;
            }
        }
    }
    assert_eq!(number, 120);
    check_states(&house.store).await;
    // Back again, and half of them deleted.
    write(&house.raw, "UPDATE auto_certificates SET trouble = NULL WHERE id LIKE '%1'").await;
    for n in (1..=number).step_by(2) {
        let id: AutoCertificateId = format!("00000000-0000-4000-8000-{n:012}").parse().unwrap();
        assert!(house.store.delete_auto_certificate(id).await.unwrap());
    }
    check_states(&house.store).await;
    check_totals(&house.store, &house.raw).await;
}

async fn check_states(store: &Store) {
    let all = AutoCertificateFilter::default();
    let everything = store.auto_certificate_page(ALL, &all, START).await.unwrap().ids();
    let everything: Vec<_> =
        store.auto_certificates_by_id(&everything).await.unwrap().into_iter().map(Result::unwrap).collect();
    let mut seen = BTreeSet::new();
    for at in [-5, -1, 0, 1, 5].map(|seconds| START + Duration::seconds(seconds)) {
        for chosen in 1u8..8 {
            let states: Vec<ResourceState> = (0..3)
                .zip(ResourceState::ALL)
                .filter(|(bit, _)| chosen & (1 << bit) != 0)
                .map(|(_, state)| state)
                .collect();
            let filter = AutoCertificateFilter { states: states.clone(), ..AutoCertificateFilter::default() };
            let found = store.auto_certificate_page(ALL, &filter, at).await.unwrap().ids();
            let said = |state| states.contains(&state);
            let expected: Vec<AutoCertificateId> = everything
                .iter()
                .filter(|one| said(auto_certificate_state(&one.standing, at).state))
                .map(|one| one.id)
                .collect();
            assert_eq!(found, expected, "{states:?} {at}");
            if states.len() == 1 && !found.is_empty() {
                seen.insert(states[0].as_str());
            }
        }
    }
    assert_eq!(seen.len(), 3, "every state is there: {seen:?}");
}

async fn providers_by_state_are_those_that_say_so(house: Fixture) {
    for url in ["NULL", "'https://ca.example/1'"] {
        for disposition in [None, Some("retry"), Some("operator")] {
            for fate in [None, Some("lost"), Some("deactivated")] {
                let id = house.provider().await.id;
                let trouble = disposition.map_or("NULL".to_owned(), |disposition| {
                    let last = json!({ "disposition": disposition, "not_before": null, "message": "x" });
                    format!("'{}'", json!({ "failures": 1, "last": last, "at": 0, "next_try": 0 }))
                });
                let note = fate.map_or("NULL".to_owned(), |fate| {
                    format!("'{}'", json!({ "fate": fate, "account": "https://ca.example/0", "at": 1 }))
                });
                write(&house.raw, &format!("UPDATE providers SET trouble = {trouble} WHERE id = '{id}'")).await;
                write(
                    &house.raw,
                    &format!("UPDATE providers SET account_url = {url}, account_note = {note} WHERE id = '{id}'"),
                )
                .await;
            }
        }
    }
    check_providers(&house.store).await;
    check_totals(&house.store, &house.raw).await;
}

async fn check_providers(store: &Store) {
    let everything = store.providers(ALL).await.unwrap().items;
    for states in [
        vec![ResourceState::Available],
        vec![ResourceState::Failed],
        vec![ResourceState::Provisioning],
        ResourceState::ALL.to_vec(),
    ] {
        let filter = ProviderFilter { states: states.clone(), ..ProviderFilter::default() };
        let found = store.provider_page(ALL, &filter).await.unwrap().ids();
        let expected: Vec<ProviderId> =
            everything.iter().filter(|one| states.contains(&provider_state(one).state)).map(|one| one.id).collect();
        assert_eq!(found, expected, "{states:?}");
        assert!(!found.is_empty() || states == [ResourceState::Provisioning] || everything.len() < 18);
    }
}

async fn the_limits_hold_against_many_at_once(house: Fixture) {
    let other = house.open_again().await.unwrap();
    let new = new_certificate("up", None, house.now(), Duration::days(9));
    let mut making = Vec::new();
    for n in 0..12 {
        let store = if n % 2 == 0 { house.store.clone() } else { other.clone() };
        let new = new.clone();
        making.push(tokio::spawn(async move {
            let provider = store.create_provider_within(&new_provider("a CA"), &actor(), 5).await.unwrap();
            let certificate = store.upload_certificate_within(&new, &actor(), 3).await.unwrap();
            (provider.is_some(), certificate.is_some())
        }));
    }
    let (mut providers, mut certificates) = (0, 0);
    for made in making {
        let (provider, certificate) = made.await.unwrap();
        providers += u32::from(provider);
        certificates += u32::from(certificate);
    }
    assert_eq!((providers, certificates), (5, 3));
    check_totals(&house.store, &house.raw).await;
    let first = house.store.certificates(Page { offset: 0, limit: 1 }, None, None).await.unwrap().items[0].id;
    assert!(house.store.delete_certificate(first).await.unwrap());
    assert!(house.store.upload_certificate_within(&new, &actor(), 3).await.unwrap().is_some());
    assert!(house.store.upload_certificate_within(&new, &actor(), 3).await.unwrap().is_none());
    other.close().await;
}

async fn what_a_former_release_wrote_is_counted_and_in_its_state(house: Fixture) {
    let former = FormerRelease::copied(house).await;
    let store = former.open().await;
    check_totals(&store, &former.raw).await;
    let all = store.auto_certificates(ALL, None).await.unwrap().items;
    let now = crate::former_release::MADE;
    for state in ResourceState::ALL {
        let filter = AutoCertificateFilter { states: vec![state], ..AutoCertificateFilter::default() };
        let found = store.auto_certificate_page(ALL, &filter, now).await.unwrap().ids();
        let expected: Vec<_> = all
            .iter()
            .filter(|one| auto_certificate_state(&one.standing, now).state == state)
            .map(|one| one.id)
            .collect();
        assert_eq!(found, expected, "{state:?}");
    }
    check_providers(&store).await;
    store.close().await;
}

/// What is kept is what is there.
async fn check_totals(store: &Store, raw: &AnyPool) {
    let count = async |what: &str| -> i64 {
        sqlx::query(AssertSqlSafe(format!("SELECT COUNT(*) FROM {what}"))).fetch_one(raw).await.unwrap().get(0)
    };
    let kept = async |table: &str, column: &str| -> i64 {
        let select = format!("SELECT {column} FROM totals WHERE id = '{table}'");
        sqlx::query(AssertSqlSafe(select)).fetch_one(raw).await.unwrap().get(0)
    };
    assert_eq!(kept("providers", "present").await, count("providers").await);
    assert_eq!(kept("providers", "of_clients").await, count("providers WHERE declared_by IS NULL").await);
    let present = "auto_certificates WHERE deleted_at IS NULL";
    assert_eq!(kept("auto_certificates", "present").await, count(present).await);
    assert_eq!(
        kept("auto_certificates", "of_clients").await,
        count(&format!("{present} AND declared_by IS NULL")).await
    );
    assert_eq!(kept("certificates", "of_clients").await, count("certificates WHERE auto_certificate_id IS NULL").await);
    assert_eq!(store.provider_total().await.unwrap(), u64::try_from(count("providers").await).unwrap());
    assert_eq!(store.auto_certificate_total().await.unwrap(), u64::try_from(count(present).await).unwrap());
}

async fn write(raw: &AnyPool, statement: &str) {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(raw).await.unwrap();
}

const COPY: &str = "INSERT INTO auto_certificates (id, name, provider_id, common_name, common_name_form, key_algorithm, \
    subject_alternative_names, renewal_requested, runs, wakes, next_look, lease_epoch, created_at, created_by, \
    created_by_id, modified_at, modified_by, modified_by_id)";
const REST: &str = "name, provider_id, common_name, common_name_form, key_algorithm, subject_alternative_names, \
    renewal_requested, runs, wakes, next_look, lease_epoch, created_at, created_by, created_by_id, modified_at, \
    modified_by, modified_by_id";
const CERTIFICATE: &str = "INSERT INTO certificates (id, name, auto_certificate_id, common_name, common_name_form, \
    certificate, chain, private_key, not_before, not_after, created_at, created_by, created_by_id, modified_at, \
    modified_by, modified_by_id) VALUES";
/// Some bytes, in either dialect.
const BLOB: &str = "'x'";
