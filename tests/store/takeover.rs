//! What other tools left, taken over into the store.

use autocertd::domain::renewal::plan::{RenewalAction, RenewalReason, plan_renewal};
use autocertd::store::{RegisteredAccount, Takeover, TakeoverOutcome};
use secrecy::ExposeSecret;
use time::Duration;

use crate::fixture::{ALL, Fixture, actor, name, new_certificate, on_both};

on_both! {
    it_goes_on_where_the_other_tool_stopped
    again_it_changes_nothing_unless_the_certificate_is_newer
    a_provider_is_used_again_by_server_and_contact
    a_rehearsal_tells_all_and_keeps_nothing
    what_is_in_the_way_is_told
}

const LIFETIME: Duration = Duration::days(90);

fn takeover(house: &Fixture, common_name: &str) -> Takeover {
    Takeover {
        name: name(common_name),
        common_name: common_name.parse().unwrap(),
        subject_alternative_names: vec!["Bücher.example".parse().unwrap()],
        key_algorithm: "rsa3072".parse().unwrap(),
        server: autocertd::domain::value::server_url::ServerUrl::parse(
            "https://ca.example/directory",
            autocertd::domain::value::server_url::PlainHttpPolicy::Refused,
        )
        .unwrap(),
        email: Some("ops@example.com".parse().unwrap()),
        account: Some(RegisteredAccount {
            url: "https://ca.example/acct/7".to_owned(),
            credentials: "{\"the\": \"account\"}".to_owned().into(),
        }),
        certificate: Some(new_certificate("in use", None, house.now() - Duration::days(50), LIFETIME)),
    }
}

async fn take(house: &Fixture, wanted: &Takeover) -> TakeoverOutcome {
    house.store.take_over(wanted, &actor(), 50).await.unwrap()
}

async fn it_goes_on_where_the_other_tool_stopped(house: Fixture) {
    let wanted = takeover(&house, "www.example.com");
    let TakeoverOutcome::Created { auto_certificate, provider } = take(&house, &wanted).await else { panic!() };
    assert!(provider.made);

    let taken = house.reload(auto_certificate).await;
    assert_eq!(taken.provider, provider.id);
    assert_eq!(taken.key_algorithm.as_str(), "rsa3072");
    assert_eq!(taken.subject_alternative_names[0].sent(), "Bücher.example");
    assert_eq!(taken.standing.last_issued, Some(house.now() - Duration::days(50)));
    let planned = plan_renewal(&taken.standing, house.now());
    assert_eq!((planned.action, planned.reason), (RenewalAction::AskRenewalInfo, RenewalReason::RenewalAhead));
    assert!(planned.next_check <= house.now() + Duration::days(10));

    let issued = house.store.certificates(ALL, None, Some(auto_certificate)).await.unwrap().items;
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0].common_name, "www.example.com");
    let key = house.store.certificate_private_key(issued[0].id).await.unwrap().unwrap();
    assert_eq!(key.expose_secret(), wanted.certificate.unwrap().private_key.expose_secret());

    let account = house.store.account(provider.id).await.unwrap().unwrap().registered.unwrap();
    assert_eq!(account.url, "https://ca.example/acct/7");
    assert_eq!(account.credentials.expose_secret(), "{\"the\": \"account\"}");
    assert!(house.store.claim_due_providers(house.now() + Duration::DAY, 10).await.unwrap().is_empty());
    assert_eq!(
        house.store.due_auto_certificates(house.now()).await.unwrap(),
        [auto_certificate],
        "the plan looks at once"
    );
}

