//! The local Cloud DNS itself, where a CA or a client would stumble over it.

use autocertd_support::timed::http_client;
use std::net::SocketAddr;
use std::time::Duration;

use autocertd_support::cloud_dns::CloudDns;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::xfer::{DnsHandle, FirstAnswer};
use hickory_proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

/// Asks over TCP what the server itself holds; returns the code and the answers as text.
async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let provider = TokioRuntimeProvider::default();
    let patience = Duration::from_secs(30);
    let connection = TcpClientStream::exchange(server, None, patience, None, provider.clone()).await.unwrap();
    let query = Query::query(Name::from_ascii(name).unwrap(), kind);
    let mut options = DnsRequestOptions::default();
    options.recursion_desired = false;
    let answer = connection.lookup(query, options).first_answer().await.unwrap();
    (answer.response_code, answer.answers.iter().map(|record| record.data.to_string()).collect())
}

#[tokio::test]
async fn its_name_server_answers_as_a_zones_server_does() {
    let cloud = CloudDns::start().await.unwrap();
    let zone = cloud.add_zone("example.test");
    cloud.add_disabled_zone("off.test");
    cloud.add_record(&zone, "_acme-challenge.www", "TXT", "value");
    cloud.add_record(&zone, "_acme-challenge.alias", "CNAME", "_acme-challenge.www.example.test.");
    cloud.add_record(&zone, "_acme-challenge.away", "CNAME", "elsewhere.invalid");
    cloud.add_record(&zone, "www", "A", "127.0.0.1");
    cloud.add_record(&zone, "*.wild", "A", "127.0.0.2");
    cloud.add_record(&zone, "own.wild", "TXT", "own");

    let none: [&str; 0] = [];
    for (name, kind, code, answers) in [
        ("_Acme-Challenge.WWW.example.test.", RecordType::TXT, ResponseCode::NoError, &["value"][..]),
        ("example.test.", RecordType::CAA, ResponseCode::NoError, &none),
        ("www.example.test.", RecordType::CAA, ResponseCode::NoError, &none),
        ("www.example.test.", RecordType::A, ResponseCode::NoError, &["127.0.0.1"]),
        ("missing.example.test.", RecordType::CAA, ResponseCode::NXDomain, &none),
        ("example.test.", RecordType::NS, ResponseCode::NoError, &["ns1.cloud-dns.test.", "ns2.cloud-dns.test."]),
        ("ns1.cloud-dns.test.", RecordType::A, ResponseCode::NoError, &["127.0.0.1"]),
        ("a.b.wild.example.test.", RecordType::A, ResponseCode::NoError, &["127.0.0.2"]),
        ("a.wild.example.test.", RecordType::TXT, ResponseCode::NoError, &none),
        ("own.wild.example.test.", RecordType::A, ResponseCode::NoError, &none),
        ("a.own.wild.example.test.", RecordType::A, ResponseCode::NXDomain, &none),
        ("off.test.", RecordType::TXT, ResponseCode::Refused, &none),
        ("notexample.test.", RecordType::TXT, ResponseCode::Refused, &none),
        (
            "_acme-challenge.alias.example.test.",
            RecordType::TXT,
            ResponseCode::NoError,
            &["_acme-challenge.www.example.test.", "value"],
        ),
        ("_acme-challenge.away.example.test.", RecordType::TXT, ResponseCode::NoError, &["elsewhere.invalid."]),
    ] {
        let (answered, shown) = ask(cloud.dns_addr(), name, kind).await;
        assert_eq!((answered, shown), (code, answers.iter().map(ToString::to_string).collect()), "{name} {kind}");
    }
}

#[tokio::test]
async fn its_lists_filter_by_parts_and_page_without_a_total() {
    let cloud = CloudDns::start().await.unwrap();
    for name in ["example.test", "MyExample.test", "other.test"] {
        cloud.add_zone(name);
    }
    let url = cloud.http_url();
    let get = async |path: &str| {
        let answer = http_client().get(format!("{url}{path}")).bearer_auth(cloud.token()).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
    };

    let (status, page) = get("/zones?filter.zoneName=EXAMPLE&limit=1&offset=1").await;
    assert_eq!(status, 200);
    assert_eq!(page["items"][0]["properties"]["zoneName"], "myexample.test");
    assert_eq!(page["items"][0]["properties"]["description"], "");
    assert_eq!((page["offset"].as_u64(), page["limit"].as_u64()), (Some(1), Some(1)));
    assert!(page["_links"].get("next").is_none() && page.get("total").is_none(), "{page}");
    for path in ["/zones?limit=0", "/zones?limit=1001", "/records?offset=-1"] {
        assert_eq!(get(path).await.0, 400, "{path}");
    }
    assert_eq!(http_client().get(format!("{url}/zones")).send().await.unwrap().status().as_u16(), 401);
}

#[tokio::test]
async fn it_ends_when_it_is_dropped() {
    let cloud = CloudDns::start().await.unwrap();
    let (url, dns) = (cloud.http_url(), cloud.dns_addr());
    drop(cloud);
    // Tasks end at their next turn.
    while http_client().get(format!("{url}/zones")).send().await.is_ok()
        || tokio::net::TcpStream::connect(dns).await.is_ok()
    {
        tokio::task::yield_now().await;
    }
}
