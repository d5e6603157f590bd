//! Every fault of Cloud DNS and of the name servers: each ends in a certificate or in a message that a newcomer can act on,
//! and never in a leftover record.

use std::time::Duration as RealDuration;

use autocertd::config::dns::PropagationSection;
use autocertd::config::time_span::TimeSpan;
use autocertd::domain::value::id::AutoCertificateId;
use autocertd_support::cloud_dns::{CloudDns, Fault};
use futures_util::future::join_all;
use time::Duration;

use crate::fixture::Fixture;
use crate::manual_clock_daemon::{ManualClockDaemon, propagation_section};

/// What comes of a fault.
enum End {
    /// A certificate, without anybody noticing.
    Certificate,
    /// These words, and a certificate some time later.
    Later(&'static [&'static str]),
    /// These words, for as long as the fault lasts.
    Words(&'static [&'static str]),
}

/// A fault, how a zone of this name and id comes to have it, and what comes of it.
type Case = (&'static str, fn(&CloudDns, &str, &str), End);

fn strike(dns: &CloudDns, zone: &str, times: usize, method: &str, fault: &Fault) {
    dns.fault(times, method, &format!("/zones/{zone}/records"), fault.clone());
}

fn cases() -> Vec<Case> {
    use End::{Certificate, Later, Words};

    vec![
        ("no fault", |_, _, _| {}, Certificate),
        ("429", |dns, _, id| strike(dns, id, 2, "POST", &Fault::TooManyRequests(None)), Certificate),
        ("429, a second", |dns, _, id| strike(dns, id, 1, "POST", &too_many("1")), Certificate),
        (
            "429, an hour",
            |dns, _, id| strike(dns, id, 1, "POST", &too_many("3600")),
            Later(&["status 429", "tried again"]),
        ),
        ("500", |dns, _, id| strike(dns, id, 1, "POST", &Fault::Status(500)), Certificate),
        (
            "503 for long",
            |dns, _, id| strike(dns, id, 5, "POST", &Fault::Status(503)),
            Later(&["status 503", "tried again"]),
        ),
        (
            "503 for ever",
            |dns, _, id| strike(dns, id, 10_000, "POST", &Fault::Status(503)),
            Words(&["status 503", "tried again"]),
        ),
        ("500 at a look", |dns, _, id| strike(dns, id, 1, "GET", &Fault::Status(500)), Certificate),
        ("500 at a removal", |dns, _, id| strike(dns, id, 9, "DELETE", &Fault::Status(500)), Certificate),
        ("429 at a removal", |dns, _, id| strike(dns, id, 1, "DELETE", &too_many("3600")), Certificate),
        ("cut", |dns, _, id| strike(dns, id, 1, "POST", &Fault::Cut), Certificate),
        ("cut after it", |dns, _, id| strike(dns, id, 1, "POST", &Fault::CutAfter), Certificate),
        (
            "PROVISIONING for ever",
            |dns, _, id| strike(dns, id, 10, "POST", &Fault::StayProvisioning),
            Words(&["is still not published after 3s", "support"]),
        ),
        (
            "FAILED",
            |dns, _, id| strike(dns, id, 1, "POST", &Fault::TurnFailed),
            Later(&["publishing record", "a new record"]),
        ),
        (
            "FAILED for ever",
            |dns, _, id| strike(dns, id, 1_000, "POST", &Fault::TurnFailed),
            Words(&["publishing record", "support"]),
        ),
        (
            "no body",
            |dns, _, id| {
                strike(dns, id, 1, "POST", &Fault::WithoutBody);
                strike(dns, id, 1, "DELETE", &Fault::WithoutBody);
            },
            Certificate,
        ),
        ("no JSON", |dns, _, id| strike(dns, id, 1, "POST", &Fault::NotJson), Certificate),
        ("409 by a twin", |dns, _, id| strike(dns, id, 1, "POST", &Fault::ConflictAfter), Certificate),
        (
            "409",
            |dns, _, id| strike(dns, id, 10_000, "POST", &Fault::Status(409)),
            Words(&["no TXT record can stand at _acme-challenge.www.", "remove the record beside it"]),
        ),
        (
            "look-alike zones",
            |dns, zone, _| {
                dns.add_zone(&format!("my{zone}"));
                dns.add_zone(&format!("{zone}.other.example"));
                dns.add_zone(&format!("ww.{zone}"));
            },
            Certificate,
        ),
        ("a nested zone", |dns, zone, _| _ = dns.add_zone(&format!("www.{zone}")), Certificate),
        ("a disabled nested zone", |dns, zone, _| _ = dns.add_disabled_zone(&format!("www.{zone}")), Certificate),
        (
            "a disabled zone",
            |dns, zone, id| {
                dns.remove_zone(id);
                dns.add_disabled_zone(zone);
            },
            Words(&["no enabled zone holds _acme-challenge.www.", "create or enable its zone"]),
        ),
    ]
}

fn too_many(retry_after: &str) -> Fault {
    Fault::TooManyRequests(Some(retry_after.to_owned()))
}

/// Every zone is on the second page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_the_service_ends_well_or_in_words_and_leaves_nothing() {
    let world = Fixture::start().await;
    for number in 0..1_000 {
        world.dns.add_zone(&format!("filler{number}.example"));
    }
    let impatient = PropagationSection { timeout: TimeSpan::seconds(3), ..propagation_section(&world) };
    let clockwork = ManualClockDaemon::with_propagation(world, &impatient).await;
    let mut struck = Vec::new();
    for (number, (what, strike, end)) in cases().into_iter().enumerate() {
        let zone = format!("fault{number}.example");
        let id = clockwork.world.dns.add_zone(&zone);
        strike(&clockwork.world.dns, &zone, &id);
        struck.push((what, clockwork.auto_certificate(&[&format!("www.{zone}")]).await, end));
    }
    clockwork.run_for(Duration::ZERO).await;
    for (what, id, end) in &struck {
        match end {
            End::Certificate => is_issued(&clockwork, what, *id).await,
            End::Later(words) | End::Words(words) => says(&clockwork, what, *id, words).await,
        }
    }
    clockwork.run_for(Duration::hours(3)).await;
    for (what, id, end) in &struck {
        match end {
            End::Certificate | End::Later(_) => is_issued(&clockwork, what, *id).await,
            End::Words(words) => {
                says(&clockwork, what, *id, words).await;
                clockwork.store.delete_auto_certificate(*id).await.unwrap();
            }
        }
    }
    clockwork.run_for(Duration::hours(1)).await;
    nothing_is_left(&clockwork).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_servers_that_lags_is_named_and_waited_for() {
    let world = Fixture::start().await;
    world.dns.add_zone("lag.example");
    let others = join_all((0..3).map(|_| world.dns.add_lagging_server())).await;
    let [one, two, behind] =
        others.into_iter().collect::<Result<Vec<_>, _>>().unwrap().try_into().unwrap_or_else(|_| unreachable!());
    one.catch_up();
    two.catch_up();
    let servers = vec![world.dns.dns_addr(), one.addr(), two.addr(), behind.addr()];
    let propagation = PropagationSection { timeout: TimeSpan::seconds(2), servers, ..propagation_section(&world) };
    let clockwork = ManualClockDaemon::with_propagation(world, &propagation).await;
    let id = clockwork.auto_certificate(&["www.lag.example"]).await;
    clockwork.run_for(Duration::ZERO).await;
    let named = format!("are not visible on {} (", behind.addr());
    says(&clockwork, "one of four", id, &[&named, "Non-Existent Domain", "tried again"]).await;

    behind.catch_up();
    clockwork.run_for(Duration::hours(1)).await;
    is_issued(&clockwork, "one of four", id).await;
    assert_eq!(clockwork.world.acme.count("new-order"), 1, "the order is the same");
    nothing_is_left(&clockwork).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_is_waited_for_and_one_that_never_answers_is_named() {
    let world = Fixture::start().await;
    world.dns.add_zone("slow.example");
    world.dns.delay_dns_answers(RealDuration::from_millis(300));
    let propagation = PropagationSection { timeout: TimeSpan::seconds(4), ..propagation_section(&world) };
    let clockwork = ManualClockDaemon::with_propagation(world, &propagation).await;
    let slow = clockwork.auto_certificate(&["slow.slow.example"]).await;
    clockwork.run_for(Duration::ZERO).await;
    is_issued(&clockwork, "a slow server", slow).await;

    clockwork.world.dns.delay_dns_answers(RealDuration::from_hours(1));
    let silent = clockwork.auto_certificate(&["silent.slow.example"]).await;
    clockwork.run_for(Duration::ZERO).await;
    says(
        &clockwork,
        "a silent server",
        silent,
        &["the aliases of _acme-challenge.silent.slow.example cannot be looked up", "check dns.propagation.resolvers"],
    )
    .await;
    clockwork.store.delete_auto_certificate(silent).await.unwrap();
    clockwork.run_for(Duration::hours(1)).await;
    nothing_is_left(&clockwork).await;
}

async fn is_issued(clockwork: &ManualClockDaemon, what: &str, id: AutoCertificateId) {
    let standing = clockwork.load(id).await.standing;
    assert!(standing.newest.is_some(), "{what}: {standing:?}");
}

async fn says(clockwork: &ManualClockDaemon, what: &str, id: AutoCertificateId, words: &[&str]) {
    let standing = clockwork.load(id).await.standing;
    let trouble = standing.failure_streak.unwrap_or_else(|| panic!("{what}: no trouble"));
    let message = &trouble.last.message;
    assert!(words.iter().all(|word| message.contains(word)), "{what}: {message}");
    assert!(standing.newest.is_none(), "{what}");
}

async fn nothing_is_left(clockwork: &ManualClockDaemon) {
    assert_eq!(clockwork.world.challenge_records(), Vec::<String>::new());
    assert!(clockwork.store.journal().await.unwrap().is_empty());
}
