//! The challenge zone that autocertd answers for itself: no credentials of any DNS service, one CNAME for each name.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autocertd_support::daemon::{Daemon, Setup, signal};
use autocertd_support::fault_proxy::Action;
use autocertd_support::loopback::own_address;
use autocertd_support::postgres::Postgres;
use autocertd_support::wait::{wait_for_some, write_script};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::fixture::{Fixture, auto_certificate};
use crate::one_shot::{json_of, run};

/// Settings of an autocertd without a token, which answers for `acme.example.net` at `listen`.
fn delegating(world: &Fixture, listen: Option<SocketAddr>) -> Setup {
    let zone = "[dns.delegated]\nzone = \"acme.example.net\"\nnameservers = [\"ns.example.net\"]\n";
    let listen = listen.map_or_else(String::new, |address| format!("listen = [\"{address}\"]\n"));
    Setup { cloud_dns_token: String::new(), more: format!("{zone}{listen}"), ..world.setup() }
}

/// A zone at Cloud DNS whose challenges are aliases into the delegated one.
fn aliased(world: &Fixture, zone: &str, labels: &[&str]) {
    let id = world.dns.add_zone(zone);
    for label in labels {
        let challenge = format!("_acme-challenge.{label}");
        let target = format!("{label}.{zone}").trim_matches('.').replace('.', "-");
        world.dns.add_record(&id, challenge.trim_end_matches('.'), "CNAME", &format!("{target}.acme.example.net"));
    }
}

