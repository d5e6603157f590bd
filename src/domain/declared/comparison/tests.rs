use proptest::prelude::*;

use super::*;
use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::value::mac_key::MacKey;
use crate::domain::value::server_url::{PlainHttpPolicy, ServerUrl};

/// A provider that the API made.
fn others() -> ProviderId {
    uuid::Uuid::from_u128(1_000).into()
}

fn key(text: &str) -> DeclaredKey {
    text.parse().unwrap()
}

fn provider(text: &str, email: &str, server: &str) -> DeclaredProvider {
    let server = ServerUrl::parse(&format!("https://{server}.example/dir"), PlainHttpPolicy::Refused).unwrap();
    let email = format!("{email}@example.com").parse().unwrap();
    let provider = NewProvider { name: text.parse().unwrap(), email, server, external_account: None, profile: None };
    DeclaredProvider { key: key(text), provider, fallbacks: Vec::new(), staging: None }
}

fn wish(text: &str, provider: ProviderReference, names: &[&str]) -> DeclaredAutoCertificate {
    DeclaredAutoCertificate {
        key: key(text),
        name: text.parse().unwrap(),
        provider,
        common_name: names[0].parse().unwrap(),
        key_algorithm: KeyAlgorithm::Secp256r1,
        subject_alternative_names: names[1..].iter().map(|name| name.parse().unwrap()).collect(),
        profile: None,
    }
}

fn declared(providers: Vec<DeclaredProvider>, auto_certificates: Vec<DeclaredAutoCertificate>) -> DeclaredResources {
    DeclaredResources { instance: "here".to_owned(), prune: false, complete: true, providers, auto_certificates }
}

/// `le`, and `www` that uses it.
fn usual() -> DeclaredResources {
    let www = wish("www", ProviderReference::Key(key("le")), &["www.example.com", "example.com"]);
    declared(vec![provider("le", "ops", "ca")], vec![www])
}

/// Does what is to be done, as the store does.
fn apply(stored: &StoredResources, declared: &DeclaredResources, next_id: &mut u128) -> StoredResources {
    let changes = compare(declared, stored);
    let mut after = stored.clone();
    let mut fresh = || {
        *next_id += 1;
        uuid::Uuid::from_u128(*next_id)
    };
    let by = Some(declared.instance.clone());
    for change in changes.providers {
        let properties =
            |wish: &DeclaredProvider| StoredProvider { provider: wish.provider.clone(), fallbacks: Vec::new() };
        apply_one(&mut after.providers, &change, by.as_ref(), &mut || fresh().into(), properties);
    }
    let ids: HashMap<DeclaredKey, ProviderId> =
        after.providers.iter().map(|kept| (kept.key.clone(), kept.id)).collect();
    for wish in &declared.providers {
        let row = after.providers.iter_mut().find(|row| row.key == wish.key).unwrap();
        row.properties.fallbacks = wish.fallbacks.iter().map(|key| ids[key]).collect();
    }
    for change in changes.auto_certificates {
        let properties = |wish: &DeclaredAutoCertificate| NewAutoCertificate {
            name: wish.name.clone(),
            provider: match &wish.provider {
                ProviderReference::Key(key) => ids[key],
                ProviderReference::Id(id) => *id,
            },
            common_name: wish.common_name.clone(),
            key_algorithm: wish.key_algorithm,
            subject_alternative_names: wish.subject_alternative_names.clone(),
            profile: wish.profile.clone(),
        };
        apply_one(&mut after.auto_certificates, &change, by.as_ref(), &mut || fresh().into(), properties);
    }
    after
}

fn apply_one<I: Copy + PartialEq, P, W: Declaration>(
    rows: &mut Vec<StoredResource<I, P>>,
    change: &DeclaredChange<'_, I, W>,
    by: Option<&String>,
    fresh: &mut impl FnMut() -> I,
    properties: impl Fn(&W) -> P,
) {
    match change {
        DeclaredChange::Create(wish) => {
            let (id, key) = (fresh(), wish.key().clone());
            rows.push(StoredResource { id, key, declared_by: by.cloned(), properties: properties(wish) });
        }
        DeclaredChange::Update { id, declared: to, .. } => {
            let row = rows.iter_mut().find(|row| row.id == *id).unwrap();
            (row.declared_by, row.properties) = (by.cloned(), properties(to));
        }
        DeclaredChange::Undeclare { id, .. } => rows.iter_mut().find(|row| row.id == *id).unwrap().declared_by = None,
        DeclaredChange::Delete { id, .. } => rows.retain(|row| row.id != *id),
    }
}

