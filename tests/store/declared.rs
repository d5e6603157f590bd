//! What settings declare, brought into the store.

use autocertd::domain::certificate::key_algorithm::KeyAlgorithm;
use autocertd::domain::declared::{
    DeclaredAutoCertificate, DeclaredKey, DeclaredProvider, DeclaredResources, ProviderReference,
};
use autocertd::domain::failure::back_off::FailureStreak;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::domain::provider::{AccountNote, ExternalAccountBinding};
use autocertd::domain::renewal::plan::{RenewalAction, RenewalReason, plan_renewal};
use autocertd::domain::value::id::{AutoCertificateId, ProviderId};
use autocertd::domain::value::mac_key::MacKey;
use autocertd::domain::value::resource::Actor;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::store::{CreationOutcome, DeletionOutcome, IntendedRecord, LeaseState, StoreError};
use secrecy::{ExposeSecret, SecretString};
use time::Duration;

use crate::fixture::{ALL, EAB_SECRET, Fixture, actor, claim_due, name, new_auto_certificate, new_provider, on_both};

on_both! {
    what_is_declared_is_made_once_and_what_is_aligned_wakes_nobody
    names_that_the_api_gave_are_no_conflict
    a_changed_contact_is_due_where_there_is_an_account
    a_contact_that_changes_during_the_registration_is_told_after_it
    a_changed_server_forgets_the_account_and_ends_its_orders
    a_changed_external_account_matters_for_the_next_registration_only
    a_changed_intent_ends_the_open_attempt_and_fences_its_holder_off
    the_new_certificate_fulfils_the_changed_intent
    fallbacks_and_the_profile_of_a_provider_change_rows_only
    the_profile_of_an_auto_certificate_is_an_intent
    what_is_declared_is_not_changed_otherwise_until_it_no_longer_is
    declared_ones_do_not_count
    prune_deletes_what_nothing_uses
    instances_leave_each_other_alone_until_they_declare_the_same_key
    a_changed_declaration_has_a_deactivated_account_replaced
    that_an_account_was_lost_outlives_a_changed_declaration
    a_provider_is_found_by_its_key
    an_unknown_provider_changes_nothing
    what_is_damaged_is_left_as_it_is_and_holds_up_no_other
}

fn key(text: &str) -> DeclaredKey {
    text.parse().unwrap()
}

fn provider(text: &str) -> DeclaredProvider {
    DeclaredProvider { key: key(text), provider: new_provider(text), fallbacks: Vec::new(), staging: None }
}

fn declared_auto_certificate(text: &str, provider: ProviderReference) -> DeclaredAutoCertificate {
    DeclaredAutoCertificate {
        key: key(text),
        name: name(text),
        provider,
        common_name: "www.example.com".parse().unwrap(),
        key_algorithm: KeyAlgorithm::Secp256r1,
        subject_alternative_names: vec!["example.com".parse().unwrap()],
        profile: None,
    }
}

/// `le`, and `www` that uses it.
fn usual() -> DeclaredResources {
    let www = declared_auto_certificate("www", ProviderReference::Key(key("le")));
    DeclaredResources {
        instance: "here".to_owned(),
        prune: false,
        complete: true,
        providers: vec![provider("le")],
        auto_certificates: vec![www],
    }
}

fn nothing() -> DeclaredResources {
    DeclaredResources { providers: Vec::new(), auto_certificates: Vec::new(), ..usual() }
}

/// Brings it into the store; says how many changes that took. Done again, it takes none.
async fn reconcile(house: &Fixture, declared: &DeclaredResources) -> usize {
    let count = house.store.reconcile(declared).await.unwrap().words().count();
    let again: Vec<String> = house.store.reconcile(declared).await.unwrap().words().collect();
    assert!(again.is_empty(), "{again:?}");
    count
}

/// A house in which `le` and `www` are declared.
async fn declared(house: &Fixture) -> (ProviderId, AutoCertificateId) {
    assert_eq!(reconcile(house, &usual()).await, 2);
    let providers = house.store.providers(ALL).await.unwrap().items;
    let wishes = house.store.auto_certificates(ALL, None).await.unwrap().items;
    assert_eq!((providers.len(), wishes.len()), (1, 1));
    (providers[0].id, wishes[0].id)
}

async fn register(house: &Fixture, id: ProviderId) {
    let lease = house.store.claim_provider(id).await.unwrap().unwrap();
    house.store.store_account(&lease, "https://ca.example/acct/1", &SecretString::from("k")).await.unwrap();
    house.store.release_provider(&lease).await.unwrap();
}

