//! Real size: a thousand auto-certificates through the daemon and through the one-shot, and every command on such a store.

use autocertd::domain::value::token::TokenScope;
use secrecy::ExposeSecret;
use std::process::Output;
use std::time::{Duration, Instant};

use autocertd::domain::certificate::key_algorithm::KeyAlgorithm;
use autocertd::domain::provider::NewProvider;
use autocertd::domain::renewal::auto_certificate::NewAutoCertificate;
use autocertd::domain::value::resource::Actor;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::store::CreationOutcome;
use autocertd_support::daemon::{Daemon, Setup};

use crate::fixture::{Fixture, open_store};
use crate::one_shot::json_of;

pub(crate) const COUNT: usize = 1_000;
/// Far more than it takes; a busy machine may need some of it.
const WAIT_TIMEOUT: Duration = Duration::from_mins(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_shot_obtains_a_thousand_certificates() {
    let world = Fixture::start().await;
    world.dns.add_zone("thousand.example");
    let setup = setup(&world);
    fill(&setup, &world).await;
    let begun = Instant::now();
    let pass = run(&setup, &["--renew-now"]).await;
    println!("one-shot: {COUNT} in {:?}", begun.elapsed());
    let (told, log) = (text(&pass.stdout), text(&pass.stderr));
    assert_eq!(pass.status.code(), Some(0), "{log}");
    assert!(told.ends_with(&format!("{COUNT} renewed, 0 failed\n")), "{told}");
    assert_eq!(told.lines().count(), 2 * COUNT + 1, "one line for the certificate, one for its delivery");
    assert!(log.lines().count() < 200, "how far it is takes a line now and then, not one for each stage: {log}");
    let again = run(&setup, &["--renew-now"]).await;
    assert_eq!((again.status.code(), text(&again.stdout).as_str()), (Some(0), "nothing is due\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_obtains_a_thousand_certificates_and_every_command_bears_them() {
    let world = Fixture::start().await;
    world.dns.add_zone("thousand.example");
    let setup = setup(&world);
    fill(&setup, &world).await;
    let daemon = Daemon::start(&setup).await.unwrap();
    let begun = Instant::now();
    let pass = run(&setup, &["--renew-now", "--json"]).await;
    println!("daemon: {COUNT} in {:?}", begun.elapsed());
    assert_eq!(pass.status.code(), Some(0), "{}\n{}", text(&pass.stderr), daemon.log());
    let summary = json_of(&pass);
    assert_eq!(summary["failed"], 0);
    assert_eq!(summary["notInService"]["total"], 0);
    await_all_in_service(&setup).await;

    let log = daemon.log();
    // One that was not answered in time, on a machine that is busy with other tests, is news.
    let polls = log.lines().filter(|line| line.contains("/control/progress") && line.contains("\"status\":200"));
    assert_eq!(polls.count(), 0, "polls are no news at info");
    assert!(!log.contains("sqlx"), "SQL is for trace");
    assert!(log.lines().count() < COUNT * 15, "{} lines for {COUNT} certificates", log.lines().count());

    for (arguments, code, expected) in COMMANDS {
        let output = run(&setup, arguments).await;
        let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {told:.2000}");
        assert!(told.contains(expected), "{arguments:?}: {told:.2000}");
    }
    let plan = json_of(&run(&setup, &["plan", "--json"]).await);
    assert_eq!(plan.as_array().map(Vec::len), Some(COUNT));
    let ids: Vec<String> =
        plan.as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    let of_each: Vec<&str> = ["plan", "--json"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    assert_eq!(json_of(&run(&setup, &of_each).await).as_array().map(Vec::len), Some(COUNT));
    let deliveries = json_of(&run(&setup, &["deliveries", "--json"]).await);
    assert!(deliveries.as_array().unwrap().iter().all(|one| one["state"] == "delivered"));
    for (number, arguments) in [&["export"][..], &["export", "--pem"]].iter().enumerate() {
        let target = world.folder.path().join(format!("export-{number}"));
        let arguments: Vec<&str> = arguments.iter().copied().chain([target.to_str().unwrap()]).collect();
        assert_eq!(run(&setup, &arguments).await.status.code(), Some(0), "{arguments:?}");
        assert!(target.exists());
    }
    let some: Vec<&str> = ids[..200].iter().map(String::as_str).collect();
    let named: Vec<&str> = ["--renew-now"].into_iter().chain(some).chain(["--json", "--wait-delivered"]).collect();
    let renewed = run(&setup, &named).await;
    let summary = json_of(&renewed);
    let renewals = summary["renewals"].as_array().unwrap().iter();
    let failed: Vec<_> = renewals.filter(|one| one["outcome"] != "renewed").collect();
    // On a busy machine one or the other may have to be tried again.
    assert!(failed.len() <= 10 && failed.iter().all(|one| one["nextTry"].is_string()), "{failed:?}");
    assert_eq!(summary["renewed"].as_u64().unwrap() + summary["failed"].as_u64().unwrap(), 200, "{summary}");
    assert_eq!(renewed.status.code(), Some(i32::from(!failed.is_empty())));
    let revoked = run(&setup, &["revoke", &ids[0], "--reason", "superseded", "--yes"]).await;
    assert_eq!(revoked.status.code(), Some(0), "{}", text(&revoked.stderr));
    assert!(daemon.terminate().await.unwrap().success());
}

/// Commands that are tried, how they end, and what they say.
const COMMANDS: &[(&[&str], i32, &str)] = &[
    (&["--renew-now"], 0, "nothing is due"),
    (&["--renew-now", "--wait-delivered"], 0, "nothing is due"),
    (&["--renew-now", "--dry-run"], 0, "nothing was rehearsed"),
    (&["plan"], 0, "planned"),
    (&["plan", "www7.thousand.example"], 0, "www7"),
    (&["deliveries"], 0, "delivered"),
    (&["verify"], 0, "no delivery from here has `verify`"),
    (&["limits"], 0, "No limits of this CA are known"),
    (&["healthcheck", "--issued"], 0, "all in service: 1000"),
    (&["token", "list"], 0, "first-token"),
    (&["keys", "rotate"], 0, ""),
    (&["account", "show", "Pebble"], 0, "Pebble"),
    (&["dns", "sweep"], 0, ""),
    (&["check-config"], 0, "state_directory"),
    (&["doctor", "www7.thousand.example", "--no-canary"], 0, "www7.thousand.example"),
    (&["simulate", "--certificates", "1000", "--days", "40", "--seed", "1"], 0, "lapse"),
];

/// What was issued is delivered a little later.
async fn await_all_in_service(setup: &Setup) {
    let begun = Instant::now();
    loop {
        let health = run(setup, &["healthcheck", "--issued"]).await;
        if health.status.success() {
            return;
        }
        let said = text(&health.stderr);
        assert!(said.lines().count() < 100, "a thousand that wait are no thousand lines");
        assert!(begun.elapsed() < WAIT_TIMEOUT, "{said}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn setup(world: &Fixture) -> Setup {
    let files = world.folder.path().join("certificates");
    let more = format!("[[delivery]]\nkey = \"web\"\nfiles = {{ directory = \"{}\" }}\n", files.display());
    Setup { more, log: "info".to_owned(), ..world.setup() }
}

/// Puts a thousand auto-certificates into a store that nobody works on.
pub(crate) async fn fill(setup: &Setup, world: &Fixture) {
    let store = open_store(setup).await;
    let provider = NewProvider {
        name: "Pebble".parse().unwrap(),
        email: "ops@example.com".parse().unwrap(),
        server: ServerUrl::parse(&world.directory(), PlainHttpPolicy::Refused).unwrap(),
        external_account: None,
        profile: None,
    };
    let provider = store.create_provider(&provider, &Actor::autocertd()).await.unwrap().id;
    for number in 0..COUNT {
        let name = format!("www{number}.thousand.example");
        let wish = NewAutoCertificate {
            name: format!("for {name}").parse().unwrap(),
            provider,
            common_name: name.parse().unwrap(),
            key_algorithm: KeyAlgorithm::Secp256r1,
            subject_alternative_names: Vec::new(),
            profile: None,
        };
        let made = store.create_auto_certificate(&wish, &Actor::autocertd(), 10_000).await.unwrap();
        assert!(matches!(made, CreationOutcome::Created(_)));
    }
    // A daemon makes its first token in an empty store alone.
    let (_, token) = store.create_token(&"first-token".parse().unwrap(), TokenScope::Full).await.unwrap();
    std::fs::write(setup.state().join("first-token"), token.expose_secret()).unwrap();
    store.close().await;
}

/// Runs a command to its end; one that hangs fails the test.
async fn run(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(setup.command(arguments).unwrap());
    command.kill_on_drop(true);
    let pass = tokio::time::timeout(WAIT_TIMEOUT, command.output()).await;
    pass.unwrap_or_else(|_| panic!("{arguments:?} hangs")).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
