//! What the adapter makes of a service that is slow, overloaded, broken or unwilling.

use autocertd::config::dns::IonosSection;
use autocertd::config::time_span::TimeSpan;
use autocertd::dns::DnsError;
use autocertd::dns::adapter::DnsAdapter;
use autocertd::dns::adapters::ionos::Ionos;
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::domain::value::adapter_name::AdapterName;
use autocertd::runtime::randomness::Randomness;
use autocertd_support::cloud_dns::Fault;
use futures_util::future::join_all;
use secrecy::SecretString;
use time::Duration;

use crate::log::Log;
use crate::{Bench, START, adapter, txt, zone_id};

const NAME: &str = "_acme-challenge.www.example.test";

#[tokio::test]
async fn passing_faults_of_any_call_are_retried() {
    let faults = [
        Fault::TooManyRequests(None),
        Fault::TooManyRequests(Some("0".to_owned())),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Cut,
        Fault::CutAfter,
    ];
    join_all(faults.map(async |fault| {
        let bench = Bench::start().await;
        bench.cloud.add_zone("example.test");
        for (method, path) in [("GET", "/zones"), ("GET", "/records"), ("POST", "/zones"), ("DELETE", "/zones")] {
            bench.cloud.fault(1, method, path, fault.clone());
        }

        let (zone, record) = bench.present(NAME, "value").await;
        assert_eq!(bench.contents(), ["value"], "{fault:?}");
        assert!(!bench.adapter.is_published(&zone.id, &record).await.unwrap(), "{fault:?}");
        bench.adapter.remove(&zone.id, Some(&record), &txt(NAME, "value")).await.unwrap();
        assert!(bench.contents().is_empty(), "{fault:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for() {
    join_all(["1", "Tue, 14 Nov 2023 22:13:21 GMT"].map(async |retry_after| {
        let bench = Bench::start().await;
        bench.cloud.add_zone("example.test");
        bench.cloud.fault(1, "GET", "/zones", Fault::TooManyRequests(Some(retry_after.to_owned())));
        assert_eq!(bench.adapter.zone_for(NAME).await.unwrap().name, "example.test", "{retry_after}");
        assert_eq!(bench.count("GET", "/zones"), 2, "{retry_after}");
    }))
    .await;
}

#[tokio::test]
async fn a_creation_that_was_cut_is_looked_for_before_it_is_repeated() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");
    bench.cloud.fault(1, "POST", "/zones", Fault::CutAfter);

    let (zone, record) = bench.present(NAME, "value").await;

    let path = format!("/zones/{}/records", zone.id);
    assert_eq!((bench.count("GET", "/records"), bench.count("POST", &path)), (2, 1));
    let ids: Vec<String> = bench.cloud.txt_records().into_iter().map(|record| record.id).collect();
    assert_eq!(ids, [record.as_str()]);
}

#[tokio::test]
async fn a_long_retry_after_is_left_to_the_scheduler() {
    for (retry_after, not_before) in [
        ("3600", START + Duration::seconds(3_600)),
        ("Tue, 14 Nov 2023 23:13:20 GMT", START + Duration::seconds(3_600)),
        ("31", START + Duration::seconds(31)),
    ] {
        let bench = Bench::start().await;
        bench.cloud.fault(9, "GET", "/zones", Fault::TooManyRequests(Some(retry_after.to_owned())));

        let error = bench.adapter.zone_for(NAME).await.unwrap_err();

        assert_eq!(error.disposition(), Disposition::Retry { not_before: Some(not_before) }, "{retry_after}");
        assert_eq!(bench.count("GET", "/zones"), 1, "{retry_after}");
    }
}

#[tokio::test]
async fn faults_that_last_end_after_a_few_tries() {
    let bench = Bench::start().await;
    bench.cloud.fault(99, "GET", "/zones", Fault::Status(502));

    let error = bench.adapter.zone_for(NAME).await.unwrap_err();

    assert_eq!(error.disposition(), Disposition::RETRY);
    let text = error.to_string();
    assert!(text.starts_with("ionos: GET /zones was answered with status 502 (dns-demanded"), "{text}");
    assert_eq!(bench.count("GET", "/zones"), 4);
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_and_repeated() {
    let bench = Bench::with_timeout(TimeSpan::seconds(1)).await;
    bench.cloud.add_zone("example.test");
    bench.cloud.fault(1, "GET", "/zones", Fault::Slow(std::time::Duration::from_hours(1)));
    assert_eq!(bench.adapter.zone_for(NAME).await.unwrap().name, "example.test");
    assert!(bench.count("GET", "/zones") > 1);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_a_passing_fault() {
    let bench = Bench::start().await;
    let section = IonosSection { endpoint: bench.cloud.http_url(), ..IonosSection::default() };
    let token = SecretString::from(bench.cloud.token());
    let adapter =
        Ionos::new(AdapterName::ionos(), &section, Some(&token), bench.clock.clone(), Randomness::from_seed(1))
            .unwrap();
    drop(bench);

    let error = adapter.zone_for(NAME).await.unwrap_err();

    assert!(matches!(error, DnsError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::RETRY);
    let failure = Failure::from(error);
    assert!(failure.message.starts_with("ionos: GET /zones got no answer"), "{failure}");
    assert!(failure.message.contains("refused"), "the cause is lost: {failure}");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_never_taken_for_an_empty_one() {
    let bench = Bench::start().await;
    let zone = bench.cloud.add_zone("example.test");
    bench.cloud.fault(99, "GET", "/records", Fault::NotJson);

    let error = bench.adapter.present(&zone_id(&zone), &txt(NAME, "value")).await.unwrap_err();

    assert!(matches!(error, DnsError::Unreadable { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::RETRY);
    assert!(bench.contents().is_empty());
}

#[tokio::test]
async fn a_wrong_token_is_for_a_person_and_is_not_repeated() {
    let bench = Bench::start().await;
    let wrong = adapter(&bench.cloud, "wrong-secret", TimeSpan::seconds(30), &bench.clock);

    let error = wrong.zone_for(NAME).await.unwrap_err();

    assert_eq!(error.disposition(), Disposition::Operator);
    let mut text = format!("{error} {error:?} ");
    text.push_str(&Failure::from(error).message);
    assert!(text.contains("status 401 (paas-auth-1: the token is missing or wrong)"), "{text}");
    assert!(!text.contains("wrong-secret"), "{text}");
    assert_eq!(bench.count("GET", "/zones"), 1);

    bench.cloud.fault(1, "GET", "/zones", Fault::Status(403));
    let error = bench.adapter.zone_for(NAME).await.unwrap_err();
    assert!(matches!(error, DnsError::Unauthorized { status: 403, .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_that_is_not_taken_is_for_a_person_with_the_words_of_the_service() {
    let bench = Bench::start().await;
    let zone = bench.cloud.add_zone("example.test");
    bench.cloud.fault(1, "POST", "/zones", Fault::Status(422));

    let error = bench.adapter.present(&zone_id(&zone), &txt(NAME, "value")).await.unwrap_err();

    assert_eq!(error.disposition(), Disposition::Operator);
    let text = error.to_string();
    assert!(text.contains(&format!("POST /zones/{zone}/records was rejected with status 422")), "{text}");
    assert!(text.contains("this fault was asked for"), "{text}");
}

/// The whole log, that of the HTTP client and of all tests so far included.
#[tokio::test]
async fn the_token_is_in_no_log() {
    let bench = Bench::start().await;
    bench.cloud.add_zone("example.test");

    bench.cloud.fault(1, "POST", "/zones", Fault::Status(503));
    let (zone, record) = bench.present(NAME, "value").await;
    bench.adapter.remove(&zone.id, Some(&record), &txt(NAME, "value")).await.unwrap();

    let text = Log::shared().text();
    assert!(
        text.contains(&format!("call=DELETE /zones/{}/records/{record} status=202", zone.id)),
        "nothing was logged"
    );
    assert!(!text.contains(bench.cloud.token()), "the token was logged");
}