fn with_email(email: &str) -> DeclaredResources {
    let mut declared = usual();
    declared.providers[0].provider.email = email.parse().unwrap();
    declared
}

async fn what_is_declared_is_made_once_and_what_is_aligned_wakes_nobody(house: Fixture) {
    let (provider, id) = declared(&house).await;
    let made = house.reload(id).await;
    assert_eq!((made.name.as_str(), made.provider, made.key_algorithm), ("www", provider, KeyAlgorithm::Secp256r1));
    assert_eq!(made.audit.created_by, Actor::autocertd());
    assert!(!made.standing.intent_changed);
    let account = house.store.account(provider).await.unwrap().unwrap();
    assert_eq!(account.external_account.unwrap().key_secret.expose_secret(), EAB_SECRET);
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [id]);

    register(&house, provider).await;
    house.issue(id, Duration::days(90)).await;
    house.turn(Duration::hours(2));
    assert_eq!(reconcile(&house, &usual()).await, 0);
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty());
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), None);

    let mut renamed = usual();
    renamed.auto_certificates[0].name = name("the shop");
    renamed.providers[0].provider.name = name("the CA");
    assert_eq!(reconcile(&house, &renamed).await, 2);
    let by_now = house.reload(id).await;
    assert_eq!((by_now.name.as_str(), by_now.audit.modified), ("the shop", house.now()));
    assert!(house.store.due_auto_certificates(house.now()).await.unwrap().is_empty(), "another name is no other wish");
    let provider = house.store.provider(provider).await.unwrap().unwrap();
    assert_eq!((provider.name.as_str(), provider.account_url.is_some()), ("the CA", true));
}

async fn names_that_the_api_gave_are_no_conflict(house: Fixture) {
    let other = house.store.create_provider(&new_provider("le"), &actor()).await.unwrap();
    assert_eq!(reconcile(&house, &usual()).await, 2);
    let providers = house.store.providers(ALL).await.unwrap().items;
    assert_eq!(providers.iter().filter(|provider| provider.name.as_str() == "le").count(), 2);

    let mut moved = usual();
    moved.auto_certificates[0].provider = ProviderReference::Id(other.id);
    assert_eq!(reconcile(&house, &moved).await, 1);
    let wishes = house.store.auto_certificates(ALL, None).await.unwrap().items;
    assert_eq!((wishes[0].provider, wishes[0].standing.intent_changed), (other.id, true));
}

async fn a_changed_contact_is_due_where_there_is_an_account(house: Fixture) {
    let (provider, _) = declared(&house).await;
    assert_eq!(reconcile(&house, &with_email("first@example.com")).await, 1);
    assert!(!house.store.account(provider).await.unwrap().unwrap().contact_changed, "nobody knows the old one");

    register(&house, provider).await;
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), None);
    house.turn(Duration::hours(1));
    assert_eq!(reconcile(&house, &with_email("second@example.com")).await, 1);
    let account = house.store.account(provider).await.unwrap().unwrap();
    assert!(account.contact_changed);
    assert_eq!(account.registered.unwrap().url, "https://ca.example/acct/1");
    assert_eq!(house.store.provider(provider).await.unwrap().unwrap().email.as_str(), "second@example.com");

    let lease = house.store.claim_due_providers(house.now(), 5).await.unwrap().pop().expect("it is due");
    let trouble = FailureStreak::after(None, Failure::retry("the CA is down"), house.now(), None, 0.5);
    house.store.record_account_failure_streak(&lease, &trouble).await.unwrap();
    house.store.release_provider(&lease).await.unwrap();
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), Some(trouble.next_try));

    let lease = house.store.claim_due_providers(trouble.next_try, 5).await.unwrap().pop().expect("it is due again");
    house.store.record_contact_updated(&lease).await.unwrap();
    house.store.release_provider(&lease).await.unwrap();
    assert!(!house.store.account(provider).await.unwrap().unwrap().contact_changed);
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), None);
    assert!(house.store.provider(provider).await.unwrap().unwrap().failure_streak.is_none());
}

