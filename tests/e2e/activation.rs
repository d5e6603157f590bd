//! Deploy windows, and single passes without a daemon: what is renewed is not always in service at once.

use std::fs;

use autocertd::domain::value::moment::Moment;
use autocertd::runtime::clock::{Clock, SystemClock};
use autocertd_support::daemon::Daemon;
use autocertd_support::tls_server::{PublishedPair, TlsServer};
use autocertd_support::wait::{read_lines, wait_for_some, write_script};
use serde_json::json;

use crate::declared::only;
use crate::deliveries::{asked, files, hang_up, issued, live};
use crate::fixture::Fixture;
use crate::one_shot::{json_of, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_waits_for_its_window_and_the_first_does_not() {
    let world = Fixture::start().await;
    world.dns.add_zone("window.example");
    let certificates = world.at("certificates");
    let pair = PublishedPair::from_folder(&certificates.join("www"));
    let server = TlsServer::start("127.0.0.1:0", &rustls::version::TLS13, pair).await.unwrap();
    let opens = SystemClock.now() + time::Duration::days(3);
    let usual = world.usual(&["www.window.example"]) + &files("web", &certificates);
    let verified = format!("{usual}verify = {{ address = \"{}\" }}\n", server.address);
    let setup = world.declaring(&format!("{verified}activate = \"{} 02:00-03:00\"\n", weekday(opens)));
    let daemon = Daemon::start(&setup).await.unwrap();
    daemon.api.wait_until_available(&only(&daemon, "/auto-certificates").await).await.unwrap();
    let first = issued(&daemon).await;
    wait_for_some("the first delivery", || (live(&certificates) == first).then_some(())).await;

    let renewed = run(&setup, &["--renew-now", "www", "--wait-delivered", "--json"]).await;
    assert_eq!(renewed.status.code(), Some(3), "{renewed:?}\n{}", daemon.log());
    let at = format!("{}T02:00:00Z", opens.to_date_time().date());
    let told = json_of(&renewed);
    assert_eq!((&told["renewed"], &told["deliveries"][0]["at"]), (&json!(1), &json!(at)), "{told:#}");
    let second = issued(&daemon).await;
    assert!(second != first && live(&certificates) == first);
    let (code, seen) = asked(&setup, "verify").await;
    assert_eq!((code, &seen[0]["state"], &seen[0]["until"]), (Some(0), &json!("waiting"), &json!(at)), "{seen:#}");
    assert_eq!(run(&setup, &["healthcheck", "--issued"]).await.status.code(), Some(0));

    // Until then the one in use is looked after.
    fs::remove_dir_all(certificates.join("www")).unwrap();
    hang_up(&daemon, &setup);
    wait_for_some("the one in use", || (live(&certificates) == first).then_some(())).await;
    let (_, shown) = asked(&setup, "deliveries").await;
    assert_ne!(shown[0]["state"], "failed", "{shown:#}");

    hang_up(&daemon, &world.declaring(&verified));
    wait_for_some("the activation", || (live(&certificates) == second).then_some(())).await;
    assert_eq!(world.acme.count("new-order"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_pass_delivers_mends_and_tells_what_fails() {
    let world = Fixture::start().await;
    world.dns.add_zone("cron.example");
    let [certificates, broken, runs, hook] = ["certificates", "broken", "runs", "hook"].map(|name| world.at(name));
    let (is_broken, noted) = (broken.display(), runs.display());
    write_script(
        &hook,
        &format!("#!/bin/sh\n[ ! -e {is_broken} ] || {{ echo 'no such service'; exit 1; }}\necho run >> {noted}\n"),
    );
    let hook = format!("hook.command = [\"{}\"]\n", hook.display());
    let setup = world.declaring(&(world.usual(&["www.cron.example"]) + &files("web", &certificates) + &hook));

    let first = run(&setup, &["--renew-now"]).await;
    let words = String::from_utf8_lossy(&first.stdout).into_owned();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert!(words.contains("www: delivered to web") && words.ends_with("1 renewed, 0 failed\n"), "{words}");
    let delivered = live(&certificates);
    assert!(delivered.contains("BEGIN CERTIFICATE"));

    let second = run(&setup, &["--renew-now"]).await;
    assert_eq!((second.status.code(), second.stdout.as_slice()), (Some(0), &b"nothing is due\n"[..]));
    assert_eq!(read_lines(&runs).len(), 1);

    fs::remove_dir_all(certificates.join("www")).unwrap();
    fs::write(&broken, "").unwrap();
    for _ in 0..2 {
        let failing = run(&setup, &["--renew-now"]).await;
        let words = String::from_utf8_lossy(&failing.stdout).into_owned();
        assert_eq!(failing.status.code(), Some(1), "{failing:?}");
        assert!(words.contains("no such service") && words.ends_with("nothing is due\n"), "{words}");
        assert_eq!(live(&certificates), delivered);
    }

    fs::remove_file(&broken).unwrap();
    let mended = run(&setup, &["--renew-now", "www", "--json"]).await;
    assert_eq!((mended.status.code(), &json_of(&mended)["renewed"]), (Some(0), &json!(1)), "{mended:?}");
    assert_ne!(live(&certificates), delivered);
    assert_eq!(world.acme.count("new-order"), 2);
}

fn weekday(moment: Moment) -> String {
    moment.to_date_time().weekday().to_string()[..3].to_owned()
}
