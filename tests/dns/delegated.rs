//! autocertd's own name server, asked by real packets.

mod fixture;
mod floods;

use autocertd::dns::adapter::{DnsAdapter, TxtRecord, Zone};
use autocertd::dns::adapters::delegated::DelegatedAdapter;
use autocertd::dns::{DnsError, delegated::DnsSocketError, delegated::DnsSockets};
use autocertd::domain::failure::disposition::Disposition;
use hickory_proto::op::{Edns, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, RecordType};

use self::fixture::{Fixture, NAME, question, section, values};

#[tokio::test]
async fn values_are_answered_with_authority_and_under_the_name_as_it_was_asked() {
    let stand = Fixture::start();
    stand.set_values(NAME, &["one", "two"]);
    let mixed = "_Acme-Challenge.wWw.aCmE.eXaMpLe.NeT.";
    for answer in
        [stand.udp(&question(mixed, RecordType::TXT)).await, stand.tcp(&question(mixed, RecordType::TXT)).await]
    {
        assert_eq!((answer.response_code, values(&answer)), (ResponseCode::NoError, vec!["one".into(), "two".into()]));
        assert!(answer.authoritative && !answer.recursion_available && answer.recursion_desired && !answer.truncation);
        assert_eq!(answer.queries[0].name().to_ascii(), mixed);
        assert!(answer.answers.iter().all(|record| record.name.to_ascii() == mixed && record.ttl <= 10), "{answer:?}");
    }
}

