//! Look-ups through resolvers of all kinds: what is there, what is not, and what nobody can tell.

use autocertd::config::dns::PropagationSection;
use autocertd::dns::DnsError;
use autocertd::dns::lookup::{Delegation, DnsLookup, DnssecStatus};
use autocertd::domain::value::resolver_address::ResolverAddress;
use autocertd_support::cloud_dns::{AnswerMode, CloudDns};
use autocertd_support::resolver::CachingResolver;

fn through(resolvers: &[ResolverAddress]) -> DnsLookup {
    DnsLookup::new(&PropagationSection { resolvers: resolvers.to_vec(), ..PropagationSection::default() })
}

async fn with_records() -> CloudDns {
    let cloud = CloudDns::start().await.unwrap();
    let zone = cloud.add_zone("example.test");
    cloud.add_zone("test");
    for (name, kind, content) in [
        ("host", "A", "127.0.0.1"),
        ("host", "AAAA", "::1"),
        ("alias", "CNAME", "host.example.test"),
        ("text", "TXT", "said"),
    ] {
        cloud.add_record(&zone, name, kind, content);
    }
    cloud
}

#[tokio::test]
async fn what_is_there_is_found_over_udp_and_over_https() {
    let cloud = with_records().await;
    let resolver = CachingResolver::start(cloud.dns_addr()).await.unwrap();
    for address in [cloud.dns_addr().into(), resolver.addr().into(), resolver.url().parse().unwrap()] {
        let lookup = through(std::slice::from_ref(&address));
        assert_eq!(lookup.find_zone("a.b.example.test").await.unwrap(), "example.test", "{address}");
        assert_eq!(lookup.ns("example.test").await.unwrap(), ["ns1.cloud-dns.test", "ns2.cloud-dns.test"]);
        assert_eq!(lookup.soa("example.test").await.unwrap().unwrap().primary, "ns1.cloud-dns.test");
        let addresses = lookup.addresses("alias.example.test").await.unwrap();
        assert_eq!(addresses, ["127.0.0.1", "::1"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
        assert_eq!(lookup.txt("text.example.test").await.unwrap(), ["said"]);
        assert_eq!(lookup.cname("alias.example.test").await.unwrap().as_deref(), Some("host.example.test"));

        assert_eq!(lookup.cname("nowhere.example.test").await.unwrap(), None);
        assert_eq!(lookup.soa("host.example.test").await.unwrap(), None);
        assert!(lookup.addresses("text.example.test").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_next_resolver_is_asked_where_one_fails_or_is_slow() {
    let cloud = with_records().await;
    let (refusing, slow) = (cloud.add_lagging_server().await.unwrap(), cloud.add_lagging_server().await.unwrap());
    refusing.set_answer_mode(AnswerMode::Refusing);
    slow.delay_answers(std::time::Duration::from_hours(1));
    let lookup = through(&[refusing.addr().into(), slow.addr().into(), cloud.dns_addr().into()]);
    let begun = std::time::Instant::now();
    assert_eq!(lookup.txt("text.example.test").await.unwrap(), ["said"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "the slow one was waited for");

    let error = through(&[refusing.addr().into()]).txt("text.example.test").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, format!("{} answers Query Refused", refusing.addr()));
}

#[tokio::test]
async fn what_answers_https_but_no_dns_is_named() {
    let cloud = with_records().await;
    let url: ResolverAddress = format!("{}/zones", cloud.http_url()).parse().unwrap();
    let error = through(std::slice::from_ref(&url)).txt("text.example.test").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, format!("{url} gives no answer: the status is 401"));
}

#[tokio::test]
async fn without_resolvers_the_servers_of_a_split_horizon_are_asked() {
    let cloud = with_records().await;
    let section = PropagationSection { servers: vec![cloud.dns_addr()], ..PropagationSection::default() };
    assert_eq!(DnsLookup::new(&section).txt("text.example.test").await.unwrap(), ["said"]);
}

#[tokio::test]
async fn the_delegation_is_the_word_of_the_parents_servers() {
    let cloud = with_records().await;
    let section = PropagationSection { servers: vec![cloud.dns_addr()], ..PropagationSection::default() };
    let lookup = DnsLookup::new(&section);
    let nameservers = ["ns1.cloud-dns.test", "ns2.cloud-dns.test"].map(str::to_owned).to_vec();
    let delegated = lookup.delegation("example.test").await.unwrap();
    assert_eq!(delegated, Delegation { parent: "test".to_owned(), nameservers });
    assert!(lookup.delegation("undelegated.test").await.unwrap().nameservers.is_empty());
}

#[tokio::test]
async fn a_forged_zone_is_told_from_one_that_fails() {
    let cloud = with_records().await;
    let resolver = CachingResolver::start(cloud.dns_addr()).await.unwrap();
    let lookup = through(&[resolver.addr().into()]);
    assert_eq!(lookup.dnssec_status("example.test").await.unwrap(), DnssecStatus::Unvalidated);
    resolver.set_dnssec_verdict("example.test.", true);
    assert_eq!(lookup.dnssec_status("example.test").await.unwrap(), DnssecStatus::Validated);
    resolver.set_dnssec_verdict("example.test.", false);
    assert_eq!(lookup.dnssec_status("example.test").await.unwrap(), DnssecStatus::Bogus);
    cloud.fail_dns("test");
    assert!(matches!(lookup.dnssec_status("test").await.unwrap_err(), DnsError::NoLookup { .. }));
}
