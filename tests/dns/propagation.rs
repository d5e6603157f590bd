//! The wait until all name servers show what was published.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use autocertd::config::dns::PropagationSection;
use autocertd::config::time_span::TimeSpan;
use autocertd::dns::DnsError;
use autocertd::dns::adapter::Zone;
use autocertd::dns::propagation::Propagation;
use autocertd::domain::failure::disposition::Disposition;
use autocertd_support::cloud_dns::{AnswerMode, CloudDns, FurtherServer};
use autocertd_support::resolver::CachingResolver;
use autocertd_support::wait::wait_for_some;
use futures_util::future::join_all;

use crate::zone_id;

const NAME: &str = "_acme-challenge.example.test";

/// Long enough for any machine; what waits so long has failed.
fn long_timeout(servers: &[SocketAddr]) -> Propagation {
    Propagation::new(&PropagationSection { timeout: TimeSpan::seconds(60), ..section(servers) })
}

fn short_timeout(servers: &[SocketAddr]) -> Propagation {
    Propagation::new(&section(servers))
}

fn section(servers: &[SocketAddr]) -> PropagationSection {
    PropagationSection {
        timeout: TimeSpan::seconds(1),
        first_pause: TimeSpan::millis(5),
        longest_pause: TimeSpan::millis(20),
        servers: servers.to_vec(),
        ..PropagationSection::default()
    }
}

fn zone(name: &str, nameservers: &[&str]) -> Zone {
    let nameservers = nameservers.iter().map(ToString::to_string).collect();
    Zone { id: zone_id("zone"), name: name.to_owned(), nameservers }
}

fn values(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// A Cloud DNS whose zone shows two values.
async fn with_two_values() -> CloudDns {
    let cloud = CloudDns::start().await.unwrap();
    let zone = cloud.add_zone("example.test");
    cloud.add_record(&zone, "_acme-challenge", "TXT", "one");
    cloud.add_record(&zone, "_acme-challenge", "TXT", "two");
    cloud
}

#[tokio::test]
async fn values_that_all_servers_show_are_visible() {
    let cloud = with_two_values().await;
    let second = cloud.add_lagging_server().await.unwrap();
    second.catch_up();
    let propagation = long_timeout(&[cloud.dns_addr(), second.addr()]);
    propagation.await_visible(&zone("example.test", &[]), NAME, &values(&["one", "two"])).await.unwrap();
}

#[tokio::test]
async fn a_server_that_lags_is_named_with_its_answer_and_waited_for() {
    let cloud = with_two_values().await;
    let second = cloud.add_lagging_server().await.unwrap();
    let servers = [cloud.dns_addr(), second.addr()];
    let (zone, values) = (zone("example.test", &[]), values(&["one", "two"]));

    let error = short_timeout(&servers).await_visible(&zone, NAME, &values).await.unwrap_err();
    let DnsError::NotVisible { lagging, .. } = &error else { panic!("{error:?}") };
    let named: Vec<&str> = lagging.iter().map(|lagging| lagging.server.as_str()).collect();
    assert_eq!(named, [second.addr().to_string()]);
    assert_eq!(error.disposition(), Disposition::RETRY);
    let text = error.to_string();
    assert!(text.contains("after 1s") && text.contains(NAME) && text.contains("Non-Existent Domain"), "{text}");

    let propagation = long_timeout(&servers);
    let (visible, ()) = tokio::join!(propagation.await_visible(&zone, NAME, &values), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        second.catch_up();
    });
    visible.unwrap();
}

#[tokio::test]
async fn one_of_two_values_is_not_enough() {
    let cloud = with_two_values().await;
    let error = short_timeout(&[cloud.dns_addr()])
        .await_visible(&zone("example.test", &[]), NAME, &values(&["one", "three"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("lacks 1 of 2 values and shows 1 others"), "{error}");
}

#[tokio::test]
async fn records_that_reach_dns_late_are_waited_for() {
    let cloud = CloudDns::start().await.unwrap();
    cloud.delay_records_in_dns(Duration::from_millis(50));
    let id = cloud.add_zone("example.test");
    cloud.add_record(&id, "_acme-challenge", "TXT", "one");
    long_timeout(&[cloud.dns_addr()]).await_visible(&zone("example.test", &[]), NAME, &values(&["one"])).await.unwrap();
}

#[tokio::test]
async fn answers_too_long_for_udp_are_fetched_over_tcp() {
    let cloud = CloudDns::start().await.unwrap();
    let id = cloud.add_zone("example.test");
    let long: Vec<String> = (0..60).map(|number| format!("{number:0>43}")).collect();
    for content in &long {
        cloud.add_record(&id, "_acme-challenge", "TXT", content);
    }
    long_timeout(&[cloud.dns_addr()]).await_visible(&zone("example.test", &[]), NAME, &long).await.unwrap();
}

#[tokio::test]
async fn a_server_that_keeps_silent_is_named() {
    let cloud = with_two_values().await;
    cloud.delay_dns_answers(Duration::from_hours(1));
    let error = short_timeout(&[cloud.dns_addr()])
        .await_visible(&zone("example.test", &[]), NAME, &values(&["one"]))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("{} (gives no answer", cloud.dns_addr())), "{text}");
}

