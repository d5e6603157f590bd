//! `autocertd account` beside a running daemon, and an account that the CA loses under way.

use autocertd_support::timed::{Timed, within};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use autocertd_support::daemon::{Setup, signal};
use autocertd_support::fault_proxy::Action;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::fixture::{Fixture, auto_certificate, newest};
use crate::one_shot::{json_of, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollover_that_is_killed_on_either_side_of_its_request_leaves_an_account_that_orders() {
    let world = Fixture::start().await;
    world.dns.add_zone("rolled.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.rolled.example"]).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    let mut serial = newest(&daemon, &auto).await["metadata"]["serialNumber"].clone();
    let before = shown(&world).await;

    for kill_after in [false, true] {
        let victim: Arc<Mutex<Option<u32>>> = Arc::default();
        let shared = Arc::clone(&victim);
        world.acme.set_hook(Box::new(move |request| {
            let victim = Arc::clone(&shared);
            let kill = Box::new(move || kill_process(&victim));
            match request.kind {
                "key-change" if kill_after => Action::KillAfter(kill),
                "key-change" => Action::KillBefore(kill),
                _ => Action::Pass,
            }
        }));
        assert!(!rollover(&world.setup(), &victim).await, "it was killed");
        world.acme.set_hook(Box::new(|_| Action::Pass));
        assert_eq!(shown(&world).await["keyChangePending"], true);

        let renewed = run(&world.setup(), &["--renew-now", "www.rolled.example", "--json"]).await;
        assert_eq!(renewed.status.code(), Some(0), "{renewed:?}\n{}", daemon.log());
        assert_ne!(json_of(&renewed)["renewals"][0]["serialNumber"], serial);
        serial = json_of(&renewed)["renewals"][0]["serialNumber"].clone();
        let after = shown(&world).await;
        assert_eq!((&after["keyChangePending"], &after["accountUrl"]), (&false.into(), &before["accountUrl"]));
        let words = if kill_after { "the account has a new key" } else { "the account keeps its key" };
        assert!(daemon.log().contains(words), "{}", daemon.log());
    }

    assert!(rollover(&world.setup(), &Mutex::default()).await);
    let renewed = run(&world.setup(), &["--renew-now", "www.rolled.example"]).await;
    assert_eq!(renewed.status.code(), Some(0), "the daemon orders with the new key: {renewed:?}");
    let registrations: Vec<_> =
        world.acme.requests().into_iter().filter(|request| request.kind == "new-account").collect();
    let lookups =
        registrations.iter().filter(|request| request.payload.as_ref().unwrap()["onlyReturnExisting"] == true);
    assert_eq!(registrations.len() - lookups.count(), 1, "one account all along");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_account_is_replaced_once_and_told_everywhere() {
    let world = Fixture::start().await;
    world.dns.add_zone("lost.example");
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    world.acme.set_hook(Box::new(move |request| {
        if request.kind == "new-order" && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, "application/problem+json".parse().unwrap())]);
            return Action::Respond(400, headers, UNKNOWN_ACCOUNT.into());
        }
        Action::Pass
    }));
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.lost.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();

    assert_eq!(world.acme.count("new-account"), 2);
    assert_eq!(world.acme.count("new-order"), 2, "with the new account at once");
    let told = log_lines(&daemon.log(), "another ACME account takes the place");
    let [line] = told.as_slice() else { panic!("{told:?}\n{}", daemon.log()) };
    assert_eq!(line["level"], "ERROR");
    let (lost, new) = (line["lost"].as_str().unwrap(), line["account"].as_str().unwrap());
    assert!(lost != new && line["message"].as_str().unwrap().contains("RFC 8657"), "{line}");
    let read = daemon.api.get(&format!("/providers/{provider}")).await.unwrap();
    let message = read["metadata"]["message"].as_str().unwrap();
    assert!(message.contains(lost) && message.contains(new) && message.contains("CAA"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_shown_deactivated_and_registered_again_by_command() {
    let world = Fixture::start().await;
    world.dns.add_zone("ended.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.ended.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    let setup = world.setup();
    let account = async |arguments: &[&str]| {
        let output = run(&setup, &[&["account"], arguments].concat()).await;
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let url = shown(&world).await["accountUrl"].as_str().unwrap().to_owned();
    let (code, text) = account(&["show", &provider]).await;
    assert!(code == 0 && text.contains(&url) && text.contains("ops@example.com"), "{text}");
    let (code, text) = account(&["rollover", "nobody"]).await;
    assert!(code == 2 && text.contains("no provider has the id, name or key nobody"), "{text}");

    let (code, text) = account(&["deactivate", "Pebble"]).await;
    assert!(code == 2 && text.contains("--yes does it"), "{text}");
    let (code, text) = account(&["deactivate", "Pebble", "--yes"]).await;
    assert!(code == 1 && text.contains("for www.ended.example"), "{text}");
    assert_eq!(world.acme.count("account"), 0, "nothing was sent");
    daemon.api.delete(&path).await.unwrap();
    let (code, text) = account(&["deactivate", "Pebble", "--yes"]).await;
    assert!(code == 0 && text.contains(&url), "{text}");
    let read = daemon.api.get(&format!("/providers/{provider}")).await.unwrap();
    assert_eq!(read["metadata"]["state"], "FAILED", "{read}");

    let (code, text) = account(&["register", "Pebble"]).await;
    assert!(code == 0 && !text.contains(&url), "{text}");
    let key = setup.folder.join("key.pem");
    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let (code, text) = account(&["adopt", "Pebble", key.to_str().unwrap()]).await;
    assert!(code == 1 && text.contains("knows no account with this key"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_order_that_was_signed_before_a_rollover_is_no_persons_business() {
    let world = Fixture::start().await;
    world.dns.add_zone("between.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    daemon.api.wait_until(&format!("/providers/{provider}"), is_registered).await.unwrap();
    let (setup, orders) = (world.setup(), AtomicUsize::new(0));
    world.acme.set_hook(Box::new(move |request| {
        if request.kind == "new-order" && orders.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut rollover = setup.command(&["account", "rollover", "Pebble"]).unwrap();
            tokio::task::block_in_place(|| assert!(rollover.timed_output().unwrap().status.success()));
        }
        Action::Pass
    }));
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.between.example"]).await;
    let told = |auto: &Value| auto["metadata"]["message"].as_str().unwrap().contains("was replaced meanwhile");
    let auto = daemon.api.wait_until(&path, told).await.unwrap();
    assert_eq!(auto["metadata"]["state"], "PROVISIONING", "{auto}");
    let renewed = run(&world.setup(), &["--renew-now", "www.between.example"]).await;
    assert_eq!(renewed.status.code(), Some(0), "{renewed:?}");
}

fn is_registered(provider: &Value) -> bool {
    provider["metadata"]["message"] == "the ACME account is registered"
}

async fn shown(world: &Fixture) -> Value {
    json_of(&run(&world.setup(), &["account", "show", "Pebble", "--json"]).await)
}

/// Rolls the key over; says whether that ended well.
async fn rollover(setup: &Setup, victim: &Mutex<Option<u32>>) -> bool {
    let mut command = tokio::process::Command::from(setup.command(&["account", "rollover", "Pebble"]).unwrap());
    let mut child = command.stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    *victim.lock().unwrap() = child.id();
    within("the rollover", child.wait()).await.unwrap().success()
}

fn kill_process(victim: &Mutex<Option<u32>>) {
    signal(victim.lock().unwrap().expect("it runs"), "KILL").unwrap();
}

fn log_lines(log: &str, words: &str) -> Vec<Value> {
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.filter(|entry| entry["message"].as_str().is_some_and(|message| message.contains(words))).collect()
}

const UNKNOWN_ACCOUNT: &str =
    r#"{"type": "urn:ietf:params:acme:error:accountDoesNotExist", "detail": "no such account"}"#;
