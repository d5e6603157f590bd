//! Aliases, as a CA follows them: hop by hop, but neither round in circles nor along a wildcard.

use autocertd::config::dns::PropagationSection;
use autocertd::dns::DnsError;
use autocertd::dns::alias::{Aliases, WildcardAlias};
use autocertd::dns::lookup::DnsLookup;
use autocertd::domain::failure::disposition::Disposition;
use autocertd::runtime::randomness::Randomness;
use autocertd_support::cloud_dns::CloudDns;

const NAME: &str = "_acme-challenge.www.example.test";

/// A Cloud DNS with two zones and these aliases; the names are full ones.
async fn with(aliases: &[(&str, &str)]) -> CloudDns {
    let cloud = CloudDns::start().await.unwrap();
    let zones = [("example.test", cloud.add_zone("example.test")), ("other.test", cloud.add_zone("other.test"))];
    for (name, target) in aliases {
        let (zone, id) = zones.iter().find(|(zone, _)| name.ends_with(zone)).unwrap();
        let relative = name.strip_suffix(zone).unwrap().trim_end_matches('.');
        cloud.add_record(id, relative, "CNAME", target);
    }
    cloud
}

async fn follow(cloud: &CloudDns, name: &str) -> Result<Aliases, DnsError> {
    let section = PropagationSection { resolvers: vec![cloud.dns_addr().into()], ..PropagationSection::default() };
    Aliases::resolve(name, &DnsLookup::new(&section), &Randomness::from_seed(1)).await
}

#[tokio::test]
async fn several_hops_across_zones_lead_to_the_last_name() {
    let cloud = with(&[
        (NAME, "First.Other.TEST."),
        ("first.other.test", "second.example.test"),
        ("second.example.test", "xn--bcher-kva.other.test"),
    ])
    .await;
    let aliases = follow(&cloud, NAME).await.unwrap();
    let chain = [NAME, "first.other.test", "second.example.test", "xn--bcher-kva.other.test"];
    assert_eq!((aliases.chain.as_slice(), aliases.wildcard), (chain.map(str::to_owned).as_slice(), None));
    let none = follow(&cloud, "_acme-challenge.example.test").await.unwrap();
    assert_eq!((none.end(), none.chain.len()), ("_acme-challenge.example.test", 1));
}

#[tokio::test]
async fn circles_and_endless_chains_are_for_a_person() {
    let hops: Vec<(String, String)> = (0..=11).map(|hop| (hop_name(hop), hop_name(hop + 1))).collect();
    let mut all: Vec<(&str, &str)> = hops.iter().map(|(name, target)| (name.as_str(), target.as_str())).collect();
    all.extend([
        ("self.example.test", "self.example.test"),
        ("one.example.test", "two.other.test"),
        ("two.other.test", "THREE.example.test"),
        ("three.example.test", "one.example.test"),
    ]);
    let cloud = with(&all).await;

    for (name, passed) in [("self.example.test", 2), ("one.example.test", 4), ("hop1.example.test", 12)] {
        let error = follow(&cloud, name).await.unwrap_err();
        let DnsError::EndlessAlias { chain, .. } = &error else { panic!("{error:?}") };
        assert_eq!(chain.len(), passed, "{error}");
        assert_eq!(error.disposition(), Disposition::Operator);
    }
    let error = follow(&cloud, "one.example.test").await.unwrap_err().to_string();
    assert!(error.contains("one.example.test -> two.other.test -> three.example.test -> one.example.test"), "{error}");
    let longest = follow(&cloud, "hop2.example.test").await.unwrap();
    assert_eq!((longest.chain.len(), longest.end()), (11, "hop12.example.test"));
}

fn hop_name(hop: usize) -> String {
    format!("hop{hop}.example.test")
}

#[tokio::test]
async fn a_wildcard_is_recognised_wherever_it_stands_and_not_followed() {
    let cloud = with(&[
        ("*.example.test", "web.other.test"),
        ("_acme-challenge.delegated.example.test", "later.deep.other.test"),
        ("*.other.test", "parked.example.test"),
    ])
    .await;
    let wildcard =
        |parent: &str, target: &str| Some(WildcardAlias { parent: parent.to_owned(), target: target.to_owned() });
    for name in ["_acme-challenge.example.test", NAME] {
        let aliases = follow(&cloud, name).await.unwrap();
        assert_eq!((aliases.end(), aliases.wildcard.clone()), (name, wildcard("example.test", "web.other.test")));
    }
    let later = follow(&cloud, "_acme-challenge.delegated.example.test").await.unwrap();
    assert_eq!((later.end(), later.chain.len()), ("later.deep.other.test", 2));
    assert_eq!(later.wildcard, wildcard("other.test", "parked.example.test"));
}

#[tokio::test]
async fn an_alias_of_its_own_beside_a_wildcard_is_followed() {
    let cloud = with(&[
        ("*.example.test", "web.other.test"),
        ("*.www.example.test", "web.other.test"),
        (NAME, "web.other.test"),
        ("_acme-challenge.mail.example.test", "mail.other.test"),
    ])
    .await;
    for (name, end) in [(NAME, "web.other.test"), ("_acme-challenge.mail.example.test", "mail.other.test")] {
        let aliases = follow(&cloud, name).await.unwrap();
        assert_eq!((aliases.end(), aliases.wildcard.as_ref()), (end, None));
    }
    let nearest = follow(&cloud, "a.www.example.test").await.unwrap();
    assert_eq!(nearest.wildcard.map(|wildcard| wildcard.parent), Some("www.example.test".to_owned()));
}

#[tokio::test]
async fn a_resolver_that_fails_or_is_not_there_is_no_answer() {
    let cloud = with(&[]).await;
    cloud.fail_dns(NAME);
    let error = follow(&cloud, NAME).await.unwrap_err();
    assert!(matches!(error, DnsError::NoLookup { what: "the aliases", .. }), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, format!("{} answers Server Failure", cloud.dns_addr()));

    let gone = autocertd_support::loopback::own_address();
    let section = PropagationSection { resolvers: vec![gone.into()], ..PropagationSection::default() };
    let error = Aliases::resolve(NAME, &DnsLookup::new(&section), &Randomness::from_seed(1)).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::RETRY);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with(&format!("{gone} gives no answer: ")), "{source}");
}
