//! Dynamic update against a real BIND, and against servers that misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use autocertd::config::dns::DnsSection;
use autocertd::dns::DnsError;
use autocertd::dns::adapter::{DnsAdapter, TxtRecord};
use autocertd::dns::routes::DnsRoutes;
use autocertd::domain::failure::disposition::Disposition;
use autocertd::runtime::clock::{ManualClock, SharedClock, SystemClock};
use autocertd::runtime::randomness::Randomness;
use autocertd_support::bind::{Bind, BindOptions, BindZone, TsigKey};
use hickory_proto::op::{Message, MessageType};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::log::Log;
use crate::{START, txt, zone_id};

const NAME: &str = "_acme-challenge.www.example.test";
const APEX: &str = "_acme-challenge.example.test";

/// A BIND, a key that it knows, and that key's file.
struct BindFixture {
    bind: Bind,
    key: TsigKey,
    folder: TempDir,
}

impl BindFixture {
    /// A primary of these zones, each of which the key may change as far as challenges go.
    async fn serving(zones: &[(&str, &str)]) -> Self {
        let zone = |(name, records): &(&str, &str)| BindZone {
            records: (*records).to_owned(),
            ..BindZone::new(name, "grant office zonesub TXT;")
        };
        Self::start("hmac-sha256", zones.iter().map(zone).collect()).await
    }

    async fn start(algorithm: &str, zones: Vec<BindZone>) -> Self {
        let key = TsigKey::generate("office", algorithm).unwrap();
        let bind =
            Bind::start(&BindOptions { keys: vec![key.clone()], zones, ..BindOptions::default() }).await.unwrap();
        let office = Self { bind, key, folder: tempfile::tempdir().unwrap() };
        office.write_key(office.key.statement());
        office
    }