async fn a_contact_that_changes_during_the_registration_is_told_after_it(house: Fixture) {
    let (provider, _) = declared(&house).await;
    let stale = house.store.claim_provider(provider).await.unwrap().unwrap();
    let secret = SecretString::from("k");
    house.store.store_pending_account(&stale, &secret).await.unwrap();
    assert_eq!(reconcile(&house, &with_email("second@example.com")).await, 1);
    let late = house.store.store_account(&stale, "https://ca.example/acct/1", &secret).await;
    assert!(matches!(late, Err(StoreError::LostLease)), "{late:?}");

    let lease = house.store.claim_due_providers(house.now(), 5).await.unwrap().pop().expect("it is due");
    assert!(house.store.account(provider).await.unwrap().unwrap().pending.is_some(), "its key finds the account");
    house.store.store_account(&lease, "https://ca.example/acct/1", &secret).await.unwrap();
    house.store.release_provider(&lease).await.unwrap();
    assert!(house.store.account(provider).await.unwrap().unwrap().contact_changed);
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), Some(house.now()));
}

async fn a_changed_server_forgets_the_account_and_ends_its_orders(house: Fixture) {
    let (provider, id) = declared(&house).await;
    register(&house, provider).await;
    let other = house.auto_certificate(provider, "other.example.com").await.id;
    let (claim, idle) = (house.claim(id).await, house.claim(other).await);
    house.store.begin_attempt(&claim.lease, &house.attempt(&claim)).await.unwrap();

    let mut elsewhere = usual();
    elsewhere.providers[0].provider.server =
        ServerUrl::parse("https://other.example/directory", PlainHttpPolicy::Refused).unwrap();
    assert_eq!(reconcile(&house, &elsewhere).await, 1);
    let account = house.store.account(provider).await.unwrap().unwrap();
    assert!(account.registered.is_none() && account.pending.is_none() && !account.contact_changed);
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), Some(house.now()));
    assert!(house.store.open_attempt(id).await.unwrap().is_none());
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Lost);
    assert!(!house.reload(id).await.standing.intent_changed, "its certificate is still what is asked for");
    assert_eq!(house.store.due_auto_certificates(house.now()).await.unwrap(), [id]);
    assert_eq!(house.store.renew_lease(&idle.lease).await.unwrap(), LeaseState::Held, "it has no order there");
}

async fn a_changed_external_account_matters_for_the_next_registration_only(house: Fixture) {
    let (provider, _) = declared(&house).await;
    let lease = house.store.claim_provider(provider).await.unwrap().unwrap();
    let refused = FailureStreak::after(None, Failure::operator("EAB refused"), house.now(), None, 0.5);
    house.store.record_account_failure_streak(&lease, &refused).await.unwrap();
    house.store.release_provider(&lease).await.unwrap();
    let bound = |key_secret: &str| {
        let mut declared = usual();
        let key_secret = MacKey::from_stored(key_secret);
        let binding = ExternalAccountBinding { key_id: "kid-2".to_owned(), key_secret };
        declared.providers[0].provider.external_account = Some(binding);
        declared
    };
    assert_eq!(reconcile(&house, &bound("one")).await, 1);
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), Some(house.now()), "worth another try at once");
    let account = house.store.account(provider).await.unwrap().unwrap();
    let binding = account.external_account.unwrap();
    assert_eq!((binding.key_id.as_str(), binding.key_secret.expose_secret()), ("kid-2", "one"));

    register(&house, provider).await;
    assert_eq!(reconcile(&house, &bound("two")).await, 1);
    assert_eq!(house.store.earliest_provider_check().await.unwrap(), None);
    assert!(house.store.account(provider).await.unwrap().unwrap().registered.is_some());
}

