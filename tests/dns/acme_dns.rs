//! `acme-dns`: values, accounts and faults, over real HTTP and real DNS packets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use autocertd::dns::DnsError;
use autocertd::dns::adapter::{DnsAdapter, Registration};
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd_support::acme_dns::{Account, AcmeDns, Fault};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::Duration;

use crate::log::Log;
use crate::{START, other, routes, txt, zone_id};

const ZONE: &str = "auth.example.test";

/// A local acme-dns, and a file of accounts.
struct Bench {
    server: AcmeDns,
    folder: TempDir,
    adapter: Arc<dyn DnsAdapter>,
}

impl Bench {
    async fn start() -> Self {
        Self::with("").await
    }

    async fn with(settings: &str) -> Self {
        let (server, folder) = (AcmeDns::start(ZONE).await.unwrap(), tempfile::tempdir().unwrap());
        let adapter = other(&section(&server, &folder, settings));
        Self { server, folder, adapter }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("accounts.json")
    }

    /// Keeps accounts in the file, each under a domain of its own.
    fn keep(&self, accounts: &[&Account]) {
        let named = accounts.iter().enumerate().map(|(n, account)| (format!("{n}.example.test"), json!(account)));
        fs::write(self.file(), Value::Object(named.collect()).to_string()).unwrap();
    }

    /// An account that is in the file.
    fn account(&self) -> Account {
        let account = self.server.register();
        self.keep(&[&account]);
        account
    }

    async fn present(&self, name: &str, value: &str) -> Result<(), DnsError> {
        self.adapter.present(&zone_id(ZONE), &txt(name, &digest(value))).await.map(|_| ())
    }

    async fn present_all(&self, records: &[(&str, &str)]) -> Vec<Result<(), DnsError>> {
        let records: Vec<_> = records.iter().map(|(name, value)| txt(name, &digest(value))).collect();
        let results = self.adapter.present_all(&zone_id(ZONE), &records).await;
        results.into_iter().map(|result| result.map(|_| ())).collect()
    }

    fn shows(&self, account: &Account, values: &[&str]) -> bool {
        self.server.values(&account.fulldomain) == values.iter().map(|value| digest(value)).collect::<Vec<_>>()
    }
}

fn section(server: &AcmeDns, folder: &TempDir, more: &str) -> String {
    let (resolver, endpoint, file) = (server.dns_addr(), server.http_url(), folder.path().join("accounts.json"));
    format!(
        "propagation.resolvers = ['{resolver}']\n[adapter.other]\ntype = 'acme-dns'\nendpoint = '{endpoint}'\n\
         accounts_file = '{}'\n{more}",
        file.display()
    )
}

/// A value as acme-dns takes it.
fn digest(value: &str) -> String {
    format!("{value:_<43}")
}

#[tokio::test]
async fn a_value_stands_at_the_name_of_its_account() {
    let bench = Bench::start().await;
    let (first, second) = (bench.server.register(), bench.server.register());
    bench.keep(&[&first, &second]);

    let zone = bench.adapter.zone_for(&second.fulldomain).await.unwrap();
    assert_eq!((zone.name.as_str(), zone.id.as_str()), (ZONE, ZONE));
    let record = txt(&second.fulldomain, &digest("value"));
    let id = bench.adapter.present(&zone.id, &record).await.unwrap();
    assert!(bench.adapter.is_published(&zone.id, &id).await.unwrap());
    assert!(bench.shows(&second, &["value"]) && bench.shows(&first, &[]));

    // No call removes a value.
    bench.adapter.remove(&zone.id, Some(&id), &record).await.unwrap();
    assert!(bench.shows(&second, &["value"]));
    assert_eq!(bench.server.count("/update"), 1);
}

#[tokio::test]
async fn two_values_stand_at_one_name_and_those_before_them_go() {
    let bench = Bench::start().await;
    let account = bench.account();
    let name = account.fulldomain.as_str();
    for (one, other) in [("a", "b"), ("c", "d")] {
        // The server tells values of one second apart by nothing.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        for result in bench.present_all(&[(name, one), (name, other)]).await {
            result.unwrap();
        }
        assert!(bench.shows(&account, &[one, other]));
    }
}

#[tokio::test]
async fn values_of_several_names_come_back_in_their_order() {
    let bench = Bench::start().await;
    let (first, second) = (bench.server.register(), bench.server.register());
    bench.keep(&[&first, &second]);
    let (one, two) = (first.fulldomain.as_str(), second.fulldomain.as_str());

    let results = bench.present_all(&[(two, "a"), ("nobody.auth.example.test", "b"), (one, "c"), (two, "d")]).await;

    assert!(results[0].is_ok() && results[2].is_ok() && results[3].is_ok(), "{results:?}");
    assert!(
        matches!(&results[1], Err(DnsError::Unregistered { name, .. }) if name.starts_with("nobody")),
        "{results:?}"
    );
    assert!(bench.shows(&first, &["c"]) && bench.shows(&second, &["a", "d"]));
}

