//! The wait through resolvers, which remember that something was not there; and the waits that look at nobody.

use std::time::{Duration, Instant};

use autocertd::config::dns::{PropagationCheck, PropagationSection};
use autocertd::config::time_span::TimeSpan;
use autocertd::dns::DnsError;
use autocertd::dns::adapter::Zone;
use autocertd::dns::propagation::Propagation;
use autocertd::domain::value::resolver_address::ResolverAddress;
use autocertd_support::cloud_dns::CloudDns;
use autocertd_support::resolver::CachingResolver;
use autocertd_support::wait::wait_for_some;

use crate::zone_id;

const NAME: &str = "_acme-challenge.example.test";
const ASKED: &str = "_acme-challenge.example.test.";

fn section(look: PropagationCheck, resolvers: &[ResolverAddress]) -> PropagationSection {
    PropagationSection {
        look,
        timeout: TimeSpan::millis(300),
        first_pause: TimeSpan::millis(5),
        longest_pause: TimeSpan::millis(20),
        resolvers: resolvers.to_vec(),
        ..PropagationSection::default()
    }
}

async fn await_one(section: &PropagationSection) -> Result<(), DnsError> {
    let zone = Zone { id: zone_id("zone"), name: "example.test".to_owned(), nameservers: Vec::new() };
    Propagation::new(section).await_visible(&zone, NAME, &["one".to_owned()]).await
}

#[tokio::test]
async fn an_early_no_is_waited_out_without_asking_again() {
    let cloud = CloudDns::start().await.unwrap();
    let zone = cloud.add_zone("example.test");
    cloud.set_negative_ttl(2);
    let resolver = CachingResolver::start(cloud.dns_addr()).await.unwrap();
    let section = section(PropagationCheck::Resolvers, &[resolver.addr().into()]);
    let (visible, ()) = tokio::join!(await_one(&section), async {
        wait_for_some("the first look", || (resolver.query_count(ASKED) >= 1).then_some(())).await;
        cloud.add_record(&zone, "_acme-challenge", "TXT", "one");
    });
    visible.unwrap();
    // UDP may repeat a question. Without a rest it would have been asked a hundred times.
    assert!(resolver.query_count(ASKED) < 10, "it was asked {} times", resolver.query_count(ASKED));
}

#[tokio::test]
async fn a_no_is_believed_after_its_time_and_named() {
    let cloud = CloudDns::start().await.unwrap();
    cloud.add_zone("example.test");
    cloud.set_negative_ttl(2);
    let resolver = CachingResolver::start(cloud.dns_addr()).await.unwrap();
    let begun = Instant::now();
    let error = await_one(&section(PropagationCheck::Resolvers, &[resolver.addr().into()])).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_secs(2), "it gave up after {:?}", begun.elapsed());
    let text = error.to_string();
    let named = format!("{} (answers Non-Existent Domain, and may go on so for ", resolver.addr());
    assert!(text.contains(&named) && !text.contains("after 300ms"), "{text}");
}

#[tokio::test]
async fn each_of_the_resolvers_must_show_the_value() {
    let cloud = CloudDns::start().await.unwrap();
    let zone = cloud.add_zone("example.test");
    cloud.add_record(&zone, "_acme-challenge", "TXT", "one");
    let (behind, resolver) =
        (cloud.add_lagging_server().await.unwrap(), CachingResolver::start(cloud.dns_addr()).await.unwrap());
    let both: [ResolverAddress; 2] = [resolver.url().parse().unwrap(), behind.addr().into()];

    let error = await_one(&section(PropagationCheck::Resolvers, &both)).await.unwrap_err();
    let DnsError::NotVisible { lagging, .. } = &error else { panic!("{error:?}") };
    let lagging: Vec<String> = lagging.iter().map(ToString::to_string).collect();
    assert_eq!(lagging, [format!("{} (answers Non-Existent Domain)", behind.addr())]);
    assert_eq!(resolver.query_count(ASKED), 1, "it was asked again after it had shown the value");

    behind.catch_up();
    await_one(&section(PropagationCheck::Resolvers, &both)).await.unwrap();
}

#[tokio::test]
async fn a_resolver_over_https_that_is_not_there_is_named() {
    let gone = autocertd_support::loopback::own_address();
    let url: ResolverAddress = format!("http://{gone}/dns-query").parse().unwrap();
    let error = await_one(&section(PropagationCheck::Resolvers, std::slice::from_ref(&url))).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("{url} (gives no answer: ")) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_fixed_wait_and_none_ask_nobody() {
    let cloud = CloudDns::start().await.unwrap();
    cloud.add_zone("example.test");
    let resolver = CachingResolver::start(cloud.dns_addr()).await.unwrap();
    let servers = vec![resolver.addr()];
    let resolvers = [resolver.addr().into()];
    let fixed = section(PropagationCheck::Wait, &resolvers);
    let begun = Instant::now();
    await_one(&PropagationSection { wait: TimeSpan::millis(50), servers: servers.clone(), ..fixed }).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50));

    await_one(&PropagationSection { servers, ..section(PropagationCheck::Off, &resolvers) }).await.unwrap();
    assert_eq!(resolver.query_count(ASKED), 0);
}
