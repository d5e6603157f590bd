//! Rehearsals: some days ahead of a renewal the daemon looks whether it would succeed, says so early, and disturbs nothing.

use autocertd::config::time_span::TimeSpan;
use autocertd::domain::renewal::check_result::{Check, CheckVerdict};
use autocertd::domain::report::forecast::Forecast;
use autocertd::domain::report::state;
use autocertd::domain::value::id::AutoCertificateId;
use time::Duration;

use crate::doctor::journal;
use crate::fixture::Fixture;
use crate::manual_clock_daemon::ManualClockDaemon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_keep_a_renewal_from_succeeding_is_told_days_before() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("rehearsed.example");
    let clockwork = ManualClockDaemon::with_preflights(world, TimeSpan::seconds(7 * 86_400)).await;
    let id = clockwork.auto_certificate(&["www.rehearsed.example", "mail.rehearsed.example"]).await;
    clockwork.run_for(Duration::hours(2)).await;
    let first = clockwork.load(id).await.standing;
    assert!(first.newest.is_some() && first.preflight.is_none(), "{first:?}");
    let canaries = || clockwork.world.dns.requests().iter().filter(|request| request.method == "POST").count();
    let after_issuance = canaries();

    // The renewal is two months away, the rehearsal a week before it.
    clockwork.world.dns.remove_zone(&zone);
    clockwork.run_for(Duration::days(50)).await;
    assert!(clockwork.load(id).await.standing.preflight.is_none(), "too early");
    clockwork.run_for(Duration::days(5)).await;
    let standing = clockwork.load(id).await.standing;
    let rehearsal = standing.preflight.clone().unwrap();
    let fault = rehearsal.faults().next().unwrap();
    assert_eq!((fault.check, fault.verdict), (Check::Zone, CheckVerdict::Fault), "{rehearsal:?}");
    let words = message(&clockwork, id).await;
    assert!(
        words.contains("; the renewal planned for ") && words.contains(" would fail: www.rehearsed.example: "),
        "{words}"
    );
    assert!(words.contains("no enabled zone holds") && words.contains("create or enable its zone"), "{words}");
    assert!(standing.failure_streak.is_none(), "nothing has failed yet");

    // Once a day it is looked at again, and once it is well no more.
    clockwork.world.dns.add_zone("rehearsed.example");
    clockwork.run_for(Duration::hours(30)).await;
    let words = message(&clockwork, id).await;
    assert!(!words.contains("would fail"), "{words}");
    assert_eq!(canaries(), after_issuance + 1, "one for both names of the zone");
    clockwork.run_for(Duration::days(2)).await;
    assert_eq!(canaries(), after_issuance + 1, "once for each certificate");

    // The CA's own clock is not turned, so that what it issues now is due again in an hour.
    let planned = Forecast::from_facts(&clockwork.load(id).await.standing, clockwork.now()).at;
    clockwork.run_for(planned - clockwork.now() + Duration::minutes(10)).await;
    let renewed = clockwork.load(id).await.standing;
    assert_ne!(renewed.newest.unwrap().id, first.newest.unwrap().id);
    assert!(renewed.failure_streak.is_none(), "{renewed:?}");
    assert_eq!(clockwork.world.acme.count("finalize"), 2);
    assert_eq!(clockwork.world.challenge_records(), Vec::<String>::new());
    assert_eq!(journal(&clockwork.world.folder.path().join("autocertd.db")).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_time_ahead_means_no_rehearsal() {
    let world = Fixture::start().await;
    let zone = world.dns.add_zone("unrehearsed.example");
    let clockwork = ManualClockDaemon::with_preflights(world, TimeSpan::seconds(0)).await;
    let id = clockwork.auto_certificate(&["www.unrehearsed.example"]).await;
    clockwork.run_for(Duration::hours(2)).await;
    clockwork.world.dns.remove_zone(&zone);
    clockwork.run_for(Duration::days(57)).await;
    let standing = clockwork.load(id).await.standing;
    assert!(standing.preflight.is_none() && standing.newest.is_some(), "{standing:?}");
    assert_eq!(Forecast::from_facts(&standing, clockwork.now()).predicted_failure, None);
}

async fn message(clockwork: &ManualClockDaemon, id: AutoCertificateId) -> String {
    state::auto_certificate_state(&clockwork.load(id).await.standing, clockwork.now()).message
}
