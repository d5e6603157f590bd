//! What others of the daemon's user see of it.

use autocertd_support::timed::{Timed, TimedChild};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::Fixture;

const NOBODY: u32 = 65_534;
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// A command as a user without capabilities; where root runs the tests, as nobody.
fn as_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if nix::unistd::Uid::effective().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn refusal(process: &Child, name: &str) -> Option<String> {
    let path = format!("/proc/{}/{name}", process.id());
    // `test -r` and its like look at the modes alone: it is opened.
    let output = as_user("head").args(["-c", "1", &path]).timed_output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_of_the_same_user_reads_nothing_of_it() {
    let world = Fixture::start().await;
    let setup = world.setup();
    // The checkout may be closed to that user.
    let binary = world.folder.path().join("autocertd-binary");
    fs::copy(&setup.binary, &binary).unwrap();
    for path in [world.folder.path(), &binary] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // It reads its standard input before anything else, and so waits.
    let mut waiting = as_user(&binary)
        .args(["restore", "-"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let open = as_user("sleep").arg("60").spawn().unwrap();
    let begun = Instant::now();
    while refusal(&waiting, "environ").is_none() {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "its environment stays open");
    }
    for name in ["environ", "mem", "maps", "root/proc/self/comm", "cwd/etc/hostname"] {
        let refused = refusal(&waiting, name).unwrap_or_default();
        assert!(refused.contains("Permission denied"), "{name}: {refused}");
    }
    assert!(waiting.try_wait().unwrap().is_none(), "it has ended");
    assert!(refusal(&open, "environ").is_none(), "the question itself is at fault");
    for mut process in [waiting, open] {
        process.kill().unwrap();
        process.timed_wait().unwrap();
    }
}
