//! Pebble over the `acme-dns` adapter: registered by the command, reached through a CNAME in a zone of Cloud DNS.

use autocertd_support::timed::Timed;
use std::fs;

use autocertd_support::acme_dns::AcmeDns;
use autocertd_support::daemon::{Daemon, Setup};
use serde_json::{Value, json};

use crate::fixture::{Fixture, auto_certificate, newest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_and_its_apex_behind_a_cname() {
    let world = Fixture::start().await;
    let acme_dns = AcmeDns::start("auth.example.org").await.unwrap();
    world.dns.forward("auth.example.org", acme_dns.dns_addr());
    let zone = world.dns.add_zone("shop.example");
    let accounts = world.folder.path().join("accounts.json");
    let adapter = format!(
        "[dns.adapter.auth]\ntype = 'acme-dns'\nendpoint = '{}'\naccounts_file = '{}'\n",
        acme_dns.http_url(),
        accounts.display()
    );
    let route = "[[dns.zone]]\nsuffix = 'auth.example.org'\nadapter = 'auth'\n";
    let setup = Setup { more: format!("{adapter}{route}"), ..world.setup() };

    // The name has no account yet, and then no CNAME.
    let before = Setup { more: adapter, ..world.setup() };
    let output = before.command(&["dns", "register", "shop.example"]).unwrap().timed_output().unwrap();
    let (out, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{told}");
    let kept: Value = serde_json::from_str(&fs::read_to_string(&accounts).unwrap()).unwrap();
    let target = kept["shop.example"]["fulldomain"].as_str().unwrap().to_owned();
    assert_eq!(out, format!("_acme-challenge.shop.example. CNAME {target}.\n"));
    assert!(told.starts_with("auth has made an account for it; it is not there yet"), "{told}");
    assert!(told.contains("[[dns.zone]]\nsuffix = \"auth.example.org\"\nadapter = \"auth\""), "{told}");
    assert!(!told.contains(kept["shop.example"]["password"].as_str().unwrap()), "{told}");

    world.dns.add_record(&zone, "_acme-challenge", "CNAME", &format!("{target}."));
    let shown = setup.command(&["dns", "register", "*.shop.example", "--json"]).unwrap().timed_output().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&shown.stdout).unwrap(),
        json!({
            "adapter": "auth", "name": "_acme-challenge.shop.example", "target": target,
            "isNew": false, "leadsThere": true, "isRouted": true,
        })
    );

    // acme-dns answers for its own zone.
    let settings = setup.write_settings().unwrap();
    let text = fs::read_to_string(&settings).unwrap();
    let asked = |server| format!("servers = [\"{server}\"]");
    assert!(text.contains(&asked(world.dns.dns_addr())), "{text}");
    let own = settings.with_file_name("own.toml");
    fs::write(&own, text.replacen(&asked(world.dns.dns_addr()), &asked(acme_dns.dns_addr()), 1)).unwrap();
    let daemon = Daemon::start_with(&setup, &own).await.unwrap();
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["*.shop.example", "shop.example"]).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    newest(&daemon, &auto).await;

    assert_eq!(acme_dns.values(&target).len(), 2);
    assert_eq!(acme_dns.accounts(), 1);
    assert!(world.challenge_records().is_empty(), "nothing but the CNAME is in Cloud DNS");
}

#[tokio::test]
async fn what_cannot_be_registered_says_why() {
    let world = Fixture::start().await;
    let adapter = |name: &str| {
        let file = world.folder.path().join("accounts.json");
        format!(
            "[dns.adapter.{name}]\ntype = 'acme-dns'\nendpoint = 'http://127.0.0.1:1'\naccounts_file = '{}'\n",
            file.display()
        )
    };
    let exec = "[dns.adapter.script]\ntype = 'exec'\ncommand = ['/bin/true']\n".to_owned();
    for (more, arguments, code, words) in [
        (exec.clone(), vec!["www.shop.example"], 2, "no [dns.adapter.NAME] of the settings is of the type acme-dns"),
        (adapter("a") + &adapter("b"), vec!["www.shop.example"], 2, "choose one by --adapter: a, b"),
        (adapter("a"), vec!["no name"], 2, "\"no name\" is not a valid DNS name"),
        (adapter("a"), vec!["www.shop.example", "--adapter", "b"], 2, "the settings have no [dns.adapter.b]"),
        (exec, vec!["www.shop.example", "--adapter", "script"], 1, "script knows no accounts of names"),
        (adapter("a"), vec!["www.shop.example"], 1, "a: POST /register got no answer"),
    ] {
        let setup = Setup { more, ..world.setup() };
        let arguments: Vec<&str> = ["dns", "register"].into_iter().chain(arguments).collect();
        let output = setup.command(&arguments).unwrap().timed_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(words) && output.stdout.is_empty(), "{arguments:?}: {told}");
    }
}