fn said(declared: &DeclaredResources, stored: &StoredResources) -> Vec<String> {
    compare(declared, stored).words().collect()
}

#[test]
fn what_is_new_is_made_once() {
    let (stored, declared) = (StoredResources::default(), usual());
    assert_eq!(said(&declared, &stored), ["declared provider le: made", "declared auto-certificate www: made"]);
    assert!(compare(&declared, &apply(&stored, &declared, &mut 0)).is_empty());
}

#[test]
fn each_change_says_what_follows_of_it() {
    let stored = apply(&StoredResources::default(), &usual(), &mut 0);
    let with = |change: &dyn Fn(&mut DeclaredResources)| {
        let mut declared = usual();
        change(&mut declared);
        said(&declared, &stored)
    };
    let binding = ExternalAccountBinding { key_id: "kid".to_owned(), key_secret: MacKey::parse("secret").unwrap() };
    let certificate = "a new certificate is ordered, and the old one serves until it is there";
    assert_eq!(
        with(&|d| d.providers[0] = provider("le", "new", "ca")),
        ["declared provider le: email changed; its CA is told the new contact"]
    );
    assert_eq!(
        with(&|d| d.providers[0] = provider("le", "new", "other")),
        ["declared provider le: email, server changed; a new account is registered there"]
    );
    assert_eq!(
        with(&|d| d.providers[0].provider.external_account = Some(binding.clone())),
        ["declared provider le: external_account changed; the next registration uses it"]
    );
    assert_eq!(with(&|d| d.providers[0].provider.name = "LE".parse().unwrap()), ["declared provider le: name changed"]);
    assert_eq!(
        with(&|d| d.auto_certificates[0].key_algorithm = KeyAlgorithm::Rsa2048),
        [format!("declared auto-certificate www: key_algorithm changed; {certificate}")]
    );
    assert_eq!(
        with(&|d| d.auto_certificates[0].profile = Some("shortlived".parse().unwrap())),
        [format!("declared auto-certificate www: profile changed; {certificate}")]
    );
    assert_eq!(
        with(&|d| d.providers[0].provider.profile = Some("tlsserver".parse().unwrap())),
        ["declared provider le: profile changed"]
    );
    assert_eq!(
        with(&|d| d.auto_certificates[0].provider = ProviderReference::Id(others())),
        [format!("declared auto-certificate www: provider changed; {certificate}")]
    );
    assert_eq!(
        with(&|d| d.auto_certificates[0].subject_alternative_names.clear()),
        [format!("declared auto-certificate www: subject_alternative_names changed; {certificate}")]
    );
    assert_eq!(
        with(&|d| d.auto_certificates[0].name = "shop".parse().unwrap()),
        ["declared auto-certificate www: name changed"]
    );
    assert_eq!(
        with(&|d| d.auto_certificates[0].common_name = "WWW.example.com".parse().unwrap()),
        ["declared auto-certificate www: common_name changed"]
    );
}

#[test]
fn a_provider_that_is_yet_to_be_made_is_another_one() {
    let stored = apply(&StoredResources::default(), &usual(), &mut 0);
    let mut moved = usual();
    moved.providers.push(provider("second", "ops", "ca"));
    moved.auto_certificates[0].provider = ProviderReference::Key(key("second"));
    let words = said(&moved, &stored);
    assert!(words[1].starts_with("declared auto-certificate www: provider changed; a new certificate"), "{words:?}");
}

#[test]
fn fallbacks_change_nothing_else_and_may_be_made_with_the_provider() {
    let stored = apply(&StoredResources::default(), &usual(), &mut 0);
    let mut more = usual();
    more.providers[0].fallbacks = vec![key("second"), key("third")];
    more.providers.extend([provider("second", "ops", "two"), provider("third", "ops", "three")]);
    assert_eq!(said(&more, &stored)[0], "declared provider le: fallback changed");
    assert_eq!(said(&more, &stored).len(), 3);
    let aligned = apply(&stored, &more, &mut 10);
    assert!(compare(&more, &aligned).is_empty());
    more.providers[0].fallbacks.reverse();
    assert_eq!(said(&more, &aligned), ["declared provider le: fallback changed"]);
}

