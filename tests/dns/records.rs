//! Publishing, adopting and removing TXT records.

use autocertd::config::dns::PropagationSection;
use autocertd::config::time_span::TimeSpan;
use autocertd::dns::DnsError;
use autocertd::dns::adapter::{DnsAdapter, RecordId};
use autocertd::dns::propagation::Propagation;
use autocertd::domain::failure::disposition::Disposition;
use autocertd_support::cloud_dns::{Fault, Provisioning};

use crate::{Bench, txt, zone_id};

const NAME: &str = "_acme-challenge.www.example.test";

#[tokio::test]
async fn a_record_is_created_with_a_short_life_and_published_later() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    bench.cloud.set_provisioning(Provisioning::Reads(2));

    let (zone, record) = bench.present(NAME, "value").await;

    let [held] = bench.cloud.records(zone.id.as_str()).try_into().unwrap();
    assert_eq!((held.id.as_str(), held.fqdn.as_str()), (record.as_str(), NAME));
    assert_eq!((held.kind.as_str(), held.content.as_str(), held.ttl), ("TXT", "value", 60));
    let mut looks = Vec::new();
    for _ in 0..3 {
        looks.push(bench.adapter.is_published(&zone.id, &record).await.unwrap());
    }
    assert_eq!(looks, [false, false, true]);
}

#[tokio::test]
async fn an_apex_and_its_wildcard_hold_two_values_at_one_name() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    let name = "_acme-challenge.example.test";

    let (zone, apex) = bench.present(name, "apex").await;
    let (_, wildcard) = bench.present(name, "wildcard").await;

    assert_ne!(apex, wildcard);
    assert_eq!(bench.contents(), ["apex", "wildcard"]);
    bench.adapter.remove(&zone.id, Some(&apex), &txt(name, "apex")).await.unwrap();
    assert_eq!(bench.contents(), ["wildcard"]);
}

#[tokio::test]
async fn a_record_at_the_apex_of_its_own_zone_has_an_empty_name() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    bench.cloud.add_zone("_acme-challenge.example.test");

    let (zone, _) = bench.present("_acme-challenge.example.test", "value").await;
    bench.present("_acme-challenge.example.test", "value").await;

    assert_eq!(zone.name, "_acme-challenge.example.test");
    let fqdns: Vec<String> = bench.cloud.txt_records().into_iter().map(|record| record.fqdn).collect();
    assert_eq!(fqdns, ["_acme-challenge.example.test"]);
}

#[tokio::test]
async fn equal_content_is_adopted_with_or_without_quotes() {
    let bench = Bench::start().await;
    let zone = bench.cloud.add_zone("example.test");
    let raw = bench.cloud.add_record(&zone, "_acme-challenge.www", "TXT", "raw");
    let quoted = bench.cloud.add_record(&zone, "_acme-challenge.www", "TXT", "\"quoted\"");

    assert_eq!(bench.present(NAME, "raw").await.1.as_str(), raw);
    assert_eq!(bench.present(NAME, "quoted").await.1.as_str(), quoted);
    assert_eq!(bench.cloud.records(&zone).len(), 2);
}

#[tokio::test]
async fn what_a_partial_filter_also_finds_is_not_adopted() {
    let bench = Bench::start().await;
    let zone = bench.cloud.add_zone("example.test");
    let other_zone = bench.cloud.add_zone("other.test");
    for (zone, name, content) in [
        (&zone, "x_acme-challenge.www", "value"),
        (&zone, "_acme-challenge.www.deep", "value"),
        (&zone, "_acme-challenge.www", "value-and-more"),
        (&other_zone, "_acme-challenge.www", "value"),
    ] {
        bench.cloud.add_record(zone, name, "TXT", content);
    }

    let (_, record) = bench.present(NAME, "value").await;

    assert_eq!(bench.cloud.txt_records().len(), 5);
    bench.adapter.remove(&zone_id(&zone), None, &txt(NAME, "value")).await.unwrap();
    let left = bench.cloud.txt_records();
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|left| left.id != record.as_str()));
}

#[tokio::test]
async fn an_equal_record_on_the_second_page_is_found() {
    let bench = Bench::start().await;
    let zone = bench.cloud.add_zone("example.test");
    for number in 0..1_000 {
        bench.cloud.add_record(&zone, &format!("_acme-challenge.host-{number}"), "TXT", "value");
    }
    let id = bench.cloud.add_record(&zone, "_acme-challenge", "TXT", "value");
    let name = "_acme-challenge.example.test";

    assert_eq!(bench.present(name, "value").await.1.as_str(), id);
    bench.adapter.remove(&zone_id(&zone), None, &txt(name, "value")).await.unwrap();
    assert!(bench.cloud.records(&zone).iter().all(|record| record.id != id));
    assert_eq!(bench.cloud.records(&zone).len(), 1_000);
}

#[tokio::test]
async fn a_record_on_its_way_out_is_not_adopted() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    bench.cloud.fault(1, "POST", "/zones", Fault::Destroying);
    let (_, going) = bench.present(NAME, "value").await;
    assert_ne!(bench.present(NAME, "value").await.1, going);
}

