//! Another process holds as many connections of the daemon as it can get, or never reads what it asked for. Certificates
//! are obtained all the same, new clients are answered, systemd sees a daemon that is alive, and memory stays bounded.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::timed::Timed;
use autocertd_support::wait::write_script;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, auto_certificate};

const CONNECTIONS: usize = 1_500;
/// What the daemon may have of file descriptors, soft and hard.
const DESCRIPTORS: usize = 1_024;
/// As in the unit, but shorter.
const WATCHDOG: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_send_no_request_stop_neither_renewals_nor_new_clients() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = u64::try_from(2 * CONNECTIONS).unwrap();
    assert!(hard >= wanted, "this test opens {CONNECTIONS} connections: raise the hard limit of open files ({hard})");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).unwrap();

    let world = Fixture::start().await;
    world.dns.add_zone("flood.example");
    let notify = world.folder.path().join("notify");
    let watchdog = Watchdog::listen(&notify);
    let binary = world.folder.path().join("few-descriptors");
    let script = format!(
        "#!/bin/sh\nulimit -n {DESCRIPTORS} || exit 99\nexport NOTIFY_SOCKET={} WATCHDOG_USEC={}\nexec {} \"$@\"\n",
        notify.display(),
        WATCHDOG.as_micros(),
        world.setup().binary.display()
    );
    write_script(&binary, &script);
    let setup = Setup { binary, ..world.setup() };
    let daemon = Daemon::start(&setup).await.unwrap();
    let address = daemon.api.base.strip_prefix("http://").unwrap().to_owned();

    let flood = Flood::start(&address);
    flood.wait_until_it_has_opened(CONNECTIONS).await;
    let provider = world.provider(&daemon).await;
    let mut wanted = Vec::new();
    for name in ["a.flood.example", "b.flood.example", "c.flood.example"] {
        wanted.push(auto_certificate(&daemon, &provider, "secp256r1", &[name]).await);
    }
    for path in &wanted {
        daemon.api.wait_until_available(path).await.unwrap();
        let newcomer = autocertd_support::timed::http_client();
        let answer = newcomer.get(format!("http://{address}/healthz")).send().await.expect("a new client is answered");
        assert_eq!(answer.status(), 200);
    }
    let healthy = tokio::task::spawn_blocking(move || setup.command(&["healthcheck"]).unwrap().timed_output().unwrap());
    let healthy = healthy.await.unwrap();
    assert!(healthy.status.success(), "{healthy:?}");
    let opened = flood.stop().await;
    assert!(opened > CONNECTIONS, "only {opened} connections were opened");
    let log = daemon.log();
    assert!(!log.contains("Too many open files"), "{log}");
    assert!(log.contains("as many connections are open as may be"), "{log}");
    assert!(daemon.terminate().await.unwrap().success());
    let gap = watchdog.longest_gap();
    assert!(gap < WATCHDOG, "the watchdog was not fed for {gap:?}");
}

/// Certificates, and how long the chain of each is.
const ROWS: usize = 1_000;
const CHAIN: usize = 20_000;
/// Bytes.
const MOST_MEMORY: u64 = 100 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_never_read_cost_little_memory() {
    let world = Fixture::start().await;
    let daemon = world.daemon().await;
    let reader = fill(&world, &daemon).await;
    let address = daemon.api.base.strip_prefix("http://").unwrap().to_owned();
    let whole = daemon.api.get(LIST).await.unwrap();
    assert_eq!(whole["items"].as_array().unwrap().len(), ROWS);
    drop(whole);
    let before = resident(daemon.pid());

    let mut stalled = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!("GET {LIST} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {reader}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    let over_http1 = highest(daemon.pid()).await.saturating_sub(before);
    // Another token reads meanwhile.
    assert_eq!(daemon.api.get(LIST).await.unwrap()["items"].as_array().unwrap().len(), ROWS);
    drop(stalled);

    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&http2_lists(&reader, 20)).await.unwrap();
    let over_http2 = highest(daemon.pid()).await.saturating_sub(before);
    assert_eq!(daemon.api.get(LIST).await.unwrap()["items"].as_array().unwrap().len(), ROWS);
    let seen = [over_http1, over_http2].map(|bytes| bytes / 1024 / 1024);
    println!("MB over HTTP/1.1 and HTTP/2: {seen:?}");
    assert!(over_http1 < MOST_MEMORY && over_http2 < MOST_MEMORY, "MB over HTTP/1.1 and HTTP/2: {seen:?}");
    assert!(daemon.terminate().await.unwrap().success());
}