#[test]
fn what_is_dropped_stays_without_prune_and_its_key_brings_it_back() {
    let stored = apply(&StoredResources::default(), &usual(), &mut 0);
    let nothing = declared(Vec::new(), Vec::new());
    let dropped = apply(&stored, &nothing, &mut 10);
    assert!(dropped.providers[0].declared_by.is_none() && dropped.auto_certificates[0].declared_by.is_none());
    assert!(compare(&nothing, &dropped).is_empty());
    assert_eq!(
        said(&usual(), &dropped),
        ["declared provider le: declared again", "declared auto-certificate www: declared again"]
    );
    let back = apply(&dropped, &usual(), &mut 20);
    assert_eq!(back.providers[0].id, stored.providers[0].id);
}

#[test]
fn prune_takes_auto_certificates_first_and_providers_that_nothing_uses() {
    let stored = apply(&StoredResources::default(), &usual(), &mut 0);
    let nothing = DeclaredResources { prune: true, ..declared(Vec::new(), Vec::new()) };
    assert_eq!(
        said(&nothing, &stored),
        ["provider le is declared no longer: deleted", "auto-certificate www is declared no longer: deleted"]
    );
    let others = StoredResources { in_use: [stored.providers[0].id].into(), ..stored.clone() };
    assert!(said(&nothing, &others)[0].ends_with("auto-certificates use it, so it stays until the API deletes it"));
    let mut elsewhere = stored;
    elsewhere.auto_certificates[0].declared_by = Some("there".to_owned());
    let words = said(&nothing, &elsewhere);
    assert!(words.len() == 1 && words[0].contains("auto-certificates use it"), "{words:?}");
}

#[test]
fn what_another_instance_declares_is_left_alone_until_these_settings_have_its_key() {
    let there = DeclaredResources { instance: "there".to_owned(), ..usual() };
    let stored = apply(&StoredResources::default(), &there, &mut 0);
    let nothing = DeclaredResources { prune: true, ..declared(Vec::new(), Vec::new()) };
    assert!(compare(&nothing, &stored).is_empty());
    assert_eq!(
        said(&usual(), &stored),
        [
            "declared provider le: taken over from instance there",
            "declared auto-certificate www: taken over from instance there"
        ]
    );
}

/// What one instance may declare, out of a few values that meet often.
fn any_declared() -> impl Strategy<Value = DeclaredResources> {
    let subset = || prop::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    let word = |words: &'static [&'static str]| prop::sample::select(words);
    let providers = subset().prop_flat_map(move |keys| {
        keys.into_iter()
            .map(|text| {
                (word(&["ops", "dev"]), word(&["ca", "cb"]))
                    .prop_map(move |(email, server)| provider(text, email, server))
            })
            .collect::<Vec<_>>()
    });
    providers.prop_flat_map(move |providers| {
        let mut references: Vec<ProviderReference> =
            providers.iter().map(|provider| ProviderReference::Key(provider.key.clone())).collect();
        references.push(ProviderReference::Id(others()));
        let wishes = subset().prop_flat_map(move |keys| {
            let references = references.clone();
            keys.into_iter()
                .map(|text| {
                    (prop::sample::select(references.clone()), word(&["x.example.com", "y.example.com"]))
                        .prop_map(move |(reference, name)| wish(text, reference, &[name]))
                })
                .collect::<Vec<_>>()
        });
        (word(&["here", "there"]), any::<bool>(), Just(providers), wishes).prop_map(
            |(instance, prune, providers, auto_certificates)| DeclaredResources {
                instance: instance.to_owned(),
                prune,
                complete: true,
                providers,
                auto_certificates,
            },
        )
    })
}

proptest! {
    #[test]
    fn what_was_done_leaves_nothing_to_do(history in prop::collection::vec(any_declared(), 1..6)) {
        let (mut stored, mut next_id) = (StoredResources::default(), 0);
        for declared in &history {
            let after = apply(&stored, declared, &mut next_id);
            let left: Vec<String> = said(declared, &after);
            prop_assert!(left.is_empty(), "{left:?}");

            for kept in &stored.auto_certificates {
                let found = after.auto_certificates.iter().find(|other| other.key == kept.key);
                let named = declared.auto_certificates.iter().any(|wish| wish.key == kept.key);
                let own = kept.declared_by.as_ref() == Some(&declared.instance);
                prop_assert!(found.is_some() || (own && !named && declared.prune), "{} is gone", kept.key);
                prop_assert!(found.is_none_or(|found| found.id == kept.id));
                prop_assert!(named || own || found.is_some_and(|found| found.declared_by == kept.declared_by));
            }
            for user in &after.auto_certificates {
                let provider = user.properties.provider;
                let there = provider == others() || after.providers.iter().any(|kept| kept.id == provider);
                prop_assert!(there, "the provider of {} is gone", user.key);
            }
            stored = after;
        }
    }
}
