//! From the settings to what a service shows: files, hook and a look at what is served, and what becomes of them when
//! the settings, the files or the service change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autocertd_support::daemon::{Daemon, Setup, signal};
use autocertd_support::tls_server::{PublishedPair, TlsServer};
use autocertd_support::wait::{read_lines, wait_for_lines, wait_for_some, write_script};
use serde_json::{Value, json};

use crate::declared::{only, stop};
use crate::fixture::{Fixture, newest};
use crate::one_shot::{json_of, run};

impl Fixture {
    /// A path in the folder of this world.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A delivery of files into this folder.
pub(crate) fn files(key: &str, directory: &Path) -> String {
    format!(
        "[[delivery]]\nkey = \"{key}\"\nfiles = {{ directory = \"{}\", placeholder = true }}\n",
        directory.display()
    )
}

/// The certificate that is live below `directory`.
pub(crate) fn live(directory: &Path) -> String {
    fs::read_to_string(directory.join("www/cert.pem")).unwrap_or_default().trim().to_owned()
}

/// The newest certificate of the only auto-certificate, PEM.
pub(crate) async fn issued(daemon: &Daemon) -> String {
    let auto = daemon.api.get(&only(daemon, "/auto-certificates").await).await.unwrap();
    newest(daemon, &auto).await["properties"]["certificate"].as_str().unwrap().trim().to_owned()
}

/// What `autocertd deliveries` or `autocertd verify` says, by its exit code and its JSON.
pub(crate) async fn asked(setup: &Setup, command: &str) -> (Option<i32>, Value) {
    let output = run(setup, &[command, "--json"]).await;
    (output.status.code(), json_of(&output))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_reaches_its_service_and_goes_back_where_it_is_not_served() {
    let world = Fixture::start().await;
    world.dns.add_zone("served.example");
    world.dns.delay_records_in_dns(Duration::from_secs(3));
    let (certificates, told, hook) = (world.at("certificates"), world.at("told"), world.at("hook"));
    write_script(&hook, &format!("#!/bin/sh\necho \"{TOLD}\" >> {}\n", told.display()));
    let pair = PublishedPair::from_folder(&certificates.join("www"));
    let server = TlsServer::start("127.0.0.1:0", &rustls::version::TLS13, pair.clone()).await.unwrap();
    let setup = world.declaring(&format!(
        "{}{}hook.command = [\"{}\"]\nverify = {{ address = \"{}\", timeout = \"2s\" }}\nrollback = true\n",
        world.usual(&["www.served.example"]),
        files("web", &certificates),
        hook.display(),
        server.address
    ));
    let daemon = Daemon::start(&setup).await.unwrap();

    // The placeholder is there at once and never counts as issued.
    let placeholder =
        wait_for_some("the placeholder", || Some(live(&certificates)).filter(|pem| !pem.is_empty())).await;
    let auto = daemon.api.get(&only(&daemon, "/auto-certificates").await).await.unwrap();
    assert_eq!(auto["metadata"]["state"], "PROVISIONING");
    assert_eq!(run(&setup, &["healthcheck", "--issued"]).await.status.code(), Some(1));
    let (code, told_of) = asked(&setup, "verify").await;
    assert_eq!((code, &told_of[0]["state"]), (Some(0), &json!("nothingToServe")));
    assert_eq!(live(&certificates), placeholder, "the certificate came too early for this test");

    world.dns.delay_records_in_dns(Duration::ZERO);
    let first = run(&setup, &["--renew-now", "www", "--wait-delivered", "--json"]).await;
    assert_eq!(first.status.code(), Some(0), "{first:?}\n{}", daemon.log());
    assert_eq!(json_of(&first)["deliveries"][0]["state"], "delivered");
    let first = issued(&daemon).await;
    assert_eq!(live(&certificates), first);
    let (code, told_of) = asked(&setup, "deliveries").await;
    assert_eq!((code, &told_of[0]["delivery"], &told_of[0]["state"]), (Some(0), &json!("web"), &json!("delivered")));
    let (code, told_of) = asked(&setup, "verify").await;
    let seen = (&told_of[0]["state"], &told_of[0]["address"]);
    assert_eq!((code, seen), (Some(0), (&json!("newest"), &json!(server.address.to_string()))));
    assert_eq!(run(&setup, &["healthcheck", "--issued"]).await.status.code(), Some(0));
    let runs = read_lines(&told);
    let id =
        daemon.api.get(&only(&daemon, "/auto-certificates").await).await.unwrap()["metadata"]["lastIssuedCertificate"]
            .clone();
    let directory = certificates.join("www");
    let expected = format!("deployed web www www www.served.example {} {}", directory.display(), id.as_str().unwrap());
    assert_eq!(runs.last(), Some(&expected));

    let renewed = run(&setup, &["--renew-now", "www", "--wait-delivered"]).await;
    let words = String::from_utf8_lossy(&renewed.stdout).into_owned();
    assert!(renewed.status.success() && words.contains("www: delivered to web"), "{renewed:?}");
    let second = issued(&daemon).await;
    assert!(second != first && live(&certificates) == second);

    // A service that takes nothing up: the previous version goes back.
    pair.set_deaf(true);
    let before = read_lines(&told).len();
    let failed = run(&setup, &["--renew-now", "www", "--wait-delivered"]).await;
    let words = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(
        words.contains("still serves another certificate") && words.contains("the previous version went back"),
        "{words}"
    );
    assert_eq!(live(&certificates), second);
    let events: Vec<String> =
        read_lines(&told)[before..].iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(events, ["deployed", "rolled-back"]);
    let (code, told_of) = asked(&setup, "verify").await;
    assert_eq!((code, &told_of[0]["state"]), (Some(1), &json!("older")));
    assert_eq!(asked(&setup, "deliveries").await.0, Some(1));
    let table = run(&setup, &["verify"]).await;
    assert!(String::from_utf8_lossy(&table.stdout).contains("serves an older one"), "{table:?}");

    pair.set_deaf(false);
    assert!(run(&setup, &["--renew-now", "www", "--wait-delivered"]).await.status.success());
    assert_eq!(live(&certificates), issued(&daemon).await);
    assert_eq!(run(&setup, &["verify", "nobody.example"]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_and_what_is_on_the_disk_are_brought_together_again() {
    let world = Fixture::start().await;
    world.dns.add_zone("changed.example");
    let usual = world.usual(&["www.changed.example"]);
    let (one, other) = (world.at("one"), world.at("other"));
    let daemon = Daemon::start(&world.declaring(&usual)).await.unwrap();
    daemon.api.wait_until_available(&only(&daemon, "/auto-certificates").await).await.unwrap();
    let issued = issued(&daemon).await;
    let lives_in = |setup: Setup, directory: PathBuf| {
        let issued = issued.clone();
        async move {
            wait_for_some("the delivery", || (live(&directory) == issued).then_some(())).await;
            let settled = run(&setup, &["--renew-now", "--wait-delivered"]).await;
            assert_eq!(settled.status.code(), Some(0), "{settled:?}");
        }
    };

    let with_one = world.declaring(&(usual.clone() + &files("web", &one)));
    hang_up(&daemon, &with_one);
    lives_in(with_one.clone(), one.clone()).await;

    fs::remove_dir_all(one.join("www")).unwrap();
    hang_up(&daemon, &with_one);
    lives_in(with_one.clone(), one.clone()).await;

    let with_other = world.declaring(&(usual.clone() + &files("web", &other)));
    hang_up(&daemon, &with_other);
    lives_in(with_other.clone(), other.clone()).await;
    assert_eq!(live(&one), issued, "what was delivered before stays");
    stop(daemon).await;

    fs::remove_dir_all(&other).unwrap();
    let daemon = Daemon::start(&with_other).await.unwrap();
    lives_in(with_other.clone(), other.clone()).await;

    let without = world.declaring(&usual);
    hang_up(&daemon, &without);
    wait_for_some("the reload", || daemon.log().contains("settings read anew").then_some(())).await;
    assert_eq!(asked(&without, "deliveries").await, (Some(0), json!([])));
    assert_eq!(live(&other), issued);
    assert_eq!(world.acme.count("new-order"), 1);
}

/// SIGKILL between the first line of a hook and its end: the next start delivers, and orders nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_hook_costs_no_order() {
    let world = Fixture::start().await;
    world.dns.add_zone("killed.example");
    let (certificates, runs, go, hook) = (world.at("certificates"), world.at("runs"), world.at("go"), world.at("hook"));
    write_script(&hook, &waiting_hook(&runs, &go));
    let command = format!("hook.command = [\"{}\"]\n", hook.display());
    let setup = world.declaring(&(world.usual(&["www.killed.example"]) + &files("web", &certificates) + &command));
    let daemon = Daemon::start(&setup).await.unwrap();
    wait_for_lines(&runs, 1).await;
    drop(daemon);
    fs::write(&go, "").unwrap();

    let daemon = Daemon::start(&setup).await.unwrap();
    let waited = run(&setup, &["--renew-now", "--wait-delivered"]).await;
    assert_eq!(waited.status.code(), Some(0), "{waited:?}\n{}", daemon.log());
    assert_eq!(read_lines(&runs).len(), 2);
    assert_eq!(live(&certificates), issued(&daemon).await);
    assert_eq!(world.acme.count("new-order"), 1);
}

/// A hook that tells that it runs, and waits; not for ever, should its test fail.
pub(crate) fn waiting_hook(runs: &Path, go: &Path) -> String {
    let (runs, go) = (runs.display(), go.display());
    format!(
        "#!/bin/sh\necho \"$AUTOCERTD_NAME\" >> {runs}\ni=0\n\
         while [ ! -e {go} ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done\n"
    )
}

/// Has the daemon read these settings.
pub(crate) fn hang_up(daemon: &Daemon, setup: &Setup) {
    setup.write_settings().unwrap();
    signal(daemon.pid(), "HUP").unwrap();
}

const TOLD: &str = "$AUTOCERTD_EVENT $AUTOCERTD_DELIVERY $AUTOCERTD_NAME $AUTOCERTD_KEY $AUTOCERTD_NAMES \
                    $AUTOCERTD_DIRECTORY $AUTOCERTD_CERTIFICATE_ID";