#[tokio::test]
async fn more_than_two_values_at_one_name_are_refused_before_any_call() {
    let bench = Bench::start().await;
    let account = bench.account();
    let name = account.fulldomain.as_str();

    for result in bench.present_all(&[(name, "a"), (name, "b"), (name, "c")]).await {
        let error = result.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Operator);
        let text = error.to_string();
        assert!(text.contains(&format!("3 values are wanted at {name} at once, and the service keeps 2")), "{text}");
    }
    assert_eq!(bench.server.count("/update"), 0);
}

/// As after a crash between the call and the journal: the second of two values is presented again.
#[tokio::test]
async fn a_value_that_stands_there_is_not_sent_again() {
    let bench = Bench::start().await;
    let account = bench.account();
    let name = account.fulldomain.as_str();
    bench.present_all(&[(name, "a"), (name, "b")]).await;

    bench.present(name, "b").await.unwrap();
    bench.present_all(&[(name, "b"), (name, "a")]).await;

    assert!(bench.shows(&account, &["a", "b"]));
    assert_eq!(bench.server.count("/update"), 2);
}

/// Sent again within the same second, the second value would take the place of the first.
#[tokio::test]
async fn an_answer_that_is_lost_costs_no_value() {
    let bench = Bench::start().await;
    let account = bench.account();
    let name = account.fulldomain.as_str();
    bench.server.fault(1, "/update", Fault::Slow(std::time::Duration::ZERO));
    bench.server.fault(1, "/update", Fault::CutAfter);

    for result in bench.present_all(&[(name, "a"), (name, "b")]).await {
        result.unwrap();
    }
    assert!(bench.shows(&account, &["a", "b"]), "{:?}", bench.server.values(name));
    assert_eq!(bench.server.count("/update"), 5);
}

#[tokio::test]
async fn passing_faults_are_retried_and_an_answer_without_json_is_no_failure() {
    for fault in [Fault::Status(500), Fault::TooManyRequests("0"), Fault::CutAfter, Fault::NotJson] {
        let bench = Bench::start().await;
        let account = bench.account();
        bench.server.fault(1, "/update", fault.clone());
        bench.present(&account.fulldomain, "value").await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        let values = bench.server.values(&account.fulldomain);
        assert!(values.contains(&digest("value")), "{fault:?}");
    }
}

#[tokio::test]
async fn a_long_retry_after_is_left_to_the_scheduler() {
    let bench = Bench::start().await;
    let account = bench.account();
    bench.server.fault(9, "/update", Fault::TooManyRequests("3600"));
    let error = bench.present(&account.fulldomain, "value").await.unwrap_err();
    let not_before = Some(START + Duration::seconds(3_600));
    assert_eq!(error.disposition(), Disposition::Retry { not_before });
    assert_eq!(bench.server.count("/update"), 1);
}

#[tokio::test]
async fn a_server_that_hangs_is_a_passing_fault() {
    let bench = Bench::with("timeout = '200ms'").await;
    let account = bench.account();
    bench.server.fault(9, "/update", Fault::Slow(std::time::Duration::from_hours(1)));
    let error = bench.present(&account.fulldomain, "value").await.unwrap_err();
    assert!(matches!(error, DnsError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::RETRY);
    assert!(bench.server.count("/update") > 1);
}

#[tokio::test]
async fn a_wrong_key_is_for_a_person_and_no_secret_is_told() {
    let bench = Bench::start().await;
    let good = bench.account();
    bench.present(&good.fulldomain, "value").await.unwrap();
    let wrong = Account { password: "wrong-secret-of-forty-characters-________".to_owned(), ..good.clone() };
    bench.keep(&[&wrong]);

    let error = bench.present(&good.fulldomain, "other").await.unwrap_err();

    assert_eq!(error.disposition(), Disposition::Operator);
    let mut text = format!("{error} {error:?} ");
    text.push_str(&Failure::from(error).message);
    assert!(
        text.contains("POST /update was refused with status 401 (forbidden); look whether accounts_file"),
        "{text}"
    );
    let log = Log::shared().text();
    assert!(log.contains("call=POST /update status=401"), "nothing was logged");
    for secret in [&wrong.password, &good.password, &good.username] {
        assert!(!text.contains(secret) && !log.contains(secret.as_str()), "{secret} was told");
    }
}

#[tokio::test]
async fn a_value_that_is_no_digest_is_rejected_with_the_words_of_the_server() {
    let bench = Bench::start().await;
    let account = bench.account();
    let error = bench.adapter.present(&zone_id(ZONE), &txt(&account.fulldomain, "short")).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Operator);
    assert!(error.to_string().contains("POST /update was rejected with status 400 (bad_txt)"), "{error}");
}

