//! Two daemons on one PostgreSQL: each auto-certificate is worked on once, and each daemon sees what the other did.

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::postgres::Postgres;
use autocertd_support::timed::Timed;

use crate::fixture::{Fixture, auto_certificate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_share_the_work_and_never_do_it_twice() {
    let world = Fixture::start().await;
    world.dns.add_zone("replica.example");
    let database = Postgres::shared().unwrap().fresh_database().unwrap();
    let key = world.folder.path().join("shared.key");
    let more = format!("[store]\nurl = \"{database}\"\n[keys]\nfile = \"{}\"\n", key.display());
    let setup = |name: &str| Setup { folder: world.folder.path().join(name), more: more.clone(), ..world.setup() };

    let without_key = setup("one").command(&["serve"]).unwrap().timed_output().unwrap();
    assert_eq!(without_key.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&without_key.stderr).contains("shared.key"), "{without_key:?}");
    let create = || setup("one").command(&["keys", "create"]).unwrap().timed_output().unwrap();
    assert!(create().status.success());
    let again = create();
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("never overwritten"),
        "{again:?}"
    );

    let one = Daemon::start(&setup("one")).await.unwrap();
    std::fs::create_dir_all(setup("two").state()).unwrap();
    std::fs::copy(setup("one").state().join("first-token"), setup("two").state().join("first-token")).unwrap();
    let two = Daemon::start(&setup("two")).await.unwrap();

    let provider = world.provider(&one).await;
    let mut wishes = Vec::new();
    for number in 0..AUTO_CERTIFICATES {
        let maker = if number % 2 == 0 { &one } else { &two };
        wishes.push(auto_certificate(maker, &provider, "secp256r1", &[&format!("w{number}.replica.example")]).await);
    }
    for (number, path) in wishes.iter().enumerate() {
        let reader = if number % 2 == 0 { &two } else { &one };
        reader.api.wait_until_available(path).await.unwrap();
    }
    assert_eq!(world.acme.count("new-account"), 1);
    assert_eq!(world.acme.count("new-order"), AUTO_CERTIFICATES);
    assert_eq!(world.acme.count("finalize"), AUTO_CERTIFICATES);
    one.api.wait_until("/auto-certificates", |_| world.challenge_records().is_empty()).await.unwrap();
}

const AUTO_CERTIFICATES: usize = 8;
