//! `autocertd revoke`: beside a daemon and without one, while the CA is down, and with a key that others know.

use std::fs;

use autocertd::domain::certificate::leaf::Leaf;
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::Action;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::any::AnyPoolOptions;

use crate::fixture::{Fixture, auto_certificate, newest, open_store};
use crate::one_shot::{json_of, run};

/// A fixture with a daemon and one issued certificate.
struct IssuedFixture {
    fixture: Fixture,
    daemon: Daemon,
    path: String,
    certificate: Value,
}

impl IssuedFixture {
    async fn start(zone: &str) -> Self {
        let fixture = Fixture::start().await;
        fixture.dns.add_zone(zone);
        let daemon = fixture.daemon().await;
        let provider = fixture.provider(&daemon).await;
        let path = auto_certificate(&daemon, &provider, "secp256r1", &[&format!("www.{zone}")]).await;
        let auto = daemon.api.wait_until_available(&path).await.unwrap();
        let certificate = newest(&daemon, &auto).await;
        Self { fixture, daemon, path, certificate }
    }

    fn id(&self) -> &str {
        self.certificate["id"].as_str().unwrap()
    }

    /// The certificate that is the newest by now.
    async fn newest(&self) -> Value {
        newest(&self.daemon, &self.daemon.api.get(&self.path).await.unwrap()).await
    }

