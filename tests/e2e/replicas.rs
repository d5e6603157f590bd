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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_goes_with_one_database_and_says_so_of_an_empty_or_another_one() {
    let world = Fixture::start().await;
    let key = world.folder.path().join("shared.key");
    let fresh = || Postgres::shared().unwrap().fresh_database().unwrap();
    let (own, empty, foreign) = (fresh(), fresh(), fresh());
    let setup = |name: &str, database: &str, key: &std::path::Path| Setup {
        folder: world.folder.path().join(name),
        more: format!("[store]\nurl = \"{database}\"\n[keys]\nfile = \"{}\"\n", key.display()),
        ..world.setup()
    };
    let create =
        |setup: &Setup| assert!(setup.command(&["keys", "create"]).unwrap().timed_output().unwrap().status.success());
    let first = setup("own", &own, &key);
    create(&first);
    let daemon = Daemon::start(&first).await.unwrap();
    world.provider(&daemon).await;
    drop(daemon);

    let other_key = world.folder.path().join("other.key");
    let second = setup("foreign", &foreign, &other_key);
    create(&second);
    drop(Daemon::start(&second).await.unwrap());

    for (database, words) in
        [(&empty, "the database is empty, but"), (&foreign, "under which the store is sealed; bring that key back")]
    {
        for arguments in [&["serve"][..], &["--renew-now"]] {
            let refused = setup("own", database, &key).command(arguments).unwrap().timed_output().unwrap();
            let told = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {told}");
            assert!(told.contains(words) && told.contains("shared.key"), "{arguments:?}: {told}");
        }
    }
    let daemon = Daemon::start(&first).await.unwrap();
    assert_eq!(
        daemon.api.get("/providers").await.unwrap()["items"].as_array().unwrap().len(),
        1,
        "nothing was changed"
    );
}

const AUTO_CERTIFICATES: usize = 8;
