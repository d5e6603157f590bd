//! SIGKILL before and after every ACME and DNS request of one issuance. The proxies do the counting and the killing; the
//! next run must come to exactly one certificate, with one finalize, one order (two only where the kill fell between
//! sending it and storing its URL), and no record left behind, while the records of others stay and a sweep finds nothing.
//! The report is in `target/tmp/kill-report.txt`.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use autocertd::domain::provider::ExternalAccountBinding;
use autocertd::domain::value::mac_key::MacKey;
use autocertd::store::Page;
use autocertd_support::daemon::{Setup, signal};
use autocertd_support::fault_proxy::{Action, FaultProxy, FaultProxyOptions, RequestInfo};
use futures_util::{StreamExt, stream};

use crate::fixture::{Fixture, KEY_ID, KEY_SECRET, open_store, store_auto_certificate_with};
use crate::one_shot::{json_of, run as run_to_end};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// A request of an issuance: the how-many-th of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    kind: &'static str,
    number: usize,
}

/// What came of one kill.
#[derive(Debug)]
struct Verdict {
    kill: Option<(Side, Point)>,
    /// The request at which the process was killed; none where this issuance did not come by it.
    killed_at: Option<RequestInfo>,
    /// Every request of the first run, in order.
    sent: Vec<Point>,
    new_orders: usize,
    finalizes: usize,
    certificates: usize,
    leftovers: usize,
    /// Those of others that are gone.
    lost: usize,
    /// What a sweep found after all.
    swept: usize,
    resumed: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_request_costs_nothing_but_time() {
    let world = Fixture::with_binding().await;
    let undisturbed = run(&world, 0, None).await;
    assert!(is_right(&undisturbed), "{undisturbed:#?}");
    for kind in EVERY_KIND {
        assert!(undisturbed.sent.iter().any(|point| point.kind == kind), "no {kind} in {:?}", undisturbed.sent);
    }

    let kills = [Side::Before, Side::After]
        .into_iter()
        .flat_map(|side| undisturbed.sent.iter().map(move |point| (side, *point)));
    let kills: Vec<(usize, (Side, Point))> = (1..).zip(kills).collect();
    let runs = kills.into_iter().map(|(number, kill)| run(&world, number, Some(kill)));
    let verdicts: Vec<Verdict> = stream::iter(runs).buffered(AT_ONCE).collect().await;
    let report: Vec<String> = verdicts.iter().map(line).collect();
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/kill-report.txt"), report.join("\n") + "\n").unwrap();

    let bad: Vec<&Verdict> = verdicts.iter().filter(|verdict| !is_right(verdict)).collect();
    assert!(bad.is_empty(), "{}\n{bad:#?}", report.join("\n"));
    let missed: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.killed_at.is_none()).collect();
    let only_polls = missed
        .iter()
        .all(|verdict| verdict.kill.is_some_and(|(_, point)| POLLED.contains(&point.kind) && point.number > 0));
    assert!(only_polls, "not every request was met: {missed:#?}");
}

async fn run(world: &Fixture, number: usize, kill: Option<(Side, Point)>) -> Verdict {
    let zone = format!("kill{number}.example");
    let zone_id = world.dns.add_zone(&zone);
    for content in STRANGERS {
        world.dns.add_record(&zone_id, "_acme-challenge", "TXT", content);
    }
    let (acme, dns) = proxies(world).await;
    let setup = Setup {
        folder: world.folder.path().join(&zone),
        acme_root: acme.root_pem_path(),
        cloud_dns: dns.url(),
        ..world.setup()
    };
    prepare(&setup, &acme.directory_url(), &zone).await;

    let victim = Arc::new(Mutex::new(None));
    let killed_at = Arc::new(Mutex::new(None));
    let sent: Arc<Mutex<Vec<Point>>> = Arc::default();
    for proxy in [&acme, &dns] {
        let (victim, killed_at, sent) = (Arc::clone(&victim), Arc::clone(&killed_at), Arc::clone(&sent));
        proxy.set_hook(Box::new(move |request| {
            let mut sent = sent.lock().unwrap();
            let number = sent.iter().filter(|point| point.kind == request.kind).count();
            let point = Point { kind: request.kind, number };
            sent.push(point);
            let Some((side, _)) = kill.filter(|(_, at)| *at == point) else { return Action::Pass };
            *killed_at.lock().unwrap() = Some(request.clone());
            let victim = Arc::clone(&victim);
            let kill = Box::new(move || kill_process(&victim));
            if side == Side::Before { Action::KillBefore(kill) } else { Action::KillAfter(kill) }
        }));
    }
    let ended_well = renew_now(&setup, &victim).await;
    let killed_at = killed_at.lock().unwrap().clone();
    let sent = sent.lock().unwrap().clone();
    let resumed = if killed_at.is_some() { renew_now(&setup, &victim).await } else { ended_well };

    let count = |kind: &str| {
        let held_back = kill.is_some_and(|(side, _)| side == Side::Before)
            && killed_at.as_ref().is_some_and(|request| request.kind == kind);
        acme.count(kind) - usize::from(held_back)
    };
    let store = open_store(&setup).await;
    let certificates = store.certificates(Page { offset: 0, limit: 10 }, None, None).await.unwrap().items.len();
    store.close().await;
    let (others, left): (Vec<_>, Vec<_>) =
        world.dns.records(&zone_id).into_iter().partition(|record| STRANGERS.contains(&record.content.as_str()));
    let (leftovers, lost) = (left.len(), STRANGERS.len() - others.len());
    let swept = run_to_end(&setup, &["dns", "sweep", "--json"]).await;
    let swept = json_of(&swept).as_array().unwrap().len();
    let (new_orders, finalizes) = (count("new-order"), count("finalize"));
    Verdict { kill, killed_at, sent, new_orders, finalizes, certificates, leftovers, lost, swept, resumed }
}