async fn a_changed_intent_ends_the_open_attempt_and_fences_its_holder_off(house: Fixture) {
    let (_, id) = declared(&house).await;
    let issued = house.issue(id, Duration::days(90)).await;
    let claim = house.claim(id).await;
    let attempt = house.attempt(&claim);
    house.store.begin_attempt(&claim.lease, &attempt).await.unwrap();
    let record = IntendedRecord {
        attempt: attempt.id,
        adapter: "ionos",
        zone_id: "zone",
        name: "_acme-challenge.www.example.com",
        content: "proof",
    };
    house.store.journal_records(&claim.lease, &[record]).await.unwrap();
    let trouble = FailureStreak::after(None, Failure::operator("CAA forbids"), house.now(), None, 0.5);
    house.store.record_failure_streak(&claim.lease, &trouble).await.unwrap();

    let mut changed = usual();
    changed.auto_certificates[0].common_name = "new.example.com".parse().unwrap();
    house.turn(Duration::minutes(1));
    assert_eq!(reconcile(&house, &changed).await, 1);
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Lost);
    let late = house.store.store_stage(&claim.lease, attempt.id, &attempt.stage).await;
    assert!(matches!(late, Err(StoreError::LostLease)), "{late:?}");

    let standing = house.reload(id).await.standing;
    assert!(standing.intent_changed && standing.open_attempt.is_none() && standing.failure_streak.is_none());
    assert_eq!(standing.newest.unwrap().id, issued);
    assert_eq!(standing.clean_up_at, Some(house.now()));
    let next = plan_renewal(&standing, house.now());
    assert_eq!(
        (next.action, next.reason),
        (RenewalAction::Start, RenewalReason::IntentChanged),
        "an hour has not passed"
    );
    let claim = claim_due(&house.store, house.now(), 5).await.pop().expect("it is due and free");
    assert_eq!(claim.auto_certificate.names_to_order()[0].to_string(), "new.example.com");
    let found = house.store.auto_certificates(ALL, Some("new.example.com")).await.unwrap().items;
    assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [id]);
}

async fn the_new_certificate_fulfils_the_changed_intent(house: Fixture) {
    let (_, id) = declared(&house).await;
    house.issue(id, Duration::days(90)).await;
    let mut changed = usual();
    changed.auto_certificates[0].key_algorithm = KeyAlgorithm::Rsa2048;
    assert_eq!(reconcile(&house, &changed).await, 1);
    assert!(house.reload(id).await.standing.intent_changed);
    let issued = house.issue(id, Duration::days(90)).await;
    let standing = house.reload(id).await.standing;
    assert_eq!((standing.intent_changed, standing.newest.unwrap().id), (false, issued));
}

async fn fallbacks_and_the_profile_of_a_provider_change_rows_only(house: Fixture) {
    let (provider, id) = declared(&house).await;
    register(&house, provider).await;
    house.issue(id, Duration::days(90)).await;
    let claim = house.claim(id).await;
    let mut more = usual();
    more.providers[0].fallbacks = vec![key("second"), key("third")];
    more.providers[0].provider.profile = Some("tlsserver".parse().unwrap());
    more.providers.extend(["second", "third"].map(self::provider));
    assert_eq!(reconcile(&house, &more).await, 3);
    let kept = house.store.provider(provider).await.unwrap().unwrap();
    let all = house.store.providers(ALL).await.unwrap().items;
    let named: Vec<_> = kept.fallbacks.iter().map(|id| all.iter().find(|other| other.id == *id).unwrap()).collect();
    assert_eq!(named.iter().map(|other| other.name.as_str()).collect::<Vec<_>>(), ["second", "third"]);
    for fallback in &kept.fallbacks {
        let found = house.store.providers_with_fallback(*fallback).await.unwrap();
        assert_eq!(found, [(provider, name("le"))]);
    }
    assert!(house.store.providers_with_fallback(provider).await.unwrap().is_empty());
    assert_eq!(kept.profile, more.providers[0].provider.profile);
    assert!(kept.account_url.is_some() && kept.down_since.is_none());
    assert_eq!(house.store.renew_lease(&claim.lease).await.unwrap(), LeaseState::Held, "nobody is disturbed");
    assert!(!house.reload(id).await.standing.intent_changed);

    let down = Disposition::ProviderDown { not_before: Some(house.now() + Duration::HOUR) };
    let failure = Failure { disposition: down, message: "HTTP 503".into() };
    house.store.record_provider_failure(provider, None, &failure, 0.5).await.unwrap();
    let down = house.store.provider(provider).await.unwrap().unwrap();
    assert_eq!(down.down_since, Some(house.now()));
    assert_eq!(reconcile(&house, &usual()).await, 3, "the others are declared no longer");
    assert!(house.store.provider(provider).await.unwrap().unwrap().fallbacks.is_empty());
}

async fn the_profile_of_an_auto_certificate_is_an_intent(house: Fixture) {
    let (_, id) = declared(&house).await;
    house.issue(id, Duration::days(90)).await;
    let mut changed = usual();
    changed.auto_certificates[0].profile = Some("shortlived".parse().unwrap());
    assert_eq!(reconcile(&house, &changed).await, 1);
    let kept = house.reload(id).await;
    assert!(kept.standing.intent_changed && kept.profile == changed.auto_certificates[0].profile);
    let claim = house.claim(id).await;
    house.store.begin_attempt(&claim.lease, &house.attempt(&claim)).await.unwrap();
    let begun = house.store.open_attempt(id).await.unwrap().unwrap();
    assert_eq!(begun.profile, kept.profile);
}