#[tokio::test]
async fn a_record_is_there_and_gone_at_once() {
    let stand = Fixture::start();
    let asked = question(NAME, RecordType::TXT);
    assert_eq!(stand.udp(&asked).await.response_code, ResponseCode::NXDomain);
    stand.set_values(NAME, &["one"]);
    assert_eq!(values(&stand.udp(&asked).await), ["one"]);
    stand.clear();
    assert_eq!(stand.udp(&asked).await.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_long_value_comes_in_strings_of_255_bytes() {
    let stand = Fixture::start();
    let long = "x".repeat(600);
    stand.set_values(NAME, &[&long]);
    assert_eq!(values(&stand.tcp(&question(NAME, RecordType::TXT)).await), [long]);
}

#[tokio::test]
async fn what_is_not_there_is_denied_as_resolvers_need_it() {
    let stand = Fixture::start();
    stand.set_values(NAME, &["one"]);
    let cases = [
        (NAME, RecordType::A, ResponseCode::NoError),
        (NAME, RecordType::CNAME, ResponseCode::NoError),
        // Resolvers that minimise names ask for what lies between.
        ("www.acme.example.net.", RecordType::TXT, ResponseCode::NoError),
        ("WWW.acme.example.net.", RecordType::NS, ResponseCode::NoError),
        ("acme.example.net.", RecordType::TXT, ResponseCode::NoError),
        ("acme.example.net.", RecordType::DS, ResponseCode::NoError),
        ("ww.acme.example.net.", RecordType::TXT, ResponseCode::NXDomain),
        ("x._acme-challenge.www.acme.example.net.", RecordType::TXT, ResponseCode::NXDomain),
        // An underscore stands for nothing but itself.
        ("_ww.acme.example.net.", RecordType::TXT, ResponseCode::NXDomain),
        ("a\\.b.acme.example.net.", RecordType::TXT, ResponseCode::NXDomain),
    ];
    for (name, kind, code) in cases {
        let answer = stand.udp(&question(name, kind)).await;
        assert_eq!((answer.response_code, answer.answers.len()), (code, 0), "{name} {kind}");
        assert!(answer.authoritative, "{name} {kind}");
        let [denial] = answer.authorities.as_slice() else { panic!("{name} {kind}: {answer:?}") };
        let RData::SOA(soa) = &denial.data else { panic!("{denial:?}") };
        assert_eq!(denial.name.to_ascii(), "acme.example.net.");
        assert!(denial.ttl <= 10 && soa.minimum <= 10, "{denial:?}");
    }
}

#[tokio::test]
async fn the_apex_has_authority_of_its_own() {
    let stand = Fixture::start();
    let apex = "acme.example.net.";
    let soa = stand.udp(&question(apex, RecordType::SOA)).await;
    let [record] = soa.answers.as_slice() else { panic!("{soa:?}") };
    let RData::SOA(data) = &record.data else { panic!("{soa:?}") };
    assert_eq!(
        (data.mname.to_ascii(), data.rname.to_ascii()),
        ("ns1.example.net.".to_owned(), "hostmaster.acme.example.net.".to_owned())
    );
    let servers = stand.udp(&question(apex, RecordType::NS)).await;
    let servers: Vec<String> = servers.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(servers, ["ns1.example.net.", "ns2.example.net."]);
    // A CNAME may lead to the apex, too.
    stand.set_values("acme.example.net", &["one"]);
    assert_eq!(values(&stand.udp(&question(apex, RecordType::TXT)).await), ["one"]);
}

#[tokio::test]
async fn who_asks_for_everything_hears_little() {
    let stand = Fixture::start();
    stand.set_values(NAME, &["one", "two"]);
    for name in [NAME, "www.acme.example.net.", "acme.example.net."] {
        let answer = stand.udp(&question(name, RecordType::ANY)).await;
        let [record] = answer.answers.as_slice() else { panic!("{answer:?}") };
        assert_eq!(record.record_type(), RecordType::HINFO, "{answer:?}");
    }
    let nothing = stand.udp(&question("ww.acme.example.net.", RecordType::ANY)).await;
    assert_eq!((nothing.response_code, nothing.answers.len()), (ResponseCode::NXDomain, 0));
}

#[tokio::test]
async fn what_is_none_of_its_business_is_refused() {
    let stand = Fixture::start();
    stand.set_values(NAME, &["one"]);
    let mut chaos = question(NAME, RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let refused = [
        question("example.net.", RecordType::SOA),
        question("myacme.example.net.", RecordType::TXT),
        question(".", RecordType::NS),
        question("acme.example.net.", RecordType::AXFR),
        question("acme.example.net.", RecordType::IXFR),
        chaos,
    ];
    for asked in refused {
        for answer in [stand.udp(&asked).await, stand.tcp(&asked).await] {
            assert_eq!(answer.response_code, ResponseCode::Refused, "{answer:?}");
            assert!(answer.answers.is_empty() && answer.authorities.is_empty() && !answer.authoritative, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_question_is_told_so_or_passed_over() {
    let stand = Fixture::start();
    for op_code in [OpCode::Update, OpCode::Notify, OpCode::Status] {
        let mut other = question(NAME, RecordType::SOA);
        other.metadata.op_code = op_code;
        assert_eq!(stand.udp(&other).await.response_code, ResponseCode::NotImp);
    }
    let mut two = question(NAME, RecordType::TXT);
    two.add_query(two.queries[0].clone());
    assert_eq!(stand.udp(&two).await.response_code, ResponseCode::FormErr);
    let mut cut = question(NAME, RecordType::TXT).to_vec().unwrap();
    cut.truncate(20);
    assert_eq!(stand.udp_bytes(&cut).await.response_code, ResponseCode::FormErr);

    let mut answer = question(NAME, RecordType::TXT);
    answer.metadata.message_type = MessageType::Response;
    let client = stand.client("127.0.0.1").await;
    let asked = question(NAME, RecordType::TXT);
    for noise in [answer.to_vec().unwrap(), b"short".to_vec(), Vec::new(), asked.to_vec().unwrap()] {
        client.send(&noise).await.unwrap();
    }
    assert_eq!(fixture::receive(&client).await.id, asked.id, "noise was answered");
}

#[tokio::test]
async fn edns_is_spoken_in_its_first_version() {
    let stand = Fixture::start();
    stand.set_values(NAME, &["one"]);
    let with = |version, secure| {
        let mut asked = question(NAME, RecordType::TXT);
        let mut edns = Edns::new();
        edns.set_version(version).set_dnssec_ok(secure).set_max_payload(4_096);
        asked.set_edns(edns);
        asked
    };
    assert!(stand.udp(&question(NAME, RecordType::TXT)).await.edns.is_none());
    for secure in [false, true] {
        let answer = stand.udp(&with(0, secure)).await;
        let edns = answer.edns.as_ref().unwrap();
        assert_eq!((edns.version(), edns.flags().dnssec_ok, edns.max_payload()), (0, secure, 1_232));
        assert_eq!(values(&answer), ["one"]);
    }
    let newer = stand.udp(&with(1, false)).await;
    let edns = newer.edns.as_ref().unwrap();
    assert_eq!((edns.rcode_high(), edns.version(), newer.answers.len()), (1, 0, 0), "{newer:?}");
    assert_eq!(newer.response_code.low(), 0, "BADVERS is 16");
}

#[tokio::test]
async fn what_does_not_fit_is_to_be_had_over_tcp() {
    let stand = Fixture::start();
    let many: Vec<String> = (0..100).map(|number| format!("{number:0>43}")).collect();
    let held = |count: usize| many[..count].iter().map(String::as_str).collect::<Vec<_>>();
    let with_payload = |payload: Option<u16>| {
        let mut asked = question(NAME, RecordType::TXT);
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            asked.set_edns(edns);
        }
        asked
    };
    // How many values of 43 bytes are told in how many bytes.
    for (payload, fits) in [(None, 7), (Some(100), 7), (Some(900), 14), (Some(65_535), 20)] {
        let asked = with_payload(payload);
        stand.set_values(NAME, &held(fits));
        let whole = stand.udp(&asked).await;
        assert_eq!((values(&whole).len(), whole.truncation), (fits, false), "{payload:?}");
        stand.set_values(NAME, &held(100));
        let cut = stand.udp(&asked).await;
        assert_eq!((cut.answers.len(), cut.truncation, cut.authoritative), (0, true, true), "{payload:?}");
        assert_eq!(cut.edns.is_some(), payload.is_some());
        assert!(cut.to_vec().unwrap().len() <= 512);
        assert_eq!(values(&stand.tcp(&asked).await).len(), 100);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_no_denial() {
    let stand = Fixture::start();
    stand.set_values(NAME, &["one"]);
    let asked = question(NAME, RecordType::TXT);
    stand.fail_lookups();
    assert_eq!(stand.udp(&asked).await.response_code, ResponseCode::ServFail);
    assert_eq!(stand.udp(&question("acme.example.net.", RecordType::SOA)).await.answers.len(), 1);
    stand.hang_lookups();
    let begun = std::time::Instant::now();
    assert_eq!(stand.udp(&asked).await.response_code, ResponseCode::ServFail);
    assert!((1..=4).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    stand.recover();
    assert_eq!(values(&stand.udp(&asked).await), ["one"]);
}

#[tokio::test]
async fn an_answer_leaves_from_the_address_that_was_asked() {
    let stand = Fixture::at("0.0.0.0", "");
    stand.set_values(NAME, &["one"]);
    for asked in ["127.0.0.1", "127.0.0.2", "127.1.2.3"] {
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // A connected socket hears nobody else.
        client.connect((asked, stand.port())).await.unwrap();
        client.send(&question(NAME, RecordType::TXT).to_vec().unwrap()).await.unwrap();
        assert_eq!(values(&fixture::receive(&client).await), ["one"], "{asked}");
    }
}

#[tokio::test]
async fn ipv6_is_served_beside_ipv4() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        autocertd_support::skipped::report_skipped("this machine has no IPv6");
        return;
    }
    let stand = Fixture::at("[::]", "");
    stand.set_values(NAME, &["one"]);
    let client = tokio::net::UdpSocket::bind("[::1]:0").await.unwrap();
    client.connect(("::1", stand.port())).await.unwrap();
    client.send(&question(NAME, RecordType::TXT).to_vec().unwrap()).await.unwrap();
    assert_eq!(values(&fixture::receive(&client).await), ["one"]);
    std::net::UdpSocket::bind(("0.0.0.0", stand.port())).expect("IPv4 is left to a socket of its own");
}

#[test]
fn an_address_that_is_taken_is_named_with_the_remedy() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = DnsSockets::bind_all(&section(&format!("listen = ['{address}']"))).unwrap_err();
    assert!(matches!(error, DnsSocketError::BindFailed { .. }));
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot answer DNS at {address} over UDP; another program answers")), "{text}");
    assert!(DnsSockets::bind_all(&toml::from_str("").unwrap()).unwrap().is_none(), "without a zone");
}

#[tokio::test]
async fn the_adapter_has_nothing_to_do() {
    let adapter = DelegatedAdapter::from_section(&section("")).unwrap();
    let zone = adapter.zone_for("www.acme.example.net").await.unwrap();
    let named = vec!["ns1.example.net".to_owned(), "ns2.example.net".to_owned()];
    let id = "acme.example.net".to_owned();
    assert_eq!(zone, Zone { id: id.clone().into(), name: id, nameservers: named });
    let record = TxtRecord { name: "www.acme.example.net".to_owned(), content: "one".to_owned() };
    let presented = adapter.present(&zone.id, &record).await.unwrap();
    assert!(adapter.is_published(&zone.id, &presented).await.unwrap());
    adapter.remove(&zone.id, Some(&presented), &record).await.unwrap();

    let error = adapter.zone_for("www.example.org").await.unwrap_err();
    assert!(matches!(error, DnsError::Setting { .. }) && error.disposition() == Disposition::Operator);
    assert_eq!(
        error.to_string(),
        "dns.delegated.zone cannot be used: acme.example.net does not hold www.example.org; \
         correct the [[dns.zone]] that leads here"
    );
}
