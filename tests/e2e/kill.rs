//! SIGKILL before and after every ACME and DNS request of one issuance. The proxies do the counting and the killing; the
//! next run must come to exactly one certificate, with one finalize, one order (two only where the kill fell between
//! sending it and storing its URL), and no record left behind.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use autocertd::domain::provider::{ExternalAccountBinding, NewProvider};
use autocertd::domain::resource::Actor;
use autocertd::domain::server_url::{PlainHttp, ServerUrl};
use autocertd::store::{Creation, Page};
use autocertd_support::daemon::{Setup, signal};
use autocertd_support::fault_proxy::{Action, FaultProxy, FaultProxyOptions, RequestInfo};
use futures_util::{StreamExt, stream};

use crate::world::{KEY_ID, KEY_SECRET, World, open_store};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// What came of one kill.
#[derive(Debug)]
struct Verdict {
    point: usize,
    side: Side,
    /// The request at which the process was killed; none where the issuance had fewer requests.
    killed_at: Option<RequestInfo>,
    new_orders: usize,
    finalizes: usize,
    certificates: usize,
    leftovers: usize,
    resumed: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_request_costs_nothing_but_time() {
    let world = World::with_binding().await;
    let mut verdicts = Vec::new();
    for side in [Side::Before, Side::After] {
        let mut runs = stream::iter(0..MOST_REQUESTS).map(|point| run(&world, point, side)).buffered(AT_ONCE);
        while let Some(verdict) = runs.next().await {
            let beyond_the_end = verdict.killed_at.is_none();
            verdicts.push(verdict);
            if beyond_the_end {
                break;
            }
        }
    }
    let report: Vec<String> = verdicts.iter().map(line).collect();
    println!("{}", report.join("\n"));

    let bad: Vec<&Verdict> = verdicts.iter().filter(|verdict| !is_right(verdict)).collect();
    assert!(bad.is_empty(), "{}\n{bad:#?}", report.join("\n"));
    for kind in EVERY_KIND {
        for side in [Side::Before, Side::After] {
            let met = |verdict: &&Verdict| {
                verdict.side == side && verdict.killed_at.as_ref().is_some_and(|request| request.kind == kind)
            };
            assert!(verdicts.iter().any(|verdict| met(&verdict)), "no kill {side:?} {kind}:\n{}", report.join("\n"));
        }
    }
    let untouched = verdicts.iter().filter(|verdict| verdict.killed_at.is_none()).count();
    assert_eq!(untouched, 2, "each side was walked to its end");
}

async fn run(world: &World, point: usize, side: Side) -> Verdict {
    let zone = format!("{side:?}{point}.example").to_lowercase();
    let zone_id = world.dns.add_zone(&zone);
    let (acme, dns) = proxies(world).await;
    let setup = Setup {
        folder: world.folder.path().join(&zone),
        acme_root: acme.root_pem_path(),
        cloud_dns: dns.url(),
        ..world.setup()
    };
    prepare(&setup, &acme.directory_url(), &zone).await;

    let victim = Arc::new(Mutex::new(None));
    let (seen, killed_at) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    for proxy in [&acme, &dns] {
        let (victim, seen, killed_at) = (Arc::clone(&victim), Arc::clone(&seen), Arc::clone(&killed_at));
        proxy.set_hook(Box::new(move |request| {
            if seen.fetch_add(1, Ordering::SeqCst) != point {
                return Action::Pass;
            }
            *killed_at.lock().unwrap() = Some(request.clone());
            let victim = Arc::clone(&victim);
            let kill = Box::new(move || kill(&victim));
            if side == Side::Before { Action::KillBefore(kill) } else { Action::KillAfter(kill) }
        }));
    }
    renew_now(&setup, &victim).await;
    let killed_at = killed_at.lock().unwrap().clone();
    let resumed = killed_at.is_none() || renew_now(&setup, &victim).await;

    let count = |kind: &str| {
        let held_back = side == Side::Before && killed_at.as_ref().is_some_and(|request| request.kind == kind);
        acme.count(kind) - usize::from(held_back)
    };
    let store = open_store(&setup).await;
    let certificates = store.certificates(Page { offset: 0, limit: 10 }, None, None).await.unwrap().items.len();
    store.close().await;
    let leftovers = world.dns.records(&zone_id).len();
    let (new_orders, finalizes) = (count("new-order"), count("finalize"));
    Verdict { point, side, killed_at, new_orders, finalizes, certificates, leftovers, resumed }
}

async fn proxies(world: &World) -> (FaultProxy, FaultProxy) {
    let acme = FaultProxy::in_front_of(&world.pebble).await.unwrap();
    let options = FaultProxyOptions { upstream: world.dns.http_url(), upstream_root_pem: None, tls: false };
    (acme, FaultProxy::start(options).await.unwrap())
}

/// A store with one provider and one auto-certificate that nobody has worked on yet.
async fn prepare(setup: &Setup, directory: &str, zone: &str) {
    let store = open_store(setup).await;
    let provider = NewProvider {
        name: "Pebble".parse().unwrap(),
        email: "ops@example.com".parse().unwrap(),
        server: ServerUrl::parse(directory, PlainHttp::Refused).unwrap(),
        external_account: Some(ExternalAccountBinding { key_id: KEY_ID.into(), key_secret: KEY_SECRET.into() }),
    };
    let provider = store.create_provider(&provider, &Actor::autocertd()).await.unwrap();
    let wish = autocertd::domain::auto_certificate::NewAutoCertificate {
        name: "killed".parse().unwrap(),
        provider: provider.id,
        common_name: zone.parse().unwrap(),
        key_algorithm: autocertd::domain::key_algorithm::KeyAlgorithm::Secp256r1,
        subject_alternative_names: vec![format!("*.{zone}").parse().unwrap()],
    };
    let made = store.create_auto_certificate(&wish, &Actor::autocertd(), 50).await.unwrap();
    assert!(matches!(made, Creation::Created(_)));
    store.close().await;
}

/// One pass of autocertd; says whether it ended well.
async fn renew_now(setup: &Setup, victim: &Mutex<Option<u32>>) -> bool {
    let mut command = tokio::process::Command::from(setup.command(&["--renew-now", "--json"]).unwrap());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    *victim.lock().unwrap() = child.id();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("a pass ends").unwrap();
    output.status.success()
}

/// The request may come before the spawning thread has written the process id down.
fn kill(victim: &Mutex<Option<u32>>) {
    loop {
        if let Some(pid) = victim.lock().unwrap().take() {
            signal(pid, "KILL").unwrap();
            return;
        }
        std::thread::yield_now();
    }
}

fn is_right(verdict: &Verdict) -> bool {
    let order_may_be_lost =
        verdict.side == Side::After && verdict.killed_at.as_ref().is_some_and(|request| request.kind == "new-order");
    verdict.resumed
        && verdict.finalizes == 1
        && verdict.certificates == 1
        && verdict.leftovers == 0
        && (verdict.new_orders == 1 || (order_may_be_lost && verdict.new_orders == 2))
}

fn line(verdict: &Verdict) -> String {
    let at = verdict.killed_at.as_ref().map_or("(never: the issuance was over)".to_owned(), |request| {
        format!("{} ({} {})", request.kind, request.method, request.path.split('?').next().unwrap_or_default())
    });
    format!(
        "{:>6} request {:>2}: {at}: {} new-order, {} finalize, {} certificate, {} leftover",
        format!("{:?}", verdict.side).to_lowercase(),
        verdict.point,
        verdict.new_orders,
        verdict.finalizes,
        verdict.certificates,
        verdict.leftovers,
    )
}

const AT_ONCE: usize = 3;
const MOST_REQUESTS: usize = 200;
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);
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
