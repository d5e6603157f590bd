//! Rehearsals: some days ahead of a renewal the daemon looks whether it would succeed, says so early, and disturbs nothing.

use autocertd::config::span::Span;
use autocertd::domain::finding::{Check, CheckVerdict};
use autocertd::domain::id::AutoCertificateId;
use autocertd::domain::outlook::Forecast;
use autocertd::domain::state;
use time::Duration;

use crate::clockwork::Clockwork;
use crate::doctor::journal;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_keep_a_renewal_from_succeeding_is_told_days_before() {
    let world = World::start().await;
    let zone = world.dns.add_zone("rehearsed.example");
    let clockwork = Clockwork::rehearsing(world, Span::seconds(7 * 86_400)).await;
    let id = clockwork.auto_certificate(&["www.rehearsed.example", "mail.rehearsed.example"]).await;
    clockwork.pass(Duration::hours(2)).await;
    let first = clockwork.look(id).await.standing;
    assert!(first.newest.is_some() && first.rehearsal.is_none(), "{first:?}");
    let canaries = || clockwork.world.dns.requests().iter().filter(|request| request.method == "POST").count();
    let after_issuance = canaries();

    // The renewal is two months away, the rehearsal a week before it.
    clockwork.world.dns.remove_zone(&zone);
    clockwork.pass(Duration::days(50)).await;
    assert!(clockwork.look(id).await.standing.rehearsal.is_none(), "too early");
    clockwork.pass(Duration::days(5)).await;
    let standing = clockwork.look(id).await.standing;
    let rehearsal = standing.rehearsal.clone().unwrap();
    let fault = rehearsal.faults().next().unwrap();
    assert_eq!((fault.check, fault.verdict), (Check::Zone, CheckVerdict::Fault), "{rehearsal:?}");
    let words = message(&clockwork, id).await;
    assert!(
        words.contains("; the renewal planned for ") && words.contains(" would fail: www.rehearsed.example: "),
        "{words}"
    );
    assert!(words.contains("no enabled zone holds") && words.contains("create or enable its zone"), "{words}");
    assert!(standing.trouble.is_none(), "nothing has failed yet");

    // Once a day it is looked at again, and once it is well no more.
    clockwork.world.dns.add_zone("rehearsed.example");
    clockwork.pass(Duration::hours(30)).await;
    let words = message(&clockwork, id).await;
    assert!(!words.contains("would fail"), "{words}");
    assert_eq!(canaries(), after_issuance + 1, "one for both names of the zone");
    clockwork.pass(Duration::days(2)).await;
    assert_eq!(canaries(), after_issuance + 1, "once for each certificate");

    // The CA's own clock is not turned, so that what it issues now is due again in an hour.
    let planned = Forecast::of(&clockwork.look(id).await.standing, clockwork.now()).at;
    clockwork.pass(planned - clockwork.now() + Duration::minutes(10)).await;
    let renewed = clockwork.look(id).await.standing;
    assert_ne!(renewed.newest.unwrap().id, first.newest.unwrap().id);
    assert!(renewed.trouble.is_none(), "{renewed:?}");
    assert_eq!(clockwork.world.acme.count("finalize"), 2);
    assert_eq!(clockwork.world.leftovers(), Vec::<String>::new());
    assert_eq!(journal(&clockwork.world.folder.path().join("autocertd.db")).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_time_ahead_means_no_rehearsal() {
    let world = World::start().await;
    let zone = world.dns.add_zone("unrehearsed.example");
    let clockwork = Clockwork::rehearsing(world, Span::seconds(0)).await;
    let id = clockwork.auto_certificate(&["www.unrehearsed.example"]).await;
    clockwork.pass(Duration::hours(2)).await;
    clockwork.world.dns.remove_zone(&zone);
    clockwork.pass(Duration::days(57)).await;
    let standing = clockwork.look(id).await.standing;
    assert!(standing.rehearsal.is_none() && standing.newest.is_some(), "{standing:?}");
    assert_eq!(Forecast::of(&standing, clockwork.now()).foreseen, None);
}

async fn message(clockwork: &Clockwork, id: AutoCertificateId) -> String {
    state::of_auto_certificate(&clockwork.look(id).await.standing, clockwork.now()).message
}