/// What the name server at `address` answers.
fn asked(address: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.connect(address).unwrap();
    client.send(&question.to_vec().unwrap()).unwrap();
    let mut buffer = [0; 4_096];
    let length = client.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

fn values(address: SocketAddr, name: &str) -> Vec<String> {
    let answer = asked(address, name, RecordType::TXT);
    let records = answer.into_iter().flat_map(|answer| answer.answers);
    let texts = records.filter_map(|record| match record.data {
        RData::TXT(txt) => Some(txt.to_string()),
        _ => None,
    });
    texts.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apex_and_its_wildcard_are_issued_and_renewed_without_a_token() {
    let world = Fixture::start().await;
    aliased(&world, "own.example", &[""]);
    let own = own_address();
    world.dns.forward("acme.example.net", own);
    let setup = delegating(&world, Some(own));
    let daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["own.example", "*.own.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    assert!(daemon.log().contains("\"values\":2"), "{}", daemon.log());
    wait_for_some("the removal", || {
        asked(own, "own-example.acme.example.net", RecordType::TXT)
            .filter(|answer| answer.response_code == ResponseCode::NXDomain)
    })
    .await;

    let beside = run(&setup, &["--renew-now", "for own.example", "--json"]).await;
    assert_eq!((beside.status.code(), &json_of(&beside)["renewed"]), (Some(0), &1.into()), "{beside:?}");
    assert!(daemon.log().contains("a renewal was requested"), "the daemon did the work");
    assert!(daemon.terminate().await.unwrap().success());

    assert!(asked(own, "acme.example.net", RecordType::SOA).is_none(), "nobody answers now");
    let alone = run(&setup, &["--renew-now", "for own.example", "--json"]).await;
    assert_eq!((alone.status.code(), &json_of(&alone)["renewed"]), (Some(0), &1.into()), "{alone:?}");
    assert_eq!(world.acme.count("finalize"), 3);
    assert!(world.dns.requests().is_empty(), "Cloud DNS was asked: {:?}", world.dns.requests());

    let taken = UdpSocket::bind(own).unwrap();
    let elsewhere = run(&setup, &["--renew-now"]).await;
    let (told, warned) = (String::from_utf8_lossy(&elsewhere.stdout), String::from_utf8_lossy(&elsewhere.stderr));
    assert_eq!((elsewhere.status.code(), told.as_ref()), (Some(0), "nothing is due\n"));
    assert!(warned.contains("only other replicas answer for the delegated zone during this pass"), "{warned}");
    drop(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_replica_answers_for_the_one_that_works() {
    let world = Fixture::start().await;
    aliased(&world, "pair.example", &["w0", "w1", "w2"]);
    let database = Postgres::shared().unwrap().fresh_database().unwrap();
    let key = world.folder.path().join("shared.key");
    let shared = format!("[store]\nurl = \"{database}\"\n[keys]\nfile = \"{}\"\n", key.display());
    let setup = |name: &str, listen: SocketAddr| {
        let setup = delegating(&world, Some(listen));
        Setup { folder: world.folder.path().join(name), more: setup.more.clone() + &shared, ..setup }
    };
    let (unheard, heard) = (own_address(), own_address());
    world.dns.forward("acme.example.net", heard);
    let (one, two) = (setup("one", unheard), setup("two", heard));
    assert!(run(&one, &["keys", "create"]).await.status.success());
    let one = Daemon::start(&one).await.unwrap();
    std::fs::create_dir_all(two.state()).unwrap();
    std::fs::copy(world.folder.path().join("one/state/first-token"), two.state().join("first-token")).unwrap();
    let _two = Daemon::start(&two).await.unwrap();

    let provider = world.provider(&one).await;
    for number in 0..3 {
        let name = format!("w{number}.pair.example");
        let path = auto_certificate(&one, &provider, "secp256r1", &[&name]).await;
        one.api.wait_until_available(&path).await.unwrap();
    }
    // Whoever is asked for something begins with it at once, the other only with its next scan.
    assert!(one.log().contains("waiting for every name server"), "the other one did all the work");
    assert_eq!(world.acme.count("finalize"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_answered_again_after_a_crash() {
    let world = Fixture::start().await;
    aliased(&world, "crash.example", &["www"]);
    let own = own_address();
    world.dns.forward("acme.example.net", own);
    let setup = delegating(&world, Some(own));
    let mut daemon = Daemon::start(&setup).await.unwrap();
    let provider = world.provider(&daemon).await;
    let (pid, before) = (daemon.pid(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&before);
    world.acme.set_hook(Box::new(move |request| {
        let seen = Arc::clone(&seen);
        match request.kind {
            "challenge" => Action::KillBefore(Box::new(move || {
                *seen.lock().unwrap() = values(own, "www-crash-example.acme.example.net");
                signal(pid, "KILL").unwrap();
            })),
            _ => Action::Pass,
        }
    }));
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.crash.example"]).await;
    assert!(!daemon.wait(Duration::from_secs(30)).await.unwrap().success());
    let before = before.lock().unwrap().clone();
    assert_eq!(before.len(), 1);

    let after = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&after);
    world.acme.set_hook(Box::new(move |request| {
        if request.kind == "challenge" {
            *seen.lock().unwrap() = values(own, "www-crash-example.acme.example.net");
        }
        Action::Pass
    }));
    let daemon = Daemon::start(&setup).await.unwrap();
    daemon.api.wait_until_available(&path).await.unwrap();
    assert_eq!(*after.lock().unwrap(), before);
    assert_eq!(world.acme.count("new-order"), 1);
    wait_for_some("the removal", || values(own, "www-crash-example.acme.example.net").is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sockets_that_systemd_passes_are_served() {
    let world = Fixture::start().await;
    aliased(&world, "passed.example", &["www"]);
    let setup = delegating(&world, None);
    let activator = world.folder.path().join("activator");
    let chosen = world.folder.path().join("port");
    write_script(
        &activator,
        &ACTIVATOR.replace("PORT_FILE", chosen.to_str().unwrap()).replace("BINARY", setup.binary.to_str().unwrap()),
    );
    let daemon = Daemon::start(&Setup { binary: activator, ..setup }).await.unwrap();
    let port = std::fs::read_to_string(chosen).unwrap().parse().unwrap();
    world.dns.forward("acme.example.net", (Ipv4Addr::LOCALHOST, port).into());
    let provider = world.provider(&daemon).await;
    let path = auto_certificate(&daemon, &provider, "secp256r1", &["www.passed.example"]).await;
    daemon.api.wait_until_available(&path).await.unwrap();
    for address in ["127.0.0.1", "127.0.0.2"] {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        assert_eq!(asked(address, "acme.example.net", RecordType::SOA).unwrap().answers.len(), 1, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_ends_the_start_and_a_changed_one_waits_for_the_next() {
    let world = Fixture::start().await;
    let (own, taken) = (own_address(), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let address = taken.local_addr().unwrap();
    let refused = run(&delegating(&world, Some(address)), &["serve"]).await;
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    let expected = format!("autocertd: cannot answer DNS at {address} over UDP; another program answers there");
    assert!(words.contains(&expected), "{words}");
    let without = Setup { more: "[dns.delegated]\nzone = \"acme.example.net\"\n".to_owned(), ..world.setup() };
    let refused = run(&without, &["check-config"]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("dns.delegated.nameservers = []: at least one"));

    let daemon = Daemon::start(&delegating(&world, Some(own))).await.unwrap();
    delegating(&world, Some(address)).write_settings().unwrap();
    signal(daemon.pid(), "HUP").unwrap();
    wait_for_some("the word on it", || {
        let log = daemon.log();
        (log.contains("come into force with the next start") && log.contains("\"section\":\"dns.delegated\""))
            .then_some(())
    })
    .await;
    assert_eq!(asked(own, "acme.example.net", RecordType::SOA).unwrap().answers.len(), 1);
    assert!(daemon.terminate().await.unwrap().success());
}

/// Does what systemd does for autocertd-dns.socket: one socket for both IPv6 and IPv4, where there is IPv6.
const ACTIVATOR: &str = r#"#!/usr/bin/env python3
import fcntl, os, socket, sys
def bound(kind, port):
    try:
        one = socket.socket(socket.AF_INET6, kind)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind(("::", port))
    except OSError:
        one = socket.socket(type=kind)
        one.bind(("0.0.0.0", port))
    return one
# A port that is free on TCP may be taken on UDP: another one is tried then.
for _ in range(50):
    try:
        tcp = bound(socket.SOCK_STREAM, 0)
        port = tcp.getsockname()[1]
        sockets = [tcp, bound(socket.SOCK_DGRAM, port)]
        break
    except OSError:
        pass
with open("PORT_FILE", "w") as file:
    file.write(str(port))
sockets[0].listen()
for number, one in enumerate([fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in sockets]):
    os.dup2(one, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="dns:dns")
os.execv("BINARY", ["BINARY", *sys.argv[1:]])
"#;
