//! A disk that fills up in the middle of an issuance, below the daemon and below a one-shot. It is a small one in a mount
//! namespace of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use autocertd_support::again;
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::timed::{Timed, within};
use reqwest::{Method, StatusCode};

use crate::fixture::Fixture;

const FULL: &str = "the disk of the database is full";

#[test]
fn a_disk_that_fills_up_during_an_issuance_ends_nothing_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size=8m,mode=0700 none {} && exec \"$@\"", folder.path().display());
    let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let mut command = again::command(&wrapper, "full_disk::on_a_disk_that_fills_up", folder.path()).unwrap();
    let output = command.timed_output().expect("the program unshare, of Debian's package util-linux");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("running 1 test"), "this needs the right to make a user and a mount namespace: {said}");
    assert!(output.status.success(), "{said}");
    println!("{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of another test, on a small disk of its own"]
async fn on_a_disk_that_fills_up() {
    let disk: PathBuf = std::env::var_os(again::FOLDER_VARIABLE).expect("run by its parent").into();
    let stage = Fixture::start().await;
    stage.dns.add_zone("disk.example");
    // The records take their time, so that the disk is full while the CA is still to be answered.
    stage.dns.delay_records_in_dns(Duration::from_secs(3));
    below_the_daemon(&stage, &disk).await;
    below_a_one_shot(&stage, &disk).await;
}

async fn below_the_daemon(stage: &Fixture, disk: &Path) {
    let setup = setup(stage, disk, &["daemon"]);
    let daemon = Daemon::start(&setup).await.unwrap();
    wait_for_records(stage).await;
    fill(disk);
    let begun = Instant::now();
    loop {
        let (status, readiness) = daemon.api.send(Method::GET, "/readyz", None).await.unwrap();
        if status == StatusCode::SERVICE_UNAVAILABLE && readiness.to_string().contains("disk") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it says that it is ready: {readiness}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The attempt meets it, too.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(daemon.log().contains(FULL), "{}", daemon.log());
    let outage_lines = daemon.log().lines().filter(|line| line.contains(FULL)).count();
    assert!(outage_lines < 30, "the log fills up, too: {outage_lines} lines in seconds\n{}", daemon.log());

    let list = daemon.api.get("/auto-certificates?depth=1").await.unwrap();
    assert_ne!(list["items"][0]["metadata"]["state"], "AVAILABLE", "the disk was full too late");
    make_room(disk);
    let begun = Instant::now();
    loop {
        let list = daemon.api.get("/auto-certificates?depth=1").await.unwrap();
        if list["items"][0]["metadata"]["state"] == "AVAILABLE" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(45), "it does not go on: {list}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("issued {:?} after there was room again", begun.elapsed());
    let (status, readiness) = daemon.api.send(Method::GET, "/readyz", None).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{readiness}");
    assert!(daemon.terminate().await.unwrap().success());
}

async fn below_a_one_shot(stage: &Fixture, disk: &Path) {
    let setup = setup(stage, disk, &["daemon", "one-shot"]);
    let run = || {
        let mut command = tokio::process::Command::from(setup.command(&["--renew-now"]).unwrap());
        command.kill_on_drop(true);
        command
    };
    let full = tokio::spawn(within("the one-shot on the full disk", run().output()));
    wait_for_records(stage).await;
    fill(disk);
    let begun = Instant::now();
    let full = full.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(40), "it does not end promptly: {:?}", begun.elapsed());
    let said = format!("{}{}", String::from_utf8_lossy(&full.stdout), String::from_utf8_lossy(&full.stderr));
    assert!(!full.status.success() && said.contains(FULL), "{:?}: {said}", full.status);

    make_room(disk);
    let after = within("the one-shot with room", run().output()).await.unwrap();
    assert!(after.status.success(), "{after:?}");
    let again = within("another one-shot", run().output()).await.unwrap();
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing is due"), "{again:?}");
}

/// Settings with an auto-certificate for each of these names; the state lies on the small disk, the log elsewhere.
fn setup(stage: &Fixture, disk: &Path, names: &[&str]) -> Setup {
    let server = stage.pebble.directory_url();
    let mut more = format!("[[provider]]\nkey = \"pebble\"\nemail = \"ops@example.com\"\nserver = \"{server}\"\n");
    for name in names {
        writeln!(more, "[[auto_certificate]]\nkey = \"{name}\"\nprovider = \"pebble\"").unwrap();
        writeln!(more, "common_name = \"{name}.disk.example\"").unwrap();
    }
    let setup = stage.setup(more);
    std::fs::create_dir_all(&setup.folder).unwrap();
    if !setup.state().exists() {
        std::os::unix::fs::symlink(disk.join("state"), setup.state()).unwrap();
        std::fs::create_dir_all(disk.join("state")).unwrap();
    }
    setup
}

async fn wait_for_records(stage: &Fixture) {
    let begun = Instant::now();
    while stage.dns.txt_records().is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing is being issued");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn fill(disk: &Path) {
    let mut ballast = std::fs::File::create(disk.join("ballast")).unwrap();
    for size in [65_536, 4_096, 1] {
        while ballast.write_all(&vec![0; size]).is_ok() {}
    }
}

fn make_room(disk: &Path) {
    std::fs::remove_file(disk.join("ballast")).unwrap();
}
