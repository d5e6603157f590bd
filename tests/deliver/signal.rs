//! Signals to real processes, found by their number and by their name.

use autocertd_support::timed::{Timed, TimedChild};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use autocertd::config::delivery::ReloadEntry;
use autocertd::deliver::reload::{Reload, ReloadContext, ReloadReached};
use autocertd::domain::failure::disposition::{Disposition, Failure};
use autocertd::runtime::randomness::Randomness;

use crate::fixture::{OwnProcess, wait_for_lines, wait_for_some, write_script};

#[tokio::test]
async fn the_process_of_a_pid_file_gets_the_signal() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let traps: String = ["HUP", "USR1", "USR2", "WINCH"]
        .map(|name| format!("trap 'echo {name} >> {}' {name}\n", seen.display()))
        .concat();
    let script = format!("{traps}echo ready > {}\nwhile :; do sleep 0.02; done", seen.display());
    let service = OwnProcess::start(heeding_hangups("/bin/sh").args(["-c", &script]));
    wait_for_lines(&seen, 1).await;
    let pid_file = folder.path().join("service.pid");
    // As PostgreSQL writes it, with more below; and with blanks, as Postfix does.
    std::fs::write(&pid_file, format!("   {}\n/var/lib/service\n", service.pid())).unwrap();
    let target = format!("pid_file = '{}'", pid_file.display());

    for (count, (setting, name)) in
        [("", "HUP"), ("signal = 'USR1'", "USR1"), ("signal = 'SIGUSR2'", "USR2"), ("signal = 'winch'", "WINCH")]
            .into_iter()
            .enumerate()
    {
        reload(&format!("{target}\n{setting}")).await.unwrap();
        assert_eq!(wait_for_lines(&seen, count + 2).await[count + 1], name);
    }
}

#[tokio::test]
async fn of_a_master_and_its_workers_the_master_gets_the_signal() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    // Longer than the kernel keeps a name, which it takes from the script.
    let name = format!("ng-{}-with-a-long-name", std::process::id());
    let path = folder.path().join(&name);
    let rest = "while :; do sleep 0.02; done";
    let worker = format!("( trap 'echo worker >> {0}' HUP; echo ready >> {0}; {rest} ) &\n", seen.display());
    let master = format!("trap 'echo master >> {0}' HUP; echo ready >> {0}; {rest}\n", seen.display());
    write_script(&path, &format!("#!/bin/sh\n{worker}{worker}{worker}{master}"));
    let service = OwnProcess::start(&mut heeding_hangups(path.to_str().unwrap()));
    wait_for_lines(&seen, 4).await;
    assert!(await_comm(&service).await.starts_with("ng-"));

    for count in 1..=3 {
        reload(&format!("process = '{name}'")).await.unwrap();
        wait_for_lines(&seen, 4 + count).await;
    }
    assert_eq!(std::fs::read_to_string(&seen).unwrap().lines().skip(4).collect::<Vec<_>>(), ["master"; 3]);
}

#[tokio::test]
async fn a_process_that_is_not_there_is_a_passing_fault() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("service.pid");
    let target = format!("pid_file = '{}'", pid_file.display());
    let failure = reload(&target).await.unwrap_err();
    assert!(
        failure.message.contains("cannot be read") && failure.message.contains("is the service running"),
        "{failure}"
    );

    let mut child = Command::new("/bin/true").spawn().unwrap();
    child.timed_wait().unwrap();
    std::fs::write(&pid_file, child.id().to_string()).unwrap();
    let failure = reload(&target).await.unwrap_err();
    assert!(failure.message.starts_with(&format!("there is no process {}", child.id())), "{failure}");

    for nonsense in ["", "nginx", "0", "-1", "99999999999"] {
        std::fs::write(&pid_file, nonsense).unwrap();
        let failure = reload(&target).await.unwrap_err();
        assert!(failure.message.contains("holds no process number"), "{nonsense}: {failure}");
    }
    let failure = reload("process = 'no-such-service'").await.unwrap_err();
    assert_eq!(failure.disposition, Disposition::RETRY);
    assert!(failure.message.contains("shareProcessNamespace"), "{failure}");
}

#[tokio::test]
async fn who_need_not_run_is_told_when_he_runs_and_missed_when_not() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("app.pid");
    let by_file = format!("pid_file = '{}'\nif_running = true", pid_file.display());
    assert_eq!(reload(&by_file).await, Ok(ReloadReached::NotRunning), "there is no file");
    std::fs::write(&pid_file, "4194304").unwrap();
    assert_eq!(reload(&by_file).await, Ok(ReloadReached::NotRunning), "there is no process of this number");
    assert_eq!(reload("process = 'no-such-thing'\nif_running = true").await, Ok(ReloadReached::NotRunning));
    std::fs::write(&pid_file, "no number").unwrap();
    assert!(reload(&by_file).await.is_err(), "what is no pid file is told of");
    let service = OwnProcess::start(Command::new("/bin/sleep").arg("600"));
    std::fs::write(&pid_file, service.pid().to_string()).unwrap();
    assert_eq!(reload(&format!("{by_file}\nsignal = 'WINCH'")).await, Ok(ReloadReached::Service));
}

#[tokio::test]
async fn what_is_no_plain_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("service.pid");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [pipe.as_path(), folder.path()] {
        let entry = format!("pid_file = '{}'", path.display());
        let failure = tokio::time::timeout(Duration::from_secs(20), reload(&entry)).await.unwrap().unwrap_err();
        assert!(failure.message.contains("it is no regular file"), "{failure}");
    }
}

#[tokio::test]
async fn autocertd_sends_itself_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("service.pid");
    std::fs::write(&pid_file, std::process::id().to_string()).unwrap();
    let failure = reload(&format!("pid_file = '{}'\nsignal = 'WINCH'", pid_file.display())).await.unwrap_err();
    assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
    assert!(failure.message.contains("is autocertd itself"), "{failure}");
}

/// Root may signal everybody, so where root runs this, the look is taken by a copy of this program as another user.
#[test]
fn what_belongs_to_another_user_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [folder.path(), &program] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(&program);
    command.args(["--ignored", "--exact", "signal::another_users_process_gets_no_signal"]).current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.timed_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
#[ignore = "the test above runs it as another user than root"]
async fn another_users_process_gets_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("first.pid");
    std::fs::write(&pid_file, "1").unwrap();
    // Which the first process, root's, would ignore anyway.
    let failure = reload(&format!("pid_file = '{}'\nsignal = 'WINCH'", pid_file.display())).await.unwrap_err();
    assert_eq!(failure.disposition, Disposition::Operator, "{failure}");
    assert!(failure.message.contains("SIGWINCH may not be sent to process 1"), "{failure}");
    assert!(failure.message.contains("runAsUser"), "{failure}");
}

/// A program that heeds SIGHUP even where the tests run under nohup(1): a shell cannot trap what was ignored before it.
fn heeding_hangups(program: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", program]);
    command
}

async fn await_comm(process: &OwnProcess) -> String {
    let path = format!("/proc/{}/comm", process.pid());
    wait_for_some("the start of the script", || std::fs::read_to_string(Path::new(&path)).ok()).await
}

async fn reload(entry: &str) -> Result<ReloadReached, Failure> {
    let entry: ReloadEntry = toml::from_str(entry).unwrap();
    let around = ReloadContext::installed(Randomness::from_seed(1));
    Reload::new(&entry, &"nginx".parse().unwrap(), &around).unwrap().run().await
}

const NOBODY: u32 = 65_534;
