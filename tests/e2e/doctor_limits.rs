//! `autocertd doctor` of what is only declared, of a thousand, of what hangs, on a terminal, and without IONOS.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::Action;
use autocertd_support::loopback;
use autocertd_support::timed::TimedChild;
use autocertd_support::wait::wait_for_some;
use serde_json::Value;

use crate::doctor::{assert_found, clinic, doctor_with, journal};
use crate::fixture::Fixture;
use crate::one_shot::{json_of, run};
use crate::thousand::{COUNT, fill};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_is_checked_before_the_first_start_and_beside_what_is_stored() {
    let world = Fixture::start().await;
    world.dns.add_zone("declared.test");
    let more = format!(
        "[[provider]]\nkey = \"le\"\nname = \"Declared CA\"\nemail = \"ops@example.com\"\nserver = \"{}\"\n\
         [[auto_certificate]]\nkey = \"web\"\nprovider = \"le\"\ncommon_name = \"www.declared.test\"\n",
        world.directory()
    );
    let setup = Setup { more, ..world.setup() };
    for names in [&[][..], &["web"], &["www.declared.test"]] {
        let findings = doctor_with(&setup, |settings| settings, &[names, &["--json"]].concat(), 0).await;
        assert_found(&findings, "directory", "ok", &["answers"]);
        assert_found(&findings, "account", "skipped", &["there is no database yet"]);
        assert_found(&findings, "zone", "ok", &["for _acme-challenge.www.declared.test"]);
        assert_found(&findings, "caa", "ok", &["every CA may issue"]);
        assert_found(&findings, "canary", "skipped", &["there is no database"]);
        assert!(!setup.state().exists(), "nothing is made");
    }

    // Once it is stored, it is looked at as it is stored, and once.
    let daemon = Daemon::start(&setup).await.unwrap();
    let another = Setup {
        more: setup.more.replace(
            "[[auto",
            "[[provider]]\nkey = \"new\"\nemail = \"a@example.com\"\nserver = \"https://127.0.0.1:1/dir\"\n[[auto",
        ),
        ..setup.clone()
    };
    let findings = doctor_with(&another, |settings| settings, &["--json"], 1).await;
    let directories: Vec<&Value> =
        findings.as_array().unwrap().iter().filter(|finding| finding["check"] == "directory").collect();
    assert_eq!(directories.len(), 2, "{directories:?}");
    assert_eq!((&directories[0]["about"]["name"], &directories[0]["verdict"]), (&"Declared CA".into(), &"ok".into()));
    assert_eq!((&directories[1]["about"]["name"], &directories[1]["verdict"]), (&"new".into(), &"fault".into()));
    assert!(daemon.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_are_checked_within_the_minute_and_share_what_is_the_same() {
    let world = Fixture::start().await;
    world.dns.add_zone("thousand.example");
    let setup = world.setup();
    fill(&setup, &world).await;
    let begun = Instant::now();
    let page = run(&setup, &["doctor"]).await;
    println!("doctor: {COUNT} in {:?}", begun.elapsed());
    let text = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert!(
        text.contains(&format!("\n{COUNT} names\n")) && text.contains("_acme-challenge.NAME is no alias"),
        "{text}"
    );
    assert!(text.lines().count() < 100, "{text}");
    let made = world.dns.requests().iter().filter(|request| request.method == "POST").count();
    assert!(made <= 1, "one canary for the zone, and not {made}");
    assert!(world.acme.count("directory") <= 3, "{}", world.acme.count("directory"));
    assert_eq!(world.challenge_records(), Vec::<String>::new());

    // Every check of every name is there, and what the limit cuts off is skipped, and said.
    let begun = Instant::now();
    let cut_off = run(&setup, &["doctor", "--json", "--timeout", "1s", "--no-canary"]).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let findings = json_of(&cut_off);
    let of_names = findings.as_array().unwrap().iter().filter(|finding| finding["about"]["kind"] == "name").count();
    if of_names > 0 {
        assert_eq!(of_names, COUNT * 6);
    }
    assert_found(&findings, if of_names > 0 { "caa" } else { "database" }, "skipped", &["out of time"]);
    assert_eq!(cut_off.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_is_left_alone_in_time_and_skipped() {
    let (world, setup) = clinic(&["www.hang.test"]).await;
    world.dns.add_zone("hang.test");
    world.acme.set_hook(Box::new(|_| Action::Stall(Duration::from_mins(5))));
    let begun = Instant::now();
    let findings = doctor_with(&setup, |settings| settings, &["--json", "--timeout", "4s"], 1).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_found(&findings, "directory", "skipped", &["out of time: https://", "has not answered yet"]);
    assert_found(&findings, "account", "skipped", &["out of time"]);
    world.acme.set_hook(Box::new(|_| Action::Pass));

    // A server that takes every question and answers none.
    let silent = std::net::UdpSocket::bind(loopback::own_address()).unwrap();
    let (asked, address) = (setup.dns_server.to_string(), silent.local_addr().unwrap().to_string());
    let begun = Instant::now();
    let mute = |settings: String| settings.replace(&asked, &address);
    let findings = doctor_with(&setup, mute, &["--json", "--timeout", "2s"], 1).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_found(&findings, "directory", "ok", &["answers"]);
    assert_found(&findings, "aliases", "skipped", &["out of time"]);
    assert_found(&findings, "canary", "skipped", &["out of time"]);
    let page =
        run(&Setup { dns_server: silent.local_addr().unwrap(), ..setup }, &["doctor", "--problems", "--timeout", "2s"])
            .await;
    let text = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(text.contains("Checks that were cut off, out of time: ") && text.contains("--timeout 10m"), "{text}");
    assert!(!text.contains("  ok  "), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_on_a_terminal_takes_the_canary_and_the_line_away() {
    let (world, setup) = clinic(&["www.terminal.test"]).await;
    world.dns.add_zone("terminal.test");
    let behind = world.dns.add_lagging_server().await.unwrap();
    let both = format!("servers = [\"{}\", \"{}\"]", setup.dns_server, behind.addr());
    let settings = std::fs::read_to_string(setup.write_settings().unwrap()).unwrap();
    let settings = settings.replacen(&format!("servers = [\"{}\"]", setup.dns_server), &both, 1);
    let path = setup.folder.join("terminal.toml");
    std::fs::write(&path, settings).unwrap();

    // script(1) gives it a terminal, and passes on what is typed.
    let command = format!("exec '{}' --config '{}' doctor www.terminal.test", setup.binary.display(), path.display());
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &command, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = script.spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        screen.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    wait_for_some("the canary", || (!world.challenge_records().is_empty()).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    keyboard.write_all(b"\x03").unwrap();
    let status = tokio::task::spawn_blocking(move || child.timed_wait()).await.unwrap().unwrap();
    drop(keyboard);
    let text = reader.join().unwrap().unwrap();
    assert_eq!(status.code(), Some(1), "{text:?}");
    assert!(text.contains("waiting until the canary record at _acme-challenge.www.terminal.test is seen"), "{text:?}");
    assert!(text.contains("interrupted; removing canary records"), "{text:?}");
    assert!(text.contains("interrupted; the record is removed"), "{text:?}");
    let (before, after) = text.split_once("interrupted; removing").unwrap();
    assert!(
        before.trim_end_matches('\r').ends_with("\x1b[2K") || before.ends_with('\n'),
        "the line is cleared: {before:?}"
    );
    assert!(!after.contains("waiting until"), "and is not drawn again: {after:?}");
    assert_eq!(text.matches("\x1b[?25l").count(), text.matches("\x1b[?25h").count(), "the cursor is shown");
    assert_eq!(world.challenge_records(), Vec::<String>::new());
    assert_eq!(journal(&setup.state().join("autocertd.db")).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_ionos_is_told_of_its_token() {
    let world = Fixture::start().await;
    let declared = format!(
        "[[provider]]\nkey = \"le\"\nemail = \"ops@example.com\"\nserver = \"{}\"\n\
         [[auto_certificate]]\nkey = \"web\"\nprovider = \"le\"\ncommon_name = \"www.office.test\"\n",
        world.directory()
    );
    let adapter = "[dns.adapter.office]\ntype = \"exec\"\ncommand = [\"/bin/true\"]\n\
                   [[dns.zone]]\nsuffix = \"office.test\"\nadapter = \"office\"\n";
    let office = Setup { cloud_dns_token: String::new(), more: format!("{adapter}{declared}"), ..world.setup() };
    let daemon = Daemon::start(&office).await.unwrap();
    for arguments in [&["check-config"][..], &["doctor"], &["doctor", "www.elsewhere.test", "--json"]] {
        let output = run(&office, arguments).await;
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!told.contains("IONOS"), "{arguments:?}: {told}");
        if arguments.len() == 3 {
            assert!(
                told.contains("no [[dns.zone]] leads _acme-challenge.www.elsewhere.test to a DNS adapter"),
                "{told}"
            );
        }
    }
    assert!(!daemon.log().contains("IONOS"), "{}", daemon.log());
    assert!(daemon.terminate().await.unwrap().success());

    // Who has names and no adapter at all is told both ways out; who has a route to it, of the token.
    let nothing = Setup { more: declared, ..office };
    let daemon = Daemon::start(&nothing).await.unwrap();
    let warning = "no DNS adapter is set up: add a [[dns.zone]]";
    assert!(daemon.log().contains(warning) && daemon.log().contains("$IONOS_TOKEN"), "{}", daemon.log());
    assert!(daemon.terminate().await.unwrap().success());
    let more = "[[dns.zone]]\nsuffix = \"office.test\"\nadapter = \"ionos\"\n".to_owned();
    let checked = run(&Setup { more, ..nothing }, &["check-config"]).await;
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(told.contains("# token of IONOS Cloud DNS: none"), "{told}");
    // Without names there is nothing to warn of.
    let fresh = Setup { cloud_dns_token: String::new(), folder: world.folder.path().join("fresh"), ..world.setup() };
    let daemon = Daemon::start(&fresh).await.unwrap();
    assert!(!daemon.log().contains("IONOS"), "{}", daemon.log());
    assert!(daemon.terminate().await.unwrap().success());
}