    async fn message(&self) -> String {
        let shown = self.daemon.api.get(self.certificate["href"].as_str().unwrap()).await.unwrap();
        shown["metadata"]["message"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_replaced_with_a_new_key_beside_a_daemon_and_without_one() {
    let issued = IssuedFixture::start("revoked.example").await;
    let IssuedFixture { fixture, certificate, .. } = &issued;
    let first = serial(certificate);
    let arguments = ["revoke", "for www.revoked.example", "--reason", "superseded", "--yes", "--json"];
    let beside = run(&fixture.setup(), &arguments).await;
    assert_eq!(beside.status.code(), Some(0), "{beside:?}\n{}", issued.daemon.log());
    let told = json_of(&beside);
    assert_eq!((&told["revocation"]["serialNumber"], &told["renewed"]), (&json!(first), &json!(1)));
    assert_eq!(status(fixture, &first).await, ("Revoked".to_owned(), 4.into()));
    let message = issued.message().await;
    assert!(message.contains("; revoked at 20") && message.ends_with("(superseded)"), "{message}");
    assert!(issued.daemon.log().contains("the newest certificate is revoked"), "the daemon did the work");

    let second = issued.newest().await;
    assert_eq!(told["renewals"][0]["serialNumber"], second["metadata"]["serialNumber"]);
    assert_ne!(key(certificate), key(&second));
    assert_eq!(status(fixture, &serial(&second)).await.0, "Valid");

    let IssuedFixture { fixture, daemon, .. } = issued;
    assert!(daemon.terminate().await.unwrap().success());
    let bare = serial(&second).replace(':', "").to_lowercase();
    let alone = run(&fixture.setup(), &["revoke", &bare, "--reason", "cessationofoperation", "--yes"]).await;
    assert_eq!(alone.status.code(), Some(0), "{alone:?}");
    let told = String::from_utf8_lossy(&alone.stdout).into_owned();
    assert!(told.contains(&format!("www.revoked.example: {} is revoked at 20", serial(&second))), "{told}");
    assert!(told.contains("www.revoked.example: renewed, valid until 20"), "{told}");
    assert_eq!(status(&fixture, &serial(&second)).await, ("Revoked".to_owned(), 5.into()));
    assert_eq!((fixture.acme.count("new-order"), fixture.acme.count("finalize")), (3, 3), "once each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unwaited_for_the_daemon_begins_at_once_and_an_older_one_is_not_replaced() {
    let issued = IssuedFixture::start("unwaited.example").await;
    let IssuedFixture { fixture, daemon, certificate, .. } = &issued;
    let first = serial(certificate);
    let arguments = ["revoke", issued.id(), "--reason", "unspecified", "--yes", "--no-wait", "--json"];
    let unwaited = run(&fixture.setup(), &arguments).await;
    assert_eq!(unwaited.status.code(), Some(0), "{unwaited:?}");
    assert!(json_of(&unwaited)["revocation"]["revokedAt"].is_string(), "{unwaited:?}");
    let replaced = |auto: &Value| auto["metadata"]["lastIssuedCertificate"] != certificate["id"];
    daemon.api.wait_until(&issued.path, replaced).await.unwrap();

    let again = run(&fixture.setup(), &["revoke", &first, "--reason", "superseded", "--yes"]).await;
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stdout).contains("(unspecified)"), "it was done before: {again:?}");
    assert_eq!((fixture.acme.count("revoke"), fixture.acme.count("new-order")), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_ca_is_down_the_wish_stays_and_the_daemon_carries_it_out() {
    let issued = IssuedFixture::start("down.example").await;
    let IssuedFixture { fixture, daemon, certificate, .. } = &issued;
    fixture.acme.set_hook(Box::new(|_| Action::Cut));
    let setup = fixture.setup();
    let down = run(&setup, &["revoke", "www.down.example", "--reason", "superseded", "--yes"]).await;
    assert_eq!(down.status.code(), Some(1), "{down:?}");
    let told = String::from_utf8_lossy(&down.stdout).into_owned();
    assert!(
        told.contains("is not revoked yet, and is tried again: ") && told.contains("could not be reached"),
        "{told}"
    );
    assert!(told.contains("www.down.example: failed: "), "the new one waits for the CA, too: {told}");
    let message = issued.message().await;
    assert!(message.contains("; to be revoked since 20") && message.contains("next try at"), "{message}");
    let auto = daemon.api.get(&issued.path).await.unwrap();
    let message = auto["metadata"]["message"].as_str().unwrap();
    assert!(message.contains("the newest certificate is revoked; "), "{message}");

    fixture.acme.set_hook(Box::new(|_| Action::Pass));
    end_pauses(&setup).await;
    let waiting = run(&setup, &["--renew-now"]).await;
    assert_eq!(waiting.status.code(), Some(1), "the new one waits for its next try: {waiting:?}");
    assert!(String::from_utf8_lossy(&waiting.stdout).contains("www.down.example: its certificate is revoked: "));
    daemon.api.wait_until(certificate["href"].as_str().unwrap(), is_revoked).await.unwrap();
    assert_eq!(status(fixture, &serial(certificate)).await, ("Revoked".to_owned(), 4.into()));
    assert!(run(&setup, &["--renew-now", "www.down.example"]).await.status.success());
    assert_ne!(issued.newest().await["id"], certificate["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_daemon_the_next_run_carries_the_wish_out() {
    let IssuedFixture { fixture, daemon, certificate, .. } = IssuedFixture::start("alone.example").await;
    assert!(daemon.terminate().await.unwrap().success());
    fixture.acme.set_hook(Box::new(|request| if request.kind == "revoke" { Action::Cut } else { Action::Pass }));
    let setup = fixture.setup();
    let down = run(&setup, &["revoke", "www.alone.example", "--reason", "superseded", "--yes", "--json"]).await;
    assert_eq!(down.status.code(), Some(1), "{down:?}");
    let told = json_of(&down);
    assert!(told["revocation"]["revokedAt"].is_null() && told["revocation"]["nextTry"].is_string(), "{told:#}");
    assert_eq!(told["renewed"], 1, "the wish alone counts");

    let again = run(&setup, &["revoke", "www.alone.example", "--reason", "superseded", "--yes", "--json"]).await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let told = json_of(&again);
    assert_eq!(told["revocation"]["certificate"], certificate["id"], "not what took its place: {told:#}");
    assert!(told.get("renewed").is_none(), "{told:#}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("is carried on"), "{again:?}");

    fixture.acme.set_hook(Box::new(|_| Action::Pass));
    end_pauses(&setup).await;
    assert!(run(&setup, &["--renew-now"]).await.status.success());
    assert_eq!(status(&fixture, &serial(&certificate)).await, ("Revoked".to_owned(), 4.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_key_the_account_has_is_found_out_before_the_ca_is_told() {
    let IssuedFixture { fixture, daemon, certificate, .. } = IssuedFixture::start("limbo.example").await;
    assert!(daemon.terminate().await.unwrap().success());
    fixture.acme.set_hook(Box::new(|request| match request.kind {
        "key-change" => Action::KillAfter(Box::new(|| {})),
        "new-account" => Action::Cut,
        _ => Action::Pass,
    }));
    let setup = fixture.setup();
    let changed = run(&setup, &["account", "rollover", "Pebble"]).await;
    assert_eq!(changed.status.code(), Some(1), "it is not clear: {changed:?}");
    fixture.acme.set_hook(Box::new(|_| Action::Pass));
    let id = certificate["id"].as_str().unwrap();
    let revoked = run(&setup, &["revoke", id, "--reason", "superseded", "--yes", "--no-wait"]).await;
    assert_eq!(revoked.status.code(), Some(0), "{revoked:?}");
    assert_eq!(status(&fixture, &serial(&certificate)).await, ("Revoked".to_owned(), 4.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compromised_key_is_taken_by_nobody() {
    let issued = IssuedFixture::start("stolen.example").await;
    let IssuedFixture { fixture, daemon, certificate, .. } = &issued;
    let setup = fixture.setup();
    let store = open_store(&setup).await;
    let private_key = store.certificate_private_key(issued.id().parse().unwrap()).await.unwrap().unwrap();
    store.close().await;
    let private_key = private_key.expose_secret();
    let upload = json!({ "properties": {
        "name": "a copy",
        "certificate": certificate["properties"]["certificate"],
        "certificateChain": certificate["properties"]["certificateChain"],
        "privateKey": private_key,
    }});
    let revoke = run(&setup, &["revoke", "www.stolen.example", "--reason", "keyCompromise", "--yes"]).await;
    assert_eq!(revoke.status.code(), Some(0), "{revoke:?}");
    assert_eq!(status(fixture, &serial(certificate)).await, ("Revoked".to_owned(), 1.into()));
    assert_ne!(key(certificate), key(&issued.newest().await));

    let (refused, answer) = daemon.api.send(Method::POST, "/certificates", Some(upload)).await.unwrap();
    assert_eq!(refused, 422, "{answer:#}");
    let message = answer["messages"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("properties.privateKey: ") && message.contains("compromised"), "{message}");

    let folder = fixture.folder.path().join("pem");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("copy.crt"), certificate["properties"]["certificate"].as_str().unwrap()).unwrap();
    fs::write(folder.join("copy.key"), private_key).unwrap();
    let (folder, directory) = (folder.to_str().unwrap().to_owned(), fixture.directory());
    let import = ["import", "pem", &folder, "--server", &directory, "--email", "ops@example.com", "--json"];
    let told = json_of(&run(&setup, &import).await);
    assert_eq!(told["lineages"][0]["outcome"], "refused", "{told:#}");
    assert!(told["lineages"][0]["reason"].as_str().unwrap().contains("compromised"), "{told:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_meant_is_refused_and_nothing_is_changed() {
    let issued = IssuedFixture::start("misused.example").await;
    let IssuedFixture { fixture, daemon, .. } = &issued;
    let setup = fixture.setup();
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(vec!["up.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let upload = json!({
        "name": "mine", "certificate": pem, "certificateChain": pem, "privateKey": key.serialize_pem(),
    });
    let uploaded = daemon.api.create("/certificates", upload).await.unwrap()["id"].as_str().unwrap().to_owned();
    for (arguments, words) in [
        (&["www.misused.example", "--yes"][..], "--reason"),
        (&["www.misused.example", "--yes", "--reason", "cACompromise"], "keyCompromise"),
        (&["www.misused.example", "--reason", "superseded"], "--yes"),
        (&["nobody.example", "--reason", "superseded", "--yes"], "nobody.example"),
        (&["AB:CD", "--reason", "superseded", "--yes"], "AB:CD"),
        (&[&uploaded, "--reason", "superseded", "--yes"], "was uploaded"),
    ] {
        let output = run(&setup, &[&["revoke"], arguments].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{arguments:?}: {output:?}");
    }
    assert_eq!(fixture.acme.count("revoke"), 0);
    assert!(!issued.message().await.contains("revoked"));
}

/// Lets no pause go on, as if its time had passed.
async fn end_pauses(setup: &Setup) {
    let url = format!("sqlite://{}", setup.state().join("autocertd.db").display());
    sqlx::any::install_default_drivers();
    let raw = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    let due = sqlx::query("UPDATE certificates SET revocation_look = 0 WHERE revocation_look IS NOT NULL");
    assert_eq!(due.execute(&raw).await.unwrap().rows_affected(), 1, "the wish stays");
    raw.close().await;
}

fn is_revoked(certificate: &Value) -> bool {
    certificate["metadata"]["message"].as_str().unwrap().contains("; revoked at ")
}

fn serial(certificate: &Value) -> String {
    certificate["metadata"]["serialNumber"].as_str().unwrap().to_owned()
}

fn key(certificate: &Value) -> String {
    let leaf = Leaf::from_pem(certificate["properties"]["certificate"].as_str().unwrap()).unwrap();
    leaf.key_fingerprint().to_string()
}

/// What the CA says of a certificate: its status, and the code of the reason.
async fn status(fixture: &Fixture, serial: &str) -> (String, Value) {
    let status = fixture.pebble.certificate_status(serial).await.unwrap();
    (status["Status"].as_str().unwrap().to_owned(), status["Reason"].clone())
}
