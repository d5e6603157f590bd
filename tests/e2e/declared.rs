//! What the settings declare, from the file to the certificate, and through every change of the file.

use autocertd_support::timed::Timed;
use std::time::Duration;

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::{Action, FaultProxy};
use autocertd_support::pebble::{Pebble, PebbleOptions};
use bytes::Bytes;
use http::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{Fixture, newest};

const NOTHING: &str = "";

pub(crate) fn provider(directory: &str, email: &str) -> String {
    format!("[[provider]]\nkey = \"pebble\"\nemail = \"{email}\"\nserver = \"{directory}\"\n")
}

pub(crate) fn wish(key: &str, names: &[&str]) -> String {
    format!(
        "[[auto_certificate]]\nkey = \"{key}\"\nprovider = \"pebble\"\ncommon_name = \"{}\"\n\
         subject_alternative_names = {:?}\n",
        names[0],
        &names[1..]
    )
}

impl Fixture {
    pub(crate) fn declaring(&self, more: &str) -> Setup {
        Setup { more: more.to_owned(), ..self.setup() }
    }

    async fn daemon_declaring(&self, more: &str) -> Daemon {
        Daemon::start(&self.declaring(more)).await.unwrap()
    }

    /// The usual provider, with the names of one auto-certificate.
    pub(crate) fn usual(&self, names: &[&str]) -> String {
        provider(&self.directory(), "ops@example.com") + &wish("www", names)
    }

    /// The contacts that the CA was told after the registration.
    fn contacts_told(&self) -> Vec<String> {
        let requests = self.acme.requests();
        let told = requests.iter().filter(|request| request.kind == "account");
        let told = told.filter_map(|request| request.payload.as_ref()?["contact"][0].as_str());
        told.map(ToOwned::to_owned).collect()
    }
}

