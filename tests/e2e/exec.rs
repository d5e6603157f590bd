//! Pebble over the `exec` adapter: a shell script publishes and removes the records, as one written for lego would.

use autocertd_support::cloud_dns::Provisioning;
use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::wait::{read_lines, wait_for_some, write_script};

use crate::fixture::{Fixture, auto_certificate, newest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_and_its_apex_through_a_script() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("shop.example");
    // Nobody asks for the records of the script but the name server.
    world.dns.set_provisioning(Provisioning::Reads(0));
    let script = world.folder.path().join("script");
    write_script(&script, SCRIPT);
    let (url, token, folder) = (world.dns.http_url(), world.dns.token(), world.folder.path().display().to_string());
    let more = format!(
        "[dns.adapter.script]\ntype = 'exec'\ncommand = ['{}', '{url}/zones/{zone}/records', '{token}', '{folder}']\n\
         [[dns.zone]]\nsuffix = 'shop.example'\nadapter = 'script'\n",
        script.display()
    );
    let daemon = Daemon::start(&Setup { more, ..world.setup() }).await.unwrap();
    let provider = world.provider(&daemon).await;

    let path = auto_certificate(&daemon, &provider, "secp256r1", &["*.shop.example", "shop.example"]).await;
    let auto = daemon.api.wait_until_available(&path).await.unwrap();
    newest(&daemon, &auto).await;

    wait_for_some("the removal of the records", || world.challenge_records().is_empty().then_some(())).await;
    let calls = read_lines(&world.folder.path().join("calls"));
    let name = "_acme-challenge.shop.example.";
    for action in ["present", "cleanup"] {
        assert_eq!(calls.iter().filter(|call| **call == format!("{action} {name}")).count(), 2, "{calls:?}");
    }
    let by_autocertd = world.dns.requests().into_iter().filter(|request| request.path == "/zones").count();
    assert_eq!(by_autocertd, 0, "the adapter ionos was used");
}

/// Arguments: the address of the zone's records, the token and a folder; behind them those of lego.
const SCRIPT: &str = r#"#!/bin/sh
set -eu
records=$1 token=$2 folder=$3 action=$4 name=$5 value=$6
echo "$action $name" >> "$folder/calls"
ask() { curl --silent --show-error --fail --header "Authorization: Bearer $token" "$@"; }
case $action in
present)
    record=$(printf '{"properties":{"name":"%s","type":"TXT","content":"%s","ttl":60}}' "${name%.shop.example.}" "$value")
    ask --header 'Content-Type: application/json' --data "$record" "$records" |
        sed 's/.*"id":"\([^"]*\)".*/\1/' > "$folder/id-of-$value"
    ;;
cleanup)
    # What is gone already is no failure: every call may be repeated.
    test -e "$folder/id-of-$value" || exit 0
    ask --request DELETE "$records/$(cat "$folder/id-of-$value")"
    rm "$folder/id-of-$value"
    ;;
esac
"#;
