//! An order whose names are served by two adapters, and one of them is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use autocertd_support::daemon::Setup;
use autocertd_support::fault_proxy::{Action, FaultProxy, FaultProxyOptions};

use crate::fixture::{Fixture, open_store, store_auto_certificate_with};
use crate::one_shot::{json_of, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_message_says_which_adapter_is_down_and_nothing_is_left_over() {
    let world = Fixture::start().await;
    let (first, second) = (world.dns.add_zone("first.example"), world.dns.add_zone("second.example"));
    let options = FaultProxyOptions { upstream: world.dns.http_url(), upstream_root_pem: None, tls: false };
    let other = FaultProxy::start(options).await.unwrap();
    let token = world.folder.path().join("second-token");
    std::fs::write(&token, world.dns.token()).unwrap();
    let more = format!(
        "[dns.adapter.second]\ntype = \"ionos\"\nendpoint = \"{}\"\ntoken_file = \"{}\"\n\
         [[dns.zone]]\nsuffix = \"second.example\"\nadapter = \"second\"\n",
        other.url(),
        token.display()
    );
    let setup = Setup { more, ..world.setup() };
    let store = open_store(&setup).await;
    store_auto_certificate_with(&store, &world.directory(), None, "www.first.example", "www.second.example").await;
    store.close().await;
    let message = async || {
        let failed = run(&setup, &["--renew-now", "www.first.example", "--json"]).await;
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        json_of(&failed)["renewals"][0]["message"].as_str().unwrap().to_owned()
    };

    // Down from the start: no order is made.
    other.set_hook(Box::new(|_| Action::Cut));
    let told = message().await;
    assert!(told.starts_with("second: GET /zones got no answer"), "{told}");
    assert_eq!((world.acme.count("new-order"), world.challenge_records().len()), (0, 0));

    // Down in the middle: what the other made waits in the journal.
    let down = Arc::new(AtomicBool::new(true));
    other.set_hook(Box::new({
        let down = Arc::clone(&down);
        move |request| {
            let cut = request.kind == "dns-create-record" && down.load(Ordering::SeqCst);
            if cut { Action::Cut } else { Action::Pass }
        }
    }));
    let told = message().await;
    assert!(told.starts_with(&format!("second: POST /zones/{second}/records got no answer")), "{told}");
    assert_eq!((world.dns.records(&first).len(), world.dns.records(&second).len()), (1, 0));

    down.store(false, Ordering::SeqCst);
    let renewed = run(&setup, &["--renew-now", "www.first.example"]).await;
    assert!(renewed.status.success(), "{renewed:?}");
    assert_eq!(other.count("dns-delete-record"), 1, "each record is removed by the adapter that made it");
    assert_eq!((world.acme.count("new-order"), world.challenge_records().len()), (1, 0));
}
