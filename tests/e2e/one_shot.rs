//! `autocertd --renew-now`: alone and beside a daemon, its words and its exit codes.

use autocertd_support::timed::{Timed, within};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use autocertd_support::daemon::Setup;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::fixture::{Fixture, auto_certificate, newest, open_store, store_auto_certificate};

async fn renew_now(world: &Fixture, arguments: &[&str]) -> Output {
    renew_now_with(&world.setup(), arguments).await
}

async fn renew_now_with(setup: &Setup, arguments: &[&str]) -> Output {
    let arguments: Vec<&str> = std::iter::once("--renew-now").chain(arguments.iter().copied()).collect();
    run(setup, &arguments).await
}

/// Runs a command to its end; one that hangs fails the test.
pub(crate) async fn run(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(setup.command(arguments).unwrap());
    within("the command", command.kill_on_drop(true).output()).await.unwrap()
}

pub(crate) fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_daemon_it_asks_the_daemon_and_without_one_it_works_by_itself() {
    let world = Fixture::start().await;
    world.dns.add_zone("one.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.one.example"]).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    let first = newest(&daemon, &auto).await["metadata"]["serialNumber"].clone();

    let nothing_due = renew_now(&world, &[]).await;
    assert!(nothing_due.status.success());
    assert_eq!(String::from_utf8_lossy(&nothing_due.stdout), "nothing is due\n");

    let beside = renew_now(&world, &["for www.one.example", "--json"]).await;
    assert_eq!(beside.status.code(), Some(0), "{beside:?}");
    let second = json_of(&beside)["renewals"][0]["serialNumber"].clone();
    assert_ne!(first, second);
    let auto = daemon.api.get(&path).await.unwrap();
    assert_eq!(newest(&daemon, &auto).await["metadata"]["serialNumber"], second);
    assert!(daemon.log().contains("a renewal was requested"), "the daemon did the work");

    assert!(daemon.terminate().await.unwrap().success());
    let alone = renew_now(&world, &["WWW.one.example", "--json"]).await;
    assert_eq!(alone.status.code(), Some(0), "{alone:?}");
    let summary = json_of(&alone);
    assert_eq!((&summary["renewed"], &summary["failed"]), (&1.into(), &0.into()));
    assert_ne!(summary["renewals"][0]["serialNumber"], second);
    assert_eq!(world.challenge_records(), Vec::<String>::new());
    assert_eq!(world.acme.count("finalize"), 3);
}

/// `NO_PROXY` leads around a proxy that lets nothing through; without it the failure names variable and remedy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_of_the_environment_is_asked_and_a_dead_one_is_named() {
    let world = Fixture::start().await;
    world.dns.add_zone("proxied.example");
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.proxied.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    assert!(daemon.terminate().await.unwrap().success());

    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let refusing = tokio::spawn(async move {
        while let Ok((mut stream, _)) = proxy.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let renew = async |no_proxy: Option<&str>| {
        let mut command = world.setup().command(&["--renew-now", "www.proxied.example"]).unwrap();
        command.env("HTTPS_PROXY", &address).env_remove("https_proxy").env_remove("NO_PROXY").env_remove("no_proxy");
        command.envs(no_proxy.map(|hosts| ("NO_PROXY", hosts)));
        let mut command = tokio::process::Command::from(command);
        within("the command", command.kill_on_drop(true).output()).await.unwrap()
    };
    let around = renew(Some("127.0.0.0/8,localhost")).await;
    assert_eq!(around.status.code(), Some(0), "{around:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody asks a proxy for a host of NO_PROXY");
    let through = renew(None).await;
    assert_eq!(through.status.code(), Some(1), "{through:?}");
    let told = [through.stdout, through.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(told.contains("HTTPS_PROXY") && told.contains("list the host in NO_PROXY"), "{told}");
    assert!(asked.load(Ordering::SeqCst) > 0);
    refusing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_tell_each_stage_where_there_is_no_terminal() {
    let world = Fixture::start().await;
    world.dns.add_zone("lines.example");
    world.dns.delay_records_in_dns(Duration::from_millis(500));
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.lines.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    let output = renew_now(&world, &["www.lines.example"]).await;
    let (told, progress) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        told.contains("www.lines.example: renewed, valid until 20") && told.contains("1 renewed, 0 failed"),
        "{told}"
    );
    assert!(progress.contains("www.lines.example: publishing the challenge records"), "{progress}");
    assert!(!format!("{told}{progress}").contains('\u{1b}'), "colour without a terminal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_is_under_way_is_followed_and_not_done_twice() {
    let world = Fixture::start().await;
    world.dns.add_zone("twice.example");
    world.dns.delay_records_in_dns(Duration::from_millis(700));
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.twice.example"]).await;
    daemon.api.wait_until(&path, |_| world.acme.count("new-order") == 1).await.unwrap();
    let output = renew_now(&world, &["www.twice.example", "--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(world.acme.count("new-order"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_it_works_off_more_than_it_may_do_at_once() {
    let world = Fixture::start().await;
    world.dns.add_zone("many.example");
    let setup = Setup { more: "[scheduler]\nconcurrency = 1\n".to_owned(), ..world.setup() };
    let store = open_store(&setup).await;
    for number in 0..4 {
        store_auto_certificate(&store, &world.directory(), &format!("w{number}.many.example")).await;
    }
    store.close().await;
    let output = renew_now_with(&setup, &["--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json_of(&output)["renewed"], 4);
    assert_eq!(world.acme.count("finalize"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_exit_1_and_misuse_exits_2() {
    let world = Fixture::start().await;
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    auto_certificate(&daemon, &provider, "secp256r1", &["www.unserved.example"]).await;
    let failed = renew_now(&world, &["www.unserved.example", "--json"]).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(json_of(&failed)["renewals"][0]["message"].as_str().unwrap().contains("unserved.example"));

    // A second pass has nothing to do and no certificate to show.
    let second = renew_now(&world, &[]).await;
    let told = String::from_utf8_lossy(&second.stdout).into_owned();
    assert_eq!(second.status.code(), Some(1), "{told}");
    for words in [
        "nothing is due\n1 auto-certificate that should be in service is not:\nwww.unserved.example: no certificate: ",
        "(next try at 20",
        "--renew-now NAME",
    ] {
        assert!(told.contains(words), "{told}");
    }
    let second = json_of(&renew_now(&world, &["--json"]).await);
    assert_eq!((&second["notInService"]["total"], &second["renewals"]), (&1.into(), &serde_json::json!([])));
    assert!(daemon.terminate().await.unwrap().success());
    let alone = renew_now(&world, &[]).await;
    assert_eq!(alone.status.code(), Some(1), "{alone:?}");
    let plan = run(&world.setup(), &["plan"]).await;
    assert_eq!(plan.status.code(), Some(1), "{plan:?}");

    let unknown = renew_now(&world, &["nobody.example", "www.unserved.example"]).await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody.example"));

    let setup = world.setup();
    for arguments in [&["--renew-later"][..], &["--renew-now", "--json", "--jsonn"], &["token", "create"]] {
        assert_eq!(setup.command(arguments).unwrap().timed_output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
    let mut broken = std::process::Command::new(&setup.binary);
    let broken = broken.args(["--renew-now", "--config", "/nowhere/autocertd.toml"]).timed_output().unwrap();
    assert_eq!(broken.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("/nowhere/autocertd.toml"));
}