async fn what_is_declared_is_not_changed_otherwise_until_it_no_longer_is(house: Fixture) {
    let (provider, id) = declared(&house).await;
    let by = actor();
    let (other, x) = (name("other"), &house.store);
    for refused in [
        x.rename_provider(provider, &other, &by).await.map(drop),
        x.delete_provider(provider).await.map(drop),
        x.rename_auto_certificate(id, &other, &by).await.map(drop),
        x.delete_auto_certificate(id).await.map(drop),
    ] {
        let Err(StoreError::Declared(key)) = &refused else { panic!("{refused:?}") };
        assert!(["le", "www"].contains(&key.as_str()));
    }
    assert_eq!(house.reload(id).await.name.as_str(), "www");

    assert_eq!(reconcile(&house, &nothing()).await, 2);
    assert_eq!(x.rename_auto_certificate(id, &other, &by).await.unwrap().unwrap().name, other);
    assert_eq!(reconcile(&house, &usual()).await, 2);
    assert_eq!(house.reload(id).await.name.as_str(), "www", "the same row again, as it is declared");

    assert_eq!(reconcile(&house, &nothing()).await, 2);
    assert!(x.delete_auto_certificate(id).await.unwrap());
    assert_eq!(x.delete_provider(provider).await.unwrap(), DeletionOutcome::Deleted);
    assert_eq!(reconcile(&house, &usual()).await, 2, "both are made anew");
    assert_ne!(house.store.auto_certificates(ALL, None).await.unwrap().items[0].id, id);
}

async fn declared_ones_do_not_count(house: Fixture) {
    let (provider, _) = declared(&house).await;
    let create = async |name: &str| {
        let new = new_auto_certificate(provider, name);
        house.store.create_auto_certificate(&new, &actor(), 1).await.unwrap()
    };
    assert!(matches!(create("a.example.com").await, CreationOutcome::Created(_)));
    assert!(matches!(create("b.example.com").await, CreationOutcome::LimitReached));
    let mut without = usual();
    without.auto_certificates.clear();
    assert_eq!(reconcile(&house, &without).await, 1);
    let listed = house.store.auto_certificates(ALL, None).await.unwrap().items;
    let mine = listed.iter().find(|listed| listed.name.as_str() != "www").unwrap();
    assert!(house.store.delete_auto_certificate(mine.id).await.unwrap());
    assert!(matches!(create("c.example.com").await, CreationOutcome::LimitReached), "declared no longer, it counts");
}

async fn prune_deletes_what_nothing_uses(house: Fixture) {
    let (provider, id) = declared(&house).await;
    let issued = house.issue(id, Duration::days(90)).await;
    let mut two = usual();
    two.providers.push(self::provider("second"));
    assert_eq!(reconcile(&house, &two).await, 1);
    let user = house.auto_certificate(provider, "user.example.com").await;

    assert_eq!(reconcile(&house, &DeclaredResources { prune: true, ..nothing() }).await, 3);
    assert!(house.store.auto_certificate(id).await.unwrap().is_none());
    assert!(house.store.certificate(issued).await.unwrap().is_some(), "its certificates stay");
    let left = house.store.providers(ALL).await.unwrap().items;
    assert_eq!(left.iter().map(|left| left.id).collect::<Vec<_>>(), [provider], "one is used");
    assert!(house.store.delete_auto_certificate(user.id).await.unwrap());
    assert_eq!(house.store.delete_provider(provider).await.unwrap(), DeletionOutcome::Deleted);

    // While the deleted one still cleans up, its key makes another one.
    assert_eq!(reconcile(&house, &usual()).await, 2);
}

async fn instances_leave_each_other_alone_until_they_declare_the_same_key(house: Fixture) {
    let (_, id) = declared(&house).await;
    let there =
        |declared: DeclaredResources| DeclaredResources { instance: "there".to_owned(), prune: true, ..declared };
    assert_eq!(reconcile(&house, &there(nothing())).await, 0);
    house.turn(Duration::hours(1));
    assert_eq!(reconcile(&house, &there(usual())).await, 2);
    let taken = house.reload(id).await;
    assert_ne!(taken.audit.modified, house.now(), "nothing of it has changed");
    assert_eq!(reconcile(&house, &DeclaredResources { prune: true, ..nothing() }).await, 0);
    assert_eq!(reconcile(&house, &there(nothing())).await, 2);
    assert!(house.store.auto_certificate(id).await.unwrap().is_none());
}

