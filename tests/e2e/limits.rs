//! The limits of a CA: what would break them is not sent, waits until it may be, and says so.

use autocertd_support::daemon::{Daemon, Setup, signal};
use autocertd_support::fault_proxy::Action;
use autocertd_support::timed::Timed;
use axum::body::Bytes;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::fixture::{Fixture, auto_certificate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_too_many_is_kept_back_and_the_ca_never_sees_it() {
    let world = Fixture::start().await;
    world.dns.add_zone("limits.example");
    let setup = with_limits(&world, "orders = '3 in 1d'");
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    for host in ["a", "b", "c"] {
        let path = auto_certificate(&daemon, &provider, "secp256r1", &[&format!("{host}.limits.example")]).await;
        daemon.api.wait_until_available(&path).await.unwrap();
    }
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["d.limits.example"]).await;
    let held = daemon.api.wait_until(&path, |seen| message(seen).contains("limit of the CA")).await.unwrap();
    assert_eq!(held["metadata"]["state"], "PROVISIONING", "{held:#}");
    assert!(message(&held).contains("orders of the account (3 in 1 d); it is next tried at 2"), "{held:#}");

    let (code, told) = run(&setup, &["limits"]);
    assert!(code == 0 && told.contains("orders of the account") && told.contains("3 of 3 in 1 d"), "{told}");
    let (_, told) = run(&setup, &["limits", "Pebble", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let bucket = &told[0]["buckets"][0];
    assert_eq!(
        (&told[0]["id"], &bucket["used"], &bucket["count"]),
        (&json!(provider), &json!(3), &json!(3)),
        "{told:#}"
    );
    assert_eq!(run(&setup, &["limits", "nobody"]).0, 2);

    let (code, told) = run(&setup, &["--renew-now", "d.limits.example"]);
    assert!(code == 1 && told.contains("orders of the account (3 in 1 d)"), "{code}: {told}");
    assert_eq!(world.acme.count("new-order"), 3, "a doomed order was sent");

    with_limits(&world, "orders = 'none'").write_settings().unwrap();
    signal(daemon.pid(), "HUP").unwrap();
    let served = daemon.api.wait_until_available(&path).await.unwrap();
    assert!(!message(&served).contains("limit of the CA"), "{served:#}");
    assert_eq!(world.acme.count("new-order"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_failed_waits_and_holds_up_no_other() {
    let world = Fixture::start().await;
    world.dns.add_zone("failed.example");
    let setup = with_limits(&world, "failures_of_name = '1 in 1h'");
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    world.acme.set_hook(Box::new(|request| match request.kind {
        "challenge" => Action::Respond(200, HeaderMap::new(), Bytes::from_static(FAILED)),
        _ => Action::Pass,
    }));
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["bad.failed.example"]).await;
    daemon.api.wait_until(&path, |seen| message(seen).contains("not the TXT record")).await.unwrap();
    world.acme.set_hook(Box::new(|_| Action::Pass));

    let orders = world.acme.count("new-order");
    let (code, told) = run(&setup, &["--renew-now", "bad.failed.example"]);
    assert!(code == 1 && told.contains("failed validations of bad.failed.example (1 in 1 h)"), "{code}: {told}");
    assert_eq!(world.acme.count("new-order"), orders);
    let other = auto_certificate(&daemon, &provider, "secp256r1", &["good.failed.example"]).await;
    daemon.api.wait_until_available(&other).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_cannot_be_used_are_named_by_check_config() {
    let world = Fixture::start().await;
    for (limits, words) in [
        ("orders = '3 per day'", "is no limit"),
        ("order = '3 in 1d'", "unknown field"),
        ("orders = 'none'\n[[acme.limits]]\nserver = 'http://ca.example'", "is not an https URL"),
    ] {
        let output = with_limits(&world, limits).command(&["check-config"]).unwrap().timed_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && told.contains(words), "{told}");
    }
    let (code, told) = run(&with_limits(&world, "orders = '3 in 1d'"), &["check-config"]);
    assert!(code == 0 && told.contains("[[acme.limits]]") && told.contains("orders = \"3 in 1d\""), "{told}");
}

fn with_limits(world: &Fixture, limits: &str) -> Setup {
    let more = format!("[[acme.limits]]\nserver = '{}'\n{limits}\n", world.directory());
    Setup { more, ..world.setup() }
}

/// The exit code of a command, and what it printed.
fn run(setup: &Setup, arguments: &[&str]) -> (i32, String) {
    let output = setup.command(arguments).unwrap().timed_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn message(resource: &Value) -> &str {
    resource["metadata"]["message"].as_str().unwrap()
}

const FAILED: &[u8] = br#"{"type": "dns-01", "url": "https://127.0.0.1/chalZ/1", "status": "invalid", "token": "t",
    "error": {"type": "urn:ietf:params:acme:error:unauthorized", "detail": "that is not the TXT record"}}"#;
