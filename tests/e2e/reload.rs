//! SIGHUP reads the settings anew, and systemd hears how the daemon is.

use autocertd_support::timed::TimedChild;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use autocertd_support::daemon::{Setup, signal};

use crate::fixture::{Fixture, auto_certificate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchanged_token_is_taken_up_and_what_waited_for_it_goes_on() {
    let world = Fixture::start().await;
    world.dns.add_zone("token.example");
    let wrong = Setup { cloud_dns_token: "expired".to_owned(), ..world.setup() };
    let daemon = autocertd_support::daemon::Daemon::start(&wrong).await.unwrap();
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.token.example"]).await;
    daemon.api.wait_until(&path, |auto| auto["metadata"]["state"] == "FAILED").await.unwrap();

    world.setup().write_settings().unwrap();
    signal(daemon.pid(), "HUP").unwrap();
    daemon.api.wait_until_available(&path).await.unwrap();
    assert!(daemon.log().contains("settings read anew"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_cannot_be_used_change_nothing() {
    let world = Fixture::start().await;
    world.dns.add_zone("kept.example");
    let daemon = world.daemon().await;
    let broken = Setup { more: "[scheduler]\nconcurrency = 0\n".to_owned(), ..world.setup() };
    broken.write_settings().unwrap();
    signal(daemon.pid(), "HUP").unwrap();
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.kept.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    let log = daemon.log();
    assert!(log.contains("the settings were not taken") && log.contains("scheduler.concurrency = 0"), "{log}");

    let later = Setup { more: "[scheduler]\nconcurrency = 7\n".to_owned(), ..world.setup() };
    later.write_settings().unwrap();
    signal(daemon.pid(), "HUP").unwrap();
    daemon.api.wait_until(&path, |_| daemon.log().contains("come into force with the next start")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_hears_of_readiness_life_reloads_and_the_end() {
    let world = Fixture::start().await;
    let path = world.folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = world.setup().command(&["serve"]).unwrap();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000").stderr(Stdio::null());
    let mut daemon = KilledOnDrop(command.spawn().unwrap());

    hear(&socket, "READY=1");
    for _ in 0..3 {
        hear(&socket, "WATCHDOG=1");
    }
    signal(daemon.0.id(), "HUP").unwrap();
    let reloading = hear(&socket, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    hear(&socket, "READY=1");
    hear(&socket, "WATCHDOG=1");
    signal(daemon.0.id(), "TERM").unwrap();
    hear(&socket, "STOPPING=1");
    assert!(daemon.0.timed_wait().unwrap().success());
}

/// Waits for a message with this line.
fn hear(socket: &UnixDatagram, line: &str) -> String {
    let mut buffer = [0; 512];
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_mins(1), "{line} was not heard among signs of life");
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{line} was not heard: {error}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.lines().any(|heard| heard == line) {
            return message;
        }
    }
}

/// A child that does not outlive its test.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.timed_wait();
    }
}