async fn proxies(world: &Fixture) -> (FaultProxy, FaultProxy) {
    let acme = FaultProxy::in_front_of(&world.pebble).await.unwrap();
    let options = FaultProxyOptions { upstream: world.dns.http_url(), upstream_root_pem: None, tls: false };
    (acme, FaultProxy::start(options).await.unwrap())
}

/// A store with one provider and one auto-certificate that nobody has worked on yet.
async fn prepare(setup: &Setup, directory: &str, zone: &str) {
    let store = open_store(setup).await;
    let binding = ExternalAccountBinding { key_id: KEY_ID.into(), key_secret: MacKey::from_stored(KEY_SECRET) };
    store_auto_certificate_with(&store, directory, Some(binding), zone, &format!("*.{zone}")).await;
    store.close().await;
}

/// One pass of autocertd; says whether it ended well.
pub(crate) async fn renew_now(setup: &Setup, victim: &Mutex<Option<u32>>) -> bool {
    let mut command = tokio::process::Command::from(setup.command(&["--renew-now", "--json"]).unwrap());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    *victim.lock().unwrap() = child.id();
    let output = tokio::time::timeout(WAIT_TIMEOUT, child.wait_with_output()).await.expect("a pass ends").unwrap();
    output.status.success()
}

/// The request may come before the spawning thread has written the process id down.
pub(crate) fn kill_process(victim: &Mutex<Option<u32>>) {
    loop {
        if let Some(pid) = victim.lock().unwrap().take() {
            signal(pid, "KILL").unwrap();
            return;
        }
        std::thread::yield_now();
    }
}

fn is_right(verdict: &Verdict) -> bool {
    let order_may_be_lost = verdict.kill.is_some_and(|(side, _)| side == Side::After)
        && verdict.killed_at.as_ref().is_some_and(|request| request.kind == "new-order");
    verdict.resumed
        && verdict.finalizes == 1
        && verdict.certificates == 1
        && (verdict.leftovers, verdict.lost, verdict.swept) == (0, 0, 0)
        && (verdict.new_orders == 1 || (order_may_be_lost && verdict.new_orders == 2))
}

fn line(verdict: &Verdict) -> String {
    let kill =
        verdict.kill.map_or("none".to_owned(), |(side, point)| format!("{side:?} {} {}", point.kind, point.number + 1));
    let at = verdict.killed_at.as_ref().map_or("(this issuance did without it)".to_owned(), |request| {
        format!("({} {})", request.method, request.path.split('?').next().unwrap_or_default())
    });
    format!(
        "{kill} {at}: {} new-order, {} finalize, {} certificate, {} leftover",
        verdict.new_orders, verdict.finalizes, verdict.certificates, verdict.leftovers,
    )
}

/// What others have at the name of the challenge.
const STRANGERS: [&str; 2] = ["of-somebody-else", "\"in quotes\""];
const AT_ONCE: usize = 3;
/// What is asked again until the other side is done, so that its number differs from run to run.
const POLLED: [&str; 2] = ["order", "dns-get-record"];
const WAIT_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);
/// What an issuance sends, registration included.
const EVERY_KIND: [&str; 14] = [
    "directory",
    "new-nonce",
    "new-account",
    "new-order",
    "authz",
    "challenge",
    "order",
    "finalize",
    "certificate",
    "dns-zones",
    "dns-list-records",
    "dns-create-record",
    "dns-get-record",
    "dns-delete-record",
];