#[tokio::test]
async fn a_cname_in_the_way_is_for_a_person() {
    let bench = Bench::start().await;
    let zone = bench.cloud.add_zone("example.test");
    bench.cloud.add_record(&zone, "_acme-challenge.www", "CNAME", "elsewhere.test");

    let error = bench.adapter.present(&zone_id(&zone), &txt(NAME, "value")).await.unwrap_err();

    assert_eq!(error.disposition(), Disposition::Operator);
    let text = error.to_string();
    assert!(text.contains(NAME) && text.contains("no record can stand beside a CNAME"), "{text}");
    assert!(bench.cloud.txt_records().is_empty());
}

#[tokio::test]
async fn a_conflict_with_an_equal_record_adopts_it() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    bench.cloud.fault(1, "POST", "/zones", Fault::ConflictAfter);
    let (_, record) = bench.present(NAME, "value").await;
    let ids: Vec<String> = bench.cloud.txt_records().into_iter().map(|record| record.id).collect();
    assert_eq!(ids, [record.as_str()]);
}

#[tokio::test]
async fn an_answer_without_a_json_body_is_no_failure() {
    for fault in [Fault::WithoutBody, Fault::NotJson] {
        let bench = Bench::start().await;
        bench.cloud.add_zone("example.test");
        bench.cloud.fault(1, "POST", "/zones", fault.clone());
        bench.cloud.fault(1, "DELETE", "/zones", fault);

        let (zone, record) = bench.present(NAME, "value").await;

        let ids: Vec<String> = bench.cloud.txt_records().into_iter().map(|record| record.id).collect();
        assert_eq!(ids, [record.as_str()]);
        bench.adapter.remove(&zone.id, Some(&record), &txt(NAME, "value")).await.unwrap();
        assert!(bench.cloud.txt_records().is_empty());
    }
}

#[tokio::test]
async fn removal_touches_nothing_else_and_can_be_repeated() {
    let bench = Bench::start().await;
    let zone = bench.cloud.add_zone("example.test");
    bench.cloud.add_record(&zone, "_acme-challenge.www", "TXT", "foreign");
    bench.cloud.add_record(&zone, "_acme-challenge.www.deep", "TXT", "value");
    let record = txt(NAME, "value");

    let (_, id) = bench.present(NAME, "value").await;
    for _ in 0..2 {
        bench.adapter.remove(&zone_id(&zone), Some(&id), &record).await.unwrap();
        assert_eq!(bench.contents(), ["foreign", "value"]);
    }

    bench.present(NAME, "value").await;
    for _ in 0..2 {
        bench.adapter.remove(&zone_id(&zone), None, &record).await.unwrap();
        assert_eq!(bench.contents(), ["foreign", "value"]);
    }
}

#[tokio::test]
async fn a_zone_that_is_gone_took_its_records_along() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    let (zone, id) = bench.present(NAME, "value").await;
    bench.cloud.remove_zone(zone.id.as_str());

    bench.adapter.remove(&zone.id, Some(&id), &txt(NAME, "value")).await.unwrap();
    bench.clock.turn(time::Duration::minutes(1));
    bench.adapter.remove(&zone.id, None, &txt(NAME, "value")).await.unwrap();
    let error = bench.adapter.present(&zone.id, &txt(NAME, "value")).await.unwrap_err();
    assert!(matches!(error, DnsError::ZoneChanged { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::RETRY);
}

#[tokio::test]
async fn a_failed_record_is_reported_and_can_be_removed() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    bench.cloud.fault(1, "POST", "/zones", Fault::TurnFailed);
    let (zone, id) = bench.present(NAME, "value").await;

    let error = bench.adapter.is_published(&zone.id, &id).await.unwrap_err();

    assert!(matches!(&error, DnsError::RecordFailed { record, .. } if record == id.as_str()), "{error:?}");
    assert_eq!(error.disposition(), Disposition::RETRY);
    bench.adapter.remove(&zone.id, Some(&id), &txt(NAME, "value")).await.unwrap();
    assert!(bench.cloud.txt_records().is_empty());
}

#[tokio::test]
async fn a_record_that_somebody_removed_is_reported() {
    let bench = Bench::start().await;
    let zone = bench.cloud.add_zone("example.test");
    let error = bench.adapter.is_published(&zone_id(&zone), &RecordId::from("gone".to_owned())).await.unwrap_err();
    assert!(matches!(error, DnsError::RecordGone { .. }), "{error:?}");
}

#[tokio::test]
async fn the_wait_for_a_record_ends_with_its_state_or_its_time() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    let section = PropagationSection {
        timeout: TimeSpan::millis(30),
        first_pause: TimeSpan::millis(2),
        longest_pause: TimeSpan::millis(5),
        ..PropagationSection::default()
    };

    bench.cloud.set_provisioning(Provisioning::Reads(2));
    let (zone, id) = bench.present(NAME, "soon").await;
    let patient = Propagation::new(&PropagationSection { timeout: TimeSpan::seconds(30), ..section.clone() });
    patient.await_published(&bench.adapter, &zone.id, &id).await.unwrap();

    bench.cloud.fault(1, "POST", "/zones", Fault::StayProvisioning);
    let (zone, id) = bench.present(NAME, "never").await;
    let error = Propagation::new(&section).await_published(&bench.adapter, &zone.id, &id).await.unwrap_err();
    assert!(matches!(&error, DnsError::Unpublished { record, .. } if record == id.as_str()), "{error:?}");
    assert_eq!(error.disposition(), Disposition::RETRY);
}