async fn again_it_changes_nothing_unless_the_certificate_is_newer(house: Fixture) {
    let wanted = takeover(&house, "www.example.com");
    let TakeoverOutcome::Created { auto_certificate, .. } = take(&house, &wanted).await else { panic!() };
    let before = house.store.certificates(ALL, None, None).await.unwrap().items.len();
    for again in [wanted.clone(), Takeover { certificate: None, email: None, ..wanted.clone() }] {
        assert_eq!(take(&house, &again).await, TakeoverOutcome::AlreadyPresent(auto_certificate));
    }
    let older = new_certificate("older", None, house.now() - Duration::days(70), LIFETIME);
    let older = Takeover { certificate: Some(older), ..wanted.clone() };
    assert_eq!(take(&house, &older).await, TakeoverOutcome::AlreadyPresent(auto_certificate));
    assert_eq!(house.store.certificates(ALL, None, None).await.unwrap().items.len(), before);

    let renewed = new_certificate("renewed", None, house.now() - Duration::days(1), LIFETIME);
    let newer = Takeover { certificate: Some(renewed), ..wanted };
    assert_eq!(take(&house, &newer).await, TakeoverOutcome::Newer(auto_certificate));
    let newest = house.reload(auto_certificate).await.standing.newest.unwrap();
    assert_eq!(newest.not_before, house.now() - Duration::days(1));
    assert_eq!(take(&house, &newer).await, TakeoverOutcome::AlreadyPresent(auto_certificate));
    assert_eq!(house.store.providers(ALL).await.unwrap().items.len(), 1);
}

async fn a_provider_is_used_again_by_server_and_contact(house: Fixture) {
    let there = house.provider().await;
    let one = takeover(&house, "one.example.com");
    let TakeoverOutcome::Created { provider, .. } = take(&house, &one).await else { panic!() };
    assert_eq!((provider.id, provider.made), (there.id, false));

    let nameless = Takeover { email: None, ..takeover(&house, "two.example.com") };
    let TakeoverOutcome::Created { provider, .. } = take(&house, &nameless).await else { panic!() };
    assert_eq!(provider.id, there.id);

    let email = Some("dev@example.com".parse().unwrap());
    let other = Takeover { email, account: None, ..takeover(&house, "three.example.com") };
    let TakeoverOutcome::Created { provider, .. } = take(&house, &other).await else { panic!() };
    assert!(provider.made && provider.account_url.is_none());
    let due = house.store.claim_due_providers(house.now(), 10).await.unwrap();
    assert!(due.iter().any(|lease| lease.id == provider.id), "its account is to be registered");

    let unclear = Takeover { email: None, ..takeover(&house, "four.example.com") };
    assert_eq!(take(&house, &unclear).await, TakeoverOutcome::NoContact);
}

async fn a_rehearsal_tells_all_and_keeps_nothing(house: Fixture) {
    let (one, two) = (takeover(&house, "one.example.com"), takeover(&house, "two.example.com"));
    let rehearsed = house.store.dry_run_takeovers(&[&one, &two, &one], &actor(), 2).await.unwrap();
    let made = |taken: &TakeoverOutcome| matches!(taken, TakeoverOutcome::Created { provider, .. } if provider.made);
    assert!(made(&rehearsed[0]) && !made(&rehearsed[1]), "{rehearsed:?}");
    assert!(matches!(rehearsed[2], TakeoverOutcome::AlreadyPresent(_)));
    assert!(house.store.providers(ALL).await.unwrap().items.is_empty());
    assert!(house.store.auto_certificates(ALL, None).await.unwrap().items.is_empty());
}

async fn what_is_in_the_way_is_told(house: Fixture) {
    let wanted = takeover(&house, "www.example.com");
    let TakeoverOutcome::Created { auto_certificate, .. } = take(&house, &wanted).await else { panic!() };
    let others = Takeover { subject_alternative_names: Vec::new(), ..wanted };
    assert_eq!(take(&house, &others).await, TakeoverOutcome::OtherNames(auto_certificate));
    let more = takeover(&house, "more.example.com");
    assert_eq!(house.store.take_over(&more, &actor(), 1).await.unwrap(), TakeoverOutcome::LimitReached);
    assert!(house.store.delete_auto_certificate(auto_certificate).await.unwrap());
    assert!(matches!(take(&house, &others).await, TakeoverOutcome::Created { .. }));
}
