//! Units through systemctl. No systemd runs where these tests run, so a script stands in for systemctl, and says what the
//! real one says; one test asks the real one.

use std::path::Path;

use autocertd::config::delivery::ReloadEntry;
use autocertd::config::time_span::TimeSpan;
use autocertd::deliver::reload::{Reload, ReloadContext, ReloadReached};
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::runtime::randomness::Randomness;
use tempfile::TempDir;

use crate::fixture::{wait_for_exit, wait_for_pids, write_script};

#[tokio::test]
async fn systemctl_is_asked_for_a_reload_or_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let systemctl = stand_in(&folder, &format!("echo \"$@\" >> {0}; env | sort >> {0}", seen.display()));
    reload("unit = 'nginx.service'", &systemctl).await.unwrap();
    reload("unit = 'haproxy@edge.service'\nrestart = true", &systemctl).await.unwrap();
    let text = std::fs::read_to_string(seen).unwrap();
    let options = "--system --no-ask-password --no-pager --quiet";
    let (calls, environment): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("--"));
    assert_eq!(
        calls,
        [format!("{options} reload-or-restart -- nginx.service"), format!("{options} restart -- haproxy@edge.service")]
    );
    let names: Vec<&str> = environment.iter().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names[..3], ["LC_ALL", "PATH", "PWD"], "{environment:?}");
    assert_eq!(names.len(), 6, "{environment:?}");
}

#[tokio::test]
async fn what_systemctl_refuses_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    for (said, disposition, words) in [
        ("Failed to reload x.service: Interactive authentication required.", Disposition::Operator, "docs/systemd.md"),
        ("Failed to restart x.service: Unit x.service not found.", Disposition::Operator, "systemctl list-units"),
        (
            "Job for x.service failed because the control process exited.",
            Disposition::RETRY,
            "Job for x.service failed",
        ),
    ] {
        let systemctl = stand_in(&folder, &format!("echo '{said}' >&2; exit 4"));
        let failure = reload("unit = 'x.service'", &systemctl).await.unwrap_err();
        assert_eq!(failure.disposition, disposition, "{failure}");
        assert!(
            failure.message.starts_with("systemctl reload-or-restart x.service failed (exit status: 4)"),
            "{failure}"
        );
        assert!(failure.message.contains(said) && failure.message.contains(words), "{failure}");
    }
    let systemctl = stand_in(&folder, "echo 'Running in chroot, ignoring command reload-or-restart'");
    let failure = reload("unit = 'x.service'", &systemctl).await.unwrap_err();
    assert!(failure.message.contains("systemd does not answer here"), "{failure}");
}

#[tokio::test]
async fn a_systemctl_that_hangs_is_given_up_and_one_that_is_missing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let systemctl = stand_in(&folder, &format!("echo $$ > {}; exec sleep 1000", pids.display()));
    let failure = reload("unit = 'x.service'\ntimeout = '2s'", &systemctl).await.unwrap_err();
    assert!(failure.message.contains("had not ended after 2s; systemd may still be at it"), "{failure}");
    wait_for_exit(wait_for_pids(&pids, 1).await[0]).await;

    let failure = reload("unit = 'x.service'", Path::new("/nowhere/systemctl")).await.unwrap_err();
    assert_eq!(failure.disposition, Disposition::Operator);
    assert!(
        failure.message.contains("cannot be started") && failure.message.contains("use signal or url"),
        "{failure}"
    );
}

/// Where no systemd runs it says so; where one runs there is no such unit.
#[tokio::test]
async fn the_real_systemctl_is_understood() {
    let failure = reload("unit = 'autocertd-test-nowhere.service'", Path::new("systemctl")).await.unwrap_err();
    assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
    let words = ["systemd does not answer here", "systemctl list-units"];
    assert!(words.iter().any(|words| failure.message.contains(words)), "{failure}");
}

#[test]
fn what_cannot_be_reloaded_is_refused_at_the_start() {
    for (entry, words) in [
        ("unit = 'nginx'", "nginx.service"),
        ("unit = '--root=/x.service'\nhelper = true", "is not the name of a unit"),
        ("pid_file = '/run/x.pid'\nsignal = 'KILL'", "WINCH"),
        ("url = 'ftp://127.0.0.1/'", "is not an http or https URL"),
        ("process = 'x'\nurl = 'http://127.0.0.1/'", "exactly one of"),
    ] {
        let entry: ReloadEntry = toml::from_str(entry).unwrap();
        let around = ReloadContext::installed(Randomness::from_seed(1));
        let error = Reload::new(&entry, &"x".parse().unwrap(), &around).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

fn stand_in(folder: &TempDir, script: &str) -> std::path::PathBuf {
    let path = folder.path().join("systemctl");
    write_script(&path, &format!("#!/bin/sh\n{script}\n"));
    path
}

async fn reload(entry: &str, systemctl: &Path) -> Result<ReloadReached, Failure> {
    let mut entry: ReloadEntry = toml::from_str(entry).unwrap();
    entry.timeout = entry.timeout.min(TimeSpan::seconds(20));
    let mut around = ReloadContext::installed(Randomness::from_seed(1));
    around.systemctl = systemctl.to_owned();
    Reload::new(&entry, &"nginx".parse().unwrap(), &around).unwrap().run().await
}
