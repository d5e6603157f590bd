//! The known disasters of this field, each as a test that fails when it comes back: storms against a CA that refuses, orders
//! made again and again, one certificate that holds up the rest.

use autocertd::domain::failure::disposition::Disposition;
use autocertd_support::fault_proxy::{Action, RequestInfo};
use autocertd_support::pebble::PebbleOptions;
use axum::body::Bytes;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue};
use sqlx::any::AnyPoolOptions;
use time::Duration;

use crate::fixture::Fixture;
use crate::manual_clock_daemon::ManualClockDaemon;

/// The usual one: every failure is followed by the next try within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_refuses_gets_a_handful_of_requests_a_day() {
    let clockwork = start_daemon(&["storm.example"]).await;
    let problem =
        r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates already issued"}"#;
    refuse(&clockwork, "new-order", 429, problem, None);
    let id = clockwork.auto_certificate(&["www.storm.example"]).await;
    clockwork.run_for(Duration::days(1)).await;
    let orders = clockwork.world.acme.count("new-order");
    assert!((20..=40).contains(&orders), "{orders} orders in a day without a certificate, where one an hour is meant");
    assert!(clockwork.load(id).await.standing.newest.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_refusal_is_not_retried_but_looked_at_once_a_day() {
    let clockwork = start_daemon(&["never.example"]).await;
    let problem =
        r#"{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "we do not issue for that name"}"#;
    refuse(&clockwork, "new-order", 400, problem, None);
    let id = clockwork.auto_certificate(&["www.never.example"]).await;
    clockwork.run_for(Duration::days(10)).await;
    let orders = clockwork.world.acme.count("new-order");
    assert!((8..=13).contains(&orders), "{orders} orders in ten days");
    let trouble = clockwork.load(id).await.standing.failure_streak.unwrap();
    assert_eq!(trouble.last.disposition, Disposition::Operator);
}

/// A paused name is a 429 without `Retry-After`: only a person can undo that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_name_stops_hammering() {
    let clockwork = start_daemon(&["paused.example"]).await;
    let problem = r#"{"type": "urn:ietf:params:acme:error:rateLimited",
        "detail": "Your account is temporarily prevented from requesting certificates for paused.example. Please visit: https://ca.example/unpause"}"#;
    refuse(&clockwork, "new-order", 429, problem, None);
    let id = clockwork.auto_certificate(&["www.paused.example"]).await;
    clockwork.run_for(Duration::days(3)).await;
    assert!(clockwork.world.acme.count("new-order") <= 5);
    let words = clockwork.load(id).await.standing.failure_streak.unwrap().last.message;
    assert!(words.contains("https://ca.example/unpause") && words.contains("What to do"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_wins() {
    let clockwork = start_daemon(&["later.example"]).await;
    let problem =
        r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates already issued"}"#;
    refuse(&clockwork, "new-order", 429, problem, Some("36000"));
    let id = clockwork.auto_certificate(&["www.later.example"]).await;
    clockwork.run_for(Duration::minutes(50)).await;
    assert_eq!(clockwork.world.acme.count("new-order"), 1);
    // Without a certificate there is no slack: hourly, and not more often.
    clockwork.run_for(Duration::hours(9)).await;
    let orders = clockwork.world.acme.count("new-order");
    assert!((9..=10).contains(&orders), "{orders}");
    let words = clockwork.load(id).await.standing.failure_streak.unwrap().to_string();
    assert!(words.contains("; not before ") && words.ends_with(", sooner than asked for)"), "{words}");
}

/// One 503 with a nonsense value must not end a certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_of_nonsense_or_a_year_is_no_end() {
    for value in ["99999999999999999999999999999", "1800000000", "31536000"] {
        let clockwork = start_daemon(&["year.example"]).await;
        refuse(&clockwork, "new-order", 503, "{}", Some(value));
        let id = clockwork.auto_certificate(&["www.year.example"]).await;
        clockwork.run_for(Duration::ZERO).await;
        let words = clockwork.load(id).await.standing.failure_streak.unwrap().to_string();
        let told = if value == "31536000" { "; not before " } else { "makes no sense and is ignored" };
        assert!(words.contains(told), "{words}");
        clockwork.world.acme.set_hook(Box::new(|_| Action::Pass));
        clockwork.run_for(Duration::hours(26)).await;
        let standing = clockwork.load(id).await.standing;
        assert!(standing.newest.is_some() && standing.failure_streak.is_none(), "{value}: {standing:?}");
    }
}

/// Issued, not saved, ordered anew, until the CA's limit on duplicates is reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_issued_and_cannot_be_saved_is_not_ordered_again() {
    let clockwork = start_daemon(&["unsaved.example"]).await;
    let url = format!("sqlite://{}", clockwork.world.folder.path().join("autocertd.db").display());
    let raw = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    let trigger =
        "CREATE TRIGGER full BEFORE INSERT ON certificates BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    sqlx::query(trigger).execute(&raw).await.unwrap();
    let id = clockwork.auto_certificate(&["www.unsaved.example"]).await;
    clockwork.run_for(Duration::hours(12)).await;
    let counts = |kind: &str| clockwork.world.acme.count(kind);
    assert_eq!((counts("new-order"), counts("finalize")), (1, 1));
    assert!(clockwork.load(id).await.standing.failure_streak.unwrap().failures > 3);

    sqlx::query("DROP TRIGGER full").execute(&raw).await.unwrap();
    clockwork.run_for(Duration::hours(2)).await;
    assert!(clockwork.load(id).await.standing.newest.is_some());
    assert_eq!((counts("new-order"), counts("finalize")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_name_blocks_nobody_else() {
    let blocked = PebbleOptions { blocked_names: vec!["bad.example".to_owned()], ..PebbleOptions::default() };
    let world = Fixture::with(blocked).await;
    for zone in ["bad.example", "good.example"] {
        world.dns.add_zone(zone);
    }
    let clockwork = ManualClockDaemon::start(world).await;
    let bad = clockwork.auto_certificate(&["first.good.example", "www.bad.example"]).await;
    let mut good = Vec::new();
    for number in 0..5 {
        good.push(clockwork.auto_certificate(&[&format!("h{number}.good.example")]).await);
    }
    clockwork.run_for(Duration::ZERO).await;
    for id in good {
        let standing = clockwork.load(id).await.standing;
        assert!(standing.newest.is_some(), "{standing:?}");
    }
    let words = clockwork.load(bad).await.standing.failure_streak.unwrap().last.message;
    assert!(words.contains("bad.example"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_back_a_day_neither_orders_nor_forgets() {
    let clockwork = start_daemon(&["back.example"]).await;
    let id = clockwork.auto_certificate(&["www.back.example"]).await;
    clockwork.run_for(Duration::hours(30)).await;
    let issued = clockwork.load(id).await.standing.newest.unwrap().id;
    clockwork.turn(-Duration::days(1));
    clockwork.run_for(Duration::hours(3)).await;
    assert_eq!(clockwork.world.acme.count("new-order"), 1);

    // What failed in the future does not put off what is due now.
    clockwork.turn(Duration::days(1));
    let failing = clockwork.auto_certificate(&["www.nowhere.example"]).await;
    clockwork.run_for(Duration::ZERO).await;
    clockwork.turn(-Duration::days(1));
    clockwork.world.dns.add_zone("nowhere.example");
    clockwork.run_for(Duration::hours(2)).await;
    assert!(clockwork.load(failing).await.standing.newest.is_some());
    assert_eq!(clockwork.load(id).await.standing.newest.unwrap().id, issued);
}

/// An outage of five days: a few probes, no storm, and everything is made up for soon after its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_is_probed_and_its_return_is_noticed() {
    let clockwork = start_daemon(&["outage.example"]).await;
    clockwork.auto_certificate(&["first.outage.example"]).await;
    clockwork.run_for(Duration::ZERO).await;
    let mut waiting = Vec::new();
    for number in 0..12 {
        waiting.push(clockwork.auto_certificate(&[&format!("h{number}.outage.example")]).await);
    }
    clockwork.world.acme.set_hook(Box::new(|_| Action::Cut));
    let before = clockwork.world.acme.requests().len();
    clockwork.run_for(Duration::days(2)).await;
    let requests = clockwork.world.acme.requests().len() - before;
    // Probes at most every 24 minutes once it is open, and the questions when to renew, for one certificate.
    assert!((60..=220).contains(&requests), "{requests} requests in two days");

    clockwork.world.acme.set_hook(Box::new(|_| Action::Pass));
    clockwork.run_for(Duration::minutes(75)).await;
    for id in waiting {
        assert!(clockwork.load(id).await.standing.newest.is_some(), "{:?}", clockwork.load(id).await.standing);
    }
}

/// What is wrong with an answer, and how it looks where a page is shown instead of it.
type Fault = (&'static str, fn(Bytes) -> Action);

/// One order that stalls for half a minute holds up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_the_wire_ends_in_a_certificate_and_one_order() {
    let page = || Bytes::from_static(b"<html>gateway</html>");
    let faults: [Fault; 6] = [
        ("500", |page| Action::Respond(500, HeaderMap::new(), page)),
        ("503", |page| Action::Respond(503, HeaderMap::new(), page)),
        ("cut", |_| Action::Cut),
        ("stall", |_| Action::Stall(std::time::Duration::from_secs(30))),
        ("truncated", |_| Action::Truncate),
        ("no problem", |page| Action::Respond(404, HeaderMap::new(), page)),
    ];
    let clockwork = start_daemon(&["faults.example"]).await;
    for (number, (what, fault)) in faults.into_iter().enumerate() {
        for kind in ["authz", "challenge", "finalize", "certificate"] {
            let struck = std::sync::atomic::AtomicBool::new(false);
            clockwork.world.acme.set_hook(Box::new(move |request: &RequestInfo| {
                let strike = request.kind == kind && !struck.swap(true, std::sync::atomic::Ordering::SeqCst);
                if strike { fault(page()) } else { Action::Pass }
            }));
            let before = clockwork.world.acme.count("finalize");
            let id = clockwork.auto_certificate(&[&format!("{kind}{number}.faults.example")]).await;
            clockwork.run_for(Duration::minutes(30)).await;
            assert!(clockwork.load(id).await.standing.newest.is_some(), "{what} at {kind}");
            assert!(clockwork.world.acme.count("finalize") - before <= 3, "{what} at {kind}");
        }
    }
}

async fn start_daemon(zones: &[&str]) -> ManualClockDaemon {
    let world = Fixture::start().await;
    for zone in zones {
        world.dns.add_zone(zone);
    }
    ManualClockDaemon::start(world).await
}

/// Every request of this kind is refused from now on.
fn refuse(
    clockwork: &ManualClockDaemon,
    kind: &'static str,
    status: u16,
    problem: &'static str,
    retry_after: Option<&'static str>,
) {
    clockwork.world.acme.set_hook(Box::new(move |request| {
        if request.kind != kind {
            return Action::Pass;
        }
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        Action::Respond(status, headers, Bytes::from_static(problem.as_bytes()))
    }));
}
