//! `--renew-now --dry-run`: it says what would be done, rehearses it with the staging provider, and changes nothing.

use std::fs;

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::FaultProxy;
use autocertd_support::pebble::{Pebble, PebbleOptions};
use serde_json::json;

use crate::declared::{only, provider, wish};
use crate::fixture::Fixture;
use crate::one_shot::{json_of, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_goes_to_the_staging_provider_alone_and_leaves_nothing() {
    let world = Fixture::start().await;
    world.dns.add_zone("dry.example");
    let options = PebbleOptions { dns_server: Some(world.dns.dns_addr()), ..PebbleOptions::default() };
    let pebble = Pebble::start(options).await.unwrap();
    let staging = FaultProxy::in_front_of(&pebble).await.unwrap();
    let roots = world.at("roots.pem");
    let pem = |path| fs::read_to_string(path).unwrap();
    fs::write(&roots, pem(world.acme.root_pem_path()) + &pem(staging.root_pem_path())).unwrap();
    let real = provider(&world.directory(), "ops@example.com");
    let stage = provider(&staging.directory_url(), "ops@example.com").replace("\"pebble\"", "\"stage\"");
    let wish = wish("www", &["www.dry.example", "*.dry.example"]);
    let setup = Setup { acme_root: roots, ..world.declaring(&format!("{real}staging = \"stage\"\n{stage}{wish}")) };

    // Before there is any store.
    let first = run(&setup, &["--renew-now", "--dry-run", "--json"]).await;
    let told = json_of(&first);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert_eq!(
        (&told["plans"][0]["renewal"], &told["plans"][0]["staging"]),
        (&json!(true), &json!("stage")),
        "{told:#}"
    );
    assert_eq!(told["renewals"][0]["outcome"], "renewed", "{told:#}");
    assert_eq!((staging.count("finalize"), world.acme.requests().len()), (1, 0));
    assert!(!setup.state().join("autocertd.db").exists());
    assert_eq!(world.challenge_records(), Vec::<String>::new());
    let unknown = run(&setup, &["--renew-now", "nobody.example", "--dry-run"]).await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody.example"));

    // Beside a daemon.
    let daemon = Daemon::start(&setup).await.unwrap();
    let path = only(&daemon, "/auto-certificates").await;
    daemon.api.wait_until_available(&path).await.unwrap();
    let before = daemon.api.wait_until(&path, |_| world.challenge_records().is_empty()).await.unwrap();
    let not_due = run(&setup, &["--renew-now", "--dry-run"]).await;
    let words = String::from_utf8_lossy(&not_due.stdout).into_owned();
    assert!(not_due.status.success() && words.contains("www.dry.example: nothing to do: "), "{not_due:?}");
    assert!(words.contains("nothing was rehearsed"), "{words}");
    let named = run(&setup, &["--renew-now", "www", "--dry-run"]).await;
    let words = String::from_utf8_lossy(&named.stdout).into_owned();
    assert!(named.status.success(), "{named:?}");
    assert!(
        words.contains("rehearsed with stage") && words.ends_with("1 rehearsed, 0 failed; nothing real was changed\n"),
        "{words}"
    );
    assert_eq!((staging.count("finalize"), world.acme.count("new-order")), (2, 1));
    let after = daemon.api.get(&path).await.unwrap();
    assert_eq!(after["metadata"]["lastIssuedCertificate"], before["metadata"]["lastIssuedCertificate"]);
    assert_eq!(world.challenge_records(), Vec::<String>::new());

    // Without a staging provider there are plans only.
    let plain = Setup { more: format!("{real}{stage}{wish}"), ..setup.clone() };
    let only_plans = run(&plain, &["--renew-now", "www", "--dry-run"]).await;
    let words = String::from_utf8_lossy(&only_plans.stdout).into_owned();
    assert!(only_plans.status.success() && words.contains("its provider declares no staging"), "{only_plans:?}");
    assert_eq!((staging.count("new-order"), world.acme.count("new-order")), (2, 1));
}