async fn a_changed_declaration_has_a_deactivated_account_replaced(house: Fixture) {
    let (provider, _) = declared(&house).await;
    for email in ["new@example.com", "newer@example.com"] {
        let lease = house.store.claim_provider(provider).await.unwrap().unwrap();
        let note = AccountNote::Deactivated { account: "https://ca.example/acct/1".to_owned(), at: house.now() };
        house.store.forget_account(&lease, &note, None).await.unwrap();
        house.store.release_provider(&lease).await.unwrap();
        assert_eq!(house.store.earliest_provider_check().await.unwrap(), None);

        assert_eq!(reconcile(&house, &with_email(email)).await, 1);
        assert_eq!(house.store.account(provider).await.unwrap().unwrap().note, None);
        assert_eq!(house.store.earliest_provider_check().await.unwrap(), Some(house.now()));
    }
}

async fn that_an_account_was_lost_outlives_a_changed_declaration(house: Fixture) {
    let (provider, _) = declared(&house).await;
    let lease = house.store.claim_provider(provider).await.unwrap().unwrap();
    let note = AccountNote::Lost { account: "https://ca.example/acct/1".to_owned(), at: house.now() };
    house.store.forget_account(&lease, &note, Some(house.now())).await.unwrap();
    let mut changed = with_email("new@example.com");
    assert_eq!(reconcile(&house, &changed).await, 1);
    changed.providers[0].provider.external_account = None;
    assert_eq!(reconcile(&house, &changed).await, 1);
    assert_eq!(house.store.account(provider).await.unwrap().unwrap().note, Some(note));
}

async fn a_provider_is_found_by_its_key(house: Fixture) {
    let mut declared = usual();
    let spare = DeclaredProvider {
        key: key("spare"),
        provider: new_provider("another CA"),
        staging: None,
        fallbacks: Vec::new(),
    };
    declared.providers.push(spare);
    reconcile(&house, &declared).await;
    let found = house.store.matching_providers("spare").await.unwrap();
    assert_eq!(found.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>(), ["another CA"]);
}

async fn an_unknown_provider_changes_nothing(house: Fixture) {
    let mut unknown = usual();
    let nobody = ProviderId::from(uuid::Uuid::nil());
    unknown.auto_certificates.push(declared_auto_certificate("lost", ProviderReference::Id(nobody)));
    let error = house.store.reconcile(&unknown).await.unwrap_err();
    assert!(matches!(error, StoreError::UnknownProvider { .. }), "{error:?}");
    assert!(error.to_string().contains("lost") && error.to_string().contains(&nobody.to_string()), "{error}");
    unknown.auto_certificates[1].provider = ProviderReference::Key(key("nobody"));
    assert!(matches!(house.store.reconcile(&unknown).await, Err(StoreError::UndeclaredProvider { .. })));
    assert!(house.store.providers(ALL).await.unwrap().items.is_empty());
}

async fn what_is_damaged_is_left_as_it_is_and_holds_up_no_other(house: Fixture) {
    let wishes = |first: &str| DeclaredResources {
        complete: true,
        providers: vec![provider("first"), provider("second")],
        auto_certificates: vec![
            DeclaredAutoCertificate {
                common_name: first.parse().unwrap(),
                ..declared_auto_certificate("a", ProviderReference::Key(key("first")))
            },
            declared_auto_certificate("b", ProviderReference::Key(key("second"))),
        ],
        instance: "here".to_owned(),
        prune: true,
    };
    house.store.reconcile(&wishes("www.example.com")).await.unwrap();
    house.execute_sql("UPDATE providers SET email = 'nobody' WHERE declared_key = 'first'").await;
    house.execute_sql("UPDATE auto_certificates SET key_algorithm = 'none' WHERE declared_key = 'b'").await;
    let declared = wishes("other.example.com");
    let changes = house.store.reconcile(&declared).await.unwrap();
    assert_eq!((changes.providers.len(), changes.auto_certificates.len()), (0, 1), "{changes:?}");
    assert!(house.store.reconcile(&declared).await.unwrap().is_empty());
    let sound = house.store.auto_certificates(ALL, None).await.unwrap().items;
    assert_eq!(sound.iter().map(|found| found.common_name.sent()).collect::<Vec<_>>(), ["other.example.com"]);
}
