//! `autocertd doctor`: all is well on a healthy set-up, and each broken one has its fault named; nothing stays behind.

use autocertd_support::timed::{Timed, TimedChild, within};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use autocertd::acme::{AccountCredentials, AcmeClient};
use autocertd::config::acme::AcmeSection;
use autocertd::runtime::clock::{Clock, SystemClock};
use autocertd::store::Page;
use autocertd_support::cloud_dns::Fault;
use autocertd_support::daemon::{Setup, signal};
use autocertd_support::fault_proxy::Action;
use autocertd_support::wait::wait_for_some;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::any::AnyPoolOptions;

use crate::fixture::{Fixture, auto_certificate, open_store, store_auto_certificate};
use crate::one_shot::{json_of, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well_beside_a_daemon() {
    let world = Fixture::start().await;
    world.dns.add_zone("example");
    world.dns.add_zone("healthy.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["healthy.example", "*.healthy.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();

    let (setup, orders) = (world.setup(), world.acme.count("new-order"));
    let looked = run(&setup, &["doctor", "--json"]).await;
    let findings = json_of(&looked);
    let is_fine = |finding: &Value| finding["verdict"] == "ok" || finding["check"] == "dnssec";
    assert!(findings.as_array().unwrap().iter().all(is_fine), "{findings:#}");
    assert_found(&findings, "dnssec", "skipped", &["healthy.example is not signed, or the resolver does not validate"]);
    assert_eq!(looked.status.code(), Some(0), "{looked:?}");
    let page = run(&setup, &["doctor", "for healthy.example"]).await;
    insta::assert_snapshot!("healthy", shown(&page, &world, &setup));
    assert_eq!(world.acme.count("new-order"), orders, "nothing is ordered");
    let before = world.dns.requests().iter().filter(|request| request.method == "POST").count();
    assert_eq!(run(&setup, &["doctor", "--no-canary"]).await.status.code(), Some(0));
    assert_eq!(world.dns.requests().iter().filter(|request| request.method == "POST").count(), before);
    nothing_stays(&world, &setup).await;
    assert_eq!(run(&setup, &["doctor", "no name"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_tokens_are_named() {
    let (world, setup) = clinic(&["www.tokens.example"]).await;
    let without = std::fs::read_to_string(setup.write_settings().unwrap()).unwrap();
    let without: Vec<&str> = without.lines().filter(|line| !line.starts_with("token_file")).collect();
    let settings = setup.folder.join("without-token.toml");
    std::fs::write(&settings, without.join("\n")).unwrap();
    let mut command = Command::new(&setup.binary);
    command.env_remove("IONOS_TOKEN").arg("--config").arg(settings).args(["doctor", "--json"]);
    let output = command.timed_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told =
        ["no [[dns.zone]] leads _acme-challenge.www.tokens.example to a DNS adapter", "set dns.ionos.token_file"];
    assert_found(&json_of(&output), "zone", "fault", &told);

    let wrong = Setup { cloud_dns_token: "wrong".to_owned(), ..setup.clone() };
    let findings = doctor(&wrong, &[], 1).await;
    assert_found(&findings, "service", "fault", &["status 401", "give a token that is valid"]);
    assert_found(&findings, "zone", "skipped", &["the DNS adapter ionos is not working"]);
    assert_found(&findings, "canary", "skipped", &["is not working"]);

    let more = "[experimental]\ndns_persist_01 = \"by-hand\"\n".to_owned();
    let findings = doctor(&Setup { more, ..wrong }, &[], 0).await;
    assert_found(&findings, "zone", "skipped", &["proven by standing records (experimental)", "is not checked"]);
    assert!(findings.as_array().unwrap().iter().all(|finding| finding["check"] != "canary"), "{findings:#}");

    let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp": 1700000000}"#);
    let over = Setup { cloud_dns_token: format!("eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln"), ..setup.clone() };
    let findings = doctor(&over, &[], 1).await;
    let told = ["the token of dns.ionos expired at 2023-11-14T22:13:20Z", "give a new one"];
    assert_found(&findings, "credential", "fault", &told);
    assert!(!findings.to_string().contains(&claims), "never the token itself");
    nothing_stays(&world, &setup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_zones_and_aliases_are_named_for_names_without_a_provider() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let before = doctor(&setup, &["www.nowhere.test"], 1).await;
    assert_found(&before, "database", "warning", &["is not there yet"]);
    assert_found(
        &before,
        "zone",
        "fault",
        &["no enabled zone holds _acme-challenge.www.nowhere.test", "create or enable"],
    );

    let store = open_store(&setup).await;
    store.close().await;
    world.dns.add_disabled_zone("asleep.test");
    let findings = doctor(&setup, &["*.asleep.test"], 1).await;
    assert_found(
        &findings,
        "zone",
        "fault",
        &["no enabled zone holds _acme-challenge.asleep.test", "create or enable"],
    );
    assert_found(&findings, "delegation", "skipped", &["there is no zone"]);

    let zone = world.dns.add_zone("round.test");
    world.dns.add_record(&zone, "_acme-challenge.www", "CNAME", "there.round.test");
    world.dns.add_record(&zone, "there", "CNAME", "_acme-challenge.www.round.test");
    let findings = doctor(&setup, &["www.round.test"], 1).await;
    let chain = "_acme-challenge.www.round.test -> there.round.test -> _acme-challenge.www.round.test";
    assert_found(&findings, "aliases", "fault", &[chain, "let the first of them name where the record is to be"]);
    let page = run(&setup, &["doctor", "www.round.test"]).await;
    insta::assert_snapshot!("broken", shown(&page, &world, &setup));

    let target = world.dns.add_zone("target.test");
    world.dns.add_record(&zone, "_acme-challenge.well", "CNAME", "well.target.test");
    let findings = doctor(&setup, &["well.round.test"], 0).await;
    assert_found(&findings, "aliases", "ok", &["_acme-challenge.well.round.test -> well.target.test"]);
    assert_found(&findings, "canary", "ok", &["made at well.target.test, seen, and removed"]);
    assert!(world.dns.records(&target).is_empty());

    let hijacked = world.dns.add_zone("hijacked.test");
    world.dns.add_record(&hijacked, "*", "CNAME", "shop.target.test");
    let findings = doctor(&setup, &["www.hijacked.test"], 0).await;
    let wildcard = "makes _acme-challenge.www.hijacked.test an alias of shop.target.test";
    assert_found(&findings, "aliases", "warning", &["the wildcard *.", wildcard, "a CNAME of its own"]);
    assert_found(&findings, "canary", "ok", &["made at _acme-challenge.www.hijacked.test, seen, and removed"]);
    nothing_stays(&world, &setup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_caa_are_named() {
    let (world, setup) = clinic(&["www.others.test", "www.pinned.test", "www.methods.test", "www.mail.test"]).await;
    register(&setup).await;
    for (zone, content) in [
        ("others.test", r#"0 issue "other.example""#),
        ("pinned.test", r#"0 issue "pebble.example; accounturi=https://ca.example/acct/1""#),
        ("methods.test", r#"0 issue "pebble.example; validationmethods=http-01""#),
        ("mail.test", r#"0 iodef "mailto:security@mail.test""#),
    ] {
        let zone = world.dns.add_zone(zone);
        world.dns.add_record(&zone, "", "CAA", content);
    }
    know_itself_as(&world, json!(["pebble.example"]));
    let others = doctor(&setup, &["www.others.test"], 1).await;
    let told = ["its records let only other.example issue", "let pebble.example issue in these records"];
    assert_found(&others, "caa", "fault", &told);
    let pinned = doctor(&setup, &["www.pinned.test"], 1).await;
    let told = ["not to this account", "accounturi=https://ca.example/acct/1", "the account at Pebble is https://"];
    assert_found(&pinned, "caa", "fault", &told);
    let methods = doctor(&setup, &["www.methods.test"], 1).await;
    assert_found(&methods, "caa", "fault", &["not by dns-01", "validationmethods=http-01"]);
    assert_found(&methods, "canary", "ok", &["seen, and removed"]);

    know_itself_as(&world, json!([]));
    let others = doctor(&setup, &["www.others.test"], 0).await;
    assert_found(&others, "caa", "warning", &["Pebble does not tell by which name it knows itself"]);
    let mail = doctor(&setup, &["www.mail.test"], 0).await;
    assert_found(&mail, "caa", "ok", &["Pebble may issue"]);
    nothing_stays(&world, &setup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_stays_away_from_the_records_of_an_open_order() {
    let world = Fixture::start().await;
    world.dns.add_zone("open.example");
    world.dns.fault(1, "POST", "/zones/", Fault::StayProvisioning);
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    auto_certificate(&daemon, &provider, "secp256r1", &["www.open.example"]).await;
    let made = || world.dns.requests().iter().filter(|request| request.method == "POST").count();
    wait_for_some("the record", || (made() == 1).then_some(())).await;
    let findings = doctor(&world.setup(), &[], 0).await;
    assert_found(&findings, "canary", "skipped", &["an open order has records there"]);
    assert_eq!(made(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_on_the_way_to_the_name_servers_are_named_and_the_canary_goes() {
    let (world, setup) = clinic(&["www.canary.test"]).await;
    world.dns.add_zone("canary.test");
    let patient = "timeout = \"20s\"";
    let hasty = |settings: String| settings.replace(patient, "timeout = \"1s\"");
    for (fault, words) in [
        (Fault::StayProvisioning, "is still not published after 1s"),
        (Fault::TurnFailed, "publishing record"),
        (Fault::Status(422), "was rejected with status 422"),
    ] {
        world.dns.fault(1, "POST", "/zones/", fault);
        let findings = doctor_with(&setup, hasty, &["www.canary.test", "--json"], 1).await;
        assert_found(&findings, "canary", "fault", &[words]);
        nothing_stays(&world, &setup).await;
    }

    let behind = world.dns.add_lagging_server().await.unwrap();
    let lagging = |settings: String| {
        let (alone, both) = (
            format!("servers = [\"{}\"]", setup.dns_server),
            format!("servers = [\"{}\", \"{}\"]", setup.dns_server, behind.addr()),
        );
        settings.replacen(&alone, &both, 1)
    };
    let findings = doctor_with(&setup, |settings| hasty(lagging(settings)), &["www.canary.test", "--json"], 1).await;
    let server = behind.addr().to_string();
    assert_found(&findings, "canary", "fault", &["are not visible on", &server, "see that these servers get"]);
    nothing_stays(&world, &setup).await;

    // An interruption ends the wait, and the record goes all the same.
    let settings = setup.folder.join("lagging.toml");
    std::fs::write(&settings, lagging(std::fs::read_to_string(setup.write_settings().unwrap()).unwrap())).unwrap();
    let mut command = Command::new(&setup.binary);
    command.arg("--config").arg(settings).args(["doctor", "www.canary.test"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_some("the canary", || (!world.challenge_records().is_empty()).then_some(())).await;
    signal(child.id(), "INT").unwrap();
    let ended = child.timed_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(words(&ended).contains("interrupted; the record is removed"), "{}", words(&ended));
    nothing_stays(&world, &setup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_the_ca_the_account_and_the_clock_are_named() {
    let (world, setup) = clinic(&["www.ca.test"]).await;
    world.dns.add_zone("ca.test");
    register(&setup).await;
    for (minutes, verdict) in [(2, "warning"), (10, "fault")] {
        world.acme.set_hook(Box::new(move |request| match request.kind {
            "directory" => Action::Alter(Box::new(move |answer| {
                let date = HeaderValue::from_str(&http_date(time::Duration::minutes(minutes))).unwrap();
                answer.headers_mut().insert("date", date);
            })),
            _ => Action::Pass,
        }));
        let findings = doctor(&setup, &[], i32::from(verdict == "fault")).await;
        assert_found(&findings, "clock", verdict, &[" behind that of https://", "timedatectl set-ntp true"]);
    }
    world.acme.set_hook(Box::new(|_| Action::Cut));
    let findings = doctor(&setup, &[], 1).await;
    assert_found(&findings, "directory", "fault", &["could not be reached", "check the provider's server"]);
    assert_found(&findings, "account", "skipped", &["the directory does not answer"]);
    world.acme.set_hook(Box::new(|_| Action::Pass));

    let store = open_store(&setup).await;
    let provider = store.providers(Page { offset: 0, limit: 1 }).await.unwrap().items.remove(0);
    let registered = store.account(provider.id).await.unwrap().unwrap().registered.unwrap();
    store.close().await;
    let section = AcmeSection { extra_roots: vec![world.acme.root_pem_path()], ..AcmeSection::default() };
    let client = AcmeClient::new(&section, Arc::new(SystemClock)).unwrap();
    let credentials = AccountCredentials::from_stored(registered.credentials).unwrap();
    client.deactivate_account(&credentials).await.unwrap();
    let findings = doctor(&setup, &[], 1).await;
    assert_found(
        &findings,
        "account",
        "fault",
        &["deactivated", "`autocertd account register \"Pebble\"` registers another one"],
    );
    nothing_stays(&world, &setup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_files_are_named() {
    let (world, setup) = clinic(&["www.files.test"]).await;
    world.dns.add_zone("files.test");
    set_permissions(world.folder.path(), Permissions::from_mode(0o755)).unwrap();
    set_permissions(&setup.folder, Permissions::from_mode(0o755)).unwrap();
    let open = |settings: String| {
        set_permissions(setup.folder.join("ionos-token"), Permissions::from_mode(0o644)).unwrap();
        settings
    };
    let findings = doctor_with(&setup, open, &["--json"], 1).await;
    let token = setup.folder.join("ionos-token").display().to_string();
    assert_found(&findings, "secrets", "fault", &["everybody on this machine can read", &token, "chmod 600"]);

    let (state, database) = (setup.state(), setup.state().join("autocertd.db"));
    if nix::unistd::Uid::effective().is_root() {
        // Root can write everywhere, but not everybody can read what it has written.
        chown(&database, Some(65_534), None).unwrap();
        let findings = doctor(&setup, &[], 1).await;
        assert_found(
            &findings,
            "database",
            "fault",
            &["belongs to user 65534, the state directory to user 0", "chown 0"],
        );
        chown(&database, Some(0), None).unwrap();
    } else {
        set_permissions(&state, Permissions::from_mode(0o500)).unwrap();
        let findings = doctor(&setup, &[], 1).await;
        set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
        assert_found(&findings, "state-directory", "fault", &["cannot be written by user", "chmod 700"]);
    }
    nothing_stays(&world, &setup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_makes_no_state_directory() {
    let world = Fixture::start().await;
    let more = "[store]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n".to_owned();
    let setup = Setup { more, ..world.setup() };
    let findings = doctor(&setup, &["www.nowhere.test"], 1).await;
    assert_found(&findings, "state-directory", "warning", &["is not there yet"]);
    assert!(!setup.state().exists());
}

/// A world, and a store with an auto-certificate for each of these names.
pub(crate) async fn clinic(names: &[&str]) -> (Fixture, Setup) {
    let world = Fixture::start().await;
    let setup = world.setup();
    let store = open_store(&setup).await;
    for name in names {
        store_auto_certificate(&store, &world.directory(), name).await;
    }
    store.close().await;
    (world, setup)
}

/// What the CA's directory says for CAA records.
fn know_itself_as(world: &Fixture, identities: Value) {
    world.acme.set_hook(Box::new(move |request| match request.kind {
        "directory" => {
            let identities = identities.clone();
            Action::Alter(Box::new(move |answer| {
                let mut directory: Value = serde_json::from_slice(answer.body()).unwrap();
                directory["meta"]["caaIdentities"] = identities;
                *answer.body_mut() = Bytes::from(directory.to_string());
            }))
        }
        _ => Action::Pass,
    }));
}

async fn register(setup: &Setup) {
    let store = open_store(setup).await;
    let providers = store.providers(Page { offset: 0, limit: 10 }).await.unwrap().items;
    store.close().await;
    for provider in providers {
        let registered = run(setup, &["account", "register", &provider.id.to_string()]).await;
        assert!(registered.status.success(), "{registered:?}");
    }
}

async fn doctor(setup: &Setup, names: &[&str], code: i32) -> Value {
    doctor_with(setup, |settings| settings, &[names, &["--json"]].concat(), code).await
}

/// What it finds with settings that were changed, and that it ends with this exit code.
pub(crate) async fn doctor_with(
    setup: &Setup,
    change: impl FnOnce(String) -> String,
    arguments: &[&str],
    code: i32,
) -> Value {
    let settings = change(std::fs::read_to_string(setup.write_settings().unwrap()).unwrap());
    let path = setup.folder.join("for-doctor.toml");
    std::fs::write(&path, settings).unwrap();
    let mut command = tokio::process::Command::new(&setup.binary);
    command.env_remove("IONOS_TOKEN").arg("--config").arg(path).arg("doctor").args(arguments);
    let output = within("the doctor", command.kill_on_drop(true).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    json_of(&output)
}

/// One of the findings of this check has this verdict and says all these words.
pub(crate) fn assert_found(findings: &Value, check: &str, verdict: &str, words: &[&str]) {
    let says = |finding: &&Value| {
        let text =
            format!("{}; {}", finding["detail"].as_str().unwrap(), finding["remedy"].as_str().unwrap_or_default());
        words.iter().all(|word| text.contains(word))
    };
    let mut of_check = findings.as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    let found = of_check.any(|finding| finding["verdict"] == verdict && says(&finding));
    assert!(found, "no {verdict} of {check} with {words:?}: {findings:#}");
}

async fn nothing_stays(world: &Fixture, setup: &Setup) {
    assert_eq!(world.challenge_records(), Vec::<String>::new());
    assert_eq!(journal(&setup.state().join("autocertd.db")).await, 0);
}

/// How many records the journal of this database names.
pub(crate) async fn journal(database: &Path) -> i64 {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", database.display());
    let pool = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    let row = sqlx::query("SELECT COUNT(*) AS entries FROM challenge_records").fetch_one(&pool).await.unwrap();
    pool.close().await;
    row.get("entries")
}

/// The date of an answer, so much from now.
fn http_date(ahead: time::Duration) -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let micros = i128::from((SystemClock.now() + ahead).micros());
    time::OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000).unwrap().format(format).unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The page with its lines unwrapped, without what differs from run to run.
fn shown(output: &Output, world: &Fixture, setup: &Setup) -> String {
    let mut page = String::new();
    for line in words(output).lines() {
        match line.strip_prefix("           ") {
            Some(rest) if !rest.starts_with("->") => page = format!("{} {rest}\n", page.trim_end()),
            _ => page = format!("{page}{line}\n"),
        }
    }
    let page = page.replace(&setup.folder.display().to_string(), "[folder]").replace(&world.acme.url(), "[ca]");
    let page = cut_between(&page, "disk space: ", " are free", "[room]");
    cut_between(&page, "my-account/", " is valid", "[id]")
}

/// The text with what stands between these two parts of it replaced.
fn cut_between(text: &str, before: &str, after: &str, other: &str) -> String {
    let Some((head, rest)) = text.split_once(before) else { return text.to_owned() };
    let (_, tail) = rest.split_once(after).unwrap();
    format!("{head}{before}{other}{after}{tail}")
}