    fn write_key(&self, text: &str) {
        let file = self.folder.path().join("key");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn adapter(&self) -> Arc<dyn DnsAdapter> {
        self.adapter_with("", &system_clock())
    }

    fn adapter_with(&self, more: &str, clock: &SharedClock) -> Arc<dyn DnsAdapter> {
        adapter_of(self.bind.addr(), &self.folder, more, clock)
    }

    async fn records(&self) -> Vec<String> {
        self.bind.txt_records("example.test").await.unwrap()
    }

    /// What presenting a record comes to with this key file, at this time.
    async fn refusal(&self, key: &str, clock: &SharedClock) -> String {
        self.write_key(key);
        let adapter = self.adapter_with("", clock);
        let unasked = adapter.zone_for(NAME).await.unwrap_err();
        let error = adapter.present(&zone_id("example.test"), &txt(NAME, "value")).await.unwrap_err();
        for error in [&unasked, &error] {
            assert!(matches!(error, DnsError::UpdateRefused { .. }), "{error:?}");
            assert_eq!(error.disposition(), Disposition::Operator);
        }
        assert!(self.records().await.is_empty());
        error.to_string()
    }
}

/// The adapter `office` of settings with the key in `folder` and these further lines.
fn adapter(
    server: SocketAddr,
    folder: &TempDir,
    more: &str,
    clock: &SharedClock,
) -> Result<Arc<dyn DnsAdapter>, DnsError> {
    Log::shared();
    let key_file = folder.path().join("key").display().to_string();
    let text = format!("[adapter.office]\ntype = 'rfc2136'\nserver = '{server}'\nkey_file = '{key_file}'\n{more}");
    let section: DnsSection = toml::from_str(&text).unwrap();
    let routes = DnsRoutes::from_config(&section, None, clock, &Randomness::from_system().unwrap())?;
    routes.named("office").cloned()
}

fn adapter_of(server: SocketAddr, folder: &TempDir, more: &str, clock: &SharedClock) -> Arc<dyn DnsAdapter> {
    adapter(server, folder, more, clock).unwrap_or_else(|error| panic!("{error}"))
}

fn system_clock() -> SharedClock {
    Arc::new(SystemClock)
}

#[tokio::test]
async fn values_at_one_name_come_and_go_without_each_other() {
    let office = BindFixture::serving(&[("example.test", "_acme-challenge.www TXT \"stranger\"")]).await;
    let adapter = office.adapter();
    let zone = adapter.zone_for(NAME).await.unwrap();
    assert_eq!(
        (zone.name.as_str(), zone.nameservers.as_slice()),
        ("example.test", ["ns.example.test".to_owned()].as_slice())
    );

    let first = adapter.present(&zone.id, &txt(NAME, "first")).await.unwrap();
    let second = adapter.present(&zone.id, &txt(NAME, "second")).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(adapter.present(&zone.id, &txt(NAME, "first")).await.unwrap(), first);
    assert!(adapter.is_published(&zone.id, &first).await.unwrap());
    let shown = |values: &[&str]| values.iter().map(|value| format!("{NAME} {value}")).collect::<Vec<_>>();
    assert_eq!(office.records().await, shown(&["first", "second", "stranger"]));

    for id in [Some(&first), None] {
        adapter.remove(&zone.id, id, &txt(NAME, "first")).await.unwrap();
        assert_eq!(office.records().await, shown(&["second", "stranger"]));
    }
    adapter.remove(&zone.id, None, &txt(NAME, "second")).await.unwrap();
    adapter.remove(&zone.id, None, &txt("_acme-challenge.never.example.test", "stranger")).await.unwrap();
    assert_eq!(office.records().await, shown(&["stranger"]));
}

#[tokio::test]
async fn a_value_longer_than_one_string_is_found_again() {
    let office = BindFixture::serving(&[("example.test", "")]).await;
    let (adapter, record) = (office.adapter(), txt(NAME, &"v".repeat(700)));
    adapter.present(&zone_id("example.test"), &record).await.unwrap();
    assert_eq!(office.records().await, [format!("{NAME} {}", record.content)]);
    adapter.remove(&zone_id("example.test"), None, &record).await.unwrap();
    assert!(office.records().await.is_empty());
}

#[tokio::test]
async fn all_records_of_an_order_are_one_update() {
    let office = BindFixture::serving(&[("example.test", "")]).await;
    let records: Vec<TxtRecord> = (0..40)
        .map(|number| txt(&format!("_acme-challenge.host-{}.example.test", number / 2), &format!("{number}")))
        .collect();
    let before = office.bind.serial("example.test").await.unwrap();

    let presented = office.adapter().present_all(&zone_id("example.test"), &records).await;

    assert!(presented.iter().all(Result::is_ok), "{presented:?}");
    assert_eq!(office.records().await.len(), records.len());
    assert_eq!(office.bind.serial("example.test").await.unwrap(), before + 1);
    assert!(office.adapter().present_all(&zone_id("example.test"), &[]).await.is_empty());
}

#[tokio::test]
async fn a_name_that_the_key_may_not_change_is_named_and_keeps_no_other_back() {
    let policy = format!("grant office name {NAME} TXT;");
    let office = BindFixture::start("hmac-sha256", vec![BindZone::new("example.test", &policy)]).await;
    let adapter = office.adapter();

    let presented = adapter.present_all(&zone_id("example.test"), &[txt(NAME, "one"), txt(APEX, "two")]).await;

    let [Ok(_), Err(error)] = presented.as_slice() else { panic!("{presented:?}") };
    let text = error.to_string();
    assert!(text.contains("REFUSED") && text.contains(APEX) && !text.contains(NAME), "{text}");
    assert!(text.contains("update-policy"), "{text}");
    assert_eq!(error.disposition(), Disposition::Operator);
    assert_eq!(office.records().await, [format!("{NAME} one")]);
    let error = adapter.remove(&zone_id("example.test"), None, &txt(APEX, "two")).await.unwrap_err();
    assert!(matches!(error, DnsError::UpdateRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn every_algorithm_with_the_key_as_it_is_printed_and_as_the_bare_secret() {
    for algorithm in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let zones = vec![BindZone::new("example.test", "grant office zonesub TXT;")];
        let office = BindFixture::start(algorithm, zones).await;
        office.adapter().present(&zone_id("example.test"), &txt(NAME, "printed")).await.unwrap();
        office.write_key(&format!("{}\n", office.key.secret));
        let settings = format!("key_name = 'Office.'\nalgorithm = '{algorithm}'\nttl = '5m'");
        let bare = office.adapter_with(&settings, &system_clock());
        bare.present(&zone_id("example.test"), &txt(NAME, "bare")).await.unwrap();
        assert_eq!(office.records().await.len(), 2);
    }
}

#[tokio::test]
async fn a_key_that_the_server_does_not_trust_is_explained_without_its_secret() {
    let office = BindFixture::serving(&[("example.test", "")]).await;
    let now = system_clock();
    let other = TsigKey::generate("office", "hmac-sha256").unwrap();
    let statement = office.key.statement().to_owned();

    let wrong_secret = office.refusal(other.statement(), &now).await;
    assert!(wrong_secret.contains("BADSIG") && wrong_secret.contains("key_file"), "{wrong_secret}");
    let wrong_name = office.refusal(&statement.replace("office", "garage"), &now).await;
    assert!(wrong_name.contains("BADKEY") && wrong_name.contains("key_name"), "{wrong_name}");
    let wrong_algorithm = office.refusal(&statement.replace("sha256", "sha512"), &now).await;
    assert!(wrong_algorithm.contains("BADKEY") && wrong_algorithm.contains("algorithm"), "{wrong_algorithm}");
    let past: SharedClock = Arc::new(ManualClock::starting_at(START));
    let long_ago = office.refusal(&statement, &past).await;
    assert!(long_ago.contains("BADTIME (its clock is ") && long_ago.contains(" s ahead of ours"), "{long_ago}");
    assert!(long_ago.contains("clocks"), "{long_ago}");

    let log = Log::shared().text();
    for text in [&wrong_secret, &wrong_name, &wrong_algorithm, &long_ago, &log] {
        assert!(text.contains("office") && !text.contains(&office.key.secret) && !text.contains(&other.secret));
    }
}

#[tokio::test]
async fn the_nearest_zone_that_the_server_answers_for_is_found() {
    let parent = "in NS ns.in\naway NS ns.elsewhere.test.\ndeep.empty A 127.0.0.1";
    let child = "_acme-challenge.www CNAME nobody.example.test.";
    let office = BindFixture::serving(&[("example.test", parent), ("in.example.test", child)]).await;
    let adapter = office.adapter();
    for (name, zone) in [
        (APEX, "example.test"),
        ("_acme-challenge.empty.example.test", "example.test"),
        ("_acme-challenge.a.b.c.example.test", "example.test"),
        ("_acme-challenge.in.example.test", "in.example.test"),
        ("in.example.test", "in.example.test"),
        // The answer to the first question speaks of the alias's end, and of the zone that holds that.
        ("_acme-challenge.www.in.example.test", "in.example.test"),
    ] {
        let found = adapter.zone_for(name).await.unwrap();
        assert_eq!((found.name.as_str(), found.id.as_str()), (zone, zone), "{name}");
    }
    let too_long = format!("{}.example.test", ["x"; 126].join("."));
    for name in ["_acme-challenge.example.org", "_acme-challenge.away.example.test", "test", too_long.as_str()] {
        let error = adapter.zone_for(name).await.unwrap_err();
        assert!(matches!(&error, DnsError::NoZone { name: no, .. } if no == name), "{error:?}");
        assert!(error.to_string().starts_with(&format!("office: no enabled zone holds {name}")), "{error}");
    }
}

#[tokio::test]
async fn a_zone_that_the_settings_name_is_taken_at_their_word() {
    let office = BindFixture::serving(&[("example.test", ""), ("in.example.test", "")]).await;
    let adapter = office.adapter_with("zone = 'Example.test'", &system_clock());
    let zone = adapter.zone_for("_acme-challenge.in.example.test").await.unwrap();
    assert_eq!(zone.name, "example.test");
    assert!(matches!(adapter.zone_for("_acme-challenge.example.org").await, Err(DnsError::NoZone { .. })));

    let elsewhere = adapter.present(&zone_id("example.org"), &txt("_acme-challenge.example.org", "value")).await;
    let error = elsewhere.unwrap_err().to_string();
    assert!(error.contains("NOTAUTH") && error.contains("primary"), "{error}");
    let error = adapter.present(&zone.id, &txt("_acme-challenge.example.org", "value")).await.unwrap_err();
    assert!(matches!(error, DnsError::ZoneChanged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_cname_in_the_way_is_for_a_person() {
    let office = BindFixture::serving(&[("example.test", "_acme-challenge.www CNAME elsewhere.test.")]).await;
    let presented = office.adapter().present_all(&zone_id("example.test"), &[txt(APEX, "one"), txt(NAME, "two")]).await;
    let [Ok(_), Err(error @ DnsError::Conflict { name, .. })] = presented.as_slice() else { panic!("{presented:?}") };
    assert_eq!((name.as_str(), error.disposition()), (NAME, Disposition::Operator));
    assert_eq!(office.records().await, [format!("{APEX} one")]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_tried_again() {
    let office = BindFixture::serving(&[]).await;
    let gone = autocertd_support::loopback::own_address();
    // The system accepts for it; nobody reads.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closing = server(|_| Vec::new()).await;
    let cut = server(|request| framed(&answer_to(request))[..7].to_vec()).await;
    let garbled = server(|_| framed(b"What did you say?")).await;
    let other = server(|mut request| {
        request.metadata.id = request.id.wrapping_add(1);
        framed(&answer_to(request))
    })
    .await;
    let echo = server(|request| framed(&request.to_vec().unwrap())).await;
    for server in [gone, silent.local_addr().unwrap(), closing, cut, garbled, other, echo] {
        let adapter = adapter_of(server, &office.folder, "timeout = '300ms'", &system_clock());
        let record = txt(NAME, "value");
        for error in [
            adapter.zone_for(NAME).await.unwrap_err(),
            adapter.present(&zone_id("example.test"), &record).await.unwrap_err(),
            adapter.remove(&zone_id("example.test"), None, &record).await.unwrap_err(),
        ] {
            assert!(matches!(&error, DnsError::NoReply { .. }), "{server}: {error:?}");
            assert!(error.to_string().starts_with(&format!("office: {server} gave no answer to the ")), "{error}");
            assert_eq!(error.disposition(), Disposition::RETRY);
        }
    }
}

#[tokio::test]
async fn a_success_that_the_key_did_not_sign_is_none() {
    let office = BindFixture::serving(&[]).await;
    let unsigned = server(|request| framed(&answer_to(request))).await;
    // The request's own signature is none of the answer's.
    let borrowed = server(|mut request| {
        request.metadata.message_type = MessageType::Response;
        framed(&request.to_vec().unwrap())
    })
    .await;
    for server in [unsigned, borrowed] {
        let adapter = adapter_of(server, &office.folder, "", &system_clock());
        let error = adapter.present(&zone_id("example.test"), &txt(NAME, "value")).await.unwrap_err();
        assert!(matches!(&error, DnsError::UpdateFailed { .. }), "{error:?}");
        assert!(error.to_string().contains("an answer, NOERROR, that the key did not sign"), "{error}");
        assert_eq!(error.disposition(), Disposition::RETRY);
    }
}

#[tokio::test]
async fn settings_that_give_no_key_are_refused_and_an_open_key_file_is_told() {
    let office = BindFixture::serving(&[]).await;
    let (secret, statement) = (office.key.secret.clone(), office.key.statement().to_owned());
    for (key, more, fault) in [
        (secret.as_str(), "", "dns.adapter.office.key_name cannot be used: it is missing"),
        (secret.as_str(), "key_name = 'a..b'", "dns.adapter.office.key_name"),
        (secret.as_str(), "key_name = 'office'\nalgorithm = 'hmac-md5'", "dns.adapter.office.algorithm"),
        (statement.as_str(), "algorithm = 'hmac-sha512'", "it says hmac-sha512, but the key file says hmac-sha256"),
        (statement.as_str(), "key_name = 'garage'", "it holds no key \"garage\""),
        (statement.as_str(), "ttl = '36500d'", "dns.adapter.office.ttl"),
        (statement.as_str(), "key = 'x'", "key"),
        ("no secret", "key_name = 'office'", "its secret is no base64"),
    ] {
        office.write_key(key);
        let made = adapter(office.bind.addr(), &office.folder, more, &system_clock());
        let error = made.err().unwrap().to_string();
        assert!(error.contains(fault) && !error.contains(&secret), "{more}: {error}");
    }
    // The file is named, and a byte order mark does no harm.
    office.write_key("no secret");
    let made = adapter(office.bind.addr(), &office.folder, "key_name = 'office'", &system_clock());
    let file = office.folder.path().join("key");
    assert!(made.err().unwrap().to_string().contains(file.to_str().unwrap()));
    office.write_key(&format!("\u{feff}{}", statement.replace('\n', "\r\n")));
    office.adapter();
}

/// A server that answers each request with these bytes, and closes the connection behind them.
async fn server(answer: impl Fn(Message) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; connection.read_u16().await.unwrap().into()];
            connection.read_exact(&mut request).await.unwrap();
            connection.write_all(&answer(Message::from_vec(&request).unwrap())).await.unwrap();
        }
    });
    address
}

/// An answer that says nothing but that all is well.
fn answer_to(request: Message) -> Vec<u8> {
    let mut answer = Message::new(request.id, MessageType::Response, request.op_code);
    answer.metadata.authoritative = true;
    answer.queries = request.queries;
    answer.to_vec().unwrap()
}

/// Behind its length, as TCP carries it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}
