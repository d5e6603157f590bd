//! A wrong clock destroys nothing, and what it wrote is forgotten when it is right again (decision 12 of the renewal
//! design).

use std::collections::BTreeMap;

use autocertd::domain::renewal::plan::{RenewalAction, plan_renewal};
use autocertd::domain::value::id::CertificateId;
use autocertd::store::Page;
use autocertd_support::timed::Timed;
use secrecy::ExposeSecret;
use time::Duration;

use crate::fixture::Fixture;
use crate::manual_clock_daemon::ManualClockDaemon;

const AHEAD: Duration = Duration::days(400);

/// Three auto-certificates with certificates, renewed once, and one that cannot be issued.
async fn fleet() -> ManualClockDaemon {
    let world = Fixture::start().await;
    world.dns.add_zone("clock.example");
    let clockwork = ManualClockDaemon::start(world).await;
    for number in 0..3 {
        clockwork.auto_certificate(&[&format!("h{number}.clock.example")]).await;
    }
    clockwork.run_for(Duration::ZERO).await;
    clockwork.auto_certificate(&["www.nowhere.example"]).await;
    clockwork.run_for(Duration::minutes(30)).await;
    clockwork
}

async fn keys(clockwork: &ManualClockDaemon) -> BTreeMap<CertificateId, String> {
    let all = clockwork.store.certificates(Page { offset: 0, limit: 100 }, None, None).await.unwrap();
    let mut keys = BTreeMap::new();
    for certificate in all.items {
        let key = clockwork.store.certificate_private_key(certificate.id).await.unwrap().unwrap();
        keys.insert(certificate.id, key.expose_secret().to_owned());
    }
    keys
}

/// Whatever the clock wrote, all is as it should be.
async fn assert_recovered(clockwork: &ManualClockDaemon, before: &BTreeMap<CertificateId, String>) {
    let now = clockwork.now();
    let after = keys(clockwork).await;
    assert!(before.iter().all(|(id, key)| after.get(id) == Some(key)), "{before:?} {after:?}");
    let all = clockwork.store.auto_certificates(Page { offset: 0, limit: 100 }, None).await.unwrap();
    assert_eq!(all.items.len(), 4);
    for one in all.items {
        let standing = &one.standing;
        assert!(standing.last_issued.is_none_or(|issued| issued <= now), "{standing:?}");
        assert!(standing.failure_streak.as_ref().is_none_or(|trouble| trouble.at <= now), "{standing:?}");
        assert!(standing.failure_streak.as_ref().is_none_or(|trouble| trouble.next_try <= now + Duration::days(2)));
        assert!(standing.deferral.as_ref().is_none_or(|hold| hold.until <= now + Duration::DAY), "{standing:?}");
        if one.name.to_string().contains("nowhere") {
            continue;
        }
        assert!(standing.failure_streak.is_none() && standing.open_attempt.is_none(), "{standing:?}");
        assert!(standing.newest.is_some_and(|newest| newest.not_after > now), "{standing:?}");
        assert_eq!(plan_renewal(standing, now).action, RenewalAction::Idle, "{standing:?}");
    }
    let provider = clockwork.store.provider(clockwork.provider).await.unwrap().unwrap();
    assert!(provider.failure_streak.is_none());
    assert!(clockwork.store.provider_load(clockwork.provider).await.unwrap().breaker.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_runs_ahead_for_a_few_scans_deletes_nothing_and_is_forgotten_in_one() {
    let clockwork = fleet().await;
    let before = keys(&clockwork).await;
    assert_eq!(before.len(), 3);
    clockwork.step_clock(AHEAD);
    for _ in 0..3 {
        clockwork.scan().await;
        clockwork.turn(Duration::minutes(5));
    }
    let during = keys(&clockwork).await;
    assert!(before.iter().all(|(id, key)| during.get(id) == Some(key)));
    // What was ordered meanwhile is not given up, and nothing is ordered over and over.
    assert!(clockwork.world.acme.count("new-order") <= 3 + 3, "{}", clockwork.world.acme.count("new-order"));

    clockwork.step_clock(-AHEAD);
    clockwork.scan().await;
    assert_recovered(&clockwork, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_between_changes_nothing_of_that() {
    let clockwork = fleet().await;
    let before = keys(&clockwork).await;
    clockwork.step_clock(AHEAD);
    let clockwork = clockwork.restart().await;
    for _ in 0..3 {
        clockwork.scan().await;
        clockwork.turn(Duration::minutes(5));
    }
    clockwork.step_clock(-AHEAD);
    let clockwork = clockwork.restart().await;
    clockwork.scan().await;
    assert_recovered(&clockwork, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_falls_behind_and_comes_back_loses_nothing() {
    let clockwork = fleet().await;
    let before = keys(&clockwork).await;
    for behind in [Duration::HOUR * 2, AHEAD] {
        clockwork.step_clock(-behind);
        for _ in 0..2 {
            clockwork.scan().await;
            clockwork.turn(Duration::minutes(5));
        }
        clockwork.step_clock(behind);
        clockwork.scan().await;
        assert_recovered(&clockwork, &before).await;
    }
    assert_eq!(clockwork.world.acme.count("new-order"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_start_outside_of_the_years_2000_to_9999_is_refused() {
    let world = Fixture::start().await;
    let (setup, file) = (world.setup(), world.folder.path().join("clock"));
    // To 1970 or before, to 1999, and to the year 10000 and far beyond.
    for seconds in ["-1900000000", "-99999999999", "-900000000", "260000000000", "9000000000000", "-9000000000000"] {
        std::fs::write(&file, seconds).unwrap();
        for command in [&["serve"][..], &["--renew-now"], &["plan"], &["check-config"], &["healthcheck"], &["limits"]] {
            let mut command = setup.command(command).unwrap();
            let output = command.env("AUTOCERTD_TEST_CLOCK", &file).timed_output().unwrap();
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{command:?}: {words}");
            assert!(words.starts_with("autocertd: the system's clock shows ") && words.contains("set it"), "{words}");
        }
    }
    assert!(!setup.state().join("autocertd.db").exists());
}
