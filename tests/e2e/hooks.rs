//! Hooks that fail or hang: they are tried again by themselves, hold up nothing else, and cost no order.

use std::fs;

use autocertd_support::daemon::Daemon;
use autocertd_support::wait::{read_lines, wait_for_lines, wait_for_some, write_script};
use serde_json::{Value, json};

use crate::declared::{only, provider, wish};
use crate::deliveries::{asked, files, hang_up, issued, live, waiting_hook};
use crate::fixture::Fixture;
use crate::one_shot::{json_of, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_hook_is_told_of_and_tried_again_without_an_order() {
    let world = Fixture::start().await;
    world.dns.add_zone("failing.example");
    let [certificates, mended, runs, hook, late] =
        ["certificates", "mended", "runs", "hook", "late"].map(|name| world.at(name));
    let (is_mended, noted) = (mended.display(), runs.display());
    let fail = "{ echo 'the configuration is broken' >&2; exit 3; }";
    write_script(&hook, &format!("#!/bin/sh\n[ -e {is_mended} ] || {fail}\necho run >> {noted}\n"));
    let hooks = format!(
        "hook.command = [\"{}\"]\n[[delivery]]\nkey = \"late\"\nhook.command = [\"{}\"]\n",
        hook.display(),
        late.display()
    );
    let setup = world.declaring(&(world.usual(&["www.failing.example"]) + &files("web", &certificates) + &hooks));
    let daemon = Daemon::start(&setup).await.unwrap();
    daemon.api.wait_until_available(&only(&daemon, "/auto-certificates").await).await.unwrap();

    let failed = run(&setup, &["--renew-now", "--wait-delivered", "--json"]).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let told = json_of(&failed);
    let [late_one, web] = ["late", "web"].map(|key| of(&told["deliveries"], key));
    assert!(message(&web).contains("the configuration is broken"), "{told:#}");
    assert!(message(&late_one).contains("install it"), "{told:#}");
    assert_eq!(run(&setup, &["healthcheck", "--issued"]).await.status.code(), Some(1));
    assert_eq!(live(&certificates), issued(&daemon).await, "the files are there all the same");

    // What waited for a person is tried again with the settings.
    write_script(&late, "#!/bin/sh\n");
    hang_up(&daemon, &setup);
    let mut deliveries = Value::Null;
    for _ in 0..200 {
        deliveries = asked(&setup, "deliveries").await.1;
        // A reload looks at all of them anew.
        if of(&deliveries, "late")["state"] == "delivered" && of(&deliveries, "web")["state"] != "running" {
            break;
        }
    }
    assert_eq!(of(&deliveries, "late")["state"], "delivered", "{deliveries:#}\n{}", daemon.log());
    assert_eq!(of(&deliveries, "web")["state"], "failed", "{deliveries:#}");
    assert_eq!((world.acme.count("new-order"), read_lines(&runs).len()), (1, 0));

    fs::write(&mended, "").unwrap();
    let renewed = run(&setup, &["--renew-now", "www", "--wait-delivered"]).await;
    assert_eq!(renewed.status.code(), Some(0), "{renewed:?}");
    assert_eq!(asked(&setup, "deliveries").await.0, Some(0));
    assert!(!read_lines(&runs).is_empty());
    assert_eq!(world.acme.count("new-order"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_hang_hold_up_no_other_certificate_and_no_other_delivery() {
    let world = Fixture::start().await;
    world.dns.add_zone("hanging.example");
    let [certificates, runs, go, hook] = ["certificates", "runs", "go", "hook"].map(|name| world.at(name));
    write_script(&hook, &waiting_hook(&runs, &go));
    let hanging = format!("[[delivery]]\nkey = \"hanging\"\nhook.command = [\"{}\"]\n", hook.display());
    let mut settings = provider(&world.directory(), "ops@example.com");
    for number in 0..MORE_THAN_AT_ONCE {
        settings += &wish(&format!("w{number}"), &[&format!("w{number}.hanging.example")]);
    }
    let setup = world.declaring(&(settings + &hanging + &files("web", &certificates)));
    let _daemon = Daemon::start(&setup).await.unwrap();
    wait_for_lines(&runs, AT_ONCE).await;
    for number in 0..MORE_THAN_AT_ONCE {
        let chain = certificates.join(format!("w{number}/chain.pem"));
        // A placeholder has no chain.
        let is_issued = || fs::read_to_string(&chain).is_ok_and(|pem| pem.contains("BEGIN")).then_some(());
        wait_for_some(&format!("the delivery of w{number}"), is_issued).await;
    }
    assert_eq!(read_lines(&runs).len(), AT_ONCE);
    fs::write(&go, "").unwrap();
    let waited = run(&setup, &["--renew-now", "--wait-delivered", "--json"]).await;
    assert_eq!(waited.status.code(), Some(0), "{waited:?}");
    assert_eq!((read_lines(&runs).len(), world.acme.count("new-order")), (MORE_THAN_AT_ONCE, MORE_THAN_AT_ONCE));
}

fn of(deliveries: &Value, key: &str) -> Value {
    let all = deliveries.as_array().unwrap();
    all.iter().find(|delivery| delivery["delivery"] == json!(key)).unwrap().clone()
}

fn message(delivery: &Value) -> &str {
    delivery["message"].as_str().unwrap()
}

/// As many deliveries of one kind are carried out at once.
const AT_ONCE: usize = 8;
const MORE_THAN_AT_ONCE: usize = AT_ONCE + 1;
