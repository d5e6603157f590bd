//! What clients of the API cannot steer, what others on the machine can read, and settings that are there in part.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use autocertd_support::daemon::{Daemon, Setup, signal};
use autocertd_support::wait::{read_lines, wait_for_lines, wait_for_some, write_script};
use serde_json::json;

use crate::declared::stop;
use crate::deliveries::asked;
use crate::fixture::{Fixture, id_of};
use crate::one_shot::run;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn hook(key: &str, matching: &str, script: &Path) -> String {
    format!("[[delivery]]\nkey = \"{key}\"\nmatch = {matching}\nhook.command = [\"{}\", \"{key}\"]\n", script.display())
}

/// Waits until the only delivery has its certificate.
async fn await_delivered(setup: &Setup) {
    for _ in 0..300 {
        let (_, rows) = asked(setup, "deliveries").await;
        if rows[0]["state"] == "delivered" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing was delivered: {:?}", asked(setup, "deliveries").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_the_api_gives_run_no_hook_of_a_declared_delivery() {
    let world = Fixture::start().await;
    for zone in ["steered.example", "attack.example"] {
        world.dns.add_zone(zone);
    }
    let (script, told) = (world.at("hook"), world.at("told"));
    write_script(&script, &format!("#!/bin/sh\necho \"$1 $AUTOCERTD_COMMON_NAME\" >> {}\n", told.display()));
    let deliveries = [
        hook("by-key", "[\"www\"]", &script),
        hook("by-names", "[\"*.steered.example\"]", &script),
        hook("both", "[\"*.steered.example\", \"*.attack.example\"]", &script),
    ];
    let setup = world.declaring(&format!("{}{}", world.usual(&["www.steered.example"]), deliveries.concat()));
    let daemon = Daemon::start(&setup).await.unwrap();
    wait_for_lines(&told, 3).await;

    let provider = world.provider(&daemon).await;
    let names = ["evil.attack.example", "shop.steered.example"];
    for (common_name, other) in [(names[0], names[1]), (names[1], names[0])] {
        let properties = json!({
            "provider": provider, "commonName": common_name, "keyAlgorithm": "secp256r1",
            "name": "www", "subjectAlternativeNames": [other],
        });
        let made = daemon.api.create("/auto-certificates", properties).await.unwrap();
        daemon.api.wait_until_available(&format!("/auto-certificates/{}", id_of(&made))).await.unwrap();
    }
    // Those that one delivery takes in whole have been delivered: the others would have, too.
    wait_for_lines(&told, 5).await;
    let mut told = read_lines(&told);
    told.sort();
    let expected = [
        "both evil.attack.example",
        "both shop.steered.example",
        "both www.steered.example",
        "by-key www.steered.example",
        "by-names www.steered.example",
    ];
    assert_eq!(told, expected);
    let (_, rows) = asked(&setup, "deliveries").await;
    assert_eq!(rows.as_array().unwrap().len(), 5, "{rows:#}");
    stop(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_can_read_is_warned_of_and_a_token_is_cleaned_or_refused() {
    let world = Fixture::start().await;
    let setup = world.declaring("[[delivery]]\nkey = \"web\"\nmatch = [\"nowhere\"]\nhook.command = [\"/bin/true\"]\n");
    let settings = setup.write_settings().unwrap();
    let token = setup.folder.join("ionos-token");
    fs::create_dir_all(setup.state()).unwrap();
    chmod(&setup.state(), 0o755);
    chmod(&token, 0o644);
    chmod(&setup.folder, 0o755);
    chmod(world.folder.path(), 0o755);
    let check = async || {
        let mut command = tokio::process::Command::new(&setup.binary);
        command
            .arg("--config")
            .arg(&settings)
            .arg("check-config")
            .env_remove("IONOS_TOKEN")
            .env_remove("AUTOCERTD_LOG");
        let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await.unwrap().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let words = [
        format!("can read {}", token.display()),
        format!("look into the state directory {}", setup.state().display()),
        "match has \\\"nowhere\\\", which is the key of no".to_owned(),
    ];
    let (code, said) = check().await;
    assert_eq!(code, Some(0), "{said}");
    for words in &words {
        assert_eq!(said.matches(words).count(), 1, "{words}: {said}");
    }
    let daemon = Daemon::start_with(&setup, &settings).await.unwrap();
    let log = daemon.log();
    for words in &words {
        assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    }
    stop(daemon).await;

    chmod(&setup.state(), 0o700);
    chmod(&token, 0o600);
    let (code, said) = check().await;
    assert!(code == Some(0) && !said.contains("everybody on this machine"), "{said}");
    for (text, words) in [
        ("Bearer \"abc.def\"\r\n", None),
        ("s3cret-one s3cret-two", Some("has blanks before, in or after the secret")),
        ("IONOS_TOKEN=s3cret", Some("has characters that no token has")),
    ] {
        fs::write(&token, text).unwrap();
        let (code, said) = check().await;
        assert_eq!(code, Some(if words.is_some() { 2 } else { 0 }), "{said}");
        assert!(words.is_none_or(|words| said.contains(words) && said.contains("ionos-token")), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dangling_link_in_conf_d_deletes_nothing_and_refuses_a_reload() {
    let world = Fixture::start().await;
    world.dns.add_zone("parted.example");
    let setup = world.declaring("[declared]\nprune = true\n");
    let fragments = setup.folder.join("conf.d");
    fs::create_dir_all(&fragments).unwrap();
    let shop = fragments.join("10-shop.toml");
    let script = world.at("hook");
    let told = world.at("told");
    write_script(&script, &format!("#!/bin/sh\necho \"$AUTOCERTD_KEY\" >> {}\n", told.display()));
    let text = world.usual(&["www.parted.example"]) + &hook("web", "[\"www\"]", &script);
    fs::write(&shop, &text).unwrap();
    fs::write(fragments.join("10-shop.toml~"), "left behind").unwrap();
    let daemon = Daemon::start(&setup).await.unwrap();
    await_delivered(&setup).await;

    let dangle = || {
        fs::remove_file(&shop).unwrap();
        symlink("/nowhere/shop.toml", &shop).unwrap();
    };
    dangle();
    signal(daemon.pid(), "HUP").unwrap();
    let refused = || Some(daemon.log()).filter(|log| log.contains("the settings were not taken"));
    let log = wait_for_some("the refusal", refused).await;
    assert!(log.contains("10-shop.toml is a link to a file that does not exist"), "{log}");
    stop(daemon).await;

    // At a start the rest goes on, and nothing is taken as declared no longer.
    let daemon = Daemon::start(&setup).await.unwrap();
    let listed = daemon.api.get("/auto-certificates").await.unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed:#}");
    assert!(daemon.log().contains("what that file declares is not known"), "{}", daemon.log());
    stop(daemon).await;

    fs::remove_file(&shop).unwrap();
    fs::write(&shop, &text).unwrap();
    let daemon = Daemon::start(&setup).await.unwrap();
    await_delivered(&setup).await;
    assert_eq!(read_lines(&told), ["www"], "what was delivered is remembered");
    stop(daemon).await;

    // A file that is gone on purpose is pruned.
    fs::remove_file(&shop).unwrap();
    let daemon = Daemon::start(&setup).await.unwrap();
    let listed = daemon.api.get("/auto-certificates").await.unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 0, "{listed:#}");
    assert!(run(&setup, &["check-config"]).await.status.success());
    stop(daemon).await;
}
