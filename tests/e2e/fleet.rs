//! Two daemons on one PostgreSQL: files on both, and one upload to another Certificate Manager for the two.

use std::path::PathBuf;

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::fault_proxy::{FaultProxy, FaultProxyOptions};
use autocertd_support::postgres::Postgres;
use autocertd_support::wait::wait_for_some;
use http::Method;

use crate::declared::only;
use crate::deliveries::{files, issued, live};
use crate::fixture::Fixture;
use crate::one_shot::run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_instance_gets_its_files_and_the_fleet_one_upload() {
    let world = Fixture::start().await;
    world.dns.add_zone("fleet.example");
    let elsewhere = Daemon::start(&Setup { folder: world.at("elsewhere"), ..world.setup() }).await.unwrap();
    let options = FaultProxyOptions { upstream: elsewhere.api.base.clone(), upstream_root_pem: None, tls: false };
    let uploads = FaultProxy::start(options).await.unwrap();
    let token = world.at("token");
    std::fs::write(&token, &elsewhere.api.token).unwrap();
    let upload = format!(
        "[[delivery]]\nkey = \"elsewhere\"\n\
         certificate_manager = {{ endpoint = \"{}\", token_file = \"{}\", grace = \"1s\" }}\n",
        uploads.url(),
        token.display()
    );
    let database = Postgres::shared().unwrap().fresh_database().unwrap();
    let shared = format!("[store]\nurl = \"{database}\"\n[keys]\nfile = \"{}\"\n", world.at("shared.key").display());
    let setup = |name: &str| Setup {
        folder: world.at(name),
        more: format!(
            "{}{}{upload}{shared}",
            world.usual(&["www.fleet.example"]),
            files("web", &certificates(&world, name))
        ),
        ..world.setup()
    };
    assert!(run(&setup("one"), &["keys", "create"]).await.status.success());
    let one = start(&setup("one"), "one").await;
    std::fs::create_dir_all(setup("two").state()).unwrap();
    std::fs::copy(setup("one").state().join("first-token"), setup("two").state().join("first-token")).unwrap();
    let two = start(&setup("two"), "two").await;

    let posts = || uploads.requests().iter().filter(|request| request.method == Method::POST).count();
    let path = only(&one, "/auto-certificates").await;
    one.api.wait_until_available(&path).await.unwrap();
    for round in 1..=2 {
        if round > 1 {
            let renewed = run(&setup("two"), &["--renew-now", "www", "--wait-delivered"]).await;
            assert_eq!(renewed.status.code(), Some(0), "{renewed:?}\n{}", two.log());
        }
        let issued = issued(&one).await;
        for name in ["one", "two"] {
            let directory = certificates(&world, name);
            wait_for_some(&format!("the files of {name}"), || (live(&directory) == issued).then_some(())).await;
        }
        // The one before goes after its grace period, once whoever uploads knows from a CA that its clock is right.
        let is_there = |list: &serde_json::Value| {
            let mut items = list["items"].as_array().unwrap().iter();
            items.any(|item| item["properties"]["certificate"].as_str().unwrap().trim() == issued)
        };
        elsewhere.api.wait_until("/certificates", is_there).await.unwrap();
        assert_eq!(posts(), round);
    }
    assert_eq!(world.acme.count("new-order"), 2);
}

fn certificates(world: &Fixture, name: &str) -> PathBuf {
    world.at(&format!("certificates-{name}"))
}

/// Starts a daemon of this instance.
async fn start(setup: &Setup, instance: &str) -> Daemon {
    let settings = setup.write_settings().unwrap();
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("instance = \"{instance}\"\n{text}")).unwrap();
    Daemon::start_with(setup, &settings).await.unwrap()
}
