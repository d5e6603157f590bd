//! Orders that can never succeed, or that the CA no longer shows: each has an end, and a new order follows without a storm.

use autocertd_support::fault_proxy::{Action, RequestInfo, ResponseAlteration};
use axum::body::Bytes;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use time::Duration;

use crate::fixture::Fixture;
use crate::manual_clock_daemon::ManualClockDaemon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deactivated_authorization_is_followed_by_a_new_order() {
    let clockwork = start_daemon("final.example").await;
    clockwork.world.acme.set_hook(Box::new(|request: &RequestInfo| match request.kind {
        "authz" => Action::Alter(changed(|document| document["status"] = json!("deactivated"))),
        _ => Action::Pass,
    }));
    let id = clockwork.auto_certificate(&["www.final.example"]).await;
    clockwork.run_for(Duration::seconds(1)).await;
    let trouble = clockwork.load(id).await.standing.failure_streak.unwrap();
    assert!(trouble.last.to_string().contains("www.final.example as deactivated"), "{}", trouble.last);
    assert!(clockwork.load(id).await.standing.open_attempt.is_none());
    clockwork.run_for(Duration::hours(5)).await;
    let orders = clockwork.world.acme.count("new-order");
    assert!((3..=9).contains(&orders), "{orders} orders in five hours: a storm, or none");

    clockwork.world.acme.set_hook(Box::new(|_| Action::Pass));
    clockwork.run_for(Duration::hours(2)).await;
    assert!(clockwork.load(id).await.standing.newest.is_some());
    clockwork.run_for(Duration::hours(1)).await;
    assert_eq!(clockwork.world.challenge_records(), [""; 0]);
}

/// The count is kept with the attempt, in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_cannot_be_read_is_given_up_after_some_looks() {
    let clockwork = start_daemon("lost.example").await;
    clockwork.world.acme.set_hook(Box::new(|request: &RequestInfo| match request.kind {
        "order" => Action::Respond(200, HeaderMap::new(), Bytes::from_static(b"<html>welcome</html>")),
        _ => Action::Pass,
    }));
    let id = clockwork.auto_certificate(&["www.lost.example"]).await;
    clockwork.run_for(Duration::minutes(1)).await;
    assert_eq!(clockwork.world.acme.count("new-order"), 1);
    clockwork.run_for(Duration::hours(12)).await;
    let orders = clockwork.world.acme.count("new-order");
    assert!((2..=8).contains(&orders), "{orders} orders in twelve hours");
    clockwork.world.acme.set_hook(Box::new(|_| Action::Pass));
    clockwork.run_for(Duration::hours(3)).await;
    assert!(clockwork.load(id).await.standing.newest.is_some());
    clockwork.run_for(Duration::hours(1)).await;
    assert_eq!(clockwork.world.challenge_records(), [""; 0]);
}

/// A CA that loses its answers to `finalize`: valid orders whose certificate is nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_gets_a_new_order_in_place_of_a_stuck_one() {
    let clockwork = start_daemon("stuck.example").await;
    clockwork.world.acme.set_hook(Box::new(|request: &RequestInfo| match request.kind {
        "order" | "finalize" => Action::Alter(changed(|document| {
            if document["status"] == "valid" {
                document.as_object_mut().unwrap().remove("certificate");
            }
        })),
        _ => Action::Pass,
    }));
    let id = clockwork.auto_certificate(&["www.stuck.example"]).await;
    clockwork.run_for(Duration::seconds(1)).await;
    let stuck = clockwork.load(id).await.standing;
    assert!(stuck.open_attempt.is_some() && stuck.failure_streak.is_some(), "{stuck:?}");
    assert_eq!(clockwork.world.acme.count("new-order"), 1);

    // The old order stays as it is at the CA: only another one helps.
    let first = std::sync::Mutex::new(None::<String>);
    clockwork.world.acme.set_hook(Box::new(move |request: &RequestInfo| match request.kind {
        "order" => {
            let mut first = first.lock().unwrap();
            let path = first.get_or_insert_with(|| request.path.clone());
            if *path == request.path {
                Action::Alter(changed(|document| {
                    document.as_object_mut().unwrap().remove("certificate");
                }))
            } else {
                Action::Pass
            }
        }
        _ => Action::Pass,
    }));
    clockwork.store.request_renewal(id).await.unwrap();
    clockwork.run_for(Duration::seconds(1)).await;
    let standing = clockwork.load(id).await.standing;
    assert!(standing.newest.is_some(), "{standing:?}");
    assert_eq!(clockwork.world.acme.count("new-order"), 2, "one new order, at once");
}

/// As some CAs leave orders: processing for days.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_never_done_has_an_end() {
    let clockwork = start_daemon("slow.example").await;
    clockwork.world.acme.set_hook(Box::new(|request: &RequestInfo| match request.kind {
        "order" | "finalize" => Action::Alter(changed(|document| {
            if matches!(document["status"].as_str(), Some("valid" | "processing")) {
                document["status"] = json!("processing");
                document.as_object_mut().unwrap().remove("certificate");
            }
        })),
        _ => Action::Pass,
    }));
    let id = clockwork.auto_certificate(&["www.slow.example"]).await;
    clockwork.run_for(Duration::hours(3)).await;
    assert_eq!(clockwork.world.acme.count("new-order"), 1, "an order is not given up lightly");
    clockwork.turn(Duration::hours(22));
    clockwork.run_for(Duration::hours(2)).await;
    assert_eq!(clockwork.world.acme.count("new-order"), 2);
    assert!(clockwork.load(id).await.standing.newest.is_none());
}

async fn start_daemon(zone: &str) -> ManualClockDaemon {
    let world = Fixture::start().await;
    world.dns.add_zone(zone);
    ManualClockDaemon::with_short_poll_timeout(world).await
}

fn changed(change: impl Fn(&mut Value) + Send + 'static) -> ResponseAlteration {
    Box::new(move |answer| {
        let Ok(mut document) = serde_json::from_slice::<Value>(answer.body()) else { return };
        change(&mut document);
        *answer.body_mut() = document.to_string().into();
    })
}
