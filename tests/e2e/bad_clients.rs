//! Another process holds as many connections of the daemon as it can get. Certificates are obtained all the same, new
//! clients are answered, and systemd sees a daemon that is alive.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use autocertd_support::daemon::{Daemon, Setup};
use autocertd_support::patience::write_script;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::world::{World, auto_certificate};

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

    let world = World::start().await;
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
        let newcomer = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        let answer = newcomer.get(format!("http://{address}/healthz")).send().await.expect("a new client is answered");
        assert_eq!(answer.status(), 200);
    }
    let healthy = tokio::task::spawn_blocking(move || setup.command(&["healthcheck"]).unwrap().output().unwrap());
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