#[tokio::test]
async fn the_file_is_read_anew_at_each_call() {
    let bench = Bench::start().await;
    let account = bench.server.register();
    let name = account.fulldomain.as_str();

    let error = bench.present(name, "value").await.unwrap_err();
    assert!(matches!(&error, DnsError::Unregistered { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Operator);
    assert!(error.to_string().contains(&format!("there is no account for {name}")), "{error}");

    // As goacmedns writes it, in letters of any case and beside accounts that are none.
    let upper = name.to_uppercase();
    let written = json!({
        "fulldomain": upper, "subdomain": account.subdomain, "username": account.username,
        "password": account.password, "server_url": "https://auth.example.test",
    });
    fs::write(bench.file(), json!({ "www.example.test": written, "odd.test": 1, "half.test": {} }).to_string())
        .unwrap();
    bench.present(name, "value").await.unwrap();
    assert!(bench.shows(&account, &["value"]));

    fs::write(bench.file(), "{\n  \"www.example.test\": \"hunter2\" oops }").unwrap();
    let error = bench.present(name, "another").await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Operator);
    let text = format!("{error} {error:?}");
    assert!(text.contains("is no JSON object of acme-dns accounts (line 2, column 33)"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn an_account_is_made_once_and_kept_for_its_owner_alone() {
    let bench = Bench::start().await;
    fs::write(bench.file(), "{\"kept.test\": {\"note\": \"by hand\"}}").unwrap();
    let register = async |name: &str| bench.adapter.register(&name.parse().unwrap()).await.unwrap().unwrap();

    let made = register("www.example.test").await;
    let again = register("*.WWW.example.test").await;

    assert_eq!(again, Registration { target: made.target.clone(), is_new: false });
    assert!(made.is_new && made.target.ends_with(".auth.example.test"), "{made:?}");
    assert_eq!((bench.server.count("/register"), bench.server.accounts()), (1, 1));
    let file: Value = serde_json::from_str(&fs::read_to_string(bench.file()).unwrap()).unwrap();
    assert_eq!(file["kept.test"], json!({ "note": "by hand" }));
    let account = &file["www.example.test"];
    assert_eq!((&account["fulldomain"], &account["allowfrom"]), (&json!(made.target), &json!([])));
    assert_eq!(account["server_url"], format!("{}/", bench.server.http_url()));
    assert_eq!(fs::metadata(bench.file()).unwrap().permissions().mode() & 0o777, 0o600);
    bench.present(&made.target, "value").await.unwrap();
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 1, "a draft is left");
}

#[tokio::test]
async fn accounts_that_are_made_at_the_same_time_are_all_kept() {
    let bench = Bench::start().await;
    let names: Vec<_> = (0..8).map(|n| format!("{n}.example.test").parse().unwrap()).collect();
    let made = futures_util::future::join_all(names.iter().map(|name| bench.adapter.register(name))).await;
    assert!(made.into_iter().all(|made| made.unwrap().unwrap().is_new));
    let file: Value = serde_json::from_str(&fs::read_to_string(bench.file()).unwrap()).unwrap();
    assert_eq!(file.as_object().unwrap().len(), 8);
}

#[tokio::test]
async fn an_account_that_cannot_be_kept_is_not_made() {
    let bench = Bench::start().await;
    let name = "www.example.test".parse().unwrap();
    fs::write(bench.file(), "[]").unwrap();
    assert!(matches!(bench.adapter.register(&name).await.unwrap_err(), DnsError::Setting { .. }));
    fs::remove_dir_all(bench.folder.path()).unwrap();
    let error = bench.adapter.register(&name).await.unwrap_err();
    assert!(error.to_string().starts_with("dns.adapter.other.accounts_file cannot be used"), "{error}");
    assert_eq!(bench.server.count("/register"), 0);
}

#[tokio::test]
async fn a_registration_that_cannot_be_read_leaves_nothing_behind() {
    let bench = Bench::start().await;
    bench.server.fault(1, "/register", Fault::NotJson);
    let error = bench.adapter.register(&"www.example.test".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, DnsError::Unreadable { .. }), "{error:?}");
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 0, "a draft is left");
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    for (settings, words) in [
        ("endpoint = 'http://auth.example.test'\naccounts_file = '/a'", "other.endpoint cannot be used"),
        ("endpoint = 'https://auth.example.test'", "missing field `accounts_file`"),
        ("endpoint = 'https://auth.example.test'\naccounts_file = '/a'\ntoken = 'x'", "unknown field `token`"),
    ] {
        let refused = routes(&format!("[adapter.other]\ntype = 'acme-dns'\n{settings}"));
        let text = refused.err().unwrap_or_else(|| panic!("{settings} was taken")).to_string();
        assert!(text.contains(words), "{text}");
    }
}
