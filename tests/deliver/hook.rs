//! Hooks that end well, fail, hang, flood and are given up; and what they see.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use autocertd::config::delivery::HookEntry;
use autocertd::config::time_span::TimeSpan;
use autocertd::deliver::hook::{Hook, HookEnvironment, HookEvent};
use autocertd::domain::certificate::fingerprint::Fingerprint;
use autocertd::domain::failure::disposition::{Disposition, Failure};

use crate::fixture::{any_payload, is_running, kill_process, wait_for_exit, wait_for_pids, write_script};

#[tokio::test]
async fn the_environment_is_what_is_documented_and_nothing_else() {
    assert!(
        std::env::vars_os().any(|(name, _)| !KEPT.iter().any(|kept| name == *kept)),
        "there is nothing that could leak"
    );
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let parcel = any_payload();
    let environment = HookEnvironment::from_payload(
        HookEvent::Deployed,
        &"nginx".parse().unwrap(),
        &parcel,
        Some(Path::new("/srv/certs/shop")),
    )
    .unwrap();
    let hook = hook(&["/bin/cp", "/proc/self/environ", seen.to_str().unwrap()], LONG);
    hook.run(environment).await.unwrap();

    let text = String::from_utf8(std::fs::read(seen).unwrap()).unwrap();
    let seen: BTreeMap<&str, &str> =
        text.split_terminator('\0').map(|variable| variable.split_once('=').unwrap()).collect();
    let own: Vec<(&str, String)> = KEPT.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect();
    let fingerprint = Fingerprint::from_pem(&parcel.leaf_pem).unwrap().to_string();
    let not_after = parcel.leaf.not_after.to_string();
    let mut expected = BTreeMap::from([
        ("AUTOCERTD_EVENT", "deployed"),
        ("AUTOCERTD_DELIVERY", "nginx"),
        ("AUTOCERTD_NAME", "the shop's front"),
        ("AUTOCERTD_KEY", "shop"),
        ("AUTOCERTD_COMMON_NAME", "www.example.com"),
        ("AUTOCERTD_NAMES", "www.example.com example.com"),
        ("AUTOCERTD_DIRECTORY", "/srv/certs/shop"),
        ("AUTOCERTD_CERTIFICATE_ID", "00000000-0000-0000-0000-000000000002"),
        ("AUTOCERTD_SERIAL_NUMBER", parcel.leaf.serial_number.as_str()),
        ("AUTOCERTD_NOT_AFTER", not_after.as_str()),
        ("AUTOCERTD_FINGERPRINT", fingerprint.as_str()),
    ]);
    expected.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_hook_that_fails_is_quoted() {
    let failure = run("echo one; echo two >&2; exit 3", LONG).await.unwrap_err();
    assert_eq!(failure.message, "the hook /bin/sh failed (exit status: 3); it said: one | two");
    assert_eq!(failure.disposition, Disposition::RETRY);
    let failure = run("kill -SEGV $$", LONG).await.unwrap_err();
    assert!(failure.message.contains("signal: 11") && failure.message.ends_with("it said nothing"), "{failure}");
}

#[tokio::test]
async fn what_a_hook_prints_cannot_steer_a_terminal() {
    let failure = run("printf '\\033[2J\\377\\000\\007bell\\n'; exit 1", LONG).await.unwrap_err();
    assert!(failure.message.ends_with("it said: [2J\u{fffd} bell"), "{:?}", failure.message);
}

#[tokio::test]
async fn a_flood_is_drained_and_not_kept() {
    let failure = run("head -c 400000000 /dev/zero; echo; echo the end >&2; exit 1", LONG).await.unwrap_err();
    assert_eq!(failure.message, "the hook /bin/sh failed (exit status: 1); it said: the end");
    assert!(resident_bytes() < 400_000_000, "the flood was kept");
}

#[tokio::test]
async fn a_hook_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let failure = run(&hanging(&pids), TimeSpan::seconds(2)).await.unwrap_err();
    let expected = "the hook /bin/sh had not ended after 2s and was killed with all that it started";
    assert!(failure.message.starts_with(expected) && failure.message.ends_with("it said: waiting"), "{failure}");
    for pid in wait_for_pids(&pids, 3).await {
        wait_for_exit(pid).await;
    }
}

#[tokio::test]
async fn a_hook_that_is_given_up_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = hanging(&pids);
    let task = tokio::spawn(async move { run(&script, LONG).await });
    let started = wait_for_pids(&pids, 3).await;
    assert!(started.iter().all(|pid| is_running(*pid)));
    task.abort();
    for pid in started {
        wait_for_exit(pid).await;
    }
}

/// A hook may start what is to stay, even where that keeps the hook's output open.
#[tokio::test]
async fn what_a_hook_leaves_behind_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let begun = Instant::now();
    run(&format!("sleep 1000 & echo $! > {}", pids.display()), LONG).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    let left = wait_for_pids(&pids, 1).await[0];
    assert!(is_running(left));
    kill_process(left);
}

#[tokio::test]
async fn a_hook_reads_nothing_and_stands_at_the_root() {
    run("test -z \"$(cat)\" && test \"$(pwd)\" = /", LONG).await.unwrap();
}

#[tokio::test]
async fn a_hook_that_cannot_be_started_waits_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, closed, torn) = ("/nowhere/hook", folder.path().join("closed"), folder.path().join("torn"));
    std::fs::write(&closed, "#!/bin/sh\n").unwrap();
    write_script(&torn, "#!/nowhere/sh\n");
    for (program, words) in
        [(missing, "install it"), (closed.to_str().unwrap(), "executable"), (torn.to_str().unwrap(), "its first line")]
    {
        let failure = hook(&[program], LONG).run(environment()).await.unwrap_err();
        assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
        assert!(failure.message.contains(program) && failure.message.contains(words), "{failure}");
    }
}

/// Writes the numbers of a child, of one in a session of its own, and of the hook itself; then waits for ever.
fn hanging(pids: &Path) -> String {
    let pids = pids.display();
    format!(
        "sleep 1000 & echo $! > {pids}; setsid sleep 1000 & echo $! >> {pids}; echo waiting; echo $$ >> {pids}; wait"
    )
}

async fn run(script: &str, timeout: TimeSpan) -> Result<(), Failure> {
    hook(&["/bin/sh", "-c", script], timeout).run(environment()).await
}

fn hook(command: &[&str], timeout: TimeSpan) -> Hook {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Hook::new(&HookEntry { command, timeout }).unwrap()
}

fn environment() -> HookEnvironment {
    HookEnvironment::from_payload(HookEvent::Deployed, &"nginx".parse().unwrap(), &any_payload(), None).unwrap()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What a hook sees of autocertd's own environment.
const KEPT: [&str; 3] = ["PATH", "HOME", "LANG"];

const LONG: TimeSpan = TimeSpan::seconds(60);