/// The servers of the zone answer at port 53, where none listens here: that they are named shows that they were found.
#[tokio::test]
async fn servers_are_found_by_the_zones_ns_records() {
    let cloud = with_two_values().await;
    let section = PropagationSection { resolvers: vec![cloud.dns_addr().into()], ..section(&[]) };
    let zone = zone("example.test", &["ns.of-the-service.test"]);
    let error = Propagation::new(&section).await_visible(&zone, NAME, &values(&["one"])).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("ns1.cloud-dns.test at 127.0.0.1:53"), "{text}");
    assert!(text.contains("ns2.cloud-dns.test at 127.0.0.1:53"), "{text}");
    assert!(!text.contains("of-the-service"), "{text}");
}

#[tokio::test]
async fn without_ns_records_the_servers_that_the_service_names_are_asked() {
    let cloud = with_two_values().await;
    let section = PropagationSection { resolvers: vec![cloud.dns_addr().into()], ..section(&[]) };
    let named = zone("undelegated.test", &["ns2.cloud-dns.test.", "ns.nowhere.test"]);
    let error = Propagation::new(&section).await_visible(&named, NAME, &values(&["one"])).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("at 127.0.0.1:53") && text.contains("ns.nowhere.test (has no address)"), "{text}");

    let error = Propagation::new(&section)
        .await_visible(&zone("undelegated.test", &[]), NAME, &values(&["one"]))
        .await
        .unwrap_err();
    assert!(matches!(error, DnsError::NoNameServers { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::RETRY);
}

/// Starts three further servers that show everything.
async fn three_more(cloud: &CloudDns) -> Vec<FurtherServer> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(cloud.add_lagging_server().await.unwrap());
    }
    servers.iter().for_each(FurtherServer::catch_up);
    servers
}

#[tokio::test]
async fn one_of_four_servers_that_lags_is_waited_for_alone() {
    let cloud = with_two_values().await;
    let [second, third, slow] = &three_more(&cloud).await[..] else { unreachable!() };
    slow.delay_answers(Duration::from_millis(200));
    let behind = cloud.add_lagging_server().await.unwrap();
    let servers = [second.addr(), third.addr(), slow.addr(), behind.addr()];
    let propagation = long_timeout(&servers);
    let (zone, values) = (zone("example.test", &[]), values(&["one", "two"]));
    let (visible, ()) = tokio::join!(propagation.await_visible(&zone, NAME, &values), async {
        wait_for_some("a second look", || (behind.asked() >= 2).then_some(())).await;
        // Whoever has shown all may do what he likes.
        for good in [second, third, slow] {
            good.set_answer_mode(AnswerMode::Refusing);
        }
        behind.catch_up();
    });
    visible.unwrap();
}

#[tokio::test]
async fn servers_that_refuse_and_addresses_where_none_listens_are_named() {
    let cloud = with_two_values().await;
    let refusing = cloud.add_lagging_server().await.unwrap();
    refusing.set_answer_mode(AnswerMode::Refusing);
    let gone = autocertd_support::loopback::own_address();
    let error = short_timeout(&[cloud.dns_addr(), refusing.addr(), gone])
        .await_visible(&zone("example.test", &[]), NAME, &values(&["one"]))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("{} (answers Query Refused)", refusing.addr())), "{text}");
    assert!(text.contains(&format!("{gone} (gives no answer: ")), "{text}");
    assert!(!text.contains(&cloud.dns_addr().to_string()), "{text}");
}

#[tokio::test]
async fn servers_are_asked_over_ipv6_beside_ipv4() {
    let cloud = with_two_values().await;
    // A machine without IPv6 has no such address.
    let Ok(sixth) = cloud.add_server(Ipv6Addr::LOCALHOST.into()).await else { return };
    let servers = [cloud.dns_addr(), sixth.addr()];
    long_timeout(&servers).await_visible(&zone("example.test", &[]), NAME, &values(&["one", "two"])).await.unwrap();
    sixth.set_answer_mode(AnswerMode::Refusing);
    let error =
        short_timeout(&servers).await_visible(&zone("example.test", &[]), NAME, &values(&["one"])).await.unwrap_err();
    assert!(error.to_string().contains(&format!("[::1]:{} (answers Query Refused)", sixth.addr().port())), "{error}");
}

/// The servers are found, but nobody answers at their addresses: what counts is how often they were looked for, and that a
/// hundred names find out together.
#[tokio::test]
async fn a_hundred_names_of_a_zone_look_for_its_servers_once() {
    let cloud = with_two_values().await;
    let resolver = CachingResolver::start(cloud.dns_addr()).await.unwrap();
    // Over HTTP, where no question is sent twice.
    let section = PropagationSection { resolvers: vec![resolver.url().parse().unwrap()], ..section(&[]) };
    let (propagation, zone, values) = (Propagation::new(&section), zone("example.test", &[]), values(&["one"]));
    let names: Vec<String> = (0..100).map(|number| format!("_acme-challenge.n{number}.example.test")).collect();
    let begun = Instant::now();
    let waits = join_all(names.iter().map(|name| propagation.await_visible(&zone, name, &values))).await;
    assert!(waits.iter().all(|wait| matches!(wait, Err(DnsError::NotVisible { .. }))), "{waits:?}");
    assert_eq!(resolver.query_count("example.test."), 1);
    assert_eq!(resolver.query_count("ns1.cloud-dns.test."), 2, "A and AAAA");
    assert!(begun.elapsed() < Duration::from_secs(20), "each waited for the others' silence: {:?}", begun.elapsed());
}
