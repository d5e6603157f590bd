//! Which zone serves a name.

use autocertd::dns::DnsError;
use autocertd::dns::adapter::DnsAdapter;
use autocertd::domain::failure::disposition::Disposition;
use time::Duration;

use crate::Bench;

#[tokio::test]
async fn a_zone_on_the_second_page_is_found() {
    let bench = Bench::start().await;
    for number in 0..1_000 {
        bench.cloud.add_zone(&format!("filler-{number}.test"));
    }
    let id = bench.cloud.add_zone("example.test");

    let zone = bench.adapter.zone_for("_acme-challenge.www.example.test").await.unwrap();

    assert_eq!((zone.id.as_str(), zone.name.as_str()), (id.as_str(), "example.test"));
    assert_eq!(zone.nameservers, ["ns1.cloud-dns.test", "ns2.cloud-dns.test"]);
    let queries: Vec<String> = bench.cloud.requests().into_iter().map(|request| request.query).collect();
    assert_eq!(queries, ["offset=0&limit=1000", "offset=1000&limit=1000"]);
}

#[tokio::test]
async fn the_longest_enabled_zone_wins_over_look_alikes_parents_and_disabled_ones() {
    let bench = Bench::start().await;
    let parent = bench.cloud.add_zone("example.test");
    let nested = bench.cloud.add_zone("sub.example.test");
    bench.cloud.add_zone("myexample.test");
    bench.cloud.add_zone("example.test.other.test");
    bench.cloud.add_disabled_zone("off.example.test");

    for (name, expected) in [
        ("_acme-challenge.example.test", &parent),
        ("_acme-challenge.deep.down.example.test", &parent),
        ("_acme-challenge.sub.example.test", &nested),
        ("_acme-challenge.a.b.sub.example.test", &nested),
        ("_acme-challenge.notsub.example.test", &parent),
        ("_acme-challenge.off.example.test", &parent),
    ] {
        assert_eq!(bench.adapter.zone_for(name).await.unwrap().id.as_str(), expected, "{name}");
    }
    assert_eq!(bench.count("GET", "/zones"), 1);
}

#[tokio::test]
async fn a_miss_reads_the_list_anew_before_it_counts() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    bench.adapter.zone_for("_acme-challenge.example.test").await.unwrap();

    let id = bench.cloud.add_zone("fresh.test");
    assert_eq!(bench.adapter.zone_for("_acme-challenge.fresh.test").await.unwrap().id.as_str(), id);
    assert_eq!(bench.count("GET", "/zones"), 2);
}

#[tokio::test]
async fn a_list_is_kept_for_a_minute() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    let nested = bench.cloud.add_zone("sub.example.test");
    let name = "_acme-challenge.sub.example.test";
    bench.adapter.zone_for(name).await.unwrap();
    bench.cloud.remove_zone(&nested);
    assert_eq!(bench.adapter.zone_for(name).await.unwrap().name, "sub.example.test");

    bench.clock.turn(Duration::minutes(1));
    assert_eq!(bench.adapter.zone_for(name).await.unwrap().name, "example.test");
}

#[tokio::test]
async fn a_name_without_a_zone_is_for_a_person_and_costs_one_reading() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    bench.cloud.add_disabled_zone("off.test");

    let error = bench.adapter.zone_for("_acme-challenge.off.test").await.unwrap_err();

    assert!(matches!(&error, DnsError::NoZone { name, .. } if name == "_acme-challenge.off.test"), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Operator);
    assert!(error.to_string().starts_with("ionos: no enabled zone holds _acme-challenge.off.test"), "{error}");
    assert_eq!(bench.count("GET", "/zones"), 1);
}

#[tokio::test]
async fn many_askers_cause_one_reading() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    let ask = || bench.adapter.zone_for("_acme-challenge.example.test");

    let (one, two, three) = tokio::join!(ask(), ask(), ask());

    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(bench.count("GET", "/zones"), 1);
}