/// Puts certificates into the store of the daemon; gives a token that may only read.
async fn fill(world: &Fixture, daemon: &Daemon) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["www.memory.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let properties = serde_json::json!({
        "name": "memory",
        "certificate": certificate,
        "certificateChain": certificate,
        "privateKey": key.serialize_pem(),
    });
    daemon.api.create("/certificates", properties).await.unwrap();
    let options = SqliteConnectOptions::new().filename(world.setup().state().join("autocertd.db"));
    let mut database = options.busy_timeout(Duration::from_secs(30)).connect().await.unwrap();
    let copies = ROWS - 1;
    let statement = format!(
        "INSERT INTO certificates (id, name, common_name, common_name_form, certificate, chain, private_key, not_before, \
         not_after, created_at, created_by, created_by_id, modified_at, modified_by, modified_by_id) \
         WITH RECURSIVE counter(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counter WHERE n < {copies} - 1) \
         SELECT '00000000-0000-4000-8000-' || (100000000000 + n), name, common_name, common_name_form, certificate, \
         substr(certificate || hex(zeroblob({CHAIN})), 1, {CHAIN}), private_key, not_before, not_after, created_at + n, \
         created_by, created_by_id, modified_at, modified_by, modified_by_id FROM certificates, counter"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut database).await.unwrap();
    let made = world.setup().command(&["token", "create", "reader", "--read-only"]).unwrap().timed_output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// The most memory of a process while clients wait, in bytes.
async fn highest(pid: u32) -> u64 {
    let mut highest = 0;
    for _ in 0..30 {
        highest = highest.max(resident(pid));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    highest
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// A connection with so many lists, and windows that are never opened further (RFC 9113, RFC 7541).
fn http2_lists(token: &str, count: u32) -> Vec<u8> {
    let authorization = format!("Bearer {token}");
    // `:method GET`, `:scheme http`, `:path`, `:authority` and `authorization` by the static table.
    let mut block = vec![0x82, 0x86, 0x04];
    for (name, value) in [(&[][..], LIST), (&[0x01], "a"), (&[0x0f, 0x08], &authorization)] {
        block.extend(name);
        // Longer ones take more than one octet.
        assert!(value.len() < 127);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for number in 0..count {
        bytes.extend(&u32::try_from(block.len()).unwrap().to_be_bytes()[1..]);
        bytes.extend([0x01, 0x05]);
        bytes.extend((number * 2 + 1).to_be_bytes());
        bytes.extend(&block);
    }
    bytes
}

const LIST: &str = "/certificates?limit=1000";

/// Clients that open a connection, send no whole request, and come again when they are closed.
struct Flood {
    clients: JoinSet<()>,
    opened: Arc<AtomicUsize>,
}

impl Flood {
    fn start(address: &str) -> Self {
        let opened = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        let openings = [
            &b""[..],
            b"GET /certificates HTTP/1.1\r\nHost: a",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ];
        for number in 0..CONNECTIONS {
            let (address, opened, opening) =
                (address.to_owned(), Arc::clone(&opened), openings[number % openings.len()]);
            clients.spawn(async move {
                loop {
                    if let Ok(mut stream) = TcpStream::connect(&address).await {
                        let _ = stream.write_all(opening).await;
                        opened.fetch_add(1, Ordering::SeqCst);
                        wait_until_closed(&stream).await;
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            });
        }
        Self { clients, opened }
    }

    async fn wait_until_it_has_opened(&self, count: usize) {
        let begun = Instant::now();
        while self.opened.load(Ordering::SeqCst) < count {
            assert!(begun.elapsed() < Duration::from_mins(1), "only {:?} connections were opened", self.opened);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Gives how often a connection was opened.
    async fn stop(mut self) -> usize {
        self.clients.shutdown().await;
        self.opened.load(Ordering::SeqCst)
    }
}

async fn wait_until_closed(stream: &TcpStream) {
    let mut buffer = [0; 256];
    loop {
        let ready = stream.readable().await;
        match stream.try_read(&mut buffer) {
            Ok(1..) if ready.is_ok() => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && ready.is_ok() => {}
            _ => return,
        }
    }
}

/// Notes when the watchdog is fed.
struct Watchdog {
    listening: std::thread::JoinHandle<Duration>,
    ended: Arc<AtomicBool>,
}

impl Watchdog {
    fn listen(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let listening = std::thread::spawn(move || {
            let (mut last, mut longest) = (None::<Instant>, Duration::ZERO);
            let mut buffer = [0; 512];
            while !until.load(Ordering::SeqCst) {
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                let message = String::from_utf8_lossy(&buffer[..length]);
                if ["READY=1", "WATCHDOG=1", "STOPPING=1"]
                    .iter()
                    .any(|line| message.lines().any(|heard| heard == *line))
                {
                    longest = longest.max(last.map_or(Duration::ZERO, |last| last.elapsed()));
                    last = Some(Instant::now());
                }
            }
            assert!(last.is_some(), "nothing was heard");
            longest
        });
        Self { listening, ended }
    }

    fn longest_gap(self) -> Duration {
        self.ended.store(true, Ordering::SeqCst);
        self.listening.join().unwrap()
    }
}