/// The path of the only resource of a collection.
pub(crate) async fn only(daemon: &Daemon, collection: &str) -> String {
    let listed = daemon.api.get(collection).await.unwrap();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{listed:#}");
    items[0]["href"].as_str().unwrap().to_owned()
}

pub(crate) async fn stop(daemon: Daemon) {
    assert!(daemon.terminate().await.unwrap().success());
}

fn message(resource: &Value) -> &str {
    resource["metadata"]["message"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_is_issued_without_any_call_and_a_restart_changes_nothing() {
    let world = Fixture::start().await;
    world.dns.add_zone("declared.example");
    let settings = world.usual(&["www.declared.example"]) + "[limits]\nauto_certificates = 1\n";
    let daemon = world.daemon_declaring(&settings).await;
    let path = only(&daemon, "/auto-certificates").await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    assert_eq!(
        (auto["properties"]["name"].as_str(), auto["metadata"]["createdBy"].as_str()),
        (Some("www"), Some("autocertd"))
    );
    let provider = only(&daemon, "/providers").await;
    daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();

    for path in [&path, &provider] {
        let name = json!({ "properties": { "name": "another" } });
        for (method, body) in [(Method::PATCH, Some(name)), (Method::DELETE, None)] {
            let (status, answer) = daemon.api.send(method, path, body).await.unwrap();
            assert_eq!(
                (status, answer["messages"][0]["errorCode"].as_str()),
                (StatusCode::CONFLICT, Some("autocertd-declared-1"))
            );
        }
    }
    let properties = json!({
        "provider": daemon.api.get(&provider).await.unwrap()["id"],
        "commonName": "more.declared.example",
        "keyAlgorithm": "secp256r1",
        "name": "more",
    });
    let more = daemon.api.create("/auto-certificates", properties).await.unwrap()["href"].clone();
    let more = more.as_str().unwrap();
    daemon.api.wait_until_available(more).await.unwrap();
    for path in [path.as_str(), more] {
        daemon.api.wait_until(path, |seen| message(seen).contains("in the window that the CA suggests")).await.unwrap();
    }
    let mut before = Vec::new();
    for path in [path.as_str(), &provider, more] {
        before.push(daemon.api.get(path).await.unwrap());
    }
    stop(daemon).await;
    let sent = world.acme.requests().len();

    let daemon = world.daemon_declaring(&settings).await;
    assert!(!daemon.log().contains("declared "), "{}", daemon.log());
    for (path, before) in [path.as_str(), &provider, more].into_iter().zip(before) {
        assert_eq!(daemon.api.get(path).await.unwrap(), before);
    }
    stop(daemon).await;
    assert_eq!(world.acme.requests().len(), sent, "the CA was asked for something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_names_order_a_new_certificate_while_the_old_one_serves_on() {
    let world = Fixture::start().await;
    world.dns.add_zone("names.example");
    let daemon = world.daemon_declaring(&world.usual(&["a.names.example"])).await;
    let path = only(&daemon, "/auto-certificates").await;
    let old = newest(&daemon, &daemon.api.wait_until_available(&path).await.unwrap()).await;
    stop(daemon).await;

    world.dns.delay_records_in_dns(Duration::from_secs(1));
    let daemon = world.daemon_declaring(&world.usual(&["b.names.example", "a.names.example"])).await;
    assert!(
        daemon.log().contains("common_name, subject_alternative_names changed; a new certificate"),
        "{}",
        daemon.log()
    );
    let waiting = daemon.api.get(&path).await.unwrap();
    assert_eq!(
        (&waiting["metadata"]["state"], &waiting["metadata"]["lastIssuedCertificate"]),
        (&json!("AVAILABLE"), &old["id"])
    );
    assert!(message(&waiting).contains("names, key, profile or provider were changed"), "{waiting:#}");

    let renewed =
        daemon.api.wait_until(&path, |seen| seen["metadata"]["lastIssuedCertificate"] != old["id"]).await.unwrap();
    assert_eq!(renewed["properties"]["commonName"], "b.names.example");
    let new = newest(&daemon, &renewed).await;
    assert_eq!(new["metadata"]["subjectAlternativeNames"], json!(["b.names.example", "a.names.example"]));
    daemon.api.wait_until(&path, |seen| message(seen).contains("the renewal is planned")).await.unwrap();
    assert_eq!((world.acme.count("new-account"), world.acme.count("new-order")), (1, 2));
    assert_eq!(only(&daemon, "/auto-certificates").await, path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_contact_reaches_the_account_and_its_failure_holds_nothing_up() {
    let world = Fixture::start().await;
    world.dns.add_zone("contact.example");
    let with =
        |email: &str, more: &str| provider(&world.directory(), email) + &wish("www", &["www.contact.example"]) + more;
    let daemon = world.daemon_declaring(&with("first@example.com", NOTHING)).await;
    daemon.api.wait_until_available(&only(&daemon, "/auto-certificates").await).await.unwrap();
    let provider = only(&daemon, "/providers").await;
    stop(daemon).await;
    assert!(world.contacts_told().is_empty());

    world.acme.set_hook(Box::new(|request| match request.kind {
        "account" => Action::Respond(503, HeaderMap::new(), Bytes::from_static(b"come back later")),
        _ => Action::Pass,
    }));
    let daemon = world.daemon_declaring(&with("second@example.com", &wish("more", &["more.contact.example"]))).await;
    let failed =
        daemon.api.wait_until(&provider, |seen| message(seen).contains("contact is not told yet")).await.unwrap();
    assert_eq!(failed["metadata"]["state"], "AVAILABLE", "{failed:#}");
    let found = daemon.api.get("/auto-certificates?filter.commonName=more.contact.example").await.unwrap();
    daemon.api.wait_until_available(found["items"][0]["href"].as_str().unwrap()).await.unwrap();
    stop(daemon).await;

    world.acme.set_hook(Box::new(|_| Action::Pass));
    let daemon = world.daemon_declaring(&with("third@example.com", NOTHING)).await;
    let told =
        daemon.api.wait_until(&provider, |_| world.contacts_told().last().unwrap() == "mailto:third@example.com");
    assert_eq!(told.await.unwrap()["properties"]["email"], "third@example.com");
    daemon.api.wait_until(&provider, |seen| message(seen) == "the ACME account is registered").await.unwrap();
    stop(daemon).await;

    // A single pass tells it too, even where no certificate is due.
    let setup = world.declaring(&with("fourth@example.com", NOTHING));
    let pass = setup.command(&["--renew-now"]).unwrap().timed_output().unwrap();
    // A look that the daemon before had no time for may be made up for; it orders nothing.
    let told = String::from_utf8_lossy(&pass.stdout).into_owned();
    assert_eq!((pass.status.code(), world.acme.count("new-order")), (Some(0), 2), "{told}");
    assert_eq!(world.contacts_told().last().unwrap(), "mailto:fourth@example.com");
    assert_eq!(world.acme.count("new-account"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_server_makes_a_new_account_and_begins_the_order_anew() {
    let world = Fixture::start().await;
    world.dns.add_zone("moved.example");
    let options = PebbleOptions { dns_server: Some(world.dns.dns_addr()), ..PebbleOptions::default() };
    let second = Pebble::start(options).await.unwrap();
    let elsewhere = FaultProxy::in_front_of(&second).await.unwrap();
    let roots = world.folder.path().join("roots.pem");
    let pem = |path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&roots, pem(world.acme.root_pem_path()) + &pem(elsewhere.root_pem_path())).unwrap();
    let at = |directory: &str| Setup {
        acme_root: roots.clone(),
        ..world.declaring(&(provider(directory, "ops@example.com") + &wish("www", &["www.moved.example"])))
    };

    world.dns.delay_records_in_dns(Duration::from_mins(1));
    let daemon = Daemon::start(&at(&world.directory())).await.unwrap();
    let path = only(&daemon, "/auto-certificates").await;
    let provider = only(&daemon, "/providers").await;
    daemon.api.wait_until(&path, |_| !world.challenge_records().is_empty()).await.unwrap();
    stop(daemon).await;

    world.dns.delay_records_in_dns(Duration::ZERO);
    let daemon = Daemon::start(&at(&elsewhere.directory_url())).await.unwrap();
    daemon.api.wait_until_available(&path).await.unwrap();
    assert_eq!(daemon.api.get(&provider).await.unwrap()["properties"]["server"], json!(elsewhere.directory_url()));
    assert_eq!((world.acme.count("new-order"), world.acme.count("finalize")), (1, 0));
    let counted = ["new-account", "new-order", "finalize"].map(|kind| elsewhere.count(kind));
    assert_eq!(counted, [1, 1, 1]);
    daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_no_longer_stays_or_goes_by_prune() {
    let world = Fixture::start().await;
    world.dns.add_zone("dropped.example");
    let usual = world.usual(&["www.dropped.example"]);
    let daemon = world.daemon_declaring(&usual).await;
    let (path, provider) = (only(&daemon, "/auto-certificates").await, only(&daemon, "/providers").await);
    let certificate = newest(&daemon, &daemon.api.wait_until_available(&path).await.unwrap()).await;
    stop(daemon).await;

    let daemon = world.daemon_declaring(NOTHING).await;
    let name = json!({ "properties": { "name": "another" } });
    let (status, renamed) = daemon.api.send(Method::PATCH, &path, Some(name)).await.unwrap();
    assert_eq!((status, &renamed["properties"]["name"]), (StatusCode::OK, &json!("another")));
    stop(daemon).await;

    let daemon = world.daemon_declaring(&usual).await;
    let again = daemon.api.get(&path).await.unwrap();
    assert_eq!(
        (&again["properties"]["name"], &again["metadata"]["lastIssuedCertificate"]),
        (&json!("www"), &certificate["id"])
    );
    stop(daemon).await;

    let daemon = world.daemon_declaring("[declared]\nprune = true\n").await;
    for path in [&path, &provider] {
        assert_eq!(daemon.api.send(Method::GET, path, None).await.unwrap().0, StatusCode::NOT_FOUND);
    }
    daemon.api.get(certificate["href"].as_str().unwrap()).await.unwrap();
    assert_eq!(world.acme.count("new-order"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_pass_needs_nothing_but_the_settings() {
    let world = Fixture::start().await;
    world.dns.add_zone("pass.example");
    let setup = world.declaring(&world.usual(&["www.pass.example"]));
    let pass = || setup.command(&["--renew-now", "--json"]).unwrap().timed_output().unwrap();
    let first = pass();
    let told: Value = serde_json::from_slice(&first.stdout).unwrap_or_else(|error| panic!("{error}: {first:?}"));
    assert_eq!((first.status.code(), &told["renewed"]), (Some(0), &json!(1)), "{first:?}");
    let second: Value = serde_json::from_slice(&pass().stdout).unwrap();
    assert_eq!(second["renewals"], json!([]), "nothing is due");
    assert_eq!((world.acme.count("new-account"), world.acme.count("finalize")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_before_anything_is_touched() {
    let world = Fixture::start().await;
    let provider = provider(&world.directory(), "ops@example.com");
    let plain = provider.replace("https", "http");
    let secret = "external_account = { key_id = \"kid\", key_secret_file = \"/nowhere/eab\" }\n";
    for (settings, words) in [
        (provider.replace("ops@", "ops at "), "[[provider]] pebble: email: "),
        (plain, "[[provider]] pebble: server: "),
        (format!("{provider}{secret}"), "/nowhere/eab"),
        (format!("{provider}{}", wish("www", &["192.0.2.1"])), "[[auto_certificate]] www: common_name: "),
        (wish("www", &["www.example.com"]), "[[auto_certificate]] www: provider = "),
    ] {
        let setup = world.declaring(&settings);
        for command in ["check-config", "serve", "--renew-now"] {
            let refused = setup.command(&[command]).unwrap().timed_output().unwrap();
            let told = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(2), "{command} {settings}: {told}");
            assert!(told.contains(words), "{command} {settings}: {told}");
            assert!(!setup.state().exists(), "{command} {settings} left something behind");
        }
    }

    // Whether the API made a provider only the store can tell.
    let nobody = "00000000-0000-4000-8000-000000000000";
    let lost = wish("www", &["www.example.com"]).replace("\"pebble\"", &format!("{nobody:?}"));
    let setup = world.declaring(&(provider + &lost));
    let refused = setup.command(&["serve"]).unwrap().timed_output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("[[auto_certificate]] www") && told.contains(nobody), "{told}");
    let daemon = world.daemon().await;
    assert_eq!(daemon.api.get("/providers").await.unwrap()["items"], json!([]));
}
