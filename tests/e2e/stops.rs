//! Stops and starts: running work parks itself, keys are never replaced, one daemon at a time.

use autocertd_support::timed::Timed;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::Duration;

use autocertd_support::daemon::Daemon;

use crate::fixture::{Fixture, auto_certificate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_parks_the_attempt_and_the_next_start_resumes_it() {
    let world = Fixture::start().await;
    world.dns.add_zone("park.example");
    world.dns.delay_records_in_dns(Duration::from_secs(2));
    let daemon = world.daemon().await;
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.park.example"]).await;
    daemon.api.wait_until(&path, |_| world.acme.count("new-order") == 1).await.unwrap();
    assert!(daemon.terminate().await.unwrap().success());

    let daemon = world.daemon().await;
    daemon.api.wait_until_available(&path).await.unwrap();
    assert_eq!(world.acme.count("new-order"), 1);
    assert!(daemon.log().contains("attempt resumed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_another_master_key_is_a_refusal_and_never_replaced() {
    let world = Fixture::start().await;
    let daemon = world.daemon().await;
    world.provider(&daemon).await;
    assert!(daemon.terminate().await.unwrap().success());
    let setup = world.setup();
    let (key, aside) = (setup.state().join("master.key"), world.folder.path().join("aside"));
    std::fs::rename(&key, &aside).unwrap();

    let missing = setup.command(&["serve"]).unwrap().timed_output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("master.key"), "{missing:?}");
    assert!(!key.exists(), "a key was made beside an existing database");

    let other = Fixture::start().await;
    drop(other.daemon().await);
    std::fs::copy(other.setup().state().join("master.key"), &key).unwrap();
    let wrong = setup.command(&["serve"]).unwrap().timed_output().unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");

    std::fs::rename(&aside, &key).unwrap();
    assert!(world.daemon().await.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_is_refused_and_health_is_told() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let down = setup.command(&["healthcheck"]).unwrap().timed_output().unwrap();
    assert_eq!(down.status.code(), Some(1));
    let daemon = world.daemon().await;
    assert!(setup.command(&["healthcheck"]).unwrap().timed_status().unwrap().success());
    let second = setup.command(&["serve"]).unwrap().timed_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another daemon"), "{second:?}");
    assert!(daemon.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_up_probe_waits_for_every_certificate() {
    let world = Fixture::start().await;
    world.dns.add_zone("probe.example");
    world.dns.delay_records_in_dns(Duration::from_secs(2));
    let setup = world.setup();
    let probe = || setup.command(&["healthcheck", "--issued"]).unwrap().timed_output().unwrap();
    let down = probe();
    assert_eq!(down.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&down.stderr).contains("no daemon answers"), "{down:?}");

    let daemon = world.daemon().await;
    let empty = probe();
    assert_eq!(empty.status.code(), Some(0), "{empty:?}");
    assert!(String::from_utf8_lossy(&empty.stdout).contains("nothing to wait for"), "{empty:?}");

    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.probe.example"]).await;
    let waiting = probe();
    assert_eq!(waiting.status.code(), Some(1), "{waiting:?}");
    let told = String::from_utf8_lossy(&waiting.stderr);
    assert!(told.contains("for www.probe.example (www.probe.example) is not in service: "), "{told}");

    daemon.api.wait_until_available(&path).await.unwrap();
    let issued = probe();
    assert_eq!(issued.status.code(), Some(0), "{issued:?}");
    assert!(String::from_utf8_lossy(&issued.stdout).contains("all in service: 1"), "{issued:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_made_listed_and_revoked_and_keys_rotated_beside_a_running_daemon() {
    let world = Fixture::start().await;
    let daemon = world.daemon().await;
    let setup = world.setup();
    let run = |arguments: &[&str]| {
        let output = setup.command(arguments).unwrap().timed_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let mut reader = daemon.api.clone();
    reader.token = run(&["token", "create", "reader", "--read-only"]);
    assert_eq!(reader.get("/providers").await.unwrap()["items"], serde_json::json!([]));
    assert!(reader.create("/providers", serde_json::json!({})).await.unwrap_err().to_string().contains("403"));
    let listed = run(&["token", "list"]);
    assert!(listed.contains("reader") && listed.contains("first-token"), "{listed}");
    assert!(!listed.contains(&reader.token));

    let provider = world.provider(&daemon).await;
    world.dns.add_zone("rotated.example");
    assert!(run(&["keys", "rotate"]).contains("sealed anew"));
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.rotated.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();

    run(&["token", "revoke", "reader"]);
    assert!(reader.get("/providers").await.unwrap_err().to_string().contains("401"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_checked_and_printed() {
    let world = Fixture::start().await;
    let setup = world.setup();
    for arguments in [&["--renew-now"][..], &["token", "list"], &["keys", "rotate"]] {
        let nowhere = setup.command(arguments).unwrap().timed_output().unwrap();
        assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
        assert!(String::from_utf8_lossy(&nowhere.stderr).contains("there is no database"), "{nowhere:?}");
        assert!(!setup.state().exists());
    }
    let printed = setup.command(&["check-config"]).unwrap().timed_output().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.status.success() && text.contains("accept_terms_of_service = true"), "{text}");
    assert!(!text.contains(&setup.cloud_dns_token), "{text}");

    for (settings, words) in [
        ("[acme]\naccept_terms = true\n", "line 3"),
        ("[acme]\nextra_roots = [\"/nowhere/root.pem\"]\n", "/nowhere/root.pem"),
        ("[dns.ionos]\nendpoint = \"http://dns.example.com\"\n", "dns.ionos.endpoint"),
        ("[dns.ionos]\ntoken_file = \"/nowhere/token\"\n", "/nowhere/token"),
        ("[store]\nurl = \"mysql://x\"\n", "sqlite:"),
        ("[log]\nfilter = \"a=b=c\"\n", "a=b=c"),
    ] {
        for command in ["check-config", "serve"] {
            let state = world.folder.path().join("untouched");
            let broken = world.folder.path().join("broken.toml");
            std::fs::write(&broken, format!("state_directory = \"{}\"\n{settings}", state.display())).unwrap();
            let refused =
                std::process::Command::new(&setup.binary).arg(command).arg("-c").arg(&broken).timed_output().unwrap();
            let told = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(2), "{command} {settings}: {told}");
            assert!(told.contains(words), "{command} {settings}: {told}");
            assert!(!state.exists(), "{command} {settings} left something behind");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_for_cloud_dns_the_api_serves_and_the_message_says_what_is_missing() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let settings = std::fs::read_to_string(setup.write_settings().unwrap()).unwrap();
    let path = world.folder.path().join("no-token.toml");
    let without: Vec<&str> = settings.lines().filter(|line| !line.starts_with("token_file")).collect();
    std::fs::write(&path, without.join("\n")).unwrap();
    let daemon = Daemon::start_with(&setup, &path).await.unwrap();
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.token.example"]).await;
    let failed = daemon.api.wait_until(&path, |seen| seen["metadata"]["state"] == "FAILED").await.unwrap();
    assert!(failed["metadata"]["message"].as_str().unwrap().contains("IONOS_TOKEN"), "{failed:#}");
}

/// Where root runs this, the state belongs to another user, as a service's does; else the two are the same and nothing may
/// change either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_leave_every_file_to_the_owner_of_the_state_directory() {
    let world = Fixture::start().await;
    let setup = world.setup();
    let settings = setup.write_settings().unwrap();
    std::fs::create_dir(setup.state()).unwrap();
    let own = setup.state().metadata().unwrap().uid();
    let owner = if own == 0 { NOBODY } else { own };
    chown(setup.state(), Some(owner), None).unwrap();
    // The checkout may be closed to that user.
    let binary = world.folder.path().join("autocertd-binary");
    std::fs::copy(&setup.binary, &binary).unwrap();
    let readable = std::fs::Permissions::from_mode(0o755);
    for path in [world.folder.path(), &setup.folder, &settings, &setup.folder.join("ionos-token"), &binary] {
        std::fs::set_permissions(path, readable.clone()).unwrap();
    }
    for (arguments, exit) in [(&["token", "create", "ops"][..], 0), (&["--renew-now"], 0), (&["keys", "rotate"], 0)] {
        let mut command = std::process::Command::new(&binary);
        let output = command.arg("--config").arg(&settings).args(arguments).timed_output().unwrap();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {output:?}");
    }
    let mut seen = 0;
    for entry in std::fs::read_dir(setup.state()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), owner, "{}", entry.path().display());
        seen += 1;
    }
    assert!(seen >= 3, "database, locks and key");
}

const NOBODY: u32 = 65_534;
